//! What a warehouse remembers, for operators: events in the order of arrival, and all that is known
//! of one order.
//!
//! Owns the statements for that, one text for every store, and the columns of their answers; a
//! store runs them ([`History::read`]). In a statement `{schema}.` stands for where the tables are,
//! `$1` for a parameter, and `{elements}` for the elements of the JSON list `$1` as `e.value`.
//! Reads only; what a replay applies again goes through [`super::Warehouse::load`].

use async_trait::async_trait;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

use super::WarehouseError;
use crate::event::{EventRecord, InvalidJson, OrderEvent, Provenance, Text, json};

/// A row of `order_events`, but for what the payload says better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its id.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// `shopify`, `batch`, or what a producer wrote.
    pub source: Option<String>,
    /// Shop; `''` where the event has none.
    pub shop: String,
    /// The order it is about.
    pub order_id: String,
    /// When it happened.
    pub occurred_at: OffsetDateTime,
    /// When its delivery was triggered.
    pub triggered_at: Option<OffsetDateTime>,
    /// When it was received.
    pub received_at: OffsetDateTime,
    /// When it was loaded.
    pub loaded_at: OffsetDateTime,
    /// Its entry.
    pub stream_id: String,
    /// The event's JSON.
    pub payload: String,
    /// Raw webhook topic.
    pub topic: Option<String>,
    /// Shopify's id of its delivery.
    pub webhook_id: Option<String>,
    /// Version of Shopify's API that its body had the form of.
    pub api_version: Option<String>,
}

impl StoredEvent {
    /// The event as a worker would hand it over. Its body stays where it is: a known event is not
    /// stored again.
    ///
    /// # Errors
    /// The payload is no event's, which nothing that was loaded by this program is.
    pub fn record(&self) -> Result<EventRecord<'_>, InvalidJson> {
        let mut event: OrderEvent<'_> = json::parse(self.payload.as_bytes())?;
        // A plain producer may have put them beside the payload only.
        if event.event_type.as_str().is_empty() {
            event.event_type = self.event_type.as_str().into();
        }
        if event.event_id.as_str().is_empty() {
            event.event_id = self.event_id.as_str().into();
        }
        if event.timestamp.is_missing() {
            event.timestamp = self.occurred_at.into();
        }
        Ok(EventRecord {
            event,
            payload: &self.payload,
            provenance: Provenance {
                source: self.source.as_deref().map(Text::from),
                shop: Some(self.shop.as_str()).filter(|shop| !shop.is_empty()).map(Text::from),
                topic: self.topic.as_deref().map(Text::from),
                webhook_id: self.webhook_id.as_deref().map(Text::from),
                api_version: self.api_version.as_deref().map(Text::from),
                ..Provenance::default()
            },
            triggered_at: self.triggered_at,
            stream_id: self.stream_id.clone(),
            received_at: self.received_at,
            raw: None,
            is_erased: false,
        })
    }

    /// Its place among all events.
    #[must_use]
    pub fn position(&self) -> EventPosition {
        EventPosition {
            received_at: self.received_at,
            event_id: self.event_id.clone(),
        }
    }
}

/// A place in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPosition {
    /// When it was received, to the microsecond.
    pub received_at: OffsetDateTime,
    /// Tells apart what came at the same time; empty is before all of that time.
    pub event_id: String,
}

/// The newest state of an order, as far as an operator needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderState {
    /// Shop; `''` where it is not known.
    pub shop: String,
    /// The order.
    pub order_id: String,
    /// What people call it.
    pub name: Option<String>,
    /// One word for where it stands.
    pub status: Option<String>,
    /// Order total, as it was written.
    pub total_amount: Option<String>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// Event that made this state; `None` where only a deletion is known.
    pub last_event_id: Option<String>,
    /// When the order came to be so: the event's `updated_at`, else its time. `None` where only a
    /// deletion is known.
    #[serde(with = "time::serde::rfc3339::option")]
    pub as_of: Option<OffsetDateTime>,
    /// When the order was deleted.
    #[serde(with = "time::serde::rfc3339::option")]
    pub deleted_at: Option<OffsetDateTime>,
}

/// What a row of `orders` is found by: shop and order.
pub type OrderKey = (String, String);

/// Columns of `order_events` that [`stored_event`] reads.
pub(super) const EVENT: &str = "SELECT event_id, event_type, source, shop, order_id, occurred_at, triggered_at, \
                                received_at, loaded_at, stream_id, CAST(payload AS text), topic, webhook_id, api_version \
                                FROM {schema}.order_events";
/// Columns of `orders` that [`order_state`] reads.
const ORDER: &str = "SELECT shop, order_id, name, status, CAST(total_amount AS text), currency, last_event_id, \
                     deleted_at, NULLIF(version_at, '-infinity') FROM {schema}.orders";

/// A value that a statement is run with.
#[derive(Debug, Clone, Copy)]
pub enum Param<'a> {
    /// Text or NULL.
    Text(Option<&'a str>),
    /// A time.
    Time(OffsetDateTime),
    /// A day.
    Day(Date),
    /// A number.
    Integer(i64),
}

impl<'a> Param<'a> {
    pub(super) fn text(text: &'a str) -> Self {
        Self::Text(Some(text))
    }

    pub(super) fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

/// A value of a row, as its store has it.
#[derive(Debug)]
pub enum Cell {
    /// NULL.
    Null,
    /// Text, or a time as RFC 3339.
    Text(String),
    /// A time.
    Time(OffsetDateTime),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A row of an answer, read column by column.
#[derive(Debug)]
pub struct Row(std::vec::IntoIter<Cell>);

impl Row {
    /// A row of these columns.
    #[must_use]
    pub fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter())
    }

    /// The next column; `None` for NULL and for what is no text.
    pub(super) fn text(&mut self) -> Option<String> {
        match self.0.next()? {
            Cell::Text(text) => Some(text),
            Cell::Null | Cell::Time(_) | Cell::Integer(_) | Cell::Bytes(_) => None,
        }
    }

    /// The next column; `None` for NULL and for what is no time.
    pub(super) fn time(&mut self) -> Option<OffsetDateTime> {
        match self.0.next()? {
            Cell::Time(at) => Some(at),
            Cell::Text(text) => OffsetDateTime::parse(&text, &Rfc3339).ok(),
            Cell::Null | Cell::Integer(_) | Cell::Bytes(_) => None,
        }
    }

    /// The next column; `None` for NULL and for what is no bytes.
    pub(super) fn bytes(&mut self) -> Option<Vec<u8>> {
        match self.0.next()? {
            Cell::Bytes(bytes) => Some(bytes),
            Cell::Null | Cell::Text(_) | Cell::Time(_) | Cell::Integer(_) => None,
        }
    }

    /// An amount in text, to the fourth decimal: the file's views answer floats.
    pub(super) fn amount(&mut self) -> Option<Decimal> {
        let text = self.text()?;
        let exact = text.parse().or_else(|_| Decimal::from_scientific(&text)).ok()?;
        Some(exact.round_dp(4).normalize())
    }

    /// The next column; `None` for NULL and for what is no number.
    pub(super) fn integer(&mut self) -> Option<i64> {
        match self.0.next()? {
            Cell::Integer(number) => Some(number),
            Cell::Null | Cell::Text(_) | Cell::Time(_) | Cell::Bytes(_) => None,
        }
    }
}

/// A row of [`EVENT`]; `None` where a column that is never NULL has no value of its type.
pub(super) fn stored_event(mut row: Row) -> Option<StoredEvent> {
    Some(StoredEvent {
        event_id: row.text()?,
        event_type: row.text()?,
        source: row.text(),
        shop: row.text()?,
        order_id: row.text()?,
        occurred_at: row.time()?,
        triggered_at: row.time(),
        received_at: row.time()?,
        loaded_at: row.time()?,
        stream_id: row.text()?,
        payload: row.text()?,
        topic: row.text(),
        webhook_id: row.text(),
        api_version: row.text(),
    })
}

/// A row of [`ORDER`].
fn order_state(mut row: Row) -> Option<OrderState> {
    Some(OrderState {
        shop: row.text()?,
        order_id: row.text()?,
        name: row.text(),
        status: row.text(),
        total_amount: row.text(),
        currency: row.text(),
        last_event_id: row.text(),
        deleted_at: row.time(),
        as_of: row.time(),
    })
}

/// What is said of a row that [`stored_event`] or [`order_state`] cannot read.
pub(super) const UNREADABLE: &str = "a stored row has no value, or one of another type, where one is always written: it \
                                     was changed by another program";

pub(super) fn each<T>(rows: Vec<Row>, read: fn(Row) -> Option<T>) -> Result<Vec<T>, WarehouseError> {
    let read = rows.into_iter().map(read).collect::<Option<_>>();
    read.ok_or_else(|| WarehouseError::Unusable(UNREADABLE.to_owned()))
}

/// Many values as one parameter.
pub(super) fn list(values: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(values).unwrap_or_default()
}

/// A warehouse as an operator reads it.
#[async_trait]
pub trait History: Send + Sync {
    /// Runs a statement of this module, bounded as a load is.
    async fn read(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, WarehouseError>;

    /// Events received after a position and before a time, in the order of arrival, at most
    /// `count`.
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
        let (from, id) = (Param::Time(after.received_at), Param::text(&after.event_id));
        let params = [from, id, Param::Time(before), Param::count(count)];
        each(self.read(&sql, &params).await?, stored_event)
    }

    /// When the first event was received from `from` on and before `before`; `None` where there is
    /// none.
    async fn first(
        &self,
        from: OffsetDateTime,
        before: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, WarehouseError> {
        let sql = "SELECT min(received_at) FROM {schema}.order_events WHERE received_at >= $1 AND received_at < $2";
        let found = self.read(sql, &[Param::Time(from), Param::Time(before)]).await?;
        Ok(found.into_iter().next().and_then(|mut row| row.time()))
    }

    /// When the last event before that time was received; `None` where there is none.
    async fn last(&self, before: OffsetDateTime) -> Result<Option<OffsetDateTime>, WarehouseError> {
        let sql = "SELECT max(received_at) FROM {schema}.order_events WHERE received_at < $1";
        let found = self.read(sql, &[Param::Time(before)]).await?;
        Ok(found.into_iter().next().and_then(|mut row| row.time()))
    }

    /// How many events were received after a position and before a time. Reads the whole of the
    /// index there, which may take longer than a statement may.
    async fn count(&self, after: &EventPosition, before: OffsetDateTime) -> Result<u64, WarehouseError> {
        let sql = "SELECT count(*) FROM {schema}.order_events \
                   WHERE received_at < $3 AND (received_at, event_id) > ($1, $2)";
        let (from, id) = (Param::Time(after.received_at), Param::text(&after.event_id));
        let counted = self.read(sql, &[from, id, Param::Time(before)]).await?;
        let count = counted.into_iter().next().and_then(|mut row| row.integer());
        Ok(count.unwrap_or_default().unsigned_abs())
    }

    /// The event of that id.
    async fn event(&self, event_id: &str) -> Result<Option<StoredEvent>, WarehouseError> {
        let sql = format!("{EVENT} WHERE event_id = $1");
        let found = each(self.read(&sql, &[Param::text(event_id)]).await?, stored_event)?;
        Ok(found.into_iter().next())
    }

    /// The event that was loaded from an entry of the stream, among those received from `from` on and
    /// before `before`: all of which are read.
    async fn event_of_entry(
        &self,
        stream_id: &str,
        from: OffsetDateTime,
        before: OffsetDateTime,
    ) -> Result<Option<StoredEvent>, WarehouseError> {
        let sql = format!("{EVENT} WHERE received_at >= $1 AND received_at < $2 AND stream_id = $3 LIMIT 1");
        let params = [Param::Time(from), Param::Time(before), Param::text(stream_id)];
        let found = each(self.read(&sql, &params).await?, stored_event)?;
        Ok(found.into_iter().next())
    }

    /// The newest events of an order, by when they happened, newest first; of that shop, or of all
    /// where none is named.
    async fn events_of(
        &self,
        order_id: &str,
        shop: Option<&str>,
        count: usize,
    ) -> Result<Vec<StoredEvent>, WarehouseError> {
        let sql = format!(
            "{EVENT} WHERE order_id = $1 AND (CAST($2 AS text) IS NULL OR shop = $2) \
             ORDER BY occurred_at DESC, event_id DESC LIMIT $3"
        );
        let params = [Param::text(order_id), Param::Text(shop), Param::count(count)];
        each(self.read(&sql, &params).await?, stored_event)
    }

    /// Orders that people call by that name, at most `count`.
    async fn orders_named(
        &self,
        name: &str,
        shop: Option<&str>,
        count: usize,
    ) -> Result<Vec<OrderState>, WarehouseError> {
        let sql = format!(
            "{ORDER} WHERE name = $1 AND (CAST($2 AS text) IS NULL OR shop = $2) ORDER BY shop, order_id LIMIT $3"
        );
        let params = [Param::text(name), Param::Text(shop), Param::count(count)];
        each(self.read(&sql, &params).await?, order_state)
    }

    /// The states of those orders that are known, in no order.
    async fn orders(&self, keys: &[OrderKey]) -> Result<Vec<OrderState>, WarehouseError> {
        let sql = format!("{ORDER} WHERE (shop, order_id) IN (SELECT e.value ->> 0, e.value ->> 1 FROM {{elements}})");
        each(self.read(&sql, &[Param::text(&list(keys))]).await?, order_state)
    }

    /// The ids among these that have a row, once for each row, in no order.
    async fn loaded(&self, event_ids: &[String]) -> Result<Vec<String>, WarehouseError> {
        let sql = "SELECT event_id FROM {schema}.order_events \
                   WHERE event_id IN (SELECT e.value ->> 0 FROM {elements})";
        let ids = Vec::from_iter(event_ids.iter().map(|id| [id]));
        each(self.read(sql, &[Param::text(&list(&ids))]).await?, |mut row| row.text())
    }
}
