//! The sales of an order by day, as Shopify's sales reports count them.
//!
//! Pure, and the same for every store. Owns the split of an order into sales: gross before
//! discounts and tax, discounts of lines without tax, tax, shipping after discounts without tax,
//! duties, fees; gift cards and tips apart, since they are no sales. Everything is in the shop's
//! currency. Units that an edit added count on the day of the edit; [`order_ledger`] works that
//! out from all events of the order, so that the order of arrival does not matter. Refunds are
//! reversals of their own and stand in `order_refunds`. Of an order whose books were asked for, they
//! take the place of all this.
//!
//! Source of the definitions: Shopify Help Center, "Sales reports"; `Order.agreements` of the Admin
//! API.

mod comparison;
mod dated;
mod exact;
mod portions;

use rust_decimal::{Decimal, RoundingStrategy};

pub(super) use self::comparison::{Units, may_be_dated, removes_shipping, shows_same_sales, units};
pub(super) use self::dated::DatedSale;
pub(super) use self::exact::{OrderLedger, order_ledger};
use crate::event::{Amount, Item, OrderEvent, Refund, ShippingLine, currency_digits};

/// Figures of one line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LineSale {
    /// Price times quantity, without tax.
    pub(super) gross: Decimal,
    /// Discounts, without tax.
    pub(super) discount: Decimal,
    pub(super) tax: Decimal,
}

impl LineSale {
    fn amounts(self) -> [Decimal; 3] {
        [self.gross, self.discount, self.tax]
    }
}

/// Figures of a whole order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OrderSale {
    pub(super) gross: Decimal,
    pub(super) discounts: Decimal,
    /// After discounts, without tax.
    pub(super) shipping: Decimal,
    /// On lines and shipping.
    pub(super) tax: Decimal,
    /// The part of `tax` that is on shipping.
    pub(super) shipping_tax: Decimal,
    pub(super) duties: Decimal,
    pub(super) fees: Decimal,
    pub(super) tips: Decimal,
    /// Gift cards sold.
    pub(super) gift_cards: Decimal,
}

impl OrderSale {
    pub(super) fn of(event: &OrderEvent<'_>) -> Self {
        let lines = line_sales(event);
        let amount = |amount: Option<Amount>| amount.unwrap_or_default().0;
        let (shipping, shipping_tax) = shipping(event);
        let mut sale = Self {
            shipping,
            shipping_tax,
            tax: shipping_tax,
            duties: amount(event.total_duties),
            fees: amount(event.total_fees),
            tips: amount(event.total_tip),
            ..Self::default()
        };
        if sale.tips.is_zero() {
            sale.tips = tip_lines(event);
        }
        for (item, line) in event.items.iter().flatten().zip(&lines) {
            sale.tax = sale.tax.saturating_add(line.tax);
            if item.gift_card.unwrap_or_default() {
                let paid = line.gross.saturating_sub(line.discount);
                sale.gift_cards = sale.gift_cards.saturating_add(paid);
            } else {
                sale.gross = sale.gross.saturating_add(line.gross);
                sale.discounts = sale.discounts.saturating_add(line.discount);
            }
        }
        if lines.is_empty() {
            sale.without_lines(event);
        }
        sale
    }

    /// Of an order that came without lines only the sums are known.
    fn without_lines(&mut self, event: &OrderEvent<'_>) {
        let amount = |amount: Option<Amount>| amount.unwrap_or_default().0;
        self.discounts = amount(event.total_discounts);
        self.tax = amount(event.total_tax);
        let sold = match event.subtotal {
            Some(subtotal) => subtotal.0.saturating_add(self.discounts),
            None => amount(event.total_amount),
        };
        let tax = if includes_tax(event) {
            self.tax.saturating_sub(self.shipping_tax)
        } else {
            Decimal::ZERO
        };
        self.gross = sold.saturating_sub(tax);
    }
}

/// The sum of the lines that are tips.
fn tip_lines(event: &OrderEvent<'_>) -> Decimal {
    let tips = event.items.iter().flatten().filter(|item| is_tip(item));
    tips.fold(Decimal::ZERO, |sum, item| {
        sum.saturating_add(item.price.0.saturating_mul(item.qty.into()))
    })
}

fn is_tip(item: &Item<'_>) -> bool {
    item.tip.unwrap_or_default()
}

fn includes_tax(event: &OrderEvent<'_>) -> bool {
    event.taxes_included.unwrap_or_default()
}

fn digits(event: &OrderEvent<'_>) -> u32 {
    event.currency.as_ref().map_or(2, |code| currency_digits(code.as_str()))
}

fn rounded(amount: Decimal, digits: u32) -> Decimal {
    amount.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero)
}

/// Figures of each line, in the order of `items`. Where no line states its discount or its tax, the
/// order's are spread over them by price. A tip is no sale: its figures are zero.
pub(super) fn line_sales(event: &OrderEvent<'_>) -> Vec<LineSale> {
    let items = event.items.as_deref().unwrap_or_default();
    let digits = digits(event);
    let price = |item: &Item<'_>| item.price.0.saturating_mul(item.qty.into());
    let prices: Vec<Decimal> = items
        .iter()
        .map(|item| if is_tip(item) { Decimal::ZERO } else { price(item) })
        .collect();
    let discounts = line_discounts(event, items, &prices, digits);
    let discounted: Vec<Decimal> = prices
        .iter()
        .zip(&discounts)
        .map(|(price, less)| price.saturating_sub(*less))
        .collect();
    let taxes = stated(items, |item| item.tax).unwrap_or_else(|| {
        let (_, shipping_tax) = shipping(event);
        let tax = event.total_tax.unwrap_or_default().0.saturating_sub(shipping_tax);
        spread(tax, &discounted, digits)
    });
    let figures = prices.into_iter().zip(discounted).zip(taxes);
    figures
        .map(|((price, discounted), tax)| {
            if includes_tax(event) {
                without_tax(price, discounted, tax, digits)
            } else {
                LineSale {
                    gross: price,
                    discount: price.saturating_sub(discounted),
                    tax,
                }
            }
        })
        .collect()
}

/// Tax is within both the price and the discount, in the proportion in which it is within what was
/// paid.
fn without_tax(price: Decimal, discounted: Decimal, tax: Decimal, digits: u32) -> LineSale {
    let net = discounted.saturating_sub(tax);
    let gross = price
        .checked_mul(net)
        .and_then(|product| product.checked_div(discounted))
        .map_or(price, |gross| rounded(gross, digits));
    LineSale {
        gross,
        discount: gross.saturating_sub(net),
        tax,
    }
}

/// The amount of each line, where any line states one.
fn stated(items: &[Item<'_>], amount: impl Fn(&Item<'_>) -> Option<Amount>) -> Option<Vec<Decimal>> {
    let amounts: Vec<Option<Amount>> = items.iter().map(amount).collect();
    let any = amounts.iter().any(Option::is_some);
    any.then(|| amounts.into_iter().map(|amount| amount.unwrap_or_default().0).collect())
}

/// An amount in shares by weight, rounded; the last share takes what rounding leaves.
fn spread(amount: Decimal, weights: &[Decimal], digits: u32) -> Vec<Decimal> {
    let all = weights
        .iter()
        .fold(Decimal::ZERO, |all, weight| all.saturating_add(*weight));
    let mut left = amount;
    let last = weights.len().saturating_sub(1);
    let share = |(place, weight): (usize, &Decimal)| {
        let share = amount.checked_mul(*weight).and_then(|product| product.checked_div(all));
        let share = if place == last {
            left
        } else {
            rounded(share.unwrap_or_default(), digits)
        };
        left = left.saturating_sub(share);
        share
    };
    weights.iter().enumerate().map(share).collect()
}

/// The discount of each line. What the order's discounts are above those of its lines and shipping
/// (bodies without allocations, other producers) is spread over the lines by price.
fn line_discounts(event: &OrderEvent<'_>, items: &[Item<'_>], prices: &[Decimal], digits: u32) -> Vec<Decimal> {
    let of_lines = stated(items, |item| item.discount).unwrap_or_else(|| vec![Decimal::ZERO; items.len()]);
    let rest = of_lines
        .iter()
        .fold(order_discounts(event), |rest, one| rest.saturating_sub(*one));
    if rest <= Decimal::ZERO {
        return of_lines;
    }
    let discounted: Vec<Decimal> = prices
        .iter()
        .zip(&of_lines)
        .map(|(price, less)| price.saturating_sub(*less))
        .collect();
    let more = spread(rest, &discounted, digits);
    of_lines
        .into_iter()
        .zip(more)
        .map(|(own, more)| own.saturating_add(more))
        .collect()
}

/// Discounts of lines: the order's less those on shipping.
fn order_discounts(event: &OrderEvent<'_>) -> Decimal {
    let on_shipping = event.shipping_lines.iter().flatten().fold(Decimal::ZERO, |sum, line| {
        let price = line.price.unwrap_or_default().0;
        let discounted = line
            .discounted_price
            .unwrap_or_else(|| line.price.unwrap_or_default())
            .0;
        sum.saturating_add(price.saturating_sub(discounted))
    });
    let discounts = event.total_discounts.unwrap_or_default().0;
    discounts.saturating_sub(on_shipping).max(Decimal::ZERO)
}

/// Shipping after discounts without tax, and the tax on it.
fn shipping(event: &OrderEvent<'_>) -> (Decimal, Decimal) {
    let lines = event.shipping_lines.as_deref().filter(|lines| !lines.is_empty());
    let Some(lines) = lines else {
        let tax = remaining_shipping_tax(event);
        let charged = event.total_shipping.unwrap_or_default().0;
        return (
            if includes_tax(event) {
                charged.saturating_sub(tax)
            } else {
                charged
            },
            tax,
        );
    };
    lines
        .iter()
        .fold((Decimal::ZERO, Decimal::ZERO), |(charged, taxed), line| {
            let (amount, tax) = shipping_sale(line, includes_tax(event));
            (charged.saturating_add(amount), taxed.saturating_add(tax))
        })
}

fn shipping_sale(line: &ShippingLine<'_>, includes_tax: bool) -> (Decimal, Decimal) {
    let price = line.discounted_price.or(line.price).unwrap_or_default().0;
    let tax = line.tax.unwrap_or_default().0;
    (if includes_tax { price.saturating_sub(tax) } else { price }, tax)
}

/// The tax on shipping where no shipping line states it: the order's tax less that of the lines, if
/// there is shipping at all.
fn remaining_shipping_tax(event: &OrderEvent<'_>) -> Decimal {
    let is_shipped = event.total_shipping.is_some_and(|amount| !amount.0.is_zero());
    let lines = stated(event.items.as_deref().unwrap_or_default(), |item| item.tax).filter(|_| is_shipped);
    let (Some(lines), Some(total)) = (lines, event.total_tax) else {
        return Decimal::ZERO;
    };
    let rest = lines.into_iter().fold(total.0, Decimal::saturating_sub);
    rest.max(Decimal::ZERO)
}

/// What a refund reverses, as it states it: prices may include tax, which only the order knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reversal {
    /// Lines that are no gift cards.
    pub(super) lines: Decimal,
    /// Tax within `lines` where the order's prices include tax.
    pub(super) lines_tax: Decimal,
    pub(super) gift_cards: Decimal,
    pub(super) shipping: Decimal,
    /// Tax within `shipping` where the order's prices include tax.
    pub(super) shipping_tax: Decimal,
    pub(super) duties: Decimal,
    /// In the merchant's favour: makes the reversal smaller.
    pub(super) adjustments: Decimal,
    /// All tax that is reversed.
    pub(super) tax: Decimal,
}

impl Reversal {
    pub(super) fn of(refund: &Refund<'_>) -> Self {
        let amount = |amount: Option<Amount>| amount.unwrap_or_default().0;
        let says_what = refund.lines.is_some()
            || [refund.shipping, refund.duties, refund.adjustments]
                .iter()
                .any(Option::is_some);
        let tax = amount(refund.tax);
        let mut reversal = Self {
            shipping: amount(refund.shipping),
            shipping_tax: amount(refund.shipping_tax),
            duties: amount(refund.duties),
            adjustments: amount(refund.adjustments),
            tax,
            ..Self::default()
        };
        for line in refund.lines.iter().flatten() {
            let subtotal = amount(line.subtotal);
            if line.gift_card.unwrap_or_default() {
                reversal.gift_cards = reversal.gift_cards.saturating_add(subtotal);
            } else {
                reversal.lines = reversal.lines.saturating_add(subtotal);
                reversal.lines_tax = reversal.lines_tax.saturating_add(amount(line.tax));
            }
        }
        // A refund that states only the money reverses what it paid back, tax apart.
        if !says_what {
            reversal.tax = tax.min(refund.amount.0);
            reversal.adjustments = reversal.tax.saturating_sub(refund.amount.0);
        }
        reversal
    }
}
