//! One load: events, and what they do to the state tables, in one transaction.
//!
//! Owns the statements. Each takes all rows at once, in key order; those that do not need each
//! other's answer are pipelined. Events that are known with another payload have no effects.
//! Rows of orders and lines are encoded while the server inserts the events, as if all were new.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::{join, try_join, try_join5};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, IsolationLevel, Transaction};

use super::columns::{self, ArrayColumn, insert, names, params};
use super::encoded_effects::{EncodedEffects, item_columns};
use super::error::PostgresError;
use super::forgotten::{erase_stored, tombstones};
use super::ledger::{self, Upserted};
use super::schema::Schema;
use crate::event::EventRecord;
use crate::warehouse::fold::{OrderRef, RefundRow, TransactionRow, order_key};
use crate::warehouse::forgotten::{Tombstone, is_newest};
use crate::warehouse::ledger::Units;
use crate::warehouse::payload::EventComparison;
use crate::warehouse::rows::{self, Column as _, RefundItemRow, by_id};
use crate::warehouse::{Loaded, upsert};

/// Bounds of a transaction, as the statement that sets them: a stalled worker must not hold locks,
/// and a commit must be on disk whatever the server's default is.
pub(super) fn session_limits(statement_timeout: Duration) -> String {
    let statement = statement_timeout.as_millis().max(2);
    let lock = statement / 2;
    format!(
        "SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {statement}; SET LOCAL synchronous_commit = on"
    )
}

/// To plan for the values at hand, the server would copy the arrays of a whole load several times;
/// and knowing their length it would read and hash a table of up to 100,000 rows, where looking the
/// keys up takes a fiftieth of the time.
const GENERIC_PLANS: &str = "SET LOCAL plan_cache_mode = force_generic_plan";

/// What a load's transaction begins with.
pub(super) fn session(statement_timeout: Duration) -> String {
    format!("{}; {GENERIC_PLANS}", session_limits(statement_timeout))
}

/// What became of a load.
pub(super) enum LoadOutcome {
    /// It is committed.
    Committed(Loaded),
    /// Nothing was written: there are tombstones that are not known yet.
    Forgotten(Vec<Tombstone>),
}

/// Loads all events or none. `newest`: the newest tombstone that was looked at for them.
pub(super) async fn load(
    client: &mut Client,
    schema: &Schema,
    session: &str,
    events: &[EventRecord<'_>],
    newest: &Tombstone,
) -> Result<LoadOutcome, PostgresError> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(false)
        .start()
        .await?;
    let order = by_id(events);
    let records: Vec<&EventRecord<'_>> = order.iter().map(|&index| &events[index]).collect();
    let inserting = try_join(
        transaction.batch_execute(session),
        insert_events(&transaction, schema, &records, newest),
    );
    let (inserted, mut encoded) = join(inserting, EncodedEffects::of(&records)).await;
    let ((), new) = inserted?;
    if new.len() < records.len() {
        let tombstones = tombstones(&transaction, schema, newest).await?;
        if !is_newest(newest, &tombstones) {
            transaction.rollback().await?;
            return Ok(LoadOutcome::Forgotten(tombstones));
        }
    }
    let known = Vec::from_iter((0..records.len()).filter(|&place| !is_new(&records, place, &new)));
    let stored = compare_stored(&transaction, schema, &records, &known).await?;
    let is_unchanged = |place: &usize| {
        stored
            .get(place)
            .is_none_or(|stored| *stored == PayloadComparison::Unchanged)
    };
    let to_erase = known
        .iter()
        .filter(|place| is_unchanged(place) && records[**place].is_erased);
    erase_stored(&transaction, schema, to_erase.map(|&place| records[place])).await?;
    let unchanged = Vec::from_iter((0..records.len()).filter(is_unchanged).map(|place| records[place]));
    if unchanged.len() < records.len() {
        encoded = EncodedEffects::of(&unchanged).await;
    }
    let effects = &encoded.effects;
    let (changed, (), (), (), ()) = try_join5(
        upsert_orders(&transaction, schema, &encoded),
        mark_deleted(&transaction, schema, &effects.deletions),
        ledger::mark_edited(&transaction, schema, &effects.edited),
        upsert_refunds(&transaction, schema, &effects.refunds),
        upsert_transactions(&transaction, schema, &effects.transactions),
    )
    .await?;
    let replaced = replace_items(&transaction, schema, &encoded, &changed).await?;
    let keys = ledger::keys_to_date(effects, &changed, &replaced);
    ledger::date_sales(&transaction, schema, &keys).await?;
    transaction.commit().await?;
    let inserted = new.len() as u64;
    let conflict =
        |(place, stored): (usize, PayloadComparison)| (stored == PayloadComparison::Conflict).then(|| order[place]);
    let mut conflicts: Vec<usize> = stored.into_iter().filter_map(conflict).collect();
    conflicts.sort_unstable();
    Ok(LoadOutcome::Committed(Loaded {
        inserted,
        known: (events.len() - conflicts.len()) as u64 - inserted,
        conflicts,
    }))
}

/// Whether the event at that place was inserted, and is the only one of its id: of several, the
/// table tells which one it holds. `records` are in order of id.
fn is_new(records: &[&EventRecord<'_>], place: usize, new: &HashSet<String>) -> bool {
    let id = |place: usize| records.get(place).map(|record| record.event.event_id.as_str());
    let own = id(place);
    let has_namesake = id(place + 1) == own || place.checked_sub(1).is_some_and(|before| id(before) == own);
    !has_namesake && own.is_some_and(|id| new.contains(id))
}

/// How a known event compares with its row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PayloadComparison {
    /// It has the same payload.
    Unchanged,
    /// It came from the same entry and was edited, or removed, since.
    Edited,
    /// It came from another entry and has another payload.
    Conflict,
}

/// Answers the ids that were not there before; none where `newest` is not the newest tombstone.
/// Naming the tombstones here, the statement holds off whoever adds one until the load has ended.
async fn insert_events(
    transaction: &Transaction<'_>,
    schema: &Schema,
    records: &[&EventRecord<'_>],
    newest: &Tombstone,
) -> Result<HashSet<String>, Error> {
    let columns = rows::order_events(records);
    let mut params = params(&columns);
    params.push((&newest.1, Type::TEXT));
    let statement = schema.sql(&format!(
        "{} WHERE COALESCE((SELECT f.subject FROM {{schema}}.forgotten f ORDER BY f.n DESC LIMIT 1), '') = ${} \
         ON CONFLICT (event_id) DO NOTHING RETURNING event_id",
        insert(schema, "order_events", &columns),
        params.len(),
    ));
    let rows = transaction.query_typed(&statement, &params).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Compares the events at those places with their rows. A row that was removed meanwhile counts as
/// edited.
async fn compare_stored(
    transaction: &Transaction<'_>,
    schema: &Schema,
    records: &[&EventRecord<'_>],
    known: &[usize],
) -> Result<HashMap<usize, PayloadComparison>, Error> {
    if known.is_empty() {
        return Ok(HashMap::new());
    }
    let each = || known.iter().map(|&place| records[place]);
    let columns = [
        ArrayColumn::text("event_id", each().map(|record| Some(record.event.event_id.as_str()))),
        ArrayColumn::json("payload", each().map(|record| Some(record.payload))),
        ArrayColumn::text("stream_id", each().map(|record| Some(record.stream_id.as_str()))),
        ArrayColumn::int4("row", (0..).take(known.len())),
    ];
    let statement = schema.sql(&format!(
        "SELECT v.row, t.stream_id = v.stream_id, \
                CASE WHEN t.payload <> v.payload::jsonb THEN t.payload::text END \
         FROM {{schema}}.order_events t JOIN {} USING (event_id)",
        columns::rows(&columns)
    ));
    let rows = transaction.query_typed(&statement, &params(&columns)).await?;
    let mut compared: HashMap<usize, PayloadComparison> =
        known.iter().map(|&place| (place, PayloadComparison::Edited)).collect();
    for row in rows {
        let place = usize::try_from(row.try_get::<_, i32>(0)?).ok();
        let Some(&place) = place.and_then(|row| known.get(row)) else {
            continue;
        };
        let (is_same_entry, other): (bool, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
        let record = records[place];
        let is_same = other.is_none_or(|other| EventComparison::of(record).is_same(&other, record.payload));
        let stored = match (is_same, is_same_entry) {
            (true, _) => PayloadComparison::Unchanged,
            (false, true) => PayloadComparison::Edited,
            (false, false) => PayloadComparison::Conflict,
        };
        compared.insert(place, stored);
    }
    Ok(compared)
}

/// Answers the orders of which this became the newest state, and whether their sales are dated one
/// by one.
async fn upsert_orders<'a>(
    transaction: &Transaction<'_>,
    schema: &Schema,
    encoded: &EncodedEffects<'a>,
) -> Result<Upserted<'a>, Error> {
    let (records, columns) = (&encoded.effects.orders, &encoded.orders);
    if records.is_empty() {
        return Ok(Upserted::new());
    }
    let statement = format!(
        "{}{} RETURNING shop, order_id, has_sale_rows",
        insert(schema, "orders", columns),
        upsert::replace_older_order(&names(columns)),
    );
    let rows = transaction.query_typed(&statement, &params(columns)).await?;
    let mut upserted = Upserted::with_capacity(rows.len());
    for row in &rows {
        if let Some(key) = find(records, (row.try_get(0)?, row.try_get(1)?)) {
            upserted.insert(key, row.try_get(2)?);
        }
    }
    Ok(upserted)
}

/// The key as one of these orders has it, which are in key order.
fn find<'a>(orders: &[&'a EventRecord<'a>], key: OrderRef<'_>) -> Option<OrderRef<'a>> {
    let place = orders.binary_search_by(|record| order_key(record).cmp(&key)).ok()?;
    Some(order_key(orders[place]))
}

async fn mark_deleted(
    transaction: &Transaction<'_>,
    schema: &Schema,
    deletions: &[(OrderRef<'_>, time::OffsetDateTime)],
) -> Result<(), Error> {
    if deletions.is_empty() {
        return Ok(());
    }
    let columns = rows::deletions(deletions);
    let statement = insert(schema, "orders", &columns) + upsert::DELETED_ORDER;
    transaction.execute_typed(&statement, &params(&columns)).await?;
    Ok(())
}

async fn upsert_refunds(
    transaction: &Transaction<'_>,
    schema: &Schema,
    refunds: &[RefundRow<'_>],
) -> Result<(), Error> {
    if refunds.is_empty() {
        return Ok(());
    }
    let columns = rows::order_refunds(refunds);
    let statement = format!(
        "{}{} RETURNING shop, refund_id",
        insert(schema, "order_refunds", &columns),
        upsert::replace_older(&names(&columns), 3),
    );
    let rows = transaction.query_typed(&statement, &params(&columns)).await?;
    let changed: HashSet<(String, String)> = rows
        .iter()
        .map(|row| Ok::<_, Error>((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, _>>()?;
    let changed = refunds.iter().filter(|row| {
        let key = (row.record.shop().to_owned(), row.refund.refund_id.as_str().to_owned());
        changed.contains(&key)
    });
    let items: Vec<_> = changed.flat_map(rows::refund_items).collect();
    upsert_refund_items(transaction, schema, &items).await?;
    mark_test_refunds(transaction, schema, refunds).await
}

/// A refund's lines never become fewer, so they need not be deleted first.
async fn upsert_refund_items(
    transaction: &Transaction<'_>,
    schema: &Schema,
    items: &[RefundItemRow<'_>],
) -> Result<(), Error> {
    if items.is_empty() {
        return Ok(());
    }
    let columns = rows::order_refund_items(items);
    let statement = insert(schema, "order_refund_items", &columns) + &upsert::replace(&names(&columns), 3);
    transaction.execute_typed(&statement, &params(&columns)).await?;
    Ok(())
}

/// Whatever was written of them before; their rows are locked by the upsert.
async fn mark_test_refunds(
    transaction: &Transaction<'_>,
    schema: &Schema,
    refunds: &[RefundRow<'_>],
) -> Result<(), Error> {
    if !refunds.iter().any(|row| row.test) {
        return Ok(());
    }
    let columns: Vec<ArrayColumn> = rows::test_refunds(refunds);
    let statement = schema.sql(&format!(
        "UPDATE {{schema}}.order_refunds t SET test = true FROM {} \
         WHERE t.shop = v.shop AND t.refund_id = v.refund_id AND NOT t.test",
        columns::rows(&columns)
    ));
    transaction.execute_typed(&statement, &params(&columns)).await?;
    Ok(())
}

/// A final status stands, whatever comes later of an older event.
async fn upsert_transactions(
    transaction: &Transaction<'_>,
    schema: &Schema,
    rows: &[TransactionRow<'_>],
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = rows::order_transactions(rows);
    let statement = insert(schema, "order_transactions", &columns) + &upsert::replace_unless_final(&names(&columns), 3);
    transaction.execute_typed(&statement, &params(&columns)).await?;
    let refunded: Vec<ArrayColumn> = rows::refund_transactions(rows);
    if rows.iter().all(|row| row.refund_id.is_none()) {
        return Ok(());
    }
    let statement = schema.sql(&format!(
        "UPDATE {{schema}}.order_transactions t SET refund_id = v.refund_id FROM {} \
         WHERE t.shop = v.shop AND t.transaction_id = v.transaction_id AND t.refund_id IS NULL",
        columns::rows(&refunded)
    ));
    transaction.execute_typed(&statement, &params(&refunded)).await?;
    Ok(())
}

/// Writes the lines of those orders whose newest state is in this batch; their rows are locked by
/// the upsert. Answers the lines that were there before.
async fn replace_items<'a>(
    transaction: &Transaction<'_>,
    schema: &Schema,
    encoded: &EncodedEffects<'a>,
    changed: &Upserted<'a>,
) -> Result<HashMap<OrderRef<'a>, Vec<Units>>, Error> {
    let mut replaced: HashMap<OrderRef<'_>, Vec<Units>> = HashMap::new();
    if changed.is_empty() {
        return Ok(replaced);
    }
    let keys: Vec<OrderRef<'_>> = changed.keys().copied().collect();
    let orders: Vec<ArrayColumn> = rows::order_keys(&keys);
    let delete = schema.sql(&format!(
        "DELETE FROM {{schema}}.order_items t USING {} WHERE t.shop = v.shop AND t.order_id = v.order_id \
         RETURNING t.shop, t.order_id, t.line_id, t.qty",
        columns::rows(&orders)
    ));
    let records = &encoded.effects.orders;
    let is_changed = |record: &&EventRecord<'_>| changed.contains_key(&order_key(record));
    let some = (changed.len() < records.len()).then(|| item_columns(records.iter().copied().filter(is_changed)));
    let items = some.as_ref().unwrap_or(&encoded.items);
    let write = insert(schema, "order_items", items);
    let (deleted, written) = (params(&orders), params(items));
    let (rows, _) = try_join(
        transaction.query_typed(&delete, &deleted),
        transaction.execute_typed(&write, &written),
    )
    .await?;
    for row in &rows {
        if let Some(key) = find(records, (row.try_get(0)?, row.try_get(1)?)) {
            let units = (row.try_get(2)?, row.try_get(3)?);
            replaced.entry(key).or_default().push(units);
        }
    }
    Ok(replaced)
}
