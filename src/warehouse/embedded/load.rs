//! One load: events, and what they do to the state tables, in one transaction.
//!
//! Owns the statements. The effects are worked out beforehand, on the premise that every event of
//! the batch is new, or known just as it is; whether that holds only the table can say, so a batch
//! of which it does not hold is not written.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use rusqlite::types::Value;
use rusqlite::{Connection, Statement, TransactionBehavior};
use time::OffsetDateTime;

use super::average::average;
use super::columns::ValueColumn;
use super::error::WarehouseFileError;
use super::forgotten;
use super::ledger;
use crate::event::EventRecord;
use crate::sqlite;
use crate::warehouse::fold::Effects;
use crate::warehouse::forgotten::{Tombstone, is_newest};
use crate::warehouse::history::OrderKey;
use crate::warehouse::ledger::Units;
use crate::warehouse::payload::EventComparison;
use crate::warehouse::rows::{self, Column as _};
use crate::warehouse::upsert;

/// Everything that events which are new or known as they are write.
pub(super) struct LoadBatch {
    events: Rows,
    /// Of each event: how it is compared where it is known.
    comparisons: Vec<EventComparison>,
    /// The newest tombstone that was looked at for them.
    newest: Tombstone,
    orders: Rows,
    /// Of all orders, in their order.
    items: Rows,
    /// Which of `items` belong to which order.
    lines: Vec<Range<usize>>,
    deletions: Rows,
    edited: Rows,
    refunds: Rows,
    /// Of all refunds, in their order.
    refund_items: Rows,
    /// Which of `refund_items` belong to which refund.
    refund_lines: Vec<Range<usize>>,
    test_refunds: Rows,
    transactions: Rows,
    refund_transactions: Rows,
    /// Per order: the state itself, for what its sales depend on.
    states: Vec<ledger::State>,
    /// Orders whose sales are to be worked out whatever is stored.
    to_date: Vec<OrderKey>,
}

impl LoadBatch {
    /// Works out the effects, and refuses what cannot be kept or counted exactly.
    pub(super) fn of(
        records: &[&EventRecord<'_>],
        newest: Tombstone,
        now: OffsetDateTime,
    ) -> Result<Self, WarehouseFileError> {
        let effects = Effects::of(records.iter().copied());
        let mut events: Vec<ValueColumn> = rows::order_events(records);
        events.push(averages(records));
        events.push(ValueColumn::instant("loaded_at", records.iter().map(|_| Some(now))));
        let details = rows::details(&effects.orders);
        let mut orders: Vec<ValueColumn> = rows::orders(&effects.orders, &details);
        orders.push(averages(&effects.orders));
        let mut items = Vec::new();
        let mut lines = Vec::new();
        for record in &effects.orders {
            let from = items.len();
            items.extend(rows::lines(record));
            lines.push(from..items.len());
        }
        let mut refund_items = Vec::new();
        let mut refund_lines = Vec::new();
        for row in &effects.refunds {
            let from = refund_items.len();
            refund_items.extend(rows::refund_items(row));
            refund_lines.push(from..refund_items.len());
        }
        let to_date = effects.edited.iter().chain(&effects.changed);
        Ok(Self {
            edited: Rows::new(rows::edited_orders(&effects.edited))?,
            refund_items: Rows::new(rows::order_refund_items(&refund_items))?,
            refund_lines,
            states: effects.orders.iter().map(|record| ledger::State::of(record)).collect(),
            to_date: to_date
                .map(|(shop, order_id)| ((*shop).to_owned(), (*order_id).to_owned()))
                .collect(),
            events: Rows::new(events)?,
            comparisons: records.iter().map(|record| EventComparison::of(record)).collect(),
            newest,
            orders: Rows::new(orders)?,
            items: Rows::new(rows::order_items(&items))?,
            lines,
            deletions: Rows::new(rows::deletions(&effects.deletions))?,
            refunds: Rows::new(rows::order_refunds(&effects.refunds))?,
            test_refunds: Rows::new(rows::test_refunds(&effects.refunds))?,
            transactions: Rows::new(rows::order_transactions(&effects.transactions))?,
            refund_transactions: Rows::new(rows::refund_transactions(&effects.transactions))?,
        })
    }
}

fn averages(records: &[&EventRecord<'_>]) -> ValueColumn {
    let average = |record: &&EventRecord<'_>| {
        let event = &record.event;
        average(event.total_amount?.0, event.item_count())
    };
    ValueColumn::numeric("avg_item_price", records.iter().map(average))
}

/// Rows of one table.
pub(super) struct Rows(Vec<ValueColumn>);

impl Rows {
    pub(super) fn new(columns: Vec<ValueColumn>) -> Result<Self, WarehouseFileError> {
        match columns.iter().find(|column| column.unfit) {
            Some(column) => Err(WarehouseFileError::Unfit(column.name)),
            None => Ok(Self(columns)),
        }
    }

    fn count(&self) -> usize {
        self.0.first().map_or(0, |column| column.values.len())
    }

    /// One value; null where there is no such column or row.
    fn value(&self, column: &str, row: usize) -> &Value {
        let column = self.0.iter().find(|one| one.name == column);
        column.and_then(|column| column.values.get(row)).unwrap_or(&Value::Null)
    }

    /// Runs the statement with the values of that row; answers how many rows it changed.
    fn run(&self, statement: &mut Statement<'_>, row: usize) -> Result<usize, WarehouseFileError> {
        for (place, column) in (1..).zip(&self.0) {
            statement.raw_bind_parameter(place, column.values.get(row))?;
        }
        Ok(statement.raw_execute()?)
    }

    /// `INSERT INTO table (columns) VALUES` the parameters.
    pub(super) fn insert(&self, table: &str) -> String {
        let names = self.names();
        let places: Vec<String> = (1..=names.len()).map(|place| format!("?{place}")).collect();
        let (names, places) = (names.join(", "), places.join(", "));
        format!("INSERT INTO {table} AS t ({names}) VALUES ({places})")
    }

    /// Names of the columns.
    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|column| column.name).collect()
    }
}

/// What became of a batch.
pub(super) enum Written {
    /// It is committed; so many events were new.
    All {
        /// They.
        inserted: u64,
    },
    /// Some events are known with another payload.
    Nothing {
        /// They.
        changed: Changed,
    },
    /// Nothing: there are tombstones that are not known yet.
    Forgotten(Vec<Tombstone>),
}

/// Events that are known with another payload, by their row in the batch.
#[derive(Default)]
pub(super) struct Changed {
    /// The stored row came from another entry of the stream.
    pub(super) conflicts: HashSet<usize>,
    /// It came from this very entry, and was edited since.
    edited: HashSet<usize>,
}

impl Changed {
    pub(super) fn contains(&self, row: usize) -> bool {
        self.conflicts.contains(&row) || self.edited.contains(&row)
    }

    fn is_empty(&self) -> bool {
        self.conflicts.is_empty() && self.edited.is_empty()
    }
}

/// Writes the whole batch and commits it, or nothing.
pub(super) fn write(connection: &mut Connection, batch: &LoadBatch) -> Result<Written, WarehouseFileError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tombstones = forgotten::tombstones(&transaction, &batch.newest)?;
    if !is_newest(&batch.newest, &tombstones) {
        return Ok(Written::Forgotten(tombstones));
    }
    let erases = batch.comparisons.iter().any(|comparison| comparison.is_erased);
    sqlite::overwrite_deleted(&transaction, erases)?;
    let (inserted, changed) = insert_events(&transaction, batch)?;
    if !changed.is_empty() {
        return Ok(Written::Nothing { changed });
    }
    let mut to_date = write_orders(&transaction, batch)?;
    for (rows, on_conflict) in [
        (&batch.deletions, upsert::DELETED_ORDER),
        (&batch.edited, upsert::EDITED_ORDER),
    ] {
        write_all(&transaction, rows, &(rows.insert("orders") + on_conflict))?;
    }
    write_refunds(&transaction, batch)?;
    write_transactions(&transaction, batch)?;
    to_date.extend(batch.to_date.iter().cloned());
    ledger::date_sales(&transaction, &to_date)?;
    transaction.commit()?;
    Ok(Written::All { inserted })
}

/// Answers how many were new, and which are known with another payload.
fn insert_events(connection: &Connection, batch: &LoadBatch) -> Result<(u64, Changed), WarehouseFileError> {
    let events = &batch.events;
    let sql = events.insert("order_events") + " ON CONFLICT (event_id) DO NOTHING";
    let mut insert = connection.prepare(&sql)?;
    let mut stored = connection.prepare("SELECT payload, stream_id FROM order_events WHERE event_id = ?1")?;
    let (mut inserted, mut changed) = (0, Changed::default());
    let mut erase = connection
        .prepare("UPDATE order_events SET customer_id = NULL, raw = NULL, payload = ?2 WHERE event_id = ?1")?;
    for (row, comparison) in batch.comparisons.iter().enumerate() {
        if events.run(&mut insert, row)? > 0 {
            inserted += 1;
            continue;
        }
        let id = events.value("event_id", row);
        let (known, entry): (Value, Value) = stored.query_row([id], |stored| Ok((stored.get(0)?, stored.get(1)?)))?;
        if let (Value::Text(known), Value::Text(payload)) = (&known, events.value("payload", row))
            && comparison.is_same(known, payload)
        {
            if comparison.is_erased {
                erase.execute((id, payload))?;
            }
            continue;
        }
        if entry == *events.value("stream_id", row) {
            changed.edited.insert(row);
        } else {
            changed.conflicts.insert(row);
        }
    }
    Ok((inserted, changed))
}

/// Lines go with the order: they are replaced where this became its newest state. Answers the
/// orders whose sales may have happened on more than one day: those that show more than they did,
/// have such sales already, or of which an older state came late.
fn write_orders(connection: &Connection, batch: &LoadBatch) -> Result<BTreeSet<OrderKey>, WarehouseFileError> {
    let LoadBatch {
        orders, items, lines, ..
    } = batch;
    let sql = orders.insert("orders") + &upsert::replace_older_order(&orders.names());
    let mut upsert = connection.prepare(&sql)?;
    let mut delete =
        connection.prepare("DELETE FROM order_items WHERE shop = ?1 AND order_id = ?2 RETURNING line_id, qty")?;
    let mut insert = connection.prepare(&items.insert("order_items"))?;
    let mut to_date = BTreeSet::new();
    for (row, (lines, state)) in lines.iter().zip(&batch.states).enumerate() {
        if orders.run(&mut upsert, row)? == 0 {
            to_date.insert(state.key.clone());
            continue;
        }
        let replaced = delete.query_map((&state.key.0, &state.key.1), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let replaced: Vec<Units> = replaced.collect::<Result<_, _>>()?;
        if state.may_be_dated(&replaced) || ledger::is_dated(connection, &state.key)? {
            to_date.insert(state.key.clone());
        }
        for line in lines.clone() {
            items.run(&mut insert, line)?;
        }
    }
    Ok(to_date)
}

/// A refund's lines never become fewer, so they need not be deleted first.
fn write_refunds(connection: &Connection, batch: &LoadBatch) -> Result<(), WarehouseFileError> {
    let LoadBatch {
        refunds, refund_items, ..
    } = batch;
    let sql = refunds.insert("order_refunds") + &upsert::replace_older(&refunds.names(), 3);
    let mut upsert = connection.prepare(&sql)?;
    let sql = refund_items.insert("order_refund_items") + &upsert::replace(&refund_items.names(), 3);
    let mut upsert_item = connection.prepare(&sql)?;
    for (row, lines) in batch.refund_lines.iter().enumerate() {
        if refunds.run(&mut upsert, row)? == 0 {
            continue;
        }
        for line in lines.clone() {
            refund_items.run(&mut upsert_item, line)?;
        }
    }
    let mark = "UPDATE order_refunds SET test = 1 WHERE shop = ?1 AND refund_id = ?2";
    write_all(connection, &batch.test_refunds, mark)
}

fn write_transactions(connection: &Connection, batch: &LoadBatch) -> Result<(), WarehouseFileError> {
    let rows = &batch.transactions;
    let sql = rows.insert("order_transactions") + &upsert::replace_unless_final(&rows.names(), 3);
    write_all(connection, rows, &sql)?;
    let mark = "UPDATE order_transactions SET refund_id = ?3 \
                WHERE shop = ?1 AND transaction_id = ?2 AND refund_id IS NULL";
    write_all(connection, &batch.refund_transactions, mark)
}

pub(super) fn write_all(connection: &Connection, rows: &Rows, sql: &str) -> Result<(), WarehouseFileError> {
    if rows.count() == 0 {
        return Ok(());
    }
    let mut statement = connection.prepare(sql)?;
    for row in 0..rows.count() {
        rows.run(&mut statement, row)?;
    }
    Ok(())
}
