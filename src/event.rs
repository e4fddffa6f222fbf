//! `OrderEvent`: what happened to one order, and nothing personal.
//!
//! Owns the JSON of the `payload` field (names and types are public contract) and the exact scalar
//! types in it. Pure: no I/O, no Shopify knowledge, no storage. Invariants: money keeps its written
//! digits (`0.10` stays `0.10`), ids keep all 64 bits, absent stays absent, and text is borrowed
//! from the input wherever it has no escapes.
//!
//! Fields stand in the order in which `jsonb` keeps the keys of an object: shorter names first, then
//! bytewise. PostgreSQL sorts the keys of every object that it reads; in another order that takes
//! a quarter of the time of reading an event.

mod amount;
mod currency;
mod details;
pub mod json;
mod line;
mod named_order;
mod refund;
mod sale;
mod scalar;
mod transaction;
mod validate;

pub use amount::{Amount, InvalidAmount};
pub use currency::currency_digits;
pub use details::{Attribute, Details, Discount, Fulfillment, TaxLine, Utm};
pub use json::InvalidJson;
pub use line::{AddedLine, Item, OrderEdit, ShippingLine};
pub use named_order::NamedOrder;
pub use refund::{Refund, RefundLine};
pub use sale::Sale;
pub use scalar::{Id, InvalidTimestamp, Text, Timestamp, UtcTime};
pub use transaction::Transaction;
pub use validate::{InvalidEvent, is_currency, validate, validate_storable};

pub(crate) use amount::EXPECTED_AMOUNT;
pub(crate) use scalar::{MAX_NAME, MOST_UNITS, optional_quantity, quantity};

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// One event, as it stands in the `payload` field of a stream entry.
///
/// `total_amount`, `currency` and `items` are there exactly when the event carries the whole order
/// ([`OrderEvent::is_whole`]); a partial event (a deletion, an edit, a refund) leaves them out.
///
/// Read from JSON, `event_type`, `event_id` and `timestamp` may be missing, since a plain producer
/// may have put them beside the payload only; [`validate_storable`] refuses an event in which they
/// still are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OrderEvent<'a> {
    /// What an `order.edited` event changed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<OrderEdit<'a>>,
    /// What people call the order, `#1042`; at most 255 characters, more are cut off.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::optional_name",
        skip_serializing_if = "Option::is_none"
    )]
    pub name: Option<Text<'a>>,
    /// `example.myshopify.com`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub shop: Option<Text<'a>>,
    /// A test order: kept, and left out of every view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<bool>,
    /// Lines of the order; an empty list is a whole order without lines.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<Item<'a>>>,
    /// The order's whole ledger up to `updated_at`, where its source has it: sales are then taken
    /// from here, and nothing is derived from lines and refunds.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sales: Option<Vec<Sale<'a>>>,
    /// The app that made the order.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<Id<'a>>,
    /// What else is known of the order.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details<'a>>,
    /// Refunds known to this event.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub refunds: Option<Vec<Refund<'a>>>,
    /// ISO 4217, the shop's currency.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Text<'a>>,
    /// Unique per event; the key of every dedupe on the way.
    #[serde(borrow, default)]
    pub event_id: Text<'a>,
    /// The shop's id of the order; empty in an event about a person or a shop
    /// ([`OrderEvent::is_without_order`]).
    #[serde(borrow)]
    pub order_id: Id<'a>,
    /// Cash rounding of what was paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding: Option<Amount>,
    /// After discounts, before shipping; with tax where `taxes_included`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtotal: Option<Amount>,
    /// When it was closed (archived).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp<'a>>,
    /// The orders that an event about a person names.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub order_ids: Vec<Id<'a>>,
    /// When it happened, as its source wrote it.
    #[serde(borrow, default)]
    pub timestamp: Timestamp<'a>,
    /// Sum of all taxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_tax: Option<Amount>,
    /// Tips, in `currency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_tip: Option<Amount>,
    /// When the order was created in the shop.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp<'a>>,
    /// Dotted lower case, `order.created`.
    #[serde(borrow, default)]
    pub event_type: Text<'a>,
    /// The shop's id of a request for data.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Id<'a>>,
    /// Additional fees as ordered, in `currency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_fees: Option<Amount>,
    /// Last change of the order; the first part of its version.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp<'a>>,
    /// `null` for a guest and where the event does not know.
    #[serde(borrow, default)]
    pub customer_id: Option<Id<'a>>,
    /// Where it was sold, of a point of sale.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub location_id: Option<Id<'a>>,
    /// Sales channel (`web`, `pos`, an app id).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub source_name: Option<Text<'a>>,
    /// When it was cancelled.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Timestamp<'a>>,
    /// The number in `name`, 1042.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_number: Option<i64>,
    /// When the order was processed (imported orders: in the past).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub processed_at: Option<Timestamp<'a>>,
    /// Order total in `currency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_amount: Option<Amount>,
    /// Duties as ordered, in `currency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_duties: Option<Amount>,
    /// Transactions known to this event, without those of its refunds.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub transactions: Vec<Transaction<'a>>,
    /// Why it was cancelled: `customer`, `fraud`, `inventory`, `declined`, `staff` or `other`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<Text<'a>>,
    /// Shipping lines, removed ones included.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub shipping_lines: Option<Vec<ShippingLine<'a>>>,
    /// Whether prices contain the tax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taxes_included: Option<bool>,
    /// Shipping charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_shipping: Option<Amount>,
    /// Country of the billing address, `CA`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub billing_country: Option<Text<'a>>,
    /// Cash rounding of what was paid back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_rounding: Option<Amount>,
    /// Sum of all discounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_discounts: Option<Amount>,
    /// `subtotal` after edits and returns, where it differs; so for the other `current_` amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_subtotal: Option<Amount>,
    /// Shopify's `pending`, `authorized`, `partially_paid`, `paid`, `partially_refunded`,
    /// `refunded`, `voided`, ...
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub financial_status: Option<Text<'a>>,
    /// Country of the shipping address, `CA`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub shipping_country: Option<Text<'a>>,
    /// `total_tax` after edits and returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_total_tax: Option<Amount>,
    /// `total_fees` after edits and returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_total_fees: Option<Amount>,
    /// Shopify's `fulfilled`, `partial`, `restocked`, ...; absent while unfulfilled.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub fulfillment_status: Option<Text<'a>>,
    /// Total after edits and returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_total_amount: Option<Amount>,
    /// `total_duties` after edits and returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_total_duties: Option<Amount>,
    /// ISO 4217, what the customer saw.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub presentment_currency: Option<Text<'a>>,
    /// `total_shipping` after edits and returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_total_shipping: Option<Amount>,
    /// `total_discounts` after edits and returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_total_discounts: Option<Amount>,
    /// Order total in `presentment_currency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presentment_total_amount: Option<Amount>,
}

/// Event types that never carry the whole order, whatever else they hold: the only list of them.
const PARTIAL: [&str; 17] = [
    "order.deleted",
    "order.edited",
    "order.risk_assessment_changed",
    "order.shopify_protect_eligibility_changed",
    "refund.created",
    "order_transaction.created",
    "fulfillment.created",
    "fulfillment.updated",
    "fulfillment_event.created",
    "fulfillment_event.deleted",
    "dispute.created",
    "dispute.updated",
    "customer.data_requested",
    "customer.redact_requested",
    "shop.redact_requested",
    "customer.forgotten",
    "shop.forgotten",
];

/// Event types that are about a person or a shop instead of one order: Shopify's privacy requests, and
/// what `forget` announces.
const WITHOUT_ORDER: [&str; 5] = [
    "customer.data_requested",
    "customer.redact_requested",
    "shop.redact_requested",
    "customer.forgotten",
    "shop.forgotten",
];

/// Event types that promise the whole order; [`validate`] holds them to it.
const WHOLE: [&str; 9] = [
    "order.created",
    "order.updated",
    "order.paid",
    "order.partially_fulfilled",
    "order.fulfilled",
    "order.cancelled",
    "order.snapshot",
    "order.imported",
    "order.reconciled",
];

impl OrderEvent<'_> {
    /// Whether the event carries the whole order and may therefore write whole-order columns and
    /// lines.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.total_amount.is_some()
            && self.currency.is_some()
            && self.items.is_some()
            && !PARTIAL.contains(&self.event_type.as_str())
    }

    /// Whether the event says what an edit added to the order.
    #[must_use]
    pub fn is_edit(&self) -> bool {
        self.edit.is_some() && self.event_type.as_str() == "order.edited"
    }

    /// Whether the event says that the order was deleted.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.event_type.as_str() == "order.deleted"
    }

    /// Whether it is about a person or a shop, so that its `order_id` is empty.
    #[must_use]
    pub fn is_without_order(&self) -> bool {
        WITHOUT_ORDER.contains(&self.event_type.as_str())
    }

    /// `item_count` of the warehouse: the sum of `qty`, at most `i64::MAX`.
    #[must_use]
    pub fn item_count(&self) -> i64 {
        self.items
            .iter()
            .flatten()
            .fold(0, |count, item| count.saturating_add(item.qty))
    }
}

/// Where an event came from: hints beside the event (headers are not signed), kept for tracing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Provenance<'a> {
    /// `shopify`, `batch`, or what another producer wrote.
    pub source: Option<Text<'a>>,
    /// Shop domain.
    pub shop: Option<Text<'a>>,
    /// Raw webhook topic, `orders/create`.
    pub topic: Option<Text<'a>>,
    /// `X-Shopify-Webhook-Id`: one per delivery of one subscription, equal across Shopify's
    /// retries.
    pub webhook_id: Option<Text<'a>>,
    /// `X-Shopify-Event-Id`: shared by all subscriptions that the same change triggers.
    pub shopify_event_id: Option<Text<'a>>,
    /// `X-Shopify-Triggered-At`; the second part of an order's version.
    pub triggered_at: Option<Text<'a>>,
    /// `X-Shopify-API-Version`.
    pub api_version: Option<Text<'a>>,
    /// W3C trace context.
    pub traceparent: Option<Text<'a>>,
    /// When this service received it.
    pub received_at: Option<Text<'a>>,
}

/// An event with everything the warehouse stores of it: what a worker hands to a handler.
#[derive(Debug, Clone)]
pub struct EventRecord<'a> {
    /// The decoded event.
    pub event: OrderEvent<'a>,
    /// The event's JSON exactly as it stands in the entry.
    pub payload: &'a str,
    /// Where it came from.
    pub provenance: Provenance<'a>,
    /// `provenance.triggered_at`, parsed; `None` where it is absent or unreadable (it is only a
    /// hint).
    pub triggered_at: Option<time::OffsetDateTime>,
    /// Id of its stream entry, `ms-seq`.
    pub stream_id: String,
    /// When this service received it; where the entry does not say, when the stream took it.
    pub received_at: time::OffsetDateTime,
    /// The original body where `ORDERSTREAM_KEEP_RAW` kept it, compressed (zstd); from a foreign
    /// producer, its bytes.
    pub raw: Option<Cow<'a, [u8]>>,
    /// Whether what is personal was taken out, since the warehouse has forgotten whom it is about.
    pub is_erased: bool,
}

/// A payload without what is personal: the customer's id, and the attributes and properties that
/// hold what a customer was asked for. `None` where it is no JSON.
#[must_use]
pub fn without_person(payload: &str) -> Option<String> {
    let personal = ["customer_id", "note_attributes", "properties"];
    let rule = |name: &str| match personal.contains(&name) {
        true => json::Kept::Nothing,
        false => json::Kept::Filtered,
    };
    String::from_utf8(json::filtered(payload.as_bytes(), &rule)?).ok()
}

impl EventRecord<'_> {
    /// The shop that keys every table: the event's own, else the delivery's, else `''`.
    #[must_use]
    pub fn shop(&self) -> &str {
        self.event
            .shop
            .as_ref()
            .or(self.provenance.shop.as_ref())
            .map_or("", Text::as_str)
    }
}
