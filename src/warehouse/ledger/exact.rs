//! The sales of an order of which Shopify's own books are known (`OrderEvent::sales`).
//!
//! Pure. The newest books take the place of everything that is derived up to the state that they came
//! with; what later states and edits show is derived, as ever. Refunds that the books hold are named,
//! since views take those from `order_refunds` otherwise.

use std::collections::BTreeSet;

use super::dated::{DatedSale, EXACT, dated_sales, has_edit, sales_since};
use crate::event::{EventRecord, Id, Sale};
use crate::warehouse::version::{Version, micros};

/// The sales of one order.
pub(in crate::warehouse) struct OrderLedger {
    /// Rows of `order_sale_rows`; empty where the order's own figures say it all.
    pub(in crate::warehouse) sales: Vec<DatedSale>,
    /// Refunds whose reversals are among `sales`.
    pub(in crate::warehouse) exact_refunds: BTreeSet<String>,
    /// Each later state is to be looked at, too.
    pub(in crate::warehouse) has_rows: bool,
}

/// Works out the sales of one order from all its events, in any order.
pub(in crate::warehouse) fn order_ledger(events: &[EventRecord<'_>]) -> OrderLedger {
    let books = events
        .iter()
        .filter(|record| record.event.is_whole() && record.event.sales.is_some());
    let Some(newest) = books.max_by(|one, other| Version::of(one).cmp(&Version::of(other))) else {
        let sales = dated_sales(events);
        return OrderLedger {
            has_rows: has_edit(events) || !sales.is_empty(),
            exact_refunds: BTreeSet::new(),
            sales,
        };
    };
    let exact = || newest.event.sales.iter().flatten();
    let mut sales: Vec<DatedSale> = exact().map(exact_sale).collect();
    sales.extend(sales_since(events, newest));
    let text = |id: &Id<'_>| id.as_str().to_owned();
    let refunds = newest.event.refunds.iter().flatten();
    let refunds = refunds.map(|refund| text(&refund.refund_id));
    OrderLedger {
        sales,
        exact_refunds: refunds
            .chain(exact().filter_map(|sale| sale.refund_id.as_ref().map(text)))
            .collect(),
        has_rows: true,
    }
}

fn exact_sale(sale: &Sale<'_>) -> DatedSale {
    let text = |id: &Option<Id<'_>>| id.as_ref().map(|id| id.as_str().to_owned());
    let net = sale.total.0.saturating_sub(sale.tax.0);
    let line_type = line_type(sale.line_type.as_str());
    // Only lines have their discounts told apart.
    let has_discount = matches!(line_type, "product" | "gift_card");
    let discount = if has_discount {
        sale.discount.0
    } else {
        rust_decimal::Decimal::ZERO
    };
    DatedSale {
        sale_key: format!("sale:{}", sale.sale_id.as_str()),
        happened_at: micros(sale.happened_at.instant()),
        local_date: sale.happened_at.local_date(),
        reason: reason(sale.reason.as_str()),
        action: Some(if sale.action.as_str() == "return" {
            "return"
        } else if sale.action.as_str() == "update" {
            "update"
        } else {
            "order"
        }),
        line_type,
        line_id: text(&sale.line_id),
        refund_id: text(&sale.refund_id),
        quantity: sale.qty,
        gross: net.saturating_add(discount),
        discount,
        tax: sale.tax.0,
        origin: EXACT,
    }
}

fn reason(reason: &str) -> &'static str {
    match reason {
        "edit" => "edit",
        "refund" => "refund",
        "return" => "return",
        _ => "order",
    }
}

/// What is of no known type counts as an adjustment, so that the total is right.
fn line_type(line_type: &str) -> &'static str {
    match line_type {
        "product" => "product",
        "gift_card" => "gift_card",
        "shipping" => "shipping",
        "tip" => "tip",
        "duty" => "duty",
        "fee" => "fee",
        _ => "adjustment",
    }
}
