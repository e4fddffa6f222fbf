//! Amounts as Shopify writes them: in the shop's currency, and in the one that the customer saw.

use rust_decimal::Decimal;
use serde::Deserialize;

use super::tolerant;
use crate::event::{Amount, Text, is_currency};

/// One amount in both currencies.
#[derive(Debug, Deserialize)]
pub(super) struct MoneySet<'a> {
    #[serde(borrow)]
    pub(super) shop_money: Option<Money<'a>>,
    #[serde(borrow)]
    pub(super) presentment_money: Option<Money<'a>>,
}

/// An amount in one of them.
#[derive(Debug, Deserialize)]
pub(super) struct Money<'a> {
    #[serde(default, deserialize_with = "tolerant::amount")]
    pub(super) amount: Option<Amount>,
    #[serde(borrow)]
    pub(super) currency_code: Option<Text<'a>>,
}

/// The amount in the shop's currency: the set's, else the plain one, which Shopify writes in the
/// shop's currency everywhere but in transactions.
pub(super) fn shop_amount(plain: Option<Amount>, set: Option<&MoneySet<'_>>) -> Option<Amount> {
    set.and_then(|set| set.shop_money.as_ref()?.amount).or(plain)
}

/// Shop's money for one unit of what the customer paid in, where the amounts state it; `currency`
/// is the shop's.
pub(super) fn exchange_rate<'s, 'a: 's>(
    sets: impl Iterator<Item = &'s MoneySet<'a>>,
    currency: Option<&Text<'a>>,
) -> Option<Decimal> {
    let both = sets.filter_map(|set| {
        let (shop, paid) = (set.shop_money.as_ref()?, set.presentment_money.as_ref()?);
        (shop.currency_code.as_ref() == currency).then_some((shop.amount?.0.abs(), paid.amount?.0.abs()))
    });
    let (shop, paid) = both.fold((Decimal::ZERO, Decimal::ZERO), |(shop, paid), one| {
        (shop.saturating_add(one.0), paid.saturating_add(one.1))
    });
    shop.checked_div(paid).filter(|rate| !rate.is_zero())
}

/// Shopify writes `XXX` (ISO 4217: no currency) where it does not know.
pub(super) fn known_currency(code: Option<Text<'_>>) -> Option<Text<'_>> {
    code.filter(|code| is_currency(code.as_str()) && code.as_str() != "XXX")
}

/// The exact sum; `None` where an amount is missing or the sum is out of bounds.
pub(super) fn sum<T>(list: &[T], amount: impl Fn(&T) -> Option<Amount>) -> Option<Amount> {
    list.iter()
        .try_fold(Amount::default(), |total, one| total.checked_add(amount(one)?))
}
