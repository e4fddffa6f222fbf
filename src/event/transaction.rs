//! A payment transaction: an attempt of a gateway to reserve, take or pay back money.

use serde::{Deserialize, Serialize};

use super::{Amount, Id, Text, Timestamp};

/// One transaction of an order, with its newest status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transaction<'a> {
    /// `authorization`, `sale`, `capture`, `void`, `refund` or `change`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text<'a>>,
    /// Made with a test gateway: moves no money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<bool>,
    /// In `currency`; a refund's is not negative either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// `pending`, `success`, `failure`, `error`, ...
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Text<'a>>,
    /// Payment gateway: `shopify_payments`, `gift_card`, ...
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Text<'a>>,
    /// ISO 4217: the shop's where that is known, else the one that was paid in; that of the refund
    /// or order around it where absent.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Text<'a>>,
    /// The transaction that it continues: of a capture its authorization, of a refund what it pays
    /// back.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<Id<'a>>,
    /// In `paid_currency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_amount: Option<Amount>,
    /// When it was processed; with the refund around it where absent.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub processed_at: Option<Timestamp<'a>>,
    /// ISO 4217: what the customer paid in, where `amount` is in another.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub paid_currency: Option<Text<'a>>,
    /// The shop's id of the transaction.
    #[serde(borrow)]
    pub transaction_id: Id<'a>,
}

impl Transaction<'_> {
    /// Whether its status is one that no other follows.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let status = self.status.as_ref().map(Text::as_str);
        matches!(status, Some("success" | "failure" | "error"))
    }
}
