//! One refund, from `refunds/create` and from an order's `refunds[]` alike.
//!
//! Owns what a refund reverses (lines, shipping, duties, adjustments; with or without money) and
//! what its transactions paid back, both in the shop's currency. Pure.

use rust_decimal::Decimal;
use serde::Deserialize;

use super::ConvertError;
use super::money::{MoneySet, exchange_rate, known_currency, shop_amount, sum};
use super::tolerant::{self, LossyText};
use super::transaction::{Context, TransactionBody};
use crate::event::{self, Amount, Id, Refund, RefundLine, Text, Timestamp};

/// Shopify's refund, as far as an event needs it.
#[derive(Debug, Deserialize)]
pub(super) struct RefundBody<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) order_id: Option<Id<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    processed_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    created_at: Option<Timestamp<'a>>,
    #[serde(borrow)]
    transactions: Option<Vec<TransactionBody<'a>>>,
    #[serde(borrow)]
    refund_line_items: Option<Vec<RefundedLine<'a>>>,
    #[serde(borrow)]
    refund_shipping_lines: Option<Vec<RefundedShipping<'a>>>,
    #[serde(borrow)]
    order_adjustments: Option<Vec<Adjustment<'a>>>,
    #[serde(borrow)]
    duties: Option<Vec<RefundedDuty<'a>>>,
    #[serde(borrow)]
    total_duties_set: Option<MoneySet<'a>>,
}

#[derive(Debug, Deserialize)]
struct RefundedLine<'a> {
    #[serde(borrow)]
    line_item_id: Option<Id<'a>>,
    #[serde(default, deserialize_with = "event::optional_quantity")]
    quantity: Option<i64>,
    #[serde(borrow)]
    restock_type: Option<LossyText<'a>>,
    #[serde(borrow)]
    location_id: Option<Id<'a>>,
    #[serde(default, deserialize_with = "tolerant::amount")]
    subtotal: Option<Amount>,
    #[serde(borrow)]
    subtotal_set: Option<MoneySet<'a>>,
    #[serde(default, deserialize_with = "tolerant::amount")]
    total_tax: Option<Amount>,
    #[serde(borrow)]
    total_tax_set: Option<MoneySet<'a>>,
    #[serde(borrow)]
    line_item: Option<OrderLine<'a>>,
}

#[derive(Debug, Deserialize)]
struct OrderLine<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    gift_card: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct RefundedShipping<'a> {
    #[serde(borrow)]
    subtotal_amount_set: Option<MoneySet<'a>>,
    #[serde(borrow)]
    tax_amount_set: Option<MoneySet<'a>>,
}

/// Before API version 2024-10 refunded shipping is one of these, of kind `shipping_refund`, with
/// negative amounts.
#[derive(Debug, Deserialize)]
struct Adjustment<'a> {
    #[serde(borrow)]
    kind: Option<LossyText<'a>>,
    #[serde(default, deserialize_with = "tolerant::amount")]
    amount: Option<Amount>,
    #[serde(borrow)]
    amount_set: Option<MoneySet<'a>>,
    #[serde(default, deserialize_with = "tolerant::amount")]
    tax_amount: Option<Amount>,
    #[serde(borrow)]
    tax_amount_set: Option<MoneySet<'a>>,
}

#[derive(Debug, Deserialize)]
struct RefundedDuty<'a> {
    #[serde(borrow)]
    amount_set: Option<MoneySet<'a>>,
}

/// Makes the refund. `order` is what the order around it says, if there is one; `order_id` names a
/// refund without an id of its own.
///
/// # Errors
/// A sum is out of bounds.
pub(super) fn read<'a>(
    body: RefundBody<'a>,
    order: Context<'_, 'a>,
    order_id: &Id<'a>,
) -> Result<Refund<'a>, ConvertError> {
    let currency = body.shop_currency().or_else(|| order.currency.cloned());
    let transactions = body.transactions.as_deref().unwrap_or_default();
    let currency = currency
        .or_else(|| transactions.iter().find_map(TransactionBody::shop_currency))
        .or_else(|| transactions.iter().find_map(TransactionBody::currency));
    let processed_at = body.processed_at.clone().or_else(|| body.created_at.clone());
    let around = Context {
        currency: currency.as_ref(),
        rate: exchange_rate(body.sets(), currency.as_ref()).or(order.rate),
        processed_at: processed_at.as_ref(),
    };
    let paid = |status| paid_back(transactions, status, around);
    let (amount, pending) = (paid("success")?, paid("pending")?);
    let lines = body.lines();
    let (shipping, shipping_tax) = body.shipping();
    let discrepancies = body.adjustments(|kind| kind != Some("shipping_refund"))?;
    let old_shipping = body.adjustments(|kind| kind == Some("shipping_refund"))?;
    let lines_tax = total(
        lines.iter().flatten().map(|line| line.tax),
        "refund_line_items[].total_tax",
    )?;
    // Both lists may state the same shipping: they are never added.
    let all_shipping_tax = shipping_tax.unwrap_or_else(|| minus(old_shipping.1));
    let taxes = [lines_tax, all_shipping_tax, minus(discrepancies.1)];
    let tax = total(taxes.map(Some).into_iter(), "order_adjustments[].tax_amount")?;
    let event_transactions = transactions
        .iter()
        .filter_map(|one| one.event_transaction(around))
        .collect();
    let nonzero = |amount: Amount| (!amount.0.is_zero()).then_some(amount);
    Ok(Refund {
        refund_id: body
            .id
            .clone()
            .unwrap_or_else(|| unnamed(order_id, processed_at.as_ref())),
        processed_at,
        amount,
        pending_amount: nonzero(pending),
        tax: (lines.is_some() || shipping.is_some() || body.order_adjustments.is_some()).then_some(tax),
        currency,
        lines,
        shipping: shipping.or_else(|| nonzero(minus(old_shipping.0))),
        shipping_tax,
        duties: body.duties_amount()?,
        adjustments: nonzero(discrepancies.0),
        adjustments_tax: nonzero(discrepancies.1),
        transactions: event_transactions,
    })
}

/// The id of a refund without one; the same in each delivery that states the refund.
fn unnamed<'a>(order_id: &Id<'a>, processed_at: Option<&Timestamp<'a>>) -> Id<'a> {
    let at = processed_at.map_or(0, |at| at.instant().unix_timestamp());
    Id::from(format!("{}-{at}", order_id.as_str()))
}

/// Never `-0`.
fn minus(Amount(amount): Amount) -> Amount {
    Amount(Decimal::ZERO - amount)
}

/// The sum of the amounts that are there.
fn total(mut amounts: impl Iterator<Item = Option<Amount>>, field: &'static str) -> Result<Amount, ConvertError> {
    amounts
        .try_fold(Amount::default(), |sum, amount| {
            sum.checked_add(amount.unwrap_or_default())
        })
        .ok_or(ConvertError::Overflow(field))
}

/// What refund transactions of that status paid back, in the shop's currency where that is known.
fn paid_back<'a>(
    transactions: &[TransactionBody<'a>],
    status: &str,
    around: Context<'_, 'a>,
) -> Result<Amount, ConvertError> {
    let paid = transactions.iter().filter(|one| one.is("refund", status));
    total(paid.map(|one| one.worth(around).0), "transactions[].amount")
}

impl<'a> RefundBody<'a> {
    /// All amounts that come in both currencies.
    fn sets(&self) -> impl Iterator<Item = &MoneySet<'a>> {
        let lines = self.refund_line_items.iter().flatten();
        let lines = lines.flat_map(|line| [&line.subtotal_set, &line.total_tax_set]);
        let shipping = self.refund_shipping_lines.iter().flatten();
        let shipping = shipping.flat_map(|line| [&line.subtotal_amount_set, &line.tax_amount_set]);
        let adjustments = self.order_adjustments.iter().flatten();
        let adjustments = adjustments.flat_map(|one| [&one.amount_set, &one.tax_amount_set]);
        lines
            .chain(shipping)
            .chain(adjustments)
            .chain([&self.total_duties_set])
            .flatten()
    }

    fn shop_currency(&self) -> Option<Text<'a>> {
        self.sets()
            .find_map(|set| known_currency(set.shop_money.as_ref()?.currency_code.clone()))
    }

    fn lines(&self) -> Option<Vec<RefundLine<'a>>> {
        let lines = self.refund_line_items.as_ref()?.iter().map(|line| RefundLine {
            line_id: line
                .line_item_id
                .clone()
                .or_else(|| line.line_item.as_ref()?.id.clone()),
            qty: line.quantity.unwrap_or_default(),
            subtotal: shop_amount(line.subtotal, line.subtotal_set.as_ref()),
            tax: shop_amount(line.total_tax, line.total_tax_set.as_ref()),
            restock_type: line.restock_type.as_ref().map(|text| Text(text.0.clone())),
            location_id: line.location_id.clone(),
            gift_card: line
                .line_item
                .as_ref()
                .and_then(|line| line.gift_card)
                .filter(|gift| *gift),
        });
        Some(lines.collect())
    }

    /// Refunded shipping and the tax on it, since API version 2024-10; each where every line states
    /// it.
    fn shipping(&self) -> (Option<Amount>, Option<Amount>) {
        let lines = self.refund_shipping_lines.as_deref().filter(|lines| !lines.is_empty());
        let of = |amount: fn(&RefundedShipping<'a>) -> Option<Amount>| sum(lines?, amount);
        (
            of(|line| shop_amount(None, line.subtotal_amount_set.as_ref())),
            of(|line| shop_amount(None, line.tax_amount_set.as_ref())),
        )
    }

    /// Amount and tax of the adjustments of those kinds.
    fn adjustments(&self, kinds: impl Fn(Option<&str>) -> bool) -> Result<(Amount, Amount), ConvertError> {
        let all = self.order_adjustments.iter().flatten();
        let chosen: Vec<_> = all
            .filter(|one| kinds(one.kind.as_ref().map(|kind| &*kind.0)))
            .collect();
        let amounts = chosen
            .iter()
            .map(|one| shop_amount(one.amount, one.amount_set.as_ref()));
        let taxes = chosen
            .iter()
            .map(|one| shop_amount(one.tax_amount, one.tax_amount_set.as_ref()));
        let field = "order_adjustments";
        Ok((total(amounts, field)?, total(taxes, field)?))
    }

    fn duties_amount(&self) -> Result<Option<Amount>, ConvertError> {
        let duties = self.duties.as_deref().filter(|duties| !duties.is_empty());
        match duties {
            Some(duties) => {
                let amounts = duties.iter().map(|duty| shop_amount(None, duty.amount_set.as_ref()));
                total(amounts, "duties").map(Some)
            }
            None => Ok(shop_amount(None, self.total_duties_set.as_ref()).filter(|amount| !amount.0.is_zero())),
        }
    }
}
