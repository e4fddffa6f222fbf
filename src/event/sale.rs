//! A sale of an order's ledger, as Shopify's own books have it (`Order.agreements[].sales[]` of the
//! Admin API). Amounts are in the shop's currency; those of a reversal are negative.

use serde::{Deserialize, Serialize};

use super::{Amount, Id, Text, Timestamp};

/// One sale or reversal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sale<'a> {
    /// Units; negative where they are reversed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub qty: i64,
    /// Tax on it.
    #[serde(default)]
    pub tax: Amount,
    /// After discounts, with tax.
    pub total: Amount,
    /// `order`, `update` or `return`.
    #[serde(borrow)]
    pub action: Text<'a>,
    /// Why it was agreed on: `order`, `edit`, `refund` or `return`.
    #[serde(borrow)]
    pub reason: Text<'a>,
    /// The line of the order.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub line_id: Option<Id<'a>>,
    /// The shop's id of the sale.
    #[serde(borrow)]
    pub sale_id: Id<'a>,
    /// Discount without tax; of a reversal negative or zero.
    #[serde(default)]
    pub discount: Amount,
    /// `product`, `gift_card`, `shipping`, `tip`, `duty`, `fee` or `adjustment`.
    #[serde(borrow)]
    pub line_type: Text<'a>,
    /// The refund that it is part of.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub refund_id: Option<Id<'a>>,
    /// When it was agreed on, in the shop's offset: the day on which it counts.
    #[serde(borrow)]
    pub happened_at: Timestamp<'a>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(units: &i64) -> bool {
    *units == 0
}
