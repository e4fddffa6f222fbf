//! Sales of orders that were changed after they were placed, each on its own day.
//!
//! Pure. Works from all events of one order: whole states and edits, in whatever order they
//! arrived. What an `order.edited` event names counts on the edit's day; units that no edit names
//! count on the day of the first state that shows them; shipping that was taken off without a
//! refund is reversed on the day of the first state that shows it. Other changes of an amount (a
//! discount, a shipping line, a fee) count on the day of the edit before the first state that shows
//! them, else on the day of that state.

use std::collections::HashSet;

use rust_decimal::Decimal;
use time::{Date, OffsetDateTime};

use super::comparison::removed_shipping;
use super::{OrderSale, includes_tax, shipping, shipping_sale};
use crate::event::{EventRecord, OrderEvent, Timestamp};
use crate::warehouse::fold::local_date;
use crate::warehouse::version::{Version, micros};

/// One sale of an order whose sales happened on more than one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::warehouse) struct DatedSale {
    /// Unique within the order; the same whenever it is worked out again.
    pub(in crate::warehouse) sale_key: String,
    pub(in crate::warehouse) happened_at: OffsetDateTime,
    pub(in crate::warehouse) local_date: Date,
    /// `order`, `edit`, `refund` or `return`; the latter two only of an exact sale.
    pub(in crate::warehouse) reason: &'static str,
    /// `order`, `update` or `return`, where Shopify says so.
    pub(in crate::warehouse) action: Option<&'static str>,
    /// `product`, `gift_card`, `shipping`, `tip`, `duty`, `fee` or `adjustment`.
    pub(in crate::warehouse) line_type: &'static str,
    pub(in crate::warehouse) line_id: Option<String>,
    pub(in crate::warehouse) refund_id: Option<String>,
    pub(in crate::warehouse) quantity: i64,
    pub(in crate::warehouse) gross: Decimal,
    pub(in crate::warehouse) discount: Decimal,
    pub(in crate::warehouse) tax: Decimal,
    /// [`EXACT`] or [`DERIVED`].
    pub(in crate::warehouse) origin: &'static str,
}

/// From Shopify's books.
pub(super) const EXACT: &str = "exact";
/// Worked out from events.
const DERIVED: &str = "derived";

/// Key of the sale that takes back shipping which was taken off.
const REMOVED_SHIPPING: &str = "shipping:removed";

/// Time and day of a sale, and the reason that dates it.
#[derive(Clone, Copy)]
pub(super) struct SaleDate {
    pub(super) at: OffsetDateTime,
    day: Date,
    reason: &'static str,
}

impl SaleDate {
    pub(super) fn edit(at: &Timestamp<'_>) -> Self {
        Self {
            at: micros(at.instant()),
            day: at.local_date(),
            reason: "edit",
        }
    }

    /// A sale then, of no units and without a discount.
    pub(super) fn sale(self, sale_key: String, line_type: &'static str, gross: Decimal, tax: Decimal) -> DatedSale {
        DatedSale {
            sale_key,
            happened_at: self.at,
            local_date: self.day,
            reason: self.reason,
            action: None,
            line_type,
            line_id: None,
            refund_id: None,
            quantity: 0,
            gross,
            discount: Decimal::ZERO,
            tax,
            origin: DERIVED,
        }
    }
}

type AmountOf = fn(&OrderSale) -> Decimal;

/// Amounts that changed after the order was placed.
pub(super) struct Change<const N: usize> {
    pub(super) key: String,
    pub(super) when: SaleDate,
    pub(super) by: [Decimal; N],
}

/// All that is known of one order, oldest state first.
pub(super) struct OrderHistory<'a> {
    pub(super) states: Vec<&'a EventRecord<'a>>,
    pub(super) edits: Vec<&'a EventRecord<'a>>,
    pub(super) ordered: SaleDate,
}

/// The sales of one order out of all its events. Empty where it was never edited and everything was
/// sold on the order's own day: the order's figures then say it all. Whole-order events and edits
/// are looked at, in any order.
pub(super) fn dated_sales(events: &[EventRecord<'_>]) -> Vec<DatedSale> {
    let (states, edits) = (states(events), edits(events));
    let Some(newest) = states.last().copied() else {
        return Vec::new();
    };
    let event = &newest.event;
    let written = event
        .processed_at
        .as_ref()
        .or(event.created_at.as_ref())
        .unwrap_or(&event.timestamp);
    let ordered = SaleDate {
        at: micros(written.instant()),
        day: local_date(newest),
        reason: "order",
    };
    let history = OrderHistory { states, edits, ordered };
    let mut sales = history.lines(event);
    sales.extend(history.shipping(event));
    let is_with_order = |sale: &DatedSale| sale.local_date == ordered.day && sale.sale_key != REMOVED_SHIPPING;
    if history.edits.is_empty() && sales.iter().all(is_with_order) {
        return Vec::new();
    }
    sales.extend(history.extras(event));
    with_unique_keys(sales)
}

/// The sales that an order's events show since a state of which the books are known.
pub(super) fn sales_since(events: &[EventRecord<'_>], books: &EventRecord<'_>) -> Vec<DatedSale> {
    let (mut states, mut edits) = (states(events), edits(events));
    states.retain(|record| Version::of(record) >= Version::of(books));
    let until = Version::of(books).at;
    edits.retain(|record| micros(edited_at(record).instant()) > until);
    let Some(event) = states.last().map(|newest| &newest.event) else {
        return Vec::new();
    };
    // No change is on the day of the order: all that is older is in the books.
    let ordered = SaleDate {
        at: until,
        day: Date::MIN,
        reason: "order",
    };
    let history = OrderHistory { states, edits, ordered };
    let mut sales = history.lines(event);
    sales.extend(history.shipping(event));
    sales.extend(history.extras(event));
    sales.retain(|sale| sale.reason == "edit" && sale.happened_at > until);
    with_unique_keys(sales)
}

/// Whole states, oldest first.
fn states<'a>(events: &'a [EventRecord<'a>]) -> Vec<&'a EventRecord<'a>> {
    let mut states: Vec<&EventRecord<'_>> = events.iter().filter(|record| record.event.is_whole()).collect();
    states.sort_by(|one, other| Version::of(one).cmp(&Version::of(other)));
    states
}

/// Edits, each once, oldest first.
fn edits<'a>(events: &'a [EventRecord<'a>]) -> Vec<&'a EventRecord<'a>> {
    let mut edits: Vec<&EventRecord<'_>> = events.iter().filter(|record| record.event.is_edit()).collect();
    edits.sort_by_key(|record| (edited_at(record).instant(), record.event.event_id.as_str()));
    edits.dedup_by(|later, earlier| is_same_edit(later, earlier));
    edits
}

/// Two lines of one id would share their keys.
fn with_unique_keys(mut sales: Vec<DatedSale>) -> Vec<DatedSale> {
    let mut keys = HashSet::new();
    for (place, sale) in sales.iter_mut().enumerate() {
        if !keys.insert(sale.sale_key.clone()) {
            sale.sale_key = format!("{}#{place}", sale.sale_key);
        }
    }
    sales
}

pub(super) fn edited_at<'a>(record: &'a EventRecord<'_>) -> &'a Timestamp<'a> {
    let committed = record.event.edit.as_ref().and_then(|edit| edit.committed_at.as_ref());
    committed.unwrap_or(&record.event.timestamp)
}

/// Whether both are the same edit: Shopify sends it to each subscription.
fn is_same_edit(one: &EventRecord<'_>, other: &EventRecord<'_>) -> bool {
    let id = |record: &EventRecord<'_>| {
        record
            .event
            .edit
            .as_ref()?
            .edit_id
            .as_ref()
            .map(|id| id.as_str().to_owned())
    };
    id(one).is_some() && id(one) == id(other)
}

impl OrderHistory<'_> {
    /// The changes that states show, dated by the last edit before the state, else by the state. A
    /// change on the order's own day is none. States are compared where `figures` has the same
    /// quantity for both.
    pub(super) fn changes<const N: usize>(
        &self,
        figures: impl Fn(&OrderEvent<'_>) -> Option<(i64, [Decimal; N])>,
    ) -> Vec<Change<N>> {
        let mut changes = Vec::new();
        let mut older: Option<(&EventRecord<'_>, i64, [Decimal; N])> = None;
        for state in &self.states {
            let Some((qty, now)) = figures(&state.event) else {
                continue;
            };
            if let Some((before, _, was)) = older.filter(|(_, known, was)| *known == qty && *was != now) {
                let (key, when) = self.changed_at(before, state);
                if when.day != self.ordered.day {
                    let by = minus(now, was);
                    changes.push(Change { key, when, by });
                }
            }
            older = Some((state, qty, now));
        }
        changes
    }

    /// The last edit between two states, else the second of them; with a key for it.
    fn changed_at(&self, before: &EventRecord<'_>, state: &EventRecord<'_>) -> (String, SaleDate) {
        let (from, until) = (before.event.timestamp.instant(), state.event.timestamp.instant());
        let is_between =
            |edit: &&&EventRecord<'_>| (from < edited_at(edit).instant()) && (edited_at(edit).instant() <= until);
        match self.edits.iter().rev().find(is_between) {
            Some(edit) => (
                format!("changed:edit:{}", edit_id(edit)),
                SaleDate::edit(edited_at(edit)),
            ),
            None => (
                format!("changed:{}", micros(until).unix_timestamp()),
                SaleDate::edit(&state.event.timestamp),
            ),
        }
    }

    /// Shipping on the order's day, its changes on theirs; taken back on the day of the first state
    /// that shows it removed, unless a refund reverses it.
    fn shipping(&self, event: &OrderEvent<'_>) -> Vec<DatedSale> {
        let amounts = |event: &OrderEvent<'_>| <[Decimal; 2]>::from(shipping(event));
        let mut sales = self.with_changes(
            "shipping",
            amounts(event),
            |event| Some((0, amounts(event))),
            |[gross, tax]| [gross, Decimal::ZERO, tax],
        );
        let refunded = event
            .refunds
            .iter()
            .flatten()
            .any(|refund| refund.shipping.is_some_and(|amount| !amount.0.is_zero()));
        let shown = self
            .states
            .iter()
            .find(|state| removed_shipping(&state.event).next().is_some());
        if let Some(shown) = shown.filter(|_| !refunded) {
            let (gone, gone_tax) = removed_shipping(event).fold((Decimal::ZERO, Decimal::ZERO), |sum, line| {
                let (amount, tax) = shipping_sale(line, includes_tax(event));
                (sum.0.saturating_add(amount), sum.1.saturating_add(tax))
            });
            if !(gone.is_zero() && gone_tax.is_zero()) {
                let when = SaleDate::edit(&shown.event.timestamp);
                sales.push(when.sale(REMOVED_SHIPPING.to_owned(), "shipping", -gone, -gone_tax));
            }
        }
        sales
    }

    /// Tips, duties, fees, and of an order that came without lines their sums.
    fn extras(&self, event: &OrderEvent<'_>) -> Vec<DatedSale> {
        let mut sales = Vec::new();
        let amounts: [(&'static str, AmountOf); 3] = [
            ("tip", |sale| sale.tips),
            ("duty", |sale| sale.duties),
            ("fee", |sale| sale.fees),
        ];
        for (name, amount) in amounts {
            let of = |event: &OrderEvent<'_>| [amount(&OrderSale::of(event))];
            sales.extend(self.with_changes(
                name,
                of(event),
                |event| Some((0, of(event))),
                |[amount]| [amount, Decimal::ZERO, Decimal::ZERO],
            ));
        }
        if has_no_lines(event) {
            let sums = |event: &OrderEvent<'_>| {
                let sale = OrderSale::of(event);
                [sale.gross, sale.discounts, sale.tax.saturating_sub(sale.shipping_tax)]
            };
            let states = |event: &OrderEvent<'_>| has_no_lines(event).then(|| (0, sums(event)));
            sales.extend(self.with_changes("order", sums(event), states, |sums| sums));
        }
        sales
    }

    /// A sale of the order as a whole: what it was at first on the order's day, and its changes on
    /// theirs.
    fn with_changes<const N: usize>(
        &self,
        key: &'static str,
        newest: [Decimal; N],
        figures: impl Fn(&OrderEvent<'_>) -> Option<(i64, [Decimal; N])>,
        split: impl Fn([Decimal; N]) -> [Decimal; 3],
    ) -> Vec<DatedSale> {
        let line_type = if key == "order" { "product" } else { key };
        let changes = self.changes(figures);
        let first = changes.iter().fold(newest, |left, change| minus(left, change.by));
        let first = (key.to_owned(), self.ordered, first);
        let changes = changes
            .into_iter()
            .map(|change| (format!("{key}:{}", change.key), change.when, change.by));
        let sales = std::iter::once(first).chain(changes);
        let sales = sales.filter(|(_, _, amounts)| amounts.iter().any(|amount| !amount.is_zero()));
        sales
            .map(|(key, when, amounts)| {
                let [gross, discount, tax] = split(amounts);
                DatedSale {
                    discount,
                    ..when.sale(key, line_type, gross, tax)
                }
            })
            .collect()
    }
}

fn has_no_lines(event: &OrderEvent<'_>) -> bool {
    event.items.as_ref().is_none_or(Vec::is_empty)
}

pub(super) fn edit_id<'a>(record: &'a EventRecord<'_>) -> &'a str {
    let id = record.event.edit.as_ref().and_then(|edit| edit.edit_id.as_ref());
    id.map_or(record.event.event_id.as_str(), |id| id.as_str())
}

pub(super) fn minus<const N: usize>(one: [Decimal; N], less: [Decimal; N]) -> [Decimal; N] {
    std::array::from_fn(|place| one[place].saturating_sub(less[place]))
}

/// Whether any of an order's events is an edit: each later state then is to be looked at.
pub(super) fn has_edit(events: &[EventRecord<'_>]) -> bool {
    events.iter().any(|record| record.event.is_edit())
}
