//! What the source's catalog says: types of keys, replica identities, the publication; and what
//! must be run where it cannot be captured as it is.
//!
//! Invariant: nothing is created that could make a statement of the shop fail: a publication only
//! where every table of it has a replica identity.

use std::collections::HashMap;

use tokio_postgres::Statement;
use tokio_postgres::types::Type;

use super::session::{SourceSession, array};
use super::slot::slot;
use crate::capture::plan::{OrderTable, Plan, TableName, VersionSource, quoted};
use crate::capture::tables::VerifiedTable;
use crate::event::{OrderEvent, json};
use crate::postgres::SourceError;

/// Columns that the order query may have, beside those of an event: its key, and what becomes of
/// it.
const OWN_COLUMNS: [&str; 2] = ["key", "deleted"];
/// Columns that it must have.
const NEEDED: [&str; 5] = ["key", "order_id", "total_amount", "currency", "items"];
/// Fields of an event that are never the query's.
const NOT_ASKED: [&str; 3] = ["event_id", "timestamp", "edit"];

/// A type, and that of its arrays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::capture) struct KeyType {
    pub(in crate::capture) scalar: u32,
    pub(in crate::capture) array: u32,
}

/// What a capture must know of its source.
#[derive(Debug, Clone, Default)]
pub(in crate::capture) struct Catalog {
    /// Of the key of orders.
    pub(in crate::capture) key: KeyType,
    /// Of the key of each watched table, in the plan's order.
    pub(in crate::capture) watches: Vec<KeyType>,
    /// About how many orders there are.
    pub(in crate::capture) estimate: Option<u64>,
    /// Columns that the query answers.
    pub(super) answered: Vec<String>,
    /// The plan's tables by OID.
    pub(in crate::capture) tables: HashMap<u32, VerifiedTable>,
}

/// Looks at everything that the plan needs but the publication.
///
/// # Errors
/// The first fault, with the SQL that mends it.
pub(in crate::capture) async fn inspect(session: &SourceSession, plan: &Plan) -> Result<Catalog, SourceError> {
    check_server(session).await?;
    // Another database's or program's is nothing that waiting changes.
    slot(session, &plan.slot()).await?;
    let mut catalog = inspect_tables(session, plan).await?;
    for table in plan.tables() {
        let columns = identity(plan, table);
        let found = find(session, table).await?;
        check_identity(session, found.oid, table, &columns).await?;
        let verified = VerifiedTable {
            name: table.clone(),
            is_partitioned: found.is_partitioned,
        };
        catalog.tables.insert(found.oid, verified);
    }
    Ok(catalog)
}

/// The columns that old rows of a table must hold.
pub(super) fn identity<'a>(plan: &'a Plan, table: &TableName) -> Vec<&'a str> {
    let orders = plan.orders.iter().filter(|orders| orders.table == *table);
    let watches = plan.watches.iter().filter(|watch| watch.table == *table);
    let of_orders = orders.flat_map(|orders| [Some(orders.key.as_str()), orders.id.as_deref()].into_iter().flatten());
    of_orders.chain(watches.map(|watch| watch.key.as_str())).collect()
}

/// Looks at tables, columns and the query alone, which `try` needs.
pub(in crate::capture) async fn inspect_tables(session: &SourceSession, plan: &Plan) -> Result<Catalog, SourceError> {
    let looked = look_at_tables(session, plan).await;
    looked.map_err(|error| match error {
        SourceError::Misconfigured(what) => SourceError::Misconfigured(format!("{}: {what}", plan.file)),
        error @ (SourceError::Refused { .. } | SourceError::Unreachable(_)) => error,
    })
}

async fn look_at_tables(session: &SourceSession, plan: &Plan) -> Result<Catalog, SourceError> {
    check_timezone(session, &plan.timezone).await?;
    let mut catalog = Catalog::default();
    if let Some(orders) = &plan.orders {
        catalog.estimate = find(session, &orders.table).await?.rows;
        catalog.key = column(session, &orders.table, &orders.key).await?;
        if let Some(id) = &orders.id {
            column(session, &orders.table, id).await?;
        }
        catalog.answered = check_query(session, orders).await?;
    }
    for watch in &plan.watches {
        find(session, &watch.table).await?;
        let kind = column(session, &watch.table, &watch.key).await?;
        if let Some(query) = &watch.orders {
            prepare(session, &query.0, "[[watch]] orders").await?;
        }
        catalog.watches.push(kind);
    }
    if let Some(outbox) = &plan.outbox {
        find(session, &outbox.table).await?;
        column(session, &outbox.table, &outbox.payload).await?;
    }
    Ok(catalog)
}

/// Every read sets it.
async fn check_timezone(session: &SourceSession, timezone: &str) -> Result<(), SourceError> {
    let set = session
        .rows("SELECT set_config('TimeZone', $1, true)", &[(timezone, Type::TEXT)])
        .await;
    match set {
        Err(error) if error.is_poison() => {
            let rows = session.rows("SELECT name FROM pg_timezone_names", &[]).await?;
            let names = rows
                .iter()
                .map(|row| row.try_get(0))
                .collect::<Result<Vec<String>, _>>()?;
            Err(SourceError::Misconfigured(format!(
                "timezone: the source knows no zone \"{timezone}\"{}",
                did_you_mean(timezone, names.iter().map(String::as_str))
            )))
        }
        set => set.map(drop),
    }
}

/// The known name that is nearly the same, as a question; empty where there is none.
fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const SIMILAR: f64 = 0.9;
    let best = known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let similar = best.filter(|(similarity, _)| *similarity >= SIMILAR);
    similar.map_or_else(String::new, |(_, known)| format!(" (did you mean `{known}`?)"))
}

async fn check_server(session: &SourceSession) -> Result<(), SourceError> {
    let sql = "SELECT current_setting('wal_level'), current_setting('server_version_num')::int";
    let rows = session.rows(sql, &[]).await?;
    let row = rows
        .first()
        .ok_or_else(|| SourceError::Unreachable("no answer".to_owned()))?;
    let (wal_level, version): (String, i32) = (row.try_get(0)?, row.try_get(1)?);
    if version < 140_000 {
        let what = format!(
            "the source is PostgreSQL {}: capture needs 14 or newer",
            version / 10_000
        );
        return Err(SourceError::Misconfigured(what));
    }
    if wal_level != "logical" {
        return Err(SourceError::Misconfigured(format!(
            "wal_level of the source is {wal_level}, and must be logical: ALTER SYSTEM SET wal_level = logical, then \
             restart PostgreSQL (a managed one has a parameter for it: docs/CAPTURE.md)"
        )));
    }
    Ok(())
}

struct Table {
    oid: u32,
    /// About how many rows it has; `None` where that is unknown.
    rows: Option<u64>,
    is_partitioned: bool,
}

async fn find(session: &SourceSession, table: &TableName) -> Result<Table, SourceError> {
    let sql = "SELECT c.oid, c.reltuples::bigint, c.relkind = 'p' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";
    let params = [(&*table.schema, Type::TEXT), (&*table.name, Type::TEXT)];
    match session.rows(sql, &params).await?.first() {
        Some(row) => Ok(Table {
            oid: row.try_get(0)?,
            rows: row.try_get::<_, i64>(1)?.try_into().ok(),
            is_partitioned: row.try_get(2)?,
        }),
        None => Err(SourceError::Misconfigured(format!(
            "there is no table {table} in the source"
        ))),
    }
}

async fn column(session: &SourceSession, table: &TableName, column: &str) -> Result<KeyType, SourceError> {
    let sql = "SELECT t.oid, t.typarray, a.attgenerated <> '' FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
               WHERE a.attrelid = $1::text::regclass AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = session
        .rows(sql, &[(&table.sql(), Type::TEXT), (column, Type::TEXT)])
        .await?;
    let Some(row) = rows.first() else {
        let what = format!("the table {table} has no column {column}");
        return Err(SourceError::Misconfigured(what));
    };
    if row.try_get(2)? {
        let what = format!("{table}.{column} is a generated column, which is not replicated");
        return Err(SourceError::Misconfigured(what));
    }
    Ok(KeyType {
        scalar: row.try_get(0)?,
        array: row.try_get(1)?,
    })
}

/// Each partition has its own identity; without one, UPDATE and DELETE of a published table fail.
async fn check_identity(
    session: &SourceSession,
    table: u32,
    name: &TableName,
    columns: &[&str],
) -> Result<(), SourceError> {
    let sql = "SELECT c.oid::regclass::text, c.relreplident = 'f' OR coalesce((
                   SELECT array_agg(a.attname::text) @> $2 FROM pg_index i
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
                   WHERE i.indrelid = c.oid
                     AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'd' THEN i.indisprimary ELSE false END
               ), false)
               FROM pg_class c WHERE c.relkind = 'r'
                AND c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass) UNION SELECT $1::oid) ORDER BY 1";
    let columns = array(columns.iter().copied());
    let params = [(&*table.to_string(), Type::OID), (&*columns, Type::TEXT_ARRAY)];
    for row in session.rows(sql, &params).await? {
        let (partition, is_enough): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        if !is_enough {
            return Err(SourceError::Misconfigured(format!(
                "the replica identity of {partition} must hold {columns}, so that a deleted or moved row tells which \
                 order it belonged to: ALTER TABLE {partition} REPLICA IDENTITY FULL; or, with less WAL, a unique index \
                 with these columns, each NOT NULL, and ALTER TABLE {partition} REPLICA IDENTITY USING INDEX <name> \
                 (table {name} of the mapping)"
            )));
        }
    }
    Ok(())
}

/// Has the server parse a query of the file.
async fn prepare(session: &SourceSession, sql: &str, place: &str) -> Result<Statement, SourceError> {
    let prepared = session.client.prepare(sql).await.map_err(|error| session.error(error));
    prepared.map_err(|error| match error {
        error if error.needs_operator() => SourceError::Misconfigured(format!("{place}: {error}")),
        error => error,
    })
}

/// Answers the columns of the query.
async fn check_query(session: &SourceSession, orders: &OrderTable) -> Result<Vec<String>, SourceError> {
    let fault = |what: String| Err(SourceError::Misconfigured(format!("[orders] query: {what}")));
    let statement = prepare(session, &orders.query.0, "[orders] query").await?;
    let fields = json::fields::<OrderEvent<'_>>();
    let names = Vec::from_iter(statement.columns().iter().map(|column| column.name().to_owned()));
    let missing = NEEDED.iter().find(|needed| !names.iter().any(|name| name == *needed));
    for column in statement.columns() {
        let name = column.name();
        if name == "updated_at" && orders.version == VersionSource::Commit {
            return fault(
                "answers `updated_at`, which is the time of the commit here: take it out, or set version = \
                 \"updated_at\" where it is Shopify's"
                    .to_owned(),
            );
        }
        let is_field = fields.contains(&name) && !NOT_ASKED.contains(&name);
        if !is_field && !OWN_COLUMNS.contains(&name) {
            let suggestion = did_you_mean(name, fields.iter().copied().chain(OWN_COLUMNS));
            return fault(format!(
                "answers a column `{name}`, which no event has{suggestion}; a field of that name would be lost{}",
                missing
                    .map(|missing| format!(", and `{missing}` is missing"))
                    .unwrap_or_default()
            ));
        }
        if *column.type_() == Type::TIMESTAMP {
            return fault(format!(
                "`{name}` is a timestamp without time zone: write `{name} AT TIME ZONE 'UTC' AS {name}` where the \
                 application stores UTC, else its zone"
            ));
        }
    }
    match missing {
        Some(missing) => fault(format!(
            "lacks the column `{missing}`; it must answer each of {}",
            NEEDED.join(", ")
        )),
        None => Ok(names),
    }
}

/// What the publication holds of these tables; makes it where it is missing and the role may.
///
/// # Errors
/// As [`publication`]; or it is missing and cannot be made.
pub(in crate::capture) async fn make_publication(session: &SourceSession, plan: &Plan) -> Result<String, SourceError> {
    if let Some(published) = publication(session, plan).await? {
        return Ok(published);
    }
    let (name, sql) = (plan.slot(), create_publication(plan, |_| String::new()));
    let created = session.client.batch_execute(&sql).await.map_err(SourceError::from);
    match (created, publication(session, plan).await?) {
        // Another process may have made it at the same moment.
        (created, Some(published)) => {
            if created.is_ok() {
                tracing::info!(publication = name, "created the publication");
            }
            Ok(published)
        }
        (Err(error), None) => Err(SourceError::Misconfigured(format!(
            "there is no publication {name}, and it cannot be created: {error}; as the owner of the tables run: {sql}"
        ))),
        (Ok(()), None) => Err(SourceError::Unreachable(format!("the publication {name} vanished"))),
    }
}

/// What the publication holds of the plan's tables: its OID and those of its entries, which change
/// where a table is taken out and put back. `None` where there is no publication.
///
/// # Errors
/// It lacks something, with the SQL that mends it; or the source's.
pub(in crate::capture) async fn publication(
    session: &SourceSession,
    plan: &Plan,
) -> Result<Option<String>, SourceError> {
    let name = plan.slot();
    let sql = "SELECT oid, pubviaroot, pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication \
               WHERE pubname = $1";
    let rows = session.rows(sql, &[(&name, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (oid, is_via_root, has_all): (u32, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if !is_via_root || !has_all {
        return Err(SourceError::Misconfigured(format!(
            "the publication {name} must publish every operation, of partitions as of their root: ALTER PUBLICATION \
             {name} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
        )));
    }
    let held = published_tables(session, &name).await?;
    let mut entries = Vec::new();
    for table in plan.tables() {
        let Some((entry, _)) = held.iter().find(|(_, held)| held == table) else {
            return Err(SourceError::Misconfigured(format!(
                "the publication {name} lacks the table {table}: ALTER PUBLICATION {name} ADD TABLE {}",
                table.sql()
            )));
        };
        entries.push(*entry);
    }
    // Whatever the tables are called.
    entries.sort_unstable();
    let entries = entries.iter().map(|entry| format!(",{entry}"));
    Ok(Some(format!("{oid}{}", entries.collect::<String>())))
}

/// Each with the OID of its entry, or its own where the publication is of a schema or of all
/// tables.
async fn published_tables(session: &SourceSession, name: &str) -> Result<Vec<(u32, TableName)>, SourceError> {
    let sql = "SELECT coalesce(r.oid, c.oid), t.schemaname::text, t.tablename::text, to_jsonb(t)->>'rowfilter' \
               FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname \
               JOIN pg_namespace n ON n.nspname = t.schemaname \
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
               LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid WHERE t.pubname = $1";
    let mut tables = Vec::new();
    for row in session.rows(sql, &[(name, Type::TEXT)]).await? {
        let table = TableName {
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
        };
        if row.try_get::<_, Option<String>>(3)?.is_some() {
            return Err(SourceError::Misconfigured(format!(
                "the publication {name} has a row filter on {table}, so that changes would be missed: ALTER PUBLICATION \
                 {name} DROP TABLE {0}; ALTER PUBLICATION {name} ADD TABLE {0}",
                table.sql()
            )));
        }
        tables.push((row.try_get(0)?, table));
    }
    Ok(tables)
}

/// The statement that makes the publication, with a list of columns after each table's name where
/// there is one.
pub(super) fn create_publication(plan: &Plan, columns: impl Fn(&TableName) -> String) -> String {
    let with_columns = |table: &TableName| table.sql() + &columns(table);
    let tables = Vec::from_iter(plan.tables().into_iter().map(with_columns));
    let of = if tables.is_empty() {
        String::new()
    } else {
        format!(" FOR TABLE {}", tables.join(", "))
    };
    format!(
        "CREATE PUBLICATION {}{of} WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
        quoted(&plan.slot())
    )
}
