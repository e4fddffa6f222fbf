//! A refund of an order: what was reversed, and the money that went back. All amounts are in the
//! shop's currency.

use serde::{Deserialize, Serialize};

use super::{Amount, Id, Text, Timestamp, Transaction, scalar};

/// One refund of an order. It reverses sales on the day of `processed_at`, with or without money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refund<'a> {
    /// Tax reversed, on lines and shipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Amount>,
    /// Lines that were returned, removed or cancelled.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<RefundLine<'a>>>,
    /// Money paid back, tax included: transactions that succeeded.
    pub amount: Amount,
    /// Duties reversed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duties: Option<Amount>,
    /// ISO 4217; absent where the source does not say.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Text<'a>>,
    /// Shipping reversed; with tax where the order's prices include it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping: Option<Amount>,
    /// The shop's id of the refund.
    #[serde(borrow)]
    pub refund_id: Id<'a>,
    /// Order adjustments, without those of shipping: positive is in the merchant's favour, so that
    /// it makes the reversal smaller (`Refund.order_adjustments` of the Admin API).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjustments: Option<Amount>,
    /// When the refund was processed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub processed_at: Option<Timestamp<'a>>,
    /// Tax on `shipping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping_tax: Option<Amount>,
    /// What paid it back, or is to.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub transactions: Vec<Transaction<'a>>,
    /// Money on its way back: transactions that are pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_amount: Option<Amount>,
    /// Tax on `adjustments`, of the same sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjustments_tax: Option<Amount>,
}

/// Units of one line that a refund reverses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefundLine<'a> {
    /// Units, at most 10^9.
    #[serde(default, deserialize_with = "scalar::quantity")]
    pub qty: i64,
    /// Tax reversed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Amount>,
    /// The line of the order.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub line_id: Option<Id<'a>>,
    /// After discounts; with tax where the order's prices include it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtotal: Option<Amount>,
    /// The line is a gift card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gift_card: Option<bool>,
    /// Where the units were restocked.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub location_id: Option<Id<'a>>,
    /// `return`, `cancel`, `no_restock` or `legacy_restock`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub restock_type: Option<Text<'a>>,
}
