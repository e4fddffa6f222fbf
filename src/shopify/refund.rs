//! One refund, from `refunds/create` and from an order's `refunds[]` alike.
//!
//! Owns what a refund amounts to: the money that its transactions gave or are giving back.

use serde::Deserialize;

use super::ConvertError;
use super::lenient;
use super::order::{MoneySet, sum};
use crate::event::{Amount, Id, Refund, Text, Timestamp, is_currency};

/// Shopify's refund, as far as an event needs it.
#[derive(Debug, Deserialize)]
pub(super) struct RefundBody<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) order_id: Option<Id<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::timestamp")]
    processed_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::timestamp")]
    created_at: Option<Timestamp<'a>>,
    #[serde(borrow)]
    transactions: Option<Vec<Transaction<'a>>>,
    refund_line_items: Option<Vec<RefundLine>>,
    #[serde(borrow)]
    total_duties_set: Option<MoneySet<'a>>,
}

#[derive(Debug, Deserialize)]
struct Transaction<'a> {
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    status: Option<Text<'a>>,
    amount: Option<Amount>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
    #[serde(borrow)]
    amount_set: Option<MoneySet<'a>>,
}

#[derive(Debug, Deserialize)]
struct RefundLine {
    #[serde(default, deserialize_with = "lenient::amount")]
    total_tax: Option<Amount>,
}

/// Makes the refund; `order_currency` is the shop's, where the body around it says so.
pub(super) fn read<'a>(body: RefundBody<'a>, order_currency: Option<&Text<'a>>) -> Result<Refund<'a>, ConvertError> {
    let refund_id = body.id.ok_or(ConvertError::Missing {
        fields: vec!["id"],
        cause: "a refund cannot be told from another without it",
    })?;
    let paid: Vec<_> = body
        .transactions
        .into_iter()
        .flatten()
        .filter_map(Transaction::paid_back)
        .collect();
    let amount = sum(&paid, |(amount, _)| Some(*amount)).ok_or(ConvertError::Overflow("transactions[].amount"))?;
    let mut currencies = paid.into_iter().filter_map(|(_, currency)| currency);
    let paid_in = currencies.next();
    if currencies.any(|other| Some(&other) != paid_in.as_ref()) {
        return Err(ConvertError::MixedCurrencies);
    }
    Ok(Refund {
        refund_id,
        processed_at: body.processed_at.or(body.created_at),
        amount,
        tax: body
            .refund_line_items
            .and_then(|lines| sum(&lines, |line| line.total_tax)),
        currency: paid_in
            .or_else(|| known_currency(body.total_duties_set?.shop_money?.currency_code))
            .or_else(|| order_currency.cloned()),
    })
}

impl<'a> Transaction<'a> {
    /// What went back to the customer, in the shop's currency where the transaction tells it.
    fn paid_back(self) -> Option<(Amount, Option<Text<'a>>)> {
        let counts = self.kind.as_ref().is_some_and(|kind| kind.as_str() == "refund")
            && self
                .status
                .as_ref()
                .is_some_and(|status| matches!(status.as_str(), "success" | "pending"));
        if !counts {
            return None;
        }
        if let Some(shop) = self.amount_set.and_then(|set| set.shop_money)
            && let Some(amount) = shop.amount
        {
            return Some((amount, known_currency(shop.currency_code)));
        }
        Some((self.amount?, known_currency(self.currency)))
    }
}

/// Shopify writes `XXX` (ISO 4217: no currency) where it does not know.
fn known_currency(code: Option<Text<'_>>) -> Option<Text<'_>> {
    code.filter(|code| is_currency(code.as_str()) && code.as_str() != "XXX")
}
