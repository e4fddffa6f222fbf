//! The whole order.
//!
//! Owns which of Shopify's order fields mean what in an event. Nulls count as absent everywhere. What makes the order
//! one (id, total, currency, lines with quantity and price) is read strictly, what is only nice to know leniently.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::fit;
use super::lenient::{self, LossyText};
use super::money::{MoneySet, shop_amount, sum};
use super::refund::{self, RefundBody};
use super::{ConvertError, Topic};
use crate::event::{self, Amount, Id, Item, MAX_NAME, OrderEvent, ShippingLine, Text, Timestamp, is_currency, json};

/// Shopify's order, as far as an event needs it.
#[derive(Debug, Deserialize)]
struct OrderBody<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    name: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::timestamp")]
    created_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::timestamp")]
    processed_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::timestamp")]
    updated_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::timestamp")]
    cancelled_at: Option<Timestamp<'a>>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
    total_price: Option<Amount>,
    #[serde(default, deserialize_with = "lenient::amount")]
    subtotal_price: Option<Amount>,
    #[serde(default, deserialize_with = "lenient::amount")]
    total_discounts: Option<Amount>,
    #[serde(default, deserialize_with = "lenient::amount")]
    total_tax: Option<Amount>,
    taxes_included: Option<bool>,
    #[serde(default, deserialize_with = "lenient::amount")]
    current_total_price: Option<Amount>,
    #[serde(borrow)]
    presentment_currency: Option<Text<'a>>,
    #[serde(borrow)]
    total_price_set: Option<MoneySet<'a>>,
    #[serde(borrow)]
    total_shipping_price_set: Option<MoneySet<'a>>,
    #[serde(borrow)]
    shipping_lines: Option<Vec<ShippingBody<'a>>>,
    #[serde(default, deserialize_with = "lenient::amount")]
    total_tip_received: Option<Amount>,
    #[serde(borrow)]
    original_total_duties_set: Option<MoneySet<'a>>,
    #[serde(borrow)]
    original_total_additional_fees_set: Option<MoneySet<'a>>,
    #[serde(borrow)]
    financial_status: Option<Text<'a>>,
    #[serde(borrow)]
    fulfillment_status: Option<Text<'a>>,
    #[serde(borrow)]
    source_name: Option<LossyText<'a>>,
    test: Option<bool>,
    #[serde(borrow)]
    customer: Option<Customer<'a>>,
    #[serde(borrow)]
    line_items: Option<Vec<LineItem<'a>>>,
    #[serde(borrow)]
    refunds: Option<Vec<RefundBody<'a>>>,
    /// What the API, but never a webhook, wraps orders in.
    order: Option<IgnoredAny>,
    orders: Option<IgnoredAny>,
    /// What drafts and checkouts have, which look like orders otherwise.
    #[serde(default, deserialize_with = "lenient::presence")]
    order_id: bool,
    #[serde(default, deserialize_with = "lenient::presence")]
    invoice_url: bool,
    #[serde(default, deserialize_with = "lenient::presence")]
    abandoned_checkout_url: bool,
}

#[derive(Debug, Deserialize)]
struct Customer<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
}

#[derive(Debug, Deserialize)]
struct LineItem<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    variant_id: Option<Id<'a>>,
    #[serde(borrow)]
    product_id: Option<Id<'a>>,
    #[serde(borrow)]
    title: Option<LossyText<'a>>,
    #[serde(borrow)]
    sku: Option<LossyText<'a>>,
    #[serde(deserialize_with = "event::quantity")]
    quantity: i64,
    #[serde(default, deserialize_with = "event::optional_quantity")]
    current_quantity: Option<i64>,
    price: Amount,
    #[serde(default, deserialize_with = "lenient::amount")]
    total_discount: Option<Amount>,
    discount_allocations: Option<Vec<Allocation>>,
    tax_lines: Option<Vec<Priced>>,
    gift_card: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Allocation {
    #[serde(default, deserialize_with = "lenient::amount")]
    amount: Option<Amount>,
}

#[derive(Debug, Deserialize)]
struct Priced {
    #[serde(default, deserialize_with = "lenient::amount")]
    price: Option<Amount>,
}

#[derive(Debug, Deserialize)]
struct ShippingBody<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    title: Option<LossyText<'a>>,
    #[serde(default, deserialize_with = "lenient::amount")]
    price: Option<Amount>,
    #[serde(borrow)]
    price_set: Option<MoneySet<'a>>,
    #[serde(default, deserialize_with = "lenient::amount")]
    discounted_price: Option<Amount>,
    #[serde(borrow)]
    discounted_price_set: Option<MoneySet<'a>>,
    discount_allocations: Option<Vec<Allocation>>,
    tax_lines: Option<Vec<Priced>>,
    is_removed: Option<bool>,
}

/// Fills the event from an order's body.
pub(super) fn read<'a>(topic: Topic, body: &'a [u8], blank: OrderEvent<'a>) -> Result<OrderEvent<'a>, ConvertError> {
    let order: OrderBody<'a> = json::parse(body)?;
    let OrderBody {
        id: Some(id),
        total_price: Some(total_price),
        currency: Some(currency),
        line_items: Some(line_items),
        ..
    } = order
    else {
        return Err(order.missing());
    };
    if order.order_id || order.invoice_url || order.abandoned_checkout_url {
        return Err(fit::unfit(topic));
    }
    let total_shipping = order
        .total_shipping_price_set
        .and_then(|set| set.shop_money?.amount)
        .or_else(|| sum(order.shipping_lines.as_deref()?, ShippingBody::price));
    let set_amount = |set: Option<MoneySet<'_>>| shop_amount(None, set.as_ref());
    let presentment_currency = order.presentment_currency.filter(|code| is_currency(code.as_str()));
    // Where the two places disagree about the currency, an amount without a certain currency is worth nothing.
    let presentment_total_amount = order
        .total_price_set
        .and_then(|set| set.presentment_money)
        .filter(|money| money.currency_code == presentment_currency)
        .and_then(|money| money.amount);
    // A refund that cannot be summed is left out: every later version of the order will carry it, and would be lost.
    let refunds = order.refunds.map(|refunds| {
        let refunds = refunds.into_iter();
        refunds
            .filter_map(|refund| refund::read(refund, Some(&currency), &id).ok())
            .collect()
    });
    Ok(OrderEvent {
        timestamp: order
            .updated_at
            .as_ref()
            .or(order.created_at.as_ref())
            .or(order.processed_at.as_ref())
            .cloned()
            .unwrap_or(blank.timestamp),
        order_id: id,
        customer_id: order.customer.and_then(|customer| customer.id),
        total_amount: Some(total_price),
        items: Some(line_items.into_iter().map(item).collect()),
        name: order.name.map(|name| Text::from(name).cut(MAX_NAME)),
        created_at: order.created_at,
        processed_at: order.processed_at,
        updated_at: order.updated_at,
        cancelled_at: order.cancelled_at,
        financial_status: order.financial_status,
        fulfillment_status: order.fulfillment_status,
        subtotal: order.subtotal_price,
        total_discounts: order.total_discounts,
        total_shipping,
        total_tax: order.total_tax,
        taxes_included: order.taxes_included,
        current_total_amount: order.current_total_price,
        presentment_currency,
        presentment_total_amount,
        source_name: order.source_name.map(Text::from),
        test: order.test,
        total_tip: order.total_tip_received,
        total_duties: set_amount(order.original_total_duties_set),
        total_fees: set_amount(order.original_total_additional_fees_set),
        shipping_lines: order
            .shipping_lines
            .map(|lines| lines.into_iter().map(ShippingLine::from).collect()),
        refunds,
        currency: Some(currency),
        ..blank
    })
}

impl OrderBody<'_> {
    /// The error for a body that is no whole order; meaningful only where it is none.
    fn missing(&self) -> ConvertError {
        let fields = [
            ("id", self.id.is_none()),
            ("total_price", self.total_price.is_none()),
            ("currency", self.currency.is_none()),
            ("line_items", self.line_items.is_none()),
        ];
        ConvertError::Missing {
            fields: fields
                .into_iter()
                .filter_map(|(name, gone)| gone.then_some(name))
                .collect(),
            cause: if self.order.is_some() || self.orders.is_some() {
                "this is an answer of Shopify's API (an envelope \"order\" or \"orders\"), not a webhook"
            } else {
                "does the subscription filter fields (include_fields)? It must send the whole order"
            },
        }
    }
}

fn item(line: LineItem<'_>) -> Item<'_> {
    // Allocations hold every discount, shown on the line or on the order; `total_discount` only the former, and both
    // may be there for the same money: never add them. (Shopify staff in the announcement of discount applications,
    // community.shopify.com, API Announcements 416581.) Bodies before 2018 have no allocations.
    let allocations = line.discount_allocations.as_deref().filter(|list| !list.is_empty());
    let discount = match allocations {
        Some(list) => sum(list, |one| one.amount),
        None => line.total_discount,
    };
    Item {
        sku: line.sku.map(|LossyText(sku)| Id(sku)),
        qty: line.quantity,
        price: line.price,
        line_id: line.id,
        variant_id: line.variant_id,
        product_id: line.product_id,
        title: line.title.map(Text::from),
        current_qty: line.current_quantity,
        discount,
        tax: line.tax_lines.as_deref().and_then(|lines| sum(lines, |tax| tax.price)),
        gift_card: line.gift_card.filter(|is_gift_card| *is_gift_card),
    }
}

impl ShippingBody<'_> {
    fn price(&self) -> Option<Amount> {
        shop_amount(self.price, self.price_set.as_ref())
    }

    /// Bodies before 2018 have only the price and its allocations.
    fn discounted_price(&self) -> Option<Amount> {
        shop_amount(self.discounted_price, self.discounted_price_set.as_ref()).or_else(|| {
            let allocated = sum(self.discount_allocations.as_deref()?, |one| one.amount)?;
            self.price()?.0.checked_sub(allocated.0).map(Amount)
        })
    }
}

impl<'a> From<ShippingBody<'a>> for ShippingLine<'a> {
    fn from(line: ShippingBody<'a>) -> Self {
        let (price, discounted_price) = (line.price(), line.discounted_price());
        Self {
            line_id: line.id,
            title: line.title.map(Text::from),
            price,
            discounted_price: discounted_price.filter(|discounted| Some(discounted) != price.as_ref()),
            tax: line.tax_lines.as_deref().and_then(|lines| sum(lines, |tax| tax.price)),
            removed: line.is_removed.filter(|is_removed| *is_removed),
        }
    }
}
