//! Sales of orders that were changed after they were placed, each on its own day.
//!
//! Pure. Works from all events of one order: whole states and edits, in whatever order they
//! arrived. What an `order.edited` event names counts on the edit's day; units that no edit names
//! count on the day of the first state that shows them; shipping that was taken off without a
//! refund is reversed on the day of the first state that shows it.

use std::collections::HashSet;

use rust_decimal::Decimal;
use time::{Date, OffsetDateTime};

use super::{OrderSale, digits, includes_tax, line_sales, shipping, shipping_sale, spread};
use crate::event::{EventRecord, Item, OrderEvent, ShippingLine, Timestamp};
use crate::warehouse::fold::local_date;
use crate::warehouse::version::{Version, micros};

/// One sale of an order whose sales happened on more than one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::warehouse) struct DatedSale {
    /// Unique within the order; the same whenever it is worked out again.
    pub(in crate::warehouse) sale_key: String,
    pub(in crate::warehouse) happened_at: OffsetDateTime,
    pub(in crate::warehouse) local_date: Date,
    /// `order` or `edit`.
    pub(in crate::warehouse) reason: &'static str,
    /// `product`, `gift_card`, `shipping`, `tip`, `duty` or `fee`.
    pub(in crate::warehouse) line_type: &'static str,
    pub(in crate::warehouse) line_id: Option<String>,
    pub(in crate::warehouse) quantity: i64,
    pub(in crate::warehouse) gross: Decimal,
    pub(in crate::warehouse) discount: Decimal,
    pub(in crate::warehouse) tax: Decimal,
}

/// Key of the sale that takes back shipping which was taken off.
const REMOVED_SHIPPING: &str = "shipping:removed";

/// Time and day of a sale, and the reason that dates it.
#[derive(Clone, Copy)]
struct SaleDate {
    at: OffsetDateTime,
    day: Date,
    reason: &'static str,
}

impl SaleDate {
    fn edit(at: &Timestamp<'_>) -> Self {
        Self {
            at: micros(at.instant()),
            day: at.local_date(),
            reason: "edit",
        }
    }
}

/// Units of a line that were sold together.
struct Portion {
    key: String,
    when: SaleDate,
    units: i64,
}

/// All that is known of one order, oldest state first.
struct OrderHistory<'a> {
    states: Vec<&'a EventRecord<'a>>,
    edits: Vec<&'a EventRecord<'a>>,
    ordered: SaleDate,
}

/// The sales of one order out of all its events. Empty where it was never edited and everything was
/// sold on the order's own day: the order's figures then say it all. Whole-order events and edits
/// are looked at, in any order.
pub(in crate::warehouse) fn dated_sales(events: &[EventRecord<'_>]) -> Vec<DatedSale> {
    let mut states: Vec<&EventRecord<'_>> = events.iter().filter(|record| record.event.is_whole()).collect();
    states.sort_by(|one, other| Version::of(one).cmp(&Version::of(other)));
    let mut edits: Vec<&EventRecord<'_>> = events.iter().filter(|record| record.event.is_edit()).collect();
    edits.sort_by_key(|record| (edited_at(record).instant(), record.event.event_id.as_str()));
    edits.dedup_by(|later, earlier| is_same_edit(later, earlier));
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
    // Two lines of one id would share their keys.
    let mut keys = HashSet::new();
    for (place, sale) in sales.iter_mut().enumerate() {
        if !keys.insert(sale.sale_key.clone()) {
            sale.sale_key = format!("{}#{place}", sale.sale_key);
        }
    }
    sales
}

fn edited_at<'a>(record: &'a EventRecord<'_>) -> &'a Timestamp<'a> {
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
    fn lines(&self, event: &OrderEvent<'_>) -> Vec<DatedSale> {
        let mut sales = Vec::new();
        let digits = digits(event);
        for (place, (item, sale)) in event.items.iter().flatten().zip(line_sales(event)).enumerate() {
            let line_id = item.line_id.as_ref().map(|id| id.as_str());
            let key = line_id.map_or_else(|| format!("line-{place}"), |id| format!("line:{id}"));
            let portions = self.portions(item, &key);
            let units: Vec<Decimal> = portions.iter().map(|portion| portion.units.into()).collect();
            let [gross, discount, tax] =
                [sale.gross, sale.discount, sale.tax].map(|amount| spread(amount, &units, digits));
            let line_type = if item.gift_card.unwrap_or_default() {
                "gift_card"
            } else {
                "product"
            };
            for (place, portion) in portions.into_iter().enumerate() {
                let of = |amounts: &[Decimal]| amounts.get(place).copied().unwrap_or_default();
                sales.push(DatedSale {
                    sale_key: portion.key,
                    happened_at: portion.when.at,
                    local_date: portion.when.day,
                    reason: portion.when.reason,
                    line_type,
                    line_id: line_id.map(str::to_owned),
                    quantity: portion.units,
                    gross: of(&gross),
                    discount: of(&discount),
                    tax: of(&tax),
                });
            }
        }
        sales
    }

    /// The units of a line by when they were sold: what edits added on their day, else what states
    /// showed for the first time after the earliest known one; the rest with the order.
    fn portions(&self, item: &Item<'_>, key: &str) -> Vec<Portion> {
        let added = match &item.line_id {
            None => Vec::new(),
            Some(id) => {
                let edited = self.edited_units(id.as_str(), key);
                if edited.is_empty() {
                    self.shown_units(id.as_str(), key)
                } else {
                    edited
                }
            }
        };
        let mut left = item.qty;
        let mut later = Vec::new();
        // Latest first: where edits name more units than there are, the earliest gives way to the
        // order's own.
        for mut portion in added.into_iter().rev() {
            portion.units = portion.units.min(left);
            left -= portion.units;
            if portion.units > 0 {
                later.push(portion);
            }
        }
        if left > 0 || later.is_empty() {
            later.push(Portion {
                key: key.to_owned(),
                when: self.ordered,
                units: left,
            });
        }
        later.reverse();
        later
    }

    fn edited_units(&self, line_id: &str, key: &str) -> Vec<Portion> {
        let mut added = Vec::new();
        for record in &self.edits {
            let when = SaleDate::edit(edited_at(record));
            let Some(edit) = &record.event.edit else { continue };
            let edit_id = edit
                .edit_id
                .as_ref()
                .map_or(record.event.event_id.as_str(), |id| id.as_str());
            let units = edit
                .additions
                .iter()
                .filter(|line| line.line_id.as_str() == line_id)
                .map(|line| line.qty);
            let units = units.fold(0_i64, i64::saturating_add);
            if units > 0 {
                added.push(Portion {
                    key: format!("{key}:edit:{edit_id}"),
                    when,
                    units,
                });
            }
        }
        added
    }

    fn shown_units(&self, line_id: &str, key: &str) -> Vec<Portion> {
        let units_in = |record: &EventRecord<'_>| {
            let items = record.event.items.iter().flatten();
            let of_line = |item: &&Item<'_>| item.line_id.as_ref().is_some_and(|id| id.as_str() == line_id);
            items
                .filter(of_line)
                .map(|item| item.qty)
                .fold(0_i64, i64::saturating_add)
        };
        let mut shown = self.states.first().map_or(0, |first| units_in(first));
        let mut added = Vec::new();
        for state in self.states.iter().skip(1) {
            let units = units_in(state);
            if units > shown {
                let when = SaleDate::edit(&state.event.timestamp);
                let at = when.at.unix_timestamp();
                added.push(Portion {
                    key: format!("{key}:{at}"),
                    when,
                    units: units - shown,
                });
                shown = units;
            }
        }
        added
    }

    /// Shipping on the order's day, and taken back on the day of the first state that shows it
    /// removed, unless a refund reverses it.
    fn shipping(&self, event: &OrderEvent<'_>) -> Vec<DatedSale> {
        let (amount, tax) = shipping(event);
        let sale = |key: &str, when: SaleDate, gross: Decimal, tax: Decimal| DatedSale {
            sale_key: key.to_owned(),
            happened_at: when.at,
            local_date: when.day,
            reason: when.reason,
            line_type: "shipping",
            line_id: None,
            quantity: 0,
            gross,
            discount: Decimal::ZERO,
            tax,
        };
        let mut sales = Vec::new();
        if !(amount.is_zero() && tax.is_zero()) {
            sales.push(sale("shipping", self.ordered, amount, tax));
        }
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
                sales.push(sale(
                    REMOVED_SHIPPING,
                    SaleDate::edit(&shown.event.timestamp),
                    -gone,
                    -gone_tax,
                ));
            }
        }
        sales
    }

    /// Tips, duties, fees, and of an order that came without lines their sums.
    fn extras(&self, event: &OrderEvent<'_>) -> Vec<DatedSale> {
        let sale = OrderSale::of(event);
        let zero = Decimal::ZERO;
        let mut extras = vec![
            ("tip", "tip", sale.tips, zero, zero),
            ("duty", "duty", sale.duties, zero, zero),
            ("fee", "fee", sale.fees, zero, zero),
        ];
        if event.items.as_ref().is_none_or(Vec::is_empty) {
            let tax = sale.tax.saturating_sub(sale.shipping_tax);
            extras.push(("order", "product", sale.gross, sale.discounts, tax));
        }
        extras.retain(|(_, _, gross, discount, tax)| [gross, discount, tax].iter().any(|amount| !amount.is_zero()));
        let extras = extras.into_iter();
        let extras = extras.map(|(sale_key, line_type, gross, discount, tax)| DatedSale {
            sale_key: sale_key.to_owned(),
            happened_at: self.ordered.at,
            local_date: self.ordered.day,
            reason: self.ordered.reason,
            line_type,
            line_id: None,
            quantity: 0,
            gross,
            discount,
            tax,
        });
        extras.collect()
    }
}

fn removed_shipping<'a>(event: &'a OrderEvent<'_>) -> impl Iterator<Item = &'a ShippingLine<'a>> {
    event
        .shipping_lines
        .iter()
        .flatten()
        .filter(|line| line.removed.unwrap_or_default())
}

/// Lines of a state by id and units.
pub(in crate::warehouse) type Units = (Option<String>, i64);

/// Whether a newer state shows units that an older one does not have. An older state without lines
/// says nothing.
pub(in crate::warehouse) fn may_be_dated(older: &[Units], newer: &[Units]) -> bool {
    let is_more = |(id, units): &Units| {
        let known = older.iter().find(|(known, _)| known == id);
        id.is_some() && known.is_none_or(|(_, known)| units > known)
    };
    !older.is_empty() && newer.iter().any(is_more)
}

/// Whether the state shows shipping that was taken off.
pub(in crate::warehouse) fn removes_shipping(event: &OrderEvent<'_>) -> bool {
    removed_shipping(event).next().is_some()
}

/// The lines of a state by id and units.
pub(in crate::warehouse) fn units(event: &OrderEvent<'_>) -> Vec<Units> {
    let units = |item: &Item<'_>| (item.line_id.as_ref().map(|id| id.as_str().to_owned()), item.qty);
    event.items.iter().flatten().map(units).collect()
}

/// Whether two states of an order have the same lines and the same shipping taken off.
pub(in crate::warehouse) fn shows_same_sales(one: &OrderEvent<'_>, other: &OrderEvent<'_>) -> bool {
    let lines = |event: &OrderEvent<'_>| {
        let mut units = units(event);
        units.sort();
        (units, removed_shipping(event).count())
    };
    lines(one) == lines(other)
}

/// Whether any of an order's events is an edit: each later state then is to be looked at.
pub(in crate::warehouse) fn has_edit(events: &[EventRecord<'_>]) -> bool {
    events.iter().any(|record| record.event.is_edit())
}
