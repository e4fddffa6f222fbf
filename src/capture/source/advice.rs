//! What works and may hurt later: settings of the server, and how the query runs.

use serde_json::Value;
use tokio_postgres::types::Type;

use super::catalog::Catalog;
use super::guess::COLUMNS;
use super::session::SourceSession;
use crate::capture::plan::{Plan, TableName};
use crate::postgres::SourceError;

/// A table that is read as a whole for each batch is small up to so many rows.
const SMALL_TABLE: i64 = 10_000;

/// What the settings of the server may lead to, each with what mends it.
pub(in crate::capture) async fn advise_on_server(
    session: &SourceSession,
    slot: &str,
) -> Result<Vec<String>, SourceError> {
    let sql = "SELECT current_setting('max_slot_wal_keep_size') = '-1',
               EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)
                   OR current_setting('max_replication_slots')::int > (SELECT count(*) FROM pg_replication_slots),
               current_setting('max_wal_senders')::int > (SELECT count(*) FROM pg_stat_replication),
               coalesce(current_setting('idle_replication_slot_timeout', true), '0') = '0',
               coalesce(current_setting('synchronized_standby_slots', true), '-') <> ''
                   OR NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_type = 'physical')";
    let rows = session.rows(sql, &[(slot, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let is_unbounded: bool = row.try_get(0)?;
    let advice = [
        (
            !is_unbounded,
            "while capture is away its slot may fill the disk of the shop's database: ALTER SYSTEM SET \
             max_slot_wal_keep_size = '10GB' (a slot that lost its WAL is a gap, which heals by itself)",
        ),
        (
            row.try_get(1)?,
            "no replication slot is free: raise max_replication_slots, then restart PostgreSQL",
        ),
        (
            row.try_get(2)?,
            "no walsender is free: raise max_wal_senders, then restart PostgreSQL",
        ),
        (
            row.try_get(3)?,
            "the server invalidates slots that are idle: ALTER SYSTEM SET idle_replication_slot_timeout = 0, or be \
             sure that capture is never away for so long",
        ),
        (
            row.try_get(4)?,
            "after a failover changes may be lost (a gap, which heals by itself): set sync_replication_slots = on at \
             the standby, and name its slot here in synchronized_standby_slots",
        ),
    ];
    let wrong = advice.iter().filter(|(is_well, _)| !is_well);
    Ok(wrong.map(|(_, text)| (*text).to_owned()).collect())
}

/// Fields of an event that a database of orders mostly has, and the query does not answer.
pub(in crate::capture) fn advise_on_fields(catalog: &Catalog) -> Option<String> {
    let is_answered = |field: &&str| catalog.answered.iter().any(|answered| answered == field);
    let fields = COLUMNS.iter().map(|(field, _)| *field);
    let lacking = Vec::from_iter(fields.filter(|field| !is_answered(field)));
    (!lacking.is_empty()).then(|| {
        format!(
            "the query answers no {}: these columns of the warehouse stay empty, and reports that use them",
            lacking.join(", ")
        )
    })
}

/// What the query's plan (`EXPLAIN (VERBOSE, FORMAT JSON)`) tells: tables that are read as a whole,
/// and those whose changes nothing watches.
pub(in crate::capture) async fn advise_on_query(
    session: &SourceSession,
    plan: &Plan,
    explained: &Value,
) -> Result<Vec<String>, SourceError> {
    // Partitions count as their root.
    let sql = "SELECT n.nspname::text, r.relname::text, c.reltuples::bigint FROM pg_class c
               JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid)
               JOIN pg_namespace n ON n.oid = r.relnamespace WHERE c.oid = $1::text::regclass";
    let mut scans = Vec::new();
    find_scans(explained, &mut scans);
    let mut advice = Vec::new();
    for (table, is_whole) in scans {
        let rows = session.rows(sql, &[(&table.sql(), Type::TEXT)]).await?;
        let Some(row) = rows.first() else { continue };
        let rows: i64 = row.try_get(2)?;
        let table = TableName {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
        };
        if is_whole && rows > SMALL_TABLE {
            advice.push(format!(
                "the query reads all of {table} ({rows} rows) for each batch: CREATE INDEX CONCURRENTLY on the column \
                 by which it finds the rows of an order"
            ));
        }
        if !plan.tables().contains(&&table) {
            advice.push(format!(
                "the query reads {table}, whose changes alone make no event: add a [[watch]] to the mapping where they \
                 change an order"
            ));
        }
    }
    advice.dedup();
    Ok(advice)
}

/// Tables of a plan, and whether each is read as a whole.
fn find_scans(node: &Value, scans: &mut Vec<(TableName, bool)>) {
    match node {
        Value::Array(nodes) => nodes.iter().for_each(|node| find_scans(node, scans)),
        Value::Object(members) => {
            let text = |name| members.get(name).and_then(Value::as_str);
            if let (Some(schema), Some(name)) = (text("Schema"), text("Relation Name")) {
                let table = TableName {
                    schema: schema.to_owned(),
                    name: name.to_owned(),
                };
                scans.push((table, text("Node Type") == Some("Seq Scan")));
            }
            members.values().for_each(|node| find_scans(node, scans));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
