//! What operators read.

use async_trait::async_trait;
use rusqlite::types::{Type, Value};
use rusqlite::{Row, params_from_iter};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::EmbeddedWarehouse;
use super::columns::instant;
use crate::warehouse::WarehouseError;
use crate::warehouse::history::{EventPosition, History, OrderKey, OrderState, StoredEvent};

pub(super) const EVENT: &str = "SELECT event_id, event_type, source, shop, order_id, occurred_at, triggered_at, received_at, \
                     loaded_at, stream_id, payload FROM order_events";
const ORDER: &str = "SELECT shop, order_id, name, status, total_amount, currency, last_event_id, deleted_at, \
                     NULLIF(version_at, '-infinity') FROM orders";

impl EmbeddedWarehouse {
    /// Rows of a statement.
    async fn read<T: Send + 'static>(
        &self,
        sql: String,
        params: Vec<Value>,
        row: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, WarehouseError> {
        let rows = self.file.run(move |connection| {
            let mut query = connection.prepare(&sql)?;
            let rows = query.query_map(params_from_iter(params), row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        });
        rows.await.map_err(|failure| failure.at(self.path()))
    }
}

#[async_trait]
impl History for EmbeddedWarehouse {
    async fn events(
        &self,
        after: &EventPosition,
        before: OffsetDateTime,
        count: usize,
    ) -> Result<Vec<StoredEvent>, WarehouseError> {
        let sql = format!(
            "{EVENT} WHERE received_at < ?3 AND (received_at, event_id) > (?1, ?2) \
             ORDER BY received_at, event_id LIMIT ?4"
        );
        let params = vec![at(after.received_at), text(&after.event_id), at(before), limit(count)];
        self.read(sql, params, event).await
    }

    async fn first(
        &self,
        from: OffsetDateTime,
        before: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, WarehouseError> {
        let sql = "SELECT min(received_at) FROM order_events WHERE received_at >= ?1 AND received_at < ?2";
        let params = vec![at(from), at(before)];
        let found = self.read(sql.to_owned(), params, |row| time(row, 0)).await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn last(&self, before: OffsetDateTime) -> Result<Option<OffsetDateTime>, WarehouseError> {
        let sql = "SELECT max(received_at) FROM order_events WHERE received_at < ?1";
        let found = self.read(sql.to_owned(), vec![at(before)], |row| time(row, 0)).await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn count(&self, after: &EventPosition, before: OffsetDateTime) -> Result<u64, WarehouseError> {
        let sql = "SELECT count(*) FROM order_events WHERE received_at < ?3 AND (received_at, event_id) > (?1, ?2)";
        let params = vec![at(after.received_at), text(&after.event_id), at(before)];
        let counted = self.read(sql.to_owned(), params, |row| row.get::<_, i64>(0)).await?;
        Ok(counted.first().map_or(0, |count| count.unsigned_abs()))
    }

    async fn event(&self, event_id: &str) -> Result<Option<StoredEvent>, WarehouseError> {
        let sql = format!("{EVENT} WHERE event_id = ?1");
        let found = self.read(sql, vec![text(event_id)], event).await?;
        Ok(found.into_iter().next())
    }

    async fn events_of(
        &self,
        order_id: &str,
        shop: Option<&str>,
        count: usize,
    ) -> Result<Vec<StoredEvent>, WarehouseError> {
        let sql = format!(
            "{EVENT} WHERE order_id = ?1 AND (?2 IS NULL OR shop = ?2) \
             ORDER BY occurred_at DESC, event_id DESC LIMIT ?3"
        );
        let params = vec![text(order_id), shop.map_or(Value::Null, text), limit(count)];
        self.read(sql, params, event).await
    }

    async fn orders_named(
        &self,
        name: &str,
        shop: Option<&str>,
        count: usize,
    ) -> Result<Vec<OrderState>, WarehouseError> {
        let sql = format!("{ORDER} WHERE name = ?1 AND (?2 IS NULL OR shop = ?2) ORDER BY shop, order_id LIMIT ?3");
        let params = vec![text(name), shop.map_or(Value::Null, text), limit(count)];
        self.read(sql, params, order).await
    }

    async fn orders(&self, keys: &[OrderKey]) -> Result<Vec<OrderState>, WarehouseError> {
        let sql = format!("{ORDER} WHERE (shop, order_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))");
        self.read(sql, vec![list(keys)], order).await
    }

    async fn loaded(&self, event_ids: &[String]) -> Result<Vec<String>, WarehouseError> {
        let sql = "SELECT event_id FROM order_events WHERE event_id IN (SELECT value FROM json_each(?1))";
        self.read(sql.to_owned(), vec![list(event_ids)], |row| row.get(0)).await
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Many values as one parameter.
fn list(values: &(impl Serialize + ?Sized)) -> Value {
    Value::Text(serde_json::to_string(values).unwrap_or_default())
}

/// A time that no row can have is beyond all of them.
fn at(at: OffsetDateTime) -> Value {
    instant(at).unwrap_or_else(|| Value::Text("~".to_owned()))
}

fn limit(count: usize) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<OffsetDateTime>> {
    let text: Option<String> = row.get(column)?;
    let parsed = text.map(|text| OffsetDateTime::parse(&text, &Rfc3339)).transpose();
    parsed.map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// A time that is always there.
fn known_time(row: &Row<'_>, column: usize) -> rusqlite::Result<OffsetDateTime> {
    time(row, column)?.ok_or_else(|| rusqlite::Error::InvalidColumnType(column, String::new(), Type::Null))
}

pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        event_id: row.get(0)?,
        event_type: row.get(1)?,
        source: row.get(2)?,
        shop: row.get(3)?,
        order_id: row.get(4)?,
        occurred_at: known_time(row, 5)?,
        triggered_at: time(row, 6)?,
        received_at: known_time(row, 7)?,
        loaded_at: known_time(row, 8)?,
        stream_id: row.get(9)?,
        payload: row.get(10)?,
    })
}

fn order(row: &Row<'_>) -> rusqlite::Result<OrderState> {
    Ok(OrderState {
        shop: row.get(0)?,
        order_id: row.get(1)?,
        name: row.get(2)?,
        status: row.get(3)?,
        total_amount: row.get(4)?,
        currency: row.get(5)?,
        last_event_id: row.get(6)?,
        deleted_at: time(row, 7)?,
        as_of: time(row, 8)?,
    })
}
