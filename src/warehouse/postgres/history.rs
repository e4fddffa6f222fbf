//! What operators read. Statements are unnamed and bounded as a load is.

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::columns::Param;
use super::error::Failure;
use super::{PostgresWarehouse, call_limit, load};
use crate::warehouse::WarehouseError;
use crate::warehouse::history::{EventPosition, History, OrderKey, OrderState, StoredEvent};

pub(super) const EVENT: &str = "SELECT event_id, event_type, source, shop, order_id, occurred_at, triggered_at, received_at, \
                     loaded_at, stream_id, payload::text FROM {schema}.order_events";
const ORDER: &str = "SELECT shop, order_id, name, status, total_amount::text, currency, last_event_id, deleted_at, \
                     NULLIF(version_at, '-infinity') FROM {schema}.orders";

impl PostgresWarehouse {
    /// Rows of a statement.
    async fn read<T>(
        &self,
        sql: &str,
        params: &[Param<'_>],
        row: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<Vec<T>, WarehouseError> {
        let connections = self.connections.load_full();
        let sql = self.schema.sql(sql);
        let rows = self.try_read(&connections.pool, &sql, params).await;
        let rows = rows.and_then(|rows| Ok(rows.iter().map(row).collect::<Result<_, _>>()?));
        rows.map_err(|failure| failure.at(connections.pool.server()))
    }

    async fn try_read(&self, pool: &super::Pool, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        let statement_timeout = self.config.statement_timeout;
        let limit = call_limit(statement_timeout);
        let limits = load::session_limits(statement_timeout);
        let mut connection = pool.get().await?;
        let reading = async {
            let transaction = connection.build_transaction().read_only(true).start().await?;
            transaction.batch_execute(&limits).await?;
            let rows = transaction.query_typed(sql, params).await?;
            transaction.commit().await?;
            Ok(rows)
        };
        let outcome = timeout(limit, reading).await;
        self.settle(connection, limit, outcome)
    }
}

#[async_trait]
impl History for PostgresWarehouse {
    async fn events(
        &self,
        after: &EventPosition,
        before: OffsetDateTime,
        count: usize,
    ) -> Result<Vec<StoredEvent>, WarehouseError> {
        let sql = format!(
            "{EVENT} WHERE received_at < $3 AND (received_at, event_id) > ($1, $2) \
             ORDER BY received_at, event_id LIMIT $4"
        );
        let count = limit(count);
        let params: &[Param<'_>] = &[
            (&after.received_at, Type::TIMESTAMPTZ),
            (&after.event_id, Type::TEXT),
            (&before, Type::TIMESTAMPTZ),
            (&count, Type::INT8),
        ];
        self.read(&sql, params, event).await
    }

    async fn first(
        &self,
        from: OffsetDateTime,
        before: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, WarehouseError> {
        let sql = "SELECT min(received_at) FROM {schema}.order_events WHERE received_at >= $1 AND received_at < $2";
        let params: &[Param<'_>] = &[(&from, Type::TIMESTAMPTZ), (&before, Type::TIMESTAMPTZ)];
        let found = self.read(sql, params, |row| row.try_get(0)).await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn last(&self, before: OffsetDateTime) -> Result<Option<OffsetDateTime>, WarehouseError> {
        let sql = "SELECT max(received_at) FROM {schema}.order_events WHERE received_at < $1";
        let found = self
            .read(sql, &[(&before, Type::TIMESTAMPTZ)], |row| row.try_get(0))
            .await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn count(&self, after: &EventPosition, before: OffsetDateTime) -> Result<u64, WarehouseError> {
        let sql = "SELECT count(*) FROM {schema}.order_events \
                   WHERE received_at < $3 AND (received_at, event_id) > ($1, $2)";
        let params: &[Param<'_>] = &[
            (&after.received_at, Type::TIMESTAMPTZ),
            (&after.event_id, Type::TEXT),
            (&before, Type::TIMESTAMPTZ),
        ];
        let counted = self.read(sql, params, |row| row.try_get::<_, i64>(0)).await?;
        Ok(counted.first().map_or(0, |count| count.unsigned_abs()))
    }

    async fn event(&self, event_id: &str) -> Result<Option<StoredEvent>, WarehouseError> {
        let sql = format!("{EVENT} WHERE event_id = $1");
        let found = self.read(&sql, &[(&event_id, Type::TEXT)], event).await?;
        Ok(found.into_iter().next())
    }

    async fn events_of(
        &self,
        order_id: &str,
        shop: Option<&str>,
        count: usize,
    ) -> Result<Vec<StoredEvent>, WarehouseError> {
        let sql = format!(
            "{EVENT} WHERE order_id = $1 AND ($2::text IS NULL OR shop = $2) \
             ORDER BY occurred_at DESC, event_id DESC LIMIT $3"
        );
        let count = limit(count);
        let params: &[Param<'_>] = &[(&order_id, Type::TEXT), (&shop, Type::TEXT), (&count, Type::INT8)];
        self.read(&sql, params, event).await
    }

    async fn orders_named(
        &self,
        name: &str,
        shop: Option<&str>,
        count: usize,
    ) -> Result<Vec<OrderState>, WarehouseError> {
        let sql =
            format!("{ORDER} WHERE name = $1 AND ($2::text IS NULL OR shop = $2) ORDER BY shop, order_id LIMIT $3");
        let count = limit(count);
        let params: &[Param<'_>] = &[(&name, Type::TEXT), (&shop, Type::TEXT), (&count, Type::INT8)];
        self.read(&sql, params, order).await
    }

    async fn orders(&self, keys: &[OrderKey]) -> Result<Vec<OrderState>, WarehouseError> {
        let sql = format!("{ORDER} WHERE (shop, order_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))");
        let shops = Vec::from_iter(keys.iter().map(|(shop, _)| shop));
        let orders = Vec::from_iter(keys.iter().map(|(_, order)| order));
        let params: &[Param<'_>] = &[(&shops, Type::TEXT_ARRAY), (&orders, Type::TEXT_ARRAY)];
        self.read(&sql, params, order).await
    }

    async fn loaded(&self, event_ids: &[String]) -> Result<Vec<String>, WarehouseError> {
        let sql = "SELECT event_id FROM {schema}.order_events WHERE event_id = ANY($1)";
        self.read(sql, &[(&event_ids, Type::TEXT_ARRAY)], |row| row.try_get(0))
            .await
    }
}

fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn event(row: &Row) -> Result<StoredEvent, tokio_postgres::Error> {
    Ok(StoredEvent {
        event_id: row.try_get(0)?,
        event_type: row.try_get(1)?,
        source: row.try_get(2)?,
        shop: row.try_get(3)?,
        order_id: row.try_get(4)?,
        occurred_at: row.try_get(5)?,
        triggered_at: row.try_get(6)?,
        received_at: row.try_get(7)?,
        loaded_at: row.try_get(8)?,
        stream_id: row.try_get(9)?,
        payload: row.try_get(10)?,
    })
}

fn order(row: &Row) -> Result<OrderState, tokio_postgres::Error> {
    Ok(OrderState {
        shop: row.try_get(0)?,
        order_id: row.try_get(1)?,
        name: row.try_get(2)?,
        status: row.try_get(3)?,
        total_amount: row.try_get(4)?,
        currency: row.try_get(5)?,
        last_event_id: row.try_get(6)?,
        deleted_at: row.try_get(7)?,
        as_of: row.try_get(8)?,
    })
}
