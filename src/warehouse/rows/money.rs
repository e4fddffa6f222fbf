//! Refunds and transactions as rows: what was reversed, and the money that moved.

use rust_decimal::Decimal;

use super::{Column, decimal, id, text, version_columns};
use crate::event::RefundLine;
use crate::warehouse::fold::{RefundRow, TransactionRow};
use crate::warehouse::ledger::Reversal;
use crate::warehouse::version::micros;

/// Rows of `order_refunds`. The first two columns are the key; the third is no version's to change:
/// a refund that was once called a test stays one ([`test_refunds`]).
pub(in crate::warehouse) fn order_refunds<'a, C: Column<'a>>(refunds: &'a [RefundRow<'_>]) -> Vec<C> {
    let each = || refunds.iter();
    let records = || each().map(|row| row.record);
    let mut columns = vec![
        C::text("shop", records().map(|r| Some(r.shop()))),
        C::text("refund_id", each().map(|row| Some(row.refund.refund_id.as_str()))),
        C::boolean("test", each().map(|row| Some(row.test))),
        C::text("order_id", records().map(|r| Some(r.event.order_id.as_str()))),
        C::instant(
            "processed_at",
            each().map(|row| Some(micros(row.processed_at().instant()))),
        ),
        C::date("local_date", each().map(|row| row.processed_at().local_date())),
        C::numeric("amount", each().map(|row| decimal(Some(row.refund.amount)))),
        C::numeric("pending_amount", each().map(|row| decimal(row.refund.pending_amount))),
        C::numeric("tax", each().map(|row| decimal(row.refund.tax))),
        C::text("currency", each().map(RefundRow::currency)),
    ];
    columns.extend(reversals(refunds));
    columns.extend(version_columns(records()));
    columns
}

/// What each refund reverses.
fn reversals<'a, C: Column<'a>>(refunds: &'a [RefundRow<'_>]) -> [C; 8] {
    let reversals: Vec<Reversal> = refunds.iter().map(|row| Reversal::of(row.refund)).collect();
    let amount = |name, of: fn(&Reversal) -> Decimal| C::numeric(name, reversals.iter().map(|one| Some(of(one))));
    [
        amount("reversed_lines", |one| one.lines),
        amount("reversed_lines_tax", |one| one.lines_tax),
        amount("reversed_gift_cards", |one| one.gift_cards),
        amount("reversed_shipping", |one| one.shipping),
        amount("reversed_shipping_tax", |one| one.shipping_tax),
        amount("reversed_duties", |one| one.duties),
        amount("reversed_tax", |one| one.tax),
        amount("adjustments", |one| one.adjustments),
    ]
}

/// One row of `order_refund_items`.
pub(in crate::warehouse) struct RefundItemRow<'a> {
    shop: &'a str,
    refund_id: &'a str,
    /// From 1.
    no: i32,
    line: &'a RefundLine<'a>,
}

/// The lines of a refund, as they were sent.
pub(in crate::warehouse) fn refund_items<'a>(row: &'a RefundRow<'_>) -> impl Iterator<Item = RefundItemRow<'a>> {
    (1..)
        .zip(row.refund.lines.iter().flatten())
        .map(|(no, line)| RefundItemRow {
            shop: row.record.shop(),
            refund_id: row.refund.refund_id.as_str(),
            no,
            line,
        })
}

/// Rows of `order_refund_items`. The first three columns are the key.
pub(in crate::warehouse) fn order_refund_items<'a, C: Column<'a>>(items: &'a [RefundItemRow<'_>]) -> Vec<C> {
    let each = || items.iter();
    let lines = || items.iter().map(|item| item.line);
    vec![
        C::text("shop", each().map(|item| Some(item.shop))),
        C::text("refund_id", each().map(|item| Some(item.refund_id))),
        C::int4("line_no", each().map(|item| item.no)),
        C::text("line_id", lines().map(|line| id(line.line_id.as_ref()))),
        C::int8("qty", lines().map(|line| Some(line.qty))),
        C::numeric("subtotal", lines().map(|line| decimal(line.subtotal))),
        C::numeric("tax", lines().map(|line| decimal(line.tax))),
        C::boolean(
            "gift_card",
            lines().map(|line| Some(line.gift_card.unwrap_or_default())),
        ),
        C::text("restock_type", lines().map(|line| text(line.restock_type.as_ref()))),
        C::text("location_id", lines().map(|line| id(line.location_id.as_ref()))),
    ]
}

/// Keys of `order_refunds` that are tests from now on, whatever was written of them before.
pub(in crate::warehouse) fn test_refunds<'a, C: Column<'a>>(refunds: &'a [RefundRow<'_>]) -> Vec<C> {
    let marked = || refunds.iter().filter(|row| row.test);
    vec![
        C::text("shop", marked().map(|row| Some(row.record.shop()))),
        C::text("refund_id", marked().map(|row| Some(row.refund.refund_id.as_str()))),
    ]
}

/// Rows of `order_transactions`. The first two columns are the key; the third is no version's to
/// change: a transaction that once stood in a refund belongs to it ([`refund_transactions`]).
pub(in crate::warehouse) fn order_transactions<'a, C: Column<'a>>(rows: &'a [TransactionRow<'_>]) -> Vec<C> {
    let each = || rows.iter();
    let transactions = || rows.iter().map(|row| row.transaction);
    let records = || each().map(|row| row.record);
    let mut columns = vec![
        C::text("shop", records().map(|r| Some(r.shop()))),
        C::text(
            "transaction_id",
            transactions().map(|t| Some(t.transaction_id.as_str())),
        ),
        C::text("refund_id", each().map(|row| row.refund_id)),
        C::text("order_id", records().map(|r| Some(r.event.order_id.as_str()))),
        C::text("parent_id", transactions().map(|t| id(t.parent_id.as_ref()))),
        C::text("kind", transactions().map(|t| text(t.kind.as_ref()))),
        C::text("status", transactions().map(|t| text(t.status.as_ref()))),
        C::text("gateway", transactions().map(|t| text(t.gateway.as_ref()))),
        C::numeric("amount", transactions().map(|t| decimal(t.amount))),
        C::text("currency", each().map(TransactionRow::currency)),
        C::numeric("paid_amount", transactions().map(|t| decimal(t.paid_amount))),
        C::text("paid_currency", transactions().map(|t| text(t.paid_currency.as_ref()))),
        C::instant(
            "processed_at",
            each().map(|row| Some(micros(row.processed_at().instant()))),
        ),
        C::date("local_date", each().map(|row| row.processed_at().local_date())),
        C::boolean("test", transactions().map(|t| Some(t.test.unwrap_or_default()))),
        C::boolean("is_final", transactions().map(|t| Some(t.is_final()))),
    ];
    columns.extend(version_columns(records()));
    columns
}

/// Keys of `order_transactions`, and the refunds that they belong to, whatever was written of them
/// before.
pub(in crate::warehouse) fn refund_transactions<'a, C: Column<'a>>(rows: &'a [TransactionRow<'_>]) -> Vec<C> {
    let refunded = || rows.iter().filter(|row| row.refund_id.is_some());
    vec![
        C::text("shop", refunded().map(|row| Some(row.record.shop()))),
        C::text(
            "transaction_id",
            refunded().map(|row| Some(row.transaction.transaction_id.as_str())),
        ),
        C::text("refund_id", refunded().map(|row| row.refund_id)),
    ]
}
