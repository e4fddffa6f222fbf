//! Whether an order's newer state shows other sales than an older one: its sales are then dated one
//! by one. Pure.

use crate::event::{Item, OrderEvent, ShippingLine};

pub(super) fn removed_shipping<'a>(event: &'a OrderEvent<'_>) -> impl Iterator<Item = &'a ShippingLine<'a>> {
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

/// Whether two states of an order have the same lines, shipping and amounts.
pub(in crate::warehouse) fn shows_same_sales(one: &OrderEvent<'_>, other: &OrderEvent<'_>) -> bool {
    let lines = |event: &OrderEvent<'_>| {
        let items = event.items.iter().flatten();
        let figures = |item: &Item<'_>| (item.price, item.discount, item.tax);
        let mut lines: Vec<_> = units(event).into_iter().zip(items.map(figures)).collect();
        lines.sort();
        lines
    };
    let shipping = |event: &OrderEvent<'_>| {
        let lines = event.shipping_lines.iter().flatten();
        Vec::from_iter(lines.map(|line| (line.price, line.discounted_price, line.tax, line.removed)))
    };
    let sums = |event: &OrderEvent<'_>| {
        [
            event.total_discounts,
            event.total_tax,
            event.total_shipping,
            event.total_duties,
            event.total_fees,
            event.total_tip,
        ]
    };
    sums(one) == sums(other) && lines(one) == lines(other) && shipping(one) == shipping(other)
}
