//! A pipeline that stands on nothing but a folder: its files, and the questions that tests ask of them.

use std::path::PathBuf;
use std::process::Output;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::service::Settings;
use super::site::PATIENCE;
use super::{eventually, folder};

/// The folder that processes are started in; their data folder is the default below it.
pub struct Local(TempDir);

impl Local {
    pub fn new() -> Self {
        Self(folder::temporary("local-"))
    }

    /// As a newcomer has it: nothing configured.
    pub fn bare(&self) -> Settings {
        Settings::bare().within(self.0.path())
    }

    /// With the test's secrets and times.
    pub fn settings(&self) -> Settings {
        Settings::embedded().within(self.0.path())
    }

    pub fn data_dir(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// A command that ends by itself, with nothing configured.
    pub fn run(&self, args: &[&str]) -> Output {
        Settings::nothing()
            .within(self.0.path())
            .command(args)
            .output()
            .unwrap()
    }

    /// The same; its stdout, which is all it may print.
    pub fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success() && errors.is_empty(), "{args:?}: {out}{errors}");
        out
    }

    /// The rows of a query on the warehouse file, as anybody may open it; columns are separated by `|`.
    pub fn sql(&self, sql: &str) -> Vec<String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let file = Connection::open_with_flags(self.data_dir().join("warehouse.db"), flags).unwrap();
        let mut query = file.prepare(sql).unwrap();
        let columns = query.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let text = |column| row.get::<_, rusqlite::types::Value>(column).map(show);
            Ok((0..columns).map(text).collect::<Result<Vec<_>, _>>()?.join("|"))
        };
        query.query_map((), row).unwrap().map(Result::unwrap).collect()
    }

    /// Rows in `order_events`; none while there is no such table.
    pub fn rows(&self) -> usize {
        if self
            .sql("SELECT name FROM sqlite_master WHERE name = 'order_events'")
            .is_empty()
        {
            return 0;
        }
        self.sql("SELECT count(*) FROM order_events")[0].parse().unwrap()
    }

    /// Waits for exactly so many rows.
    pub async fn has_rows(&self, count: usize) {
        eventually(&format!("{count} rows"), PATIENCE, async || {
            (self.rows() == count).then_some(())
        })
        .await;
    }
}

fn show(value: rusqlite::types::Value) -> String {
    use rusqlite::types::Value;
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text,
        Value::Blob(bytes) => hex::encode(bytes),
    }
}
