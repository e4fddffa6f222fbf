//! What a load writes to `orders` and `order_items`, encoded before it is known which events are new.

use tokio::task::yield_now;

use super::columns::ArrayColumn;
use crate::event::EventRecord;
use crate::warehouse::fold::Effects;
use crate::warehouse::rows::{self, ItemRow};

/// What events do to the state tables, and the columns that take long to encode.
pub(super) struct EncodedEffects<'a> {
    pub(super) effects: Effects<'a>,
    /// Of `effects.orders`.
    pub(super) orders: Vec<ArrayColumn>,
    /// Of the lines of `effects.orders`.
    pub(super) items: Vec<ArrayColumn>,
}

impl<'a> EncodedEffects<'a> {
    /// Lets the connection send and receive in between.
    pub(super) async fn of(records: &[&'a EventRecord<'a>]) -> Self {
        yield_now().await;
        let effects = Effects::of(records.iter().copied());
        let details = rows::details(&effects.orders);
        yield_now().await;
        let orders = rows::orders(&effects.orders, &details);
        yield_now().await;
        let items = item_columns(effects.orders.iter().copied());
        Self { effects, orders, items }
    }
}

/// Rows of the lines of these orders.
pub(super) fn item_columns<'a>(orders: impl Iterator<Item = &'a EventRecord<'a>>) -> Vec<ArrayColumn> {
    let lines: Vec<ItemRow<'_>> = orders.flat_map(|record| rows::lines(record)).collect();
    rows::order_items(&lines)
}
