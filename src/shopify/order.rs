//! The whole order.
//!
//! Owns which of Shopify's order fields mean what in an event. Nulls count as absent everywhere.
//! What makes the order one (id, total, currency, lines with quantity and price) is read strictly,
//! what is only nice to know tolerantly.

mod details;
mod lines;

use serde::Deserialize;
use serde::de::IgnoredAny;

pub(super) use self::details::utm_tags;
use self::details::{ApplicationBody, CodeBody, FulfillmentBody, TaxBody, take_details};
use self::lines::{LineItem, ShippingBody, item};
use super::fit;
use super::money::{MoneySet, exchange_rate, shop_amount, sum};
use super::refund::{self, RefundBody};
use super::tolerant::{self, LossyText, short};
use super::transaction::{Context, TransactionBody};
use super::{ConvertError, Topic};
use crate::event::{Amount, Id, MAX_NAME, OrderEvent, ShippingLine, Text, Timestamp, is_currency, json};

/// Shopify's order, as far as an event needs it.
#[derive(Debug, Deserialize)]
struct OrderBody<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    name: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    created_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    processed_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    updated_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    cancelled_at: Option<Timestamp<'a>>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
    total_price: Option<Amount>,
    #[serde(default, deserialize_with = "tolerant::amount")]
    subtotal_price: Option<Amount>,
    #[serde(default, deserialize_with = "tolerant::amount")]
    total_discounts: Option<Amount>,
    #[serde(default, deserialize_with = "tolerant::amount")]
    total_tax: Option<Amount>,
    taxes_included: Option<bool>,
    #[serde(default, deserialize_with = "tolerant::amount")]
    current_total_price: Option<Amount>,
    #[serde(borrow)]
    presentment_currency: Option<Text<'a>>,
    #[serde(borrow)]
    total_price_set: Option<MoneySet<'a>>,
    #[serde(borrow)]
    total_shipping_price_set: Option<MoneySet<'a>>,
    #[serde(borrow)]
    shipping_lines: Option<Vec<ShippingBody<'a>>>,
    #[serde(default, deserialize_with = "tolerant::amount")]
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
    #[serde(default, deserialize_with = "tolerant::any")]
    order_number: Option<i64>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    cancel_reason: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    closed_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    app_id: Option<Id<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    location_id: Option<Id<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    billing_address: Option<Address<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    shipping_address: Option<Address<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    total_cash_rounding_payment_adjustment_set: Option<MoneySet<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    total_cash_rounding_refund_adjustment_set: Option<MoneySet<'a>>,
    #[serde(default, deserialize_with = "tolerant::any_amount")]
    current_subtotal_price: Option<Amount>,
    #[serde(default, deserialize_with = "tolerant::any_amount")]
    current_total_discounts: Option<Amount>,
    #[serde(default, deserialize_with = "tolerant::any_amount")]
    current_total_tax: Option<Amount>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    current_shipping_price_set: Option<MoneySet<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    current_total_duties_set: Option<MoneySet<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    current_total_additional_fees_set: Option<MoneySet<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    transactions: Vec<TransactionBody<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    payment_gateway_names: Vec<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    customer_locale: Option<LossyText<'a>>,
    #[serde(default, deserialize_with = "tolerant::any")]
    total_weight: Option<i64>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    tags: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    landing_site: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    discount_applications: Vec<ApplicationBody<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    discount_codes: Vec<CodeBody<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    tax_lines: Vec<TaxBody<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    fulfillments: Vec<FulfillmentBody<'a>>,
    /// What the API, but never a webhook, wraps orders in.
    order: Option<IgnoredAny>,
    orders: Option<IgnoredAny>,
    /// What drafts and checkouts have, which look like orders otherwise.
    #[serde(default, deserialize_with = "tolerant::presence")]
    order_id: bool,
    #[serde(default, deserialize_with = "tolerant::presence")]
    invoice_url: bool,
    #[serde(default, deserialize_with = "tolerant::presence")]
    abandoned_checkout_url: bool,
}

#[derive(Debug, Deserialize)]
struct Customer<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
}

/// Of which only the country is kept.
#[derive(Debug, Deserialize)]
struct Address<'a> {
    #[serde(borrow)]
    country_code: Option<LossyText<'a>>,
}

/// Fills the event from an order's body.
pub(super) fn read<'a>(topic: Topic, body: &'a [u8], blank: OrderEvent<'a>) -> Result<OrderEvent<'a>, ConvertError> {
    let mut order: OrderBody<'a> = json::parse(body)?;
    if order.id.is_none() || order.total_price.is_none() || order.currency.is_none() || order.line_items.is_none() {
        return Err(order.missing());
    }
    if order.order_id || order.invoice_url || order.abandoned_checkout_url {
        return Err(fit::unfit(topic));
    }
    let details = take_details(&mut order);
    let total_shipping = order.total_shipping();
    let (rounding, refund_rounding) = order.rounding();
    let known = OrderEvent {
        timestamp: order.changed_at().unwrap_or(blank.timestamp),
        order_id: order.id.take().unwrap_or_default(),
        customer_id: order.customer.take().and_then(|customer| customer.id),
        total_amount: order.total_price,
        name: order.name.take().map(|name| Text::from(name).cut(MAX_NAME)),
        created_at: order.created_at.take(),
        processed_at: order.processed_at.take(),
        updated_at: order.updated_at.take(),
        cancelled_at: order.cancelled_at.take(),
        financial_status: order.financial_status.take(),
        fulfillment_status: order.fulfillment_status.take(),
        subtotal: order.subtotal_price,
        total_discounts: order.total_discounts,
        total_shipping,
        total_tax: order.total_tax,
        taxes_included: order.taxes_included,
        source_name: order.source_name.take().map(Text::from),
        test: order.test,
        total_tip: order.total_tip_received,
        total_duties: shop_amount(None, order.original_total_duties_set.as_ref()),
        total_fees: shop_amount(None, order.original_total_additional_fees_set.as_ref()),
        order_number: order.order_number,
        cancel_reason: short(order.cancel_reason.take()),
        closed_at: order.closed_at.take(),
        app_id: order.app_id.take(),
        location_id: order.location_id.take(),
        billing_country: order.billing_address.take().and_then(|at| short(at.country_code)),
        shipping_country: order.shipping_address.take().and_then(|at| short(at.country_code)),
        rounding,
        refund_rounding,
        details,
        ..blank
    };
    Ok(order.with_lists(known))
}

impl<'a> OrderBody<'a> {
    /// What of the body is in lists, or stands beside what the event has already.
    fn with_lists(self, event: OrderEvent<'a>) -> OrderEvent<'a> {
        let currency = self.currency;
        let around = Context {
            currency: currency.as_ref(),
            rate: exchange_rate(self.total_price_set.iter(), currency.as_ref()),
            processed_at: None,
        };
        let transactions = self.transactions.iter().filter_map(|one| one.event_transaction(around));
        let transactions = transactions.collect();
        // A refund that cannot be summed is left out: every later version of the order will carry
        // it, and would be lost.
        let refunds = self.refunds.map(|refunds| {
            let refunds = refunds.into_iter();
            let refunds = refunds.map(|refund| refund::read(refund, around, &event.order_id));
            refunds.filter_map(Result::ok).collect()
        });
        let presentment_currency = self.presentment_currency.filter(|code| is_currency(code.as_str()));
        // Where the two places disagree about the currency, an amount without a certain currency is
        // worth nothing.
        let presentment_total_amount = self
            .total_price_set
            .and_then(|set| set.presentment_money)
            .filter(|money| money.currency_code == presentment_currency)
            .and_then(|money| money.amount);
        let set_amount = |set: Option<MoneySet<'_>>| shop_amount(None, set.as_ref());
        let current = |now: Option<Amount>, ordered: Option<Amount>| now.filter(|_| now != ordered);
        OrderEvent {
            presentment_currency,
            presentment_total_amount,
            current_total_amount: self.current_total_price,
            current_subtotal: current(self.current_subtotal_price, event.subtotal),
            current_total_discounts: current(self.current_total_discounts, event.total_discounts),
            current_total_shipping: current(set_amount(self.current_shipping_price_set), event.total_shipping),
            current_total_tax: current(self.current_total_tax, event.total_tax),
            current_total_duties: current(set_amount(self.current_total_duties_set), event.total_duties),
            current_total_fees: current(set_amount(self.current_total_additional_fees_set), event.total_fees),
            items: self.line_items.map(|lines| lines.into_iter().map(item).collect()),
            shipping_lines: self
                .shipping_lines
                .map(|lines| lines.into_iter().map(ShippingLine::from).collect()),
            refunds,
            transactions,
            currency,
            ..event
        }
    }

    fn changed_at(&self) -> Option<Timestamp<'a>> {
        let times = [&self.updated_at, &self.created_at, &self.processed_at];
        times.into_iter().flatten().next().cloned()
    }

    fn total_shipping(&self) -> Option<Amount> {
        let set = self.total_shipping_price_set.as_ref();
        set.and_then(|set| set.shop_money.as_ref()?.amount)
            .or_else(|| sum(self.shipping_lines.as_deref()?, ShippingBody::price))
    }

    /// Of payments, and of refunds; where there is any.
    fn rounding(&self) -> (Option<Amount>, Option<Amount>) {
        let amount = |set: &Option<MoneySet<'_>>| shop_amount(None, set.as_ref()).filter(|amount| !amount.0.is_zero());
        (
            amount(&self.total_cash_rounding_payment_adjustment_set),
            amount(&self.total_cash_rounding_refund_adjustment_set),
        )
    }

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
