//! A payment transaction, from `order_transactions/create` and from the `transactions[]` of orders
//! and refunds alike.
//!
//! Owns its worth in the shop's currency. A transaction may carry only what the customer paid in
//! another one; then the amounts around it, which come in both currencies, give the rate.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::Deserialize;

use super::money::{MoneySet, known_currency};
use super::tolerant::{self, LossyText, short};
use crate::event::{Amount, Id, Text, Timestamp, Transaction, currency_digits};

/// Shopify's transaction, as far as an event needs it.
#[derive(Debug, Deserialize)]
pub(super) struct TransactionBody<'a> {
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    id: Option<Id<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    parent_id: Option<Id<'a>>,
    #[serde(borrow)]
    kind: Option<LossyText<'a>>,
    #[serde(borrow)]
    status: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    gateway: Option<LossyText<'a>>,
    amount: Option<Amount>,
    #[serde(borrow)]
    currency: Option<LossyText<'a>>,
    #[serde(borrow)]
    amount_set: Option<MoneySet<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    total_unsettled_set: Option<UnsettledSet<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    currency_exchange_adjustment: Option<ExchangeAdjustment<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    processed_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    created_at: Option<Timestamp<'a>>,
    #[serde(default, deserialize_with = "tolerant::any")]
    test: Option<bool>,
}

/// The only set that names its currencies so.
#[derive(Debug, Deserialize)]
struct UnsettledSet<'a> {
    #[serde(borrow)]
    shop_money: Option<UnsettledTransaction<'a>>,
    #[serde(borrow)]
    presentment_money: Option<UnsettledTransaction<'a>>,
}

#[derive(Debug, Deserialize)]
struct UnsettledTransaction<'a> {
    #[serde(default, deserialize_with = "tolerant::amount")]
    amount: Option<Amount>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
}

/// What became of a refund's worth since the payment.
#[derive(Debug, Deserialize)]
struct ExchangeAdjustment<'a> {
    /// The transaction's worth in `currency`, of either sign.
    #[serde(default, deserialize_with = "tolerant::amount")]
    final_amount: Option<Amount>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
}

/// What stands around a transaction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context<'s, 'a> {
    /// The shop's currency, where it is known.
    pub(super) currency: Option<&'s Text<'a>>,
    /// Shop's money for one unit of what the customer paid in.
    pub(super) rate: Option<Decimal>,
    /// When all of it was processed.
    pub(super) processed_at: Option<&'s Timestamp<'a>>,
}

impl<'a> TransactionBody<'a> {
    /// What it was paid in.
    pub(super) fn currency(&self) -> Option<Text<'a>> {
        known_currency(self.currency.as_ref().map(|code| Text(code.0.clone())))
    }

    /// The shop's currency, where the transaction itself states it.
    pub(super) fn shop_currency(&self) -> Option<Text<'a>> {
        let in_set = self.amount_set.as_ref().and_then(|set| set.shop_money.as_ref());
        let unsettled = self
            .total_unsettled_set
            .as_ref()
            .and_then(|set| set.shop_money.as_ref());
        let adjusted = self.currency_exchange_adjustment.as_ref();
        known_currency(in_set.and_then(|money| money.currency_code.clone()))
            .or_else(|| known_currency(unsettled?.currency.clone()))
            .or_else(|| known_currency(adjusted?.currency.clone()))
    }

    /// Whether it is of that kind and status.
    pub(super) fn is(&self, kind: &str, status: &str) -> bool {
        let is = |text: &Option<LossyText<'_>>, name| text.as_ref().is_some_and(|text| text.0 == name);
        is(&self.kind, kind) && is(&self.status, status)
    }

    /// Its amount in the shop's currency, else in the one that it was paid in; with the currency.
    pub(super) fn worth(&self, around: Context<'_, 'a>) -> (Option<Amount>, Option<Text<'a>>) {
        let shop = around.currency.cloned().or_else(|| self.shop_currency());
        let in_set = self.amount_set.as_ref().and_then(|set| set.shop_money.as_ref()?.amount);
        let paid_in = self.currency();
        match (&paid_in, &shop) {
            _ if in_set.is_some() => (in_set, shop.or(paid_in)),
            (Some(paid), Some(shop_code)) if paid != shop_code => match self.converted(shop_code, around.rate) {
                Some(amount) => (Some(amount), shop),
                None => (self.amount, paid_in),
            },
            (..) => (self.amount, shop.or(paid_in)),
        }
    }

    fn converted(&self, shop: &Text<'a>, rate: Option<Decimal>) -> Option<Amount> {
        let adjusted = self.currency_exchange_adjustment.as_ref();
        let adjusted = adjusted.filter(|adjusted| adjusted.currency.as_ref() == Some(shop));
        if let Some(amount) = adjusted.and_then(|adjusted| adjusted.final_amount) {
            return Some(Amount(amount.0.abs()));
        }
        let worth = self.amount?.0.checked_mul(rate.or_else(|| self.unsettled_rate())?)?;
        let digits = currency_digits(shop.as_str());
        Some(Amount(
            worth.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero),
        ))
    }

    fn unsettled_rate(&self) -> Option<Decimal> {
        let set = self.total_unsettled_set.as_ref()?;
        let (shop, paid) = (set.shop_money.as_ref()?, set.presentment_money.as_ref()?);
        shop.amount?
            .0
            .checked_div(paid.amount?.0)
            .filter(|rate| !rate.is_zero())
    }

    /// The transaction of an event, without the fields that `around` already states; none where it
    /// has no id.
    pub(super) fn event_transaction(&self, around: Context<'_, 'a>) -> Option<Transaction<'a>> {
        let (amount, currency) = self.worth(around);
        let paid_in = self.currency().filter(|paid| currency.as_ref() != Some(paid));
        let processed_at = self.processed_at.as_ref().or(self.created_at.as_ref());
        Some(Transaction {
            transaction_id: self.id.clone()?,
            parent_id: self.parent_id.clone(),
            kind: short(self.kind.clone()),
            status: short(self.status.clone()),
            gateway: short(self.gateway.clone()),
            amount,
            currency: currency.filter(|code| around.currency != Some(code)),
            paid_amount: self.amount.filter(|_| paid_in.is_some()),
            paid_currency: paid_in,
            processed_at: processed_at.filter(|at| around.processed_at != Some(at)).cloned(),
            test: self.test.filter(|is_test| *is_test),
        })
    }
}
