//! The two stores, and one form for what they answer: what is equal in meaning is equal as text.

use std::sync::Arc;

use async_trait::async_trait;
use orderstream::warehouse::Warehouse;
use orderstream::warehouse::embedded::EmbeddedWarehouse;
use rusqlite::types::ValueRef;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

use super::Store;
use super::events::{Sample, order};

use crate::harness::folder;
use crate::harness::postgres::Database;

/// Columns and rows of a query.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Answer {
    /// A line a row, `|` between columns; NULL is empty, truth 1 and 0, a time ISO-8601 in UTC to the microsecond.
    pub fn text(&self) -> String {
        let lines: Vec<String> = self.rows.iter().map(|row| row.join("|")).collect();
        lines.join("\n")
    }
}

/// A decimal without the zeros at its end, to 12 places; JSON in a fixed order; anything else as it is.
fn normal(text: &str) -> String {
    let number = text.strip_prefix('-').unwrap_or(text);
    let is_decimal = number.split_once('.').is_some_and(|(whole, part)| {
        [whole, part]
            .iter()
            .all(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
    });
    if is_decimal && let Ok(decimal) = text.parse::<Decimal>() {
        return decimal.round_dp(12).normalize().to_string();
    }
    match serde_json::from_str::<Value>(text) {
        Ok(json @ (Value::Object(_) | Value::Array(_))) => json.to_string(),
        _ => text.to_owned(),
    }
}

#[async_trait]
impl Store for Database {
    fn open(&self) -> Arc<dyn Warehouse> {
        Arc::new(self.warehouse())
    }

    async fn query(&self, sql: &str) -> Answer {
        let settings = "SET search_path = orderstream; SET timezone = 'UTC'";
        let client = self.session(settings).await;
        let types = client.prepare(sql).await.unwrap();
        let cell = |row: &tokio_postgres::SimpleQueryRow, at: usize| {
            let text = row.get(at).unwrap_or_default();
            match *types.columns()[at].type_() {
                Type::BOOL => text.replace('t', "1").replace('f', "0"),
                Type::TIMESTAMPTZ => iso(text),
                Type::INTERVAL => normal(&seconds(text)),
                _ => normal(text),
            }
        };
        let messages = client.simple_query(sql).await.unwrap();
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| cell(row, at)).collect()),
            _ => None,
        });
        Answer {
            columns: types.columns().iter().map(|column| column.name().to_owned()).collect(),
            rows: rows.collect(),
        }
    }

    async fn change(&self, sql: &str) {
        self.session(&format!("SET search_path = orderstream; {sql}")).await;
    }

    async fn drop_tables(&self) {
        self.sql("DROP SCHEMA orderstream CASCADE");
    }

    async fn drop_table(&self, table: &str) {
        self.sql(&format!("DROP TABLE orderstream.{table} CASCADE"));
    }

    fn version_2(&self) -> &'static str {
        include_str!("../../fixtures/upgrade/version_2_postgres.sql")
    }

    fn definitions(&self) -> &'static str {
        "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) FROM information_schema.columns \
         WHERE table_schema = 'orderstream' \
         UNION ALL SELECT concat(viewname, definition) FROM pg_views WHERE schemaname = 'orderstream' \
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'orderstream' ORDER BY 1"
    }

    fn poison(&self) -> Vec<Sample> {
        let mut nul = order("nul", "1", 1, 0);
        nul["unknown"] = json!("secret\u{0}");
        let too_long_for_its_index = order(&"secret".repeat(1_000_000), "1", 1, 0);
        vec![nul.into(), too_long_for_its_index.into()]
    }
}

/// `2026-02-01 04:31:01.5+00` with a `T`, six decimals and a `Z`.
fn iso(text: &str) -> String {
    let Some(time) = text.strip_suffix("+00") else {
        return text.to_owned();
    };
    let (whole, part) = time.split_once('.').unwrap_or((time, ""));
    format!("{}.{part:0<6}Z", whole.replace(' ', "T"))
}

/// `30 days 07:30:00.5` in seconds.
fn seconds(interval: &str) -> String {
    let (days, time) = match interval.split_once(" day") {
        Some((days, rest)) => (
            days.parse::<Decimal>().unwrap(),
            rest.trim_start_matches('s').trim_start(),
        ),
        None => (Decimal::ZERO, interval),
    };
    let (sign, time) = time.strip_prefix('-').map_or((1, time), |time| (-1, time));
    let mut total = Decimal::ZERO;
    for part in time.split(':').filter(|part| !part.is_empty()) {
        total = total * Decimal::from(60) + part.parse::<Decimal>().unwrap();
    }
    format!("{:.6}", days * Decimal::from(86_400) + total * Decimal::from(sign))
}

/// A warehouse file in a folder of its own.
pub struct WarehouseFile {
    folder: TempDir,
    warehouse: Arc<EmbeddedWarehouse>,
}

impl WarehouseFile {
    /// Not there yet.
    pub fn missing() -> Self {
        let folder = folder::temporary("warehouse-");
        let warehouse = Arc::new(EmbeddedWarehouse::open(&folder.path().join("warehouse.db")));
        Self { folder, warehouse }
    }

    /// With tables.
    pub async fn migrated() -> Self {
        let file = Self::missing();
        file.warehouse.migrate().await.unwrap();
        file
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("warehouse.db")
    }

    /// As another program opens it.
    pub fn connection(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
        connection
    }
}

/// What a query on the file answers.
pub fn query(connection: &rusqlite::Connection, sql: &str) -> Answer {
    let mut statement = connection.prepare(sql).unwrap();
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let cell = |value: ValueRef<'_>| match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => normal(&format!("{number:.6}")),
        ValueRef::Text(text) => normal(std::str::from_utf8(text).unwrap()),
        ValueRef::Blob(bytes) => format!("\\x{}", hex::encode(bytes)),
    };
    let rows = statement
        .query_map((), |row| {
            (0..columns.len()).map(|at| Ok(cell(row.get_ref(at)?))).collect()
        })
        .unwrap();
    let rows = rows.collect::<Result<_, _>>().unwrap();
    Answer { columns, rows }
}

#[async_trait]
impl Store for WarehouseFile {
    fn open(&self) -> Arc<dyn Warehouse> {
        self.warehouse.clone()
    }

    async fn query(&self, sql: &str) -> Answer {
        query(&self.connection(), sql)
    }

    async fn change(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap();
    }

    async fn drop_tables(&self) {
        let connection = self.connection();
        let drops = "SELECT 'DROP ' || type || ' ' || name FROM sqlite_schema WHERE type IN ('table', 'view')";
        for row in query(&connection, drops).rows {
            connection.execute_batch(&row[0]).unwrap();
        }
    }

    async fn drop_table(&self, table: &str) {
        self.connection().execute_batch(&format!("DROP TABLE {table}")).unwrap();
    }

    fn version_2(&self) -> &'static str {
        include_str!("../../fixtures/upgrade/version_2_sqlite.sql")
    }

    fn definitions(&self) -> &'static str {
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY 1"
    }

    fn poison(&self) -> Vec<Sample> {
        // No event that intake takes is refused here; one handed over past its bounds still is.
        let mut event: Sample = order("secret", "1", 1, 0).into();
        event.triggered_at = Some(time::macros::datetime!(-0001-01-01 00:00 UTC));
        vec![event]
    }
}

#[test]
fn equal_things_look_equal() {
    assert_eq!(normal("26.50"), normal("26.5000000000000000"));
    assert_eq!(normal("-0.50"), "-0.5");
    assert_eq!(normal("5900"), "5900");
    assert_eq!(normal("one.myshopify.com"), "one.myshopify.com");
    assert_eq!(normal(r#"{"b":1,"a":2}"#), normal(r#"{"a": 2, "b": 1}"#));
    assert_eq!(iso("2026-02-01 04:31:01.5+00"), "2026-02-01T04:31:01.500000Z");
    assert_eq!(iso("-infinity"), "-infinity");
    assert_eq!(seconds("30 days 07:30:00.5"), "2619000.500000");
    assert_eq!(seconds("1 day"), "86400.000000");
    assert_eq!(seconds("-1 days -00:00:01"), "-86401.000000");
}
