//! The units of an order's lines by the day they were sold, and their share of the line's figures.
//! Pure.

use rust_decimal::Decimal;
use time::OffsetDateTime;

use super::dated::{Change, DatedSale, OrderHistory, SaleDate, edit_id, edited_at, minus};
use super::{digits, is_tip, line_sales, spread};
use crate::event::{EventRecord, Item, OrderEvent};

/// Units of a line that were sold together.
pub(super) struct Portion {
    pub(super) key: String,
    pub(super) when: SaleDate,
    pub(super) units: i64,
}

impl<const N: usize> Change<N> {
    /// The change as a sale of no units of that line.
    fn portion(&self, line_key: &str) -> Portion {
        Portion {
            key: format!("{line_key}:{}", self.key),
            when: self.when,
            units: 0,
        }
    }
}

impl OrderHistory<'_> {
    pub(super) fn lines(&self, event: &OrderEvent<'_>) -> Vec<DatedSale> {
        let mut sales = Vec::new();
        let digits = digits(event);
        for (place, (item, sale)) in event.items.iter().flatten().zip(line_sales(event)).enumerate() {
            if is_tip(item) {
                continue;
            }
            let line_id = item.line_id.as_ref().map(|id| id.as_str());
            let key = line_id.map_or_else(|| format!("line-{place}"), |id| format!("line:{id}"));
            let portions = self.portions(item, &key);
            let changes = line_id.map_or_else(Vec::new, |id| self.line_changes(id));
            let mut amounts = spread_sale(sale.amounts(), &portions, digits);
            for change in &changes {
                let units = units_at(&portions, change.when.at);
                let shares = spread_all(change.by, &units, digits);
                for (amounts, share) in amounts.iter_mut().zip(shares) {
                    *amounts = minus(*amounts, share);
                }
            }
            let line_type = if item.gift_card.unwrap_or_default() {
                "gift_card"
            } else {
                "product"
            };
            let portions = portions.into_iter().zip(amounts);
            let changed = changes
                .into_iter()
                .map(|change| (change.portion(&key), change.by))
                .collect::<Vec<_>>();
            for (portion, [gross, discount, tax]) in portions.chain(changed) {
                sales.push(DatedSale {
                    line_id: line_id.map(str::to_owned),
                    quantity: portion.units,
                    discount,
                    ..portion.when.sale(portion.key, line_type, gross, tax)
                });
            }
        }
        sales
    }

    /// How the figures of a line changed from state to state while its quantity did not.
    fn line_changes(&self, line_id: &str) -> Vec<Change<3>> {
        self.changes(|event| {
            let items = event.items.iter().flatten().zip(line_sales(event));
            let mut of_line = items.filter(|(item, _)| item.line_id.as_ref().is_some_and(|id| id.as_str() == line_id));
            let (item, sale) = of_line.next()?;
            Some((item.qty, sale.amounts()))
        })
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
            let edit_id = edit_id(record);
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
}

/// Figures of a line in shares by the units of its portions.
fn spread_sale(amounts: [Decimal; 3], portions: &[Portion], digits: u32) -> Vec<[Decimal; 3]> {
    let units: Vec<Decimal> = portions.iter().map(|portion| portion.units.into()).collect();
    spread_all(amounts, &units, digits)
}

fn spread_all(amounts: [Decimal; 3], units: &[Decimal], digits: u32) -> Vec<[Decimal; 3]> {
    let shares = amounts.map(|amount| spread(amount, units, digits));
    let of = |place: usize| {
        shares
            .each_ref()
            .map(|shares| shares.get(place).copied().unwrap_or_default())
    };
    (0..units.len()).map(of).collect()
}

/// The units that were sold by then; those of the first portion where none were.
fn units_at(portions: &[Portion], at: OffsetDateTime) -> Vec<Decimal> {
    let is_any = portions.iter().any(|portion| portion.when.at <= at);
    let units = |(place, portion): (usize, &Portion)| {
        let counts = if is_any { portion.when.at <= at } else { place == 0 };
        if counts { portion.units.into() } else { Decimal::ZERO }
    };
    portions.iter().enumerate().map(units).collect()
}
