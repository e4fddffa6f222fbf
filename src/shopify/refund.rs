//! One refund, from `refunds/create` and from an order's `refunds[]` alike.
//!
//! Owns what a refund amounts to: the money that its transactions gave or are giving back, and the tax within it.

use serde::Deserialize;

use super::ConvertError;
use super::lenient::{self, LossyText};
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
    #[serde(borrow)]
    refund_line_items: Option<Vec<RefundLine<'a>>>,
    #[serde(borrow)]
    refund_shipping_lines: Option<Vec<RefundedShipping<'a>>>,
    #[serde(borrow)]
    order_adjustments: Option<Vec<RefundedShipping<'a>>>,
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
struct RefundLine<'a> {
    #[serde(default, deserialize_with = "lenient::amount")]
    total_tax: Option<Amount>,
    #[serde(borrow)]
    total_tax_set: Option<MoneySet<'a>>,
}

/// A shipping line, or before API version 2024-10 an adjustment of kind `shipping_refund`, with its amounts negative.
#[derive(Debug, Deserialize)]
struct RefundedShipping<'a> {
    #[serde(borrow)]
    kind: Option<LossyText<'a>>,
    #[serde(default, deserialize_with = "lenient::amount")]
    tax_amount: Option<Amount>,
    #[serde(borrow)]
    tax_amount_set: Option<MoneySet<'a>>,
}

/// What a transaction gave back, and in which currency where it says so.
struct Paid<'a> {
    amount: Amount,
    currency: Option<Text<'a>>,
    /// Taken from `shop_money`.
    is_shops: bool,
}

/// What tax must be in to be part of an amount.
struct Unit<'a> {
    currency: Option<Text<'a>>,
    /// Plain amounts beside a set are in the shop's currency.
    is_shops: bool,
}

/// Makes the refund; `order_currency` is the shop's, where the body around it says so.
///
/// Fails where the id is missing, and where what the transactions gave back cannot be summed (several currencies, too
/// much): a `refunds/create` then is no event, an order goes on without this refund.
pub(super) fn read<'a>(body: RefundBody<'a>, order_currency: Option<&Text<'a>>) -> Result<Refund<'a>, ConvertError> {
    let refund_id = body.id.ok_or(ConvertError::Missing {
        fields: vec!["id"],
        cause: "a refund cannot be told from another without it",
    })?;
    let transactions = body.transactions.into_iter().flatten();
    let paid: Vec<_> = transactions.filter_map(Transaction::paid_back).collect();
    let amount = sum(&paid, |paid| Some(paid.amount)).ok_or(ConvertError::Overflow("transactions[].amount"))?;
    let mut currencies = paid.iter().filter_map(|paid| paid.currency.as_ref());
    let paid_in = currencies.next();
    if currencies.any(|other| Some(other) != paid_in) {
        return Err(ConvertError::MixedCurrencies);
    }
    let shops = body
        .total_duties_set
        .and_then(|set| known_currency(set.shop_money?.currency_code))
        .or_else(|| order_currency.cloned());
    let unit = Unit {
        is_shops: paid_in.is_none() || paid_in == shops.as_ref() || paid.iter().any(|paid| paid.is_shops),
        currency: paid_in.cloned().or(shops),
    };
    // Without money that moved there is none for tax to be a part of: a cancelled order that was never paid.
    let tax = body.refund_line_items.filter(|_| !paid.is_empty()).and_then(|lines| {
        let lines = sum(&lines, |line| unit.pick(line.total_tax, line.total_tax_set.as_ref()))?;
        let shipping = unit.shipping_tax(body.refund_shipping_lines, body.order_adjustments);
        lines.checked_add(shipping.unwrap_or_default())
    });
    Ok(Refund {
        refund_id,
        processed_at: body.processed_at.or(body.created_at),
        amount,
        // Less may be given back than the lines came to.
        tax: tax.map(|tax| tax.min(amount)),
        currency: unit.currency,
    })
}

impl Unit<'_> {
    /// The amount in this currency, where one of the two says it.
    fn pick(&self, plain: Option<Amount>, set: Option<&MoneySet<'_>>) -> Option<Amount> {
        set.into_iter()
            .flat_map(|set| [&set.shop_money, &set.presentment_money])
            .flatten()
            .find(|money| money.currency_code.is_some() && money.currency_code == self.currency)
            .and_then(|money| money.amount)
            .or_else(|| plain.filter(|_| self.is_shops))
    }

    /// Both lists may tell of the same money: never add them.
    fn shipping_tax(
        &self,
        lines: Option<Vec<RefundedShipping<'_>>>,
        adjustments: Option<Vec<RefundedShipping<'_>>>,
    ) -> Option<Amount> {
        let tax = |one: &RefundedShipping<'_>| {
            let Amount(tax) = self.pick(one.tax_amount, one.tax_amount_set.as_ref())?;
            Some(Amount(tax.abs()))
        };
        let lines = lines.filter(|lines| !lines.is_empty());
        lines.and_then(|lines| sum(&lines, tax)).or_else(|| {
            let mut shipping = adjustments?;
            shipping.retain(|one| one.kind.as_ref().is_some_and(|kind| kind.0 == "shipping_refund"));
            sum(&shipping, tax)
        })
    }
}

impl<'a> Transaction<'a> {
    /// What went back to the customer, in the shop's currency where the transaction tells it.
    fn paid_back(self) -> Option<Paid<'a>> {
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
            return Some(Paid {
                amount,
                currency: known_currency(shop.currency_code),
                is_shops: true,
            });
        }
        Some(Paid {
            amount: self.amount?,
            currency: known_currency(self.currency),
            is_shops: false,
        })
    }
}

/// Shopify writes `XXX` (ISO 4217: no currency) where it does not know.
fn known_currency(code: Option<Text<'_>>) -> Option<Text<'_>> {
    code.filter(|code| is_currency(code.as_str()) && code.as_str() != "XXX")
}
