//! Runs what operators read.

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, Params, params_from_iter};

use super::EmbeddedWarehouse;
use super::columns::instant;
use super::error::WarehouseFileError;
use crate::warehouse::WarehouseError;
use crate::warehouse::history::{Cell, History, Param, Row};
use crate::warehouse::reconciliations::ReconciliationRecord;

#[async_trait]
impl History for EmbeddedWarehouse {
    async fn read(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, WarehouseError> {
        let sql = dialect(sql);
        let params = Vec::from_iter(params.iter().map(bind));
        let rows = self
            .file
            .run(move |connection| rows(connection, &sql, params_from_iter(params)));
        rows.await.map_err(|failure| failure.at(self.path()))
    }
}

#[async_trait]
impl ReconciliationRecord for EmbeddedWarehouse {
    async fn write(&self, sql: &str, params: &[Param<'_>]) -> Result<u64, WarehouseError> {
        let sql = dialect(sql);
        let params = Vec::from_iter(params.iter().map(bind));
        let written = self
            .file
            .run(move |connection| Ok(connection.execute(&sql, params_from_iter(params))? as u64));
        written.await.map_err(|failure| failure.at(self.path()))
    }
}

/// A statement of [`crate::warehouse::history`] as SQLite takes it.
pub(super) fn dialect(sql: &str) -> String {
    let sql = sql.replace("{schema}.", "").replace("{elements}", "json_each($1) AS e");
    sql.replace('$', "?")
}

/// What the statement answers.
pub(super) fn rows(connection: &Connection, sql: &str, params: impl Params) -> Result<Vec<Row>, WarehouseFileError> {
    let mut query = connection.prepare_cached(sql)?;
    let columns = query.column_count();
    let cell = |value: Value| match value {
        Value::Text(text) => Cell::Text(text),
        Value::Integer(number) => Cell::Integer(number),
        Value::Blob(bytes) => Cell::Bytes(bytes),
        // No statement asks for a float.
        Value::Null | Value::Real(_) => Cell::Null,
    };
    let rows = query.query_map(params, |row| {
        let cells = (0..columns).map(|place| Ok(cell(row.get(place)?)));
        Ok(Row::new(cells.collect::<rusqlite::Result<_>>()?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn bind(param: &Param<'_>) -> Value {
    match *param {
        Param::Text(text) => text.map_or(Value::Null, |text| Value::Text(text.to_owned())),
        // A time that no row can have is beyond all of them.
        Param::Time(at) => instant(at).unwrap_or_else(|| Value::Text("~".to_owned())),
        Param::Day(day) => Value::Text(day.to_string()),
        Param::Integer(number) => Value::Integer(number),
    }
}
