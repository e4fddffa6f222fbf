//! Runs what operators read. Statements are unnamed and bounded as a load is.

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_postgres::types::Type;

use super::columns;
use super::error::PostgresError;
use super::{Pool, PostgresWarehouse, call_limit, load};
use crate::warehouse::WarehouseError;
use crate::warehouse::history::{Cell, History, Param, Row, StoredEvent, UNREADABLE, stored_event};
use crate::warehouse::reconciliations::ReconciliationRecord;

#[async_trait]
impl History for PostgresWarehouse {
    async fn read(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, WarehouseError> {
        let pools = self.pools.load_full();
        let rows = self.try_read(&pools.pool, &self.schema.sql(sql), params).await;
        rows.map_err(|failure| failure.at(pools.pool.server()))
    }
}

#[async_trait]
impl ReconciliationRecord for PostgresWarehouse {
    async fn write(&self, sql: &str, params: &[Param<'_>]) -> Result<u64, WarehouseError> {
        let pools = self.pools.load_full();
        let written = self.try_write(&pools.pool, &self.schema.sql(sql), params).await;
        written.map_err(|failure| failure.at(pools.pool.server()))
    }
}

impl PostgresWarehouse {
    async fn try_write(&self, pool: &Pool, sql: &str, params: &[Param<'_>]) -> Result<u64, PostgresError> {
        let statement_timeout = self.config.statement_timeout;
        let limit = call_limit(statement_timeout);
        let limits = load::session_limits(statement_timeout);
        let params: Vec<columns::SqlParam<'_>> = params.iter().map(bind).collect();
        let mut connection = pool.get().await?;
        let writing = async {
            let transaction = connection.build_transaction().read_only(false).start().await?;
            transaction.batch_execute(&limits).await?;
            let rows = transaction.execute_typed(sql, &params).await?;
            transaction.commit().await?;
            Ok(rows)
        };
        let outcome = timeout(limit, writing).await;
        self.settle(connection, limit, outcome)
    }

    async fn try_read(&self, pool: &Pool, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, PostgresError> {
        let statement_timeout = self.config.statement_timeout;
        let limit = call_limit(statement_timeout);
        let limits = load::session_limits(statement_timeout);
        let params: Vec<columns::SqlParam<'_>> = params.iter().map(bind).collect();
        let mut connection = pool.get().await?;
        let reading = async {
            let transaction = connection.build_transaction().read_only(true).start().await?;
            transaction.batch_execute(&limits).await?;
            let rows = transaction.query_typed(sql, &params).await?;
            transaction.commit().await?;
            Ok(rows.iter().map(row).collect::<Result<_, _>>()?)
        };
        let outcome = timeout(limit, reading).await;
        self.settle(connection, limit, outcome)
    }
}

fn bind<'a>(param: &'a Param<'_>) -> columns::SqlParam<'a> {
    match param {
        Param::Text(text) => (text, Type::TEXT),
        Param::Time(at) => (at, Type::TIMESTAMPTZ),
        Param::Day(day) => (day, Type::DATE),
        Param::Integer(number) => (number, Type::INT8),
    }
}

fn row(row: &tokio_postgres::Row) -> Result<Row, tokio_postgres::Error> {
    let cells = row.columns().iter().enumerate().map(|(place, column)| {
        let cell = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<_>>(place)?.map(Cell::Integer),
            Type::BYTEA => row.try_get::<_, Option<_>>(place)?.map(Cell::Bytes),
            Type::TIMESTAMPTZ => row.try_get::<_, Option<_>>(place)?.map(Cell::Time),
            _ => row.try_get::<_, Option<_>>(place)?.map(Cell::Text),
        };
        Ok(cell.unwrap_or(Cell::Null))
    });
    Ok(Row::new(cells.collect::<Result<_, tokio_postgres::Error>>()?))
}

/// Events out of rows of [`crate::warehouse::history::EVENT`].
pub(super) fn events(rows: &[tokio_postgres::Row]) -> Result<Vec<StoredEvent>, PostgresError> {
    let rows = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    let events = rows.into_iter().map(stored_event).collect::<Option<_>>();
    events.ok_or_else(|| PostgresError::Operator(UNREADABLE.to_owned()))
}
