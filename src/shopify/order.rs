//! The whole order.
//!
//! Owns which of Shopify's order fields mean what in an event. Nulls count as absent everywhere.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::ConvertError;
use super::refund::{self, RefundBody};
use crate::event::{Amount, Id, Item, OrderEvent, Text, Timestamp, json};

/// Shopify's order, as far as an event needs it.
#[derive(Debug, Deserialize)]
struct OrderBody<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    name: Option<LossyText<'a>>,
    #[serde(borrow)]
    created_at: Option<Timestamp<'a>>,
    #[serde(borrow)]
    processed_at: Option<Timestamp<'a>>,
    #[serde(borrow)]
    updated_at: Option<Timestamp<'a>>,
    #[serde(borrow)]
    cancelled_at: Option<Timestamp<'a>>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
    total_price: Option<Amount>,
    subtotal_price: Option<Amount>,
    total_discounts: Option<Amount>,
    total_tax: Option<Amount>,
    taxes_included: Option<bool>,
    current_total_price: Option<Amount>,
    #[serde(borrow)]
    presentment_currency: Option<Text<'a>>,
    #[serde(borrow)]
    total_price_set: Option<MoneySet<'a>>,
    #[serde(borrow)]
    total_shipping_price_set: Option<MoneySet<'a>>,
    shipping_lines: Option<Vec<Priced>>,
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
    quantity: i64,
    current_quantity: Option<i64>,
    price: Amount,
    total_discount: Option<Amount>,
    discount_allocations: Option<Vec<Allocation>>,
    tax_lines: Option<Vec<Priced>>,
}

#[derive(Debug, Deserialize)]
struct Allocation {
    amount: Amount,
}

#[derive(Debug, Deserialize)]
struct Priced {
    price: Amount,
}

/// One amount in the shop's and in the customer's currency.
#[derive(Debug, Deserialize)]
pub(super) struct MoneySet<'a> {
    #[serde(borrow)]
    pub(super) shop_money: Option<Money<'a>>,
    #[serde(borrow)]
    pub(super) presentment_money: Option<Money<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Money<'a> {
    pub(super) amount: Option<Amount>,
    #[serde(borrow)]
    pub(super) currency_code: Option<Text<'a>>,
}

/// Text that a merchant typed. A NUL in it, which PostgreSQL refuses, becomes U+FFFD: nobody should lose an order over
/// a character in a title.
#[derive(Debug)]
struct LossyText<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for LossyText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Any<'a>(#[serde(borrow)] Cow<'a, str>);
        let Any(text) = Any::deserialize(deserializer)?;
        Ok(Self(if text.contains('\0') {
            Cow::Owned(text.replace('\0', "\u{FFFD}"))
        } else {
            text
        }))
    }
}

/// Fills the event from an order's body.
pub(super) fn read<'a>(body: &'a [u8], blank: OrderEvent<'a>) -> Result<OrderEvent<'a>, ConvertError> {
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
    let total_shipping = match order.total_shipping_price_set.and_then(|set| set.shop_money?.amount) {
        Some(amount) => Some(amount),
        None => sum(
            order.shipping_lines.as_deref(),
            |line| line.price,
            "shipping_lines[].price",
        )?,
    };
    let presentment_currency = order.presentment_currency;
    // Where the two places disagree about the currency, an amount without a certain currency is worth nothing.
    let presentment_total_amount = order
        .total_price_set
        .and_then(|set| set.presentment_money)
        .filter(|money| money.currency_code == presentment_currency)
        .and_then(|money| money.amount);
    let refunds = order
        .refunds
        .map(|refunds| {
            refunds
                .into_iter()
                .map(|refund| refund::read(refund, Some(&currency)))
                .collect::<Result<Vec<_>, _>>()
        })
        .transpose()?;
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
        items: Some(line_items.into_iter().map(item).collect::<Result<_, _>>()?),
        name: order.name.map(Text::from),
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
        test: blank.test.or(order.test),
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

fn item(line: LineItem<'_>) -> Result<Item<'_>, ConvertError> {
    // Allocations hold every discount, shown on the line or on the order; `total_discount` only the former, and both
    // may be there for the same money: never add them. (Shopify staff in the announcement of discount applications,
    // community.shopify.com, API Announcements 416581.) Bodies before 2018 have no allocations.
    let allocations = line.discount_allocations.as_deref().filter(|list| !list.is_empty());
    let discount = match allocations {
        Some(list) => sum(
            Some(list),
            |one| one.amount,
            "line_items[].discount_allocations[].amount",
        )?,
        None => line.total_discount,
    };
    Ok(Item {
        sku: line.sku.map(|LossyText(sku)| Id(sku)),
        qty: line.quantity,
        price: line.price,
        line_id: line.id,
        variant_id: line.variant_id,
        product_id: line.product_id,
        title: line.title.map(Text::from),
        current_qty: line.current_quantity,
        discount,
        tax: sum(
            line.tax_lines.as_deref(),
            |tax| tax.price,
            "line_items[].tax_lines[].price",
        )?,
    })
}

/// The exact sum of a list; `None` where there is no list.
pub(super) fn sum<T>(
    list: Option<&[T]>,
    amount: impl Fn(&T) -> Amount,
    field: &'static str,
) -> Result<Option<Amount>, ConvertError> {
    list.map(|list| {
        list.iter()
            .try_fold(Amount::default(), |total, one| total.checked_add(amount(one)))
            .ok_or(ConvertError::Overflow(field))
    })
    .transpose()
}

impl<'a> From<LossyText<'a>> for Text<'a> {
    fn from(LossyText(text): LossyText<'a>) -> Self {
        Text(text)
    }
}
