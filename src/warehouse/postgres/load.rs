//! One load: events, and what they do to the state tables, in one transaction.
//!
//! Owns the statements. Each takes all rows at once, in key order; those that do not need each other's answer are
//! pipelined. Only events that were not there before have effects.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::{try_join, try_join3};
use tokio_postgres::{Client, Error, IsolationLevel, Transaction};

use super::columns::{self, Column, assignments, boolean, bytes, date, insert, instant, int4, int8, json, numeric};
use super::columns::{or_earliest, params, text, version};
use super::error::Failure;
use super::schema::Schema;
use crate::event::{Amount, EventRecord, Item, Text, Timestamp};
use crate::warehouse::Loaded;
use crate::warehouse::fold::{Effects, OrderKey, RefundRow, local_date, order_key};
use crate::warehouse::status::status;
use crate::warehouse::version::{Version, micros};

/// A row gives way to a version that is not older.
const NOT_OLDER: &str = "ROW(excluded.version_at, excluded.version_triggered_at, excluded.last_event_id) \
                         >= ROW(t.version_at, t.version_triggered_at, COALESCE(t.last_event_id, ''))";

/// Bounds of a transaction, as the statement that sets them: a stalled worker must not hold locks, and a commit must
/// be on disk whatever the server's default is.
pub(super) fn session_limits(statement_timeout: Duration) -> String {
    let statement = statement_timeout.as_millis().max(2);
    let lock = statement / 2;
    format!(
        "SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {statement}; SET LOCAL synchronous_commit = on"
    )
}

/// Loads all events or none.
pub(super) async fn load(
    client: &mut Client,
    schema: &Schema,
    limits: &str,
    events: &[EventRecord<'_>],
) -> Result<Loaded, Failure> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(false)
        .start()
        .await?;
    let distinct = distinct(events);
    let ((), new) = try_join(
        transaction.batch_execute(limits),
        insert_events(&transaction, schema, &distinct),
    )
    .await?;
    let fresh = distinct
        .iter()
        .copied()
        .filter(|record| new.contains(record.event.event_id.as_str()));
    let effects = Effects::of(fresh);
    let (changed, (), ()) = try_join3(
        upsert_orders(&transaction, schema, &effects.orders),
        mark_deleted(&transaction, schema, &effects.deletions),
        upsert_refunds(&transaction, schema, &effects.refunds),
    )
    .await?;
    replace_items(&transaction, schema, &effects.orders, &changed).await?;
    transaction.commit().await?;
    let inserted = new.len() as u64;
    Ok(Loaded {
        inserted,
        known: events.len() as u64 - inserted,
    })
}

/// In order of id, each id once: the first in the batch stands.
fn distinct<'a>(events: &'a [EventRecord<'a>]) -> Vec<&'a EventRecord<'a>> {
    let mut distinct: Vec<&EventRecord<'_>> = events.iter().collect();
    distinct.sort_by_key(|record| record.event.event_id.as_str());
    distinct.dedup_by_key(|record| record.event.event_id.as_str());
    distinct
}

/// Answers the ids that were not there before.
async fn insert_events(
    transaction: &Transaction<'_>,
    schema: &Schema,
    records: &[&EventRecord<'_>],
) -> Result<HashSet<String>, Error> {
    let each = || records.iter().copied();
    let events = || each().map(|record| &record.event);
    let columns = [
        text("event_id", events().map(|e| Some(e.event_id.as_str()))),
        text("event_type", events().map(|e| Some(e.event_type.as_str()))),
        text("source", each().map(|r| as_text(r.provenance.source.as_ref()))),
        text("shop", each().map(|r| Some(r.shop()))),
        text("order_id", events().map(|e| Some(e.order_id.as_str()))),
        text(
            "customer_id",
            events().map(|e| e.customer_id.as_ref().map(|id| id.as_str())),
        ),
        numeric("total_amount", events().map(|e| as_numeric(e.total_amount))),
        text("currency", events().map(|e| as_text(e.currency.as_ref()))),
        int8("item_count", events().map(|e| e.items.as_ref().map(|_| e.item_count()))),
        boolean("test", events().map(|e| Some(e.test.unwrap_or_default()))),
        instant("occurred_at", events().map(|e| Some(micros(e.timestamp.instant())))),
        instant("triggered_at", each().map(|r| r.triggered_at.map(micros))),
        instant("received_at", each().map(|r| Some(micros(r.received_at)))),
        text("stream_id", each().map(|r| Some(r.stream_id.as_str()))),
        json("payload", each().map(|r| Some(r.payload))),
        bytes("raw", each().map(|r| r.raw.as_deref())),
    ];
    let statement = insert(schema, "order_events", &columns) + " ON CONFLICT (event_id) DO NOTHING RETURNING event_id";
    let rows = transaction.query_typed(&statement, &params(&columns)).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Answers the orders of which this became the newest state.
async fn upsert_orders(
    transaction: &Transaction<'_>,
    schema: &Schema,
    records: &[&EventRecord<'_>],
) -> Result<HashSet<(String, String)>, Error> {
    if records.is_empty() {
        return Ok(HashSet::new());
    }
    let columns = order_columns(records);
    let statement = format!(
        "{} ON CONFLICT (shop, order_id) DO UPDATE SET {} WHERE {NOT_OLDER} RETURNING shop, order_id",
        insert(schema, "orders", &columns),
        assignments(&columns, 2),
    );
    let rows = transaction.query_typed(&statement, &params(&columns)).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

fn order_columns<'a>(records: &'a [&EventRecord<'_>]) -> Vec<Column<'a>> {
    let each = || records.iter().copied();
    let events = || each().map(|record| &record.event);
    let versions = || each().map(Version::of);
    vec![
        text("shop", each().map(|r| Some(r.shop()))),
        text("order_id", events().map(|e| Some(e.order_id.as_str()))),
        text("name", events().map(|e| as_text(e.name.as_ref()))),
        text(
            "customer_id",
            events().map(|e| e.customer_id.as_ref().map(|id| id.as_str())),
        ),
        text("status", events().map(|e| Some(status(e)))),
        numeric("total_amount", events().map(|e| as_numeric(e.total_amount))),
        text("currency", events().map(|e| as_text(e.currency.as_ref()))),
        int8("item_count", events().map(|e| Some(e.item_count()))),
        date("local_date", each().map(local_date)),
        instant("created_at", events().map(|e| as_instant(e.created_at.as_ref()))),
        instant("processed_at", events().map(|e| as_instant(e.processed_at.as_ref()))),
        instant("updated_at", events().map(|e| as_instant(e.updated_at.as_ref()))),
        instant("cancelled_at", events().map(|e| as_instant(e.cancelled_at.as_ref()))),
        text(
            "financial_status",
            events().map(|e| as_text(e.financial_status.as_ref())),
        ),
        text(
            "fulfillment_status",
            events().map(|e| as_text(e.fulfillment_status.as_ref())),
        ),
        numeric("subtotal", events().map(|e| as_numeric(e.subtotal))),
        numeric("total_discounts", events().map(|e| as_numeric(e.total_discounts))),
        numeric("total_shipping", events().map(|e| as_numeric(e.total_shipping))),
        numeric("total_tax", events().map(|e| as_numeric(e.total_tax))),
        boolean("taxes_included", events().map(|e| e.taxes_included)),
        numeric(
            "current_total_amount",
            events().map(|e| as_numeric(e.current_total_amount)),
        ),
        text(
            "presentment_currency",
            events().map(|e| as_text(e.presentment_currency.as_ref())),
        ),
        numeric(
            "presentment_total_amount",
            events().map(|e| as_numeric(e.presentment_total_amount)),
        ),
        text("source_name", events().map(|e| as_text(e.source_name.as_ref()))),
        boolean("test", events().map(|e| Some(e.test.unwrap_or_default()))),
        text("last_event_id", versions().map(|v| Some(v.event_id))),
        version("version_at", versions().map(|v| or_earliest(Some(v.at)))),
        version("version_triggered_at", versions().map(|v| or_earliest(v.triggered_at))),
    ]
}

/// Leaves version and whole-order columns alone: a deletion says nothing about what the order was.
async fn mark_deleted(
    transaction: &Transaction<'_>,
    schema: &Schema,
    deletions: &[(OrderKey<'_>, time::OffsetDateTime)],
) -> Result<(), Error> {
    if deletions.is_empty() {
        return Ok(());
    }
    let columns = [
        text("shop", deletions.iter().map(|((shop, _), _)| Some(*shop))),
        text("order_id", deletions.iter().map(|((_, order_id), _)| Some(*order_id))),
        instant("deleted_at", deletions.iter().map(|(_, at)| Some(*at))),
    ];
    let statement = insert(schema, "orders", &columns)
        + " ON CONFLICT (shop, order_id) DO UPDATE SET deleted_at = excluded.deleted_at \
           WHERE t.deleted_at IS NULL OR excluded.deleted_at < t.deleted_at";
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
    let each = || refunds.iter();
    let versions = || each().map(|row| Version::of(row.record));
    let columns = [
        text("shop", each().map(|row| Some(row.record.shop()))),
        text("refund_id", each().map(|row| Some(row.refund.refund_id.as_str()))),
        // Beside the keys, as no version of the refund may change it: `mark_test_refunds` does.
        boolean("test", each().map(|row| Some(row.test))),
        text("order_id", each().map(|row| Some(row.record.event.order_id.as_str()))),
        instant("processed_at", each().map(|row| as_instant(Some(row.processed_at())))),
        date("local_date", each().map(|row| row.processed_at().local_date())),
        numeric("amount", each().map(|row| as_numeric(Some(row.refund.amount)))),
        numeric("tax", each().map(|row| as_numeric(row.refund.tax))),
        text("currency", each().map(RefundRow::currency)),
        text("last_event_id", versions().map(|v| Some(v.event_id))),
        version("version_at", versions().map(|v| or_earliest(Some(v.at)))),
        version("version_triggered_at", versions().map(|v| or_earliest(v.triggered_at))),
    ];
    let statement = format!(
        "{} ON CONFLICT (shop, refund_id) DO UPDATE SET {} WHERE {NOT_OLDER}",
        insert(schema, "order_refunds", &columns),
        assignments(&columns, 3),
    );
    transaction.execute_typed(&statement, &params(&columns)).await?;
    mark_test_refunds(transaction, schema, refunds).await
}

/// Whatever was written of them before; their rows are locked by the upsert.
async fn mark_test_refunds(
    transaction: &Transaction<'_>,
    schema: &Schema,
    refunds: &[RefundRow<'_>],
) -> Result<(), Error> {
    let marked = || refunds.iter().filter(|row| row.test);
    if marked().next().is_none() {
        return Ok(());
    }
    let columns = [
        text("shop", marked().map(|row| Some(row.record.shop()))),
        text("refund_id", marked().map(|row| Some(row.refund.refund_id.as_str()))),
    ];
    let statement = schema.sql(&format!(
        "UPDATE {{schema}}.order_refunds t SET test = true FROM {} \
         WHERE t.shop = v.shop AND t.refund_id = v.refund_id AND NOT t.test",
        columns::rows(&columns)
    ));
    transaction.execute_typed(&statement, &params(&columns)).await?;
    Ok(())
}

/// Writes the lines of those orders whose newest state is in this batch; their rows are locked by the upsert.
async fn replace_items(
    transaction: &Transaction<'_>,
    schema: &Schema,
    records: &[&EventRecord<'_>],
    changed: &HashSet<(String, String)>,
) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let orders = [
        text("shop", changed.iter().map(|(shop, _)| Some(shop.as_str()))),
        text("order_id", changed.iter().map(|(_, order_id)| Some(order_id.as_str()))),
    ];
    let delete = schema.sql(&format!(
        "DELETE FROM {{schema}}.order_items t USING {} WHERE t.shop = v.shop AND t.order_id = v.order_id",
        columns::rows(&orders)
    ));
    let lines: Vec<Line<'_>> = records
        .iter()
        .filter(|record| {
            let (shop, order_id) = order_key(record);
            changed.contains(&(shop.to_owned(), order_id.to_owned()))
        })
        .flat_map(|record| {
            (1..).zip(record.event.items.iter().flatten()).map(|(no, item)| Line {
                order: order_key(record),
                no,
                item,
            })
        })
        .collect();
    let items = item_columns(&lines);
    let write = insert(schema, "order_items", &items);
    let (deleted, written) = (params(&orders), params(&items));
    try_join(
        transaction.execute_typed(&delete, &deleted),
        transaction.execute_typed(&write, &written),
    )
    .await?;
    Ok(())
}

/// One row of `order_items`.
struct Line<'a> {
    order: OrderKey<'a>,
    no: i32,
    item: &'a Item<'a>,
}

fn item_columns<'a>(lines: &'a [Line<'_>]) -> [Column<'a>; 13] {
    let each = || lines.iter();
    let items = || lines.iter().map(|line| line.item);
    [
        text("shop", each().map(|line| Some(line.order.0))),
        text("order_id", each().map(|line| Some(line.order.1))),
        int4("line_no", each().map(|line| line.no)),
        text("line_id", items().map(|i| i.line_id.as_ref().map(|id| id.as_str()))),
        text("sku", items().map(|i| i.sku.as_ref().map(|id| id.as_str()))),
        text(
            "variant_id",
            items().map(|i| i.variant_id.as_ref().map(|id| id.as_str())),
        ),
        text(
            "product_id",
            items().map(|i| i.product_id.as_ref().map(|id| id.as_str())),
        ),
        text("title", items().map(|i| as_text(i.title.as_ref()))),
        int8("qty", items().map(|i| Some(i.qty))),
        int8("current_qty", items().map(|i| i.current_qty)),
        numeric("price", items().map(|i| as_numeric(Some(i.price)))),
        numeric("discount", items().map(|i| as_numeric(i.discount))),
        numeric("tax", items().map(|i| as_numeric(i.tax))),
    ]
}

fn as_text<'a>(text: Option<&'a Text<'_>>) -> Option<&'a str> {
    text.map(Text::as_str)
}

fn as_numeric(amount: Option<Amount>) -> Option<rust_decimal::Decimal> {
    amount.map(|amount| amount.0)
}

fn as_instant(timestamp: Option<&Timestamp<'_>>) -> Option<time::OffsetDateTime> {
    timestamp.map(|timestamp| micros(timestamp.instant()))
}
