//! What a warehouse remembers, for operators: events in the order of arrival, and all that is known of one order.
//!
//! Owns the words for that. Reads only; what a replay applies again goes through [`super::Warehouse::load`].

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

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
    /// When the stream took it.
    pub received_at: OffsetDateTime,
    /// When it was loaded.
    pub loaded_at: OffsetDateTime,
    /// Its entry.
    pub stream_id: String,
    /// The event's JSON.
    pub payload: String,
}

impl StoredEvent {
    /// The event as a worker would hand it over. Its body stays where it is: a known event is not stored again.
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
                ..Provenance::default()
            },
            triggered_at: self.triggered_at,
            stream_id: self.stream_id.clone(),
            received_at: self.received_at,
            raw: None,
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
    /// When the stream took it, to the microsecond.
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
    /// When the order came to be so: the event's `updated_at`, else its time. `None` where only a deletion is known.
    #[serde(with = "time::serde::rfc3339::option")]
    pub as_of: Option<OffsetDateTime>,
    /// When the order was deleted.
    #[serde(with = "time::serde::rfc3339::option")]
    pub deleted_at: Option<OffsetDateTime>,
}

/// What a row of `orders` is found by: shop and order.
pub type OrderKey = (String, String);

/// A warehouse as an operator reads it.
#[async_trait]
pub trait History: Send + Sync {
    /// Events received after a place and before a time, in the order of arrival, at most `count`.
    async fn events(
        &self,
        after: &EventPosition,
        before: OffsetDateTime,
        count: usize,
    ) -> Result<Vec<StoredEvent>, WarehouseError>;

    /// When the first event was received from `from` on and before `before`; `None` where there is none.
    async fn first(
        &self,
        from: OffsetDateTime,
        before: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, WarehouseError>;

    /// When the last event before that time was received; `None` where there is none.
    async fn last(&self, before: OffsetDateTime) -> Result<Option<OffsetDateTime>, WarehouseError>;

    /// How many events were received after a place and before a time. Reads the whole of the index there, which may take
    /// longer than a statement may.
    async fn count(&self, after: &EventPosition, before: OffsetDateTime) -> Result<u64, WarehouseError>;

    /// The event of that id.
    async fn event(&self, event_id: &str) -> Result<Option<StoredEvent>, WarehouseError>;

    /// The newest events of an order, by when they happened, newest first; of that shop, or of all where none is named.
    async fn events_of(
        &self,
        order_id: &str,
        shop: Option<&str>,
        count: usize,
    ) -> Result<Vec<StoredEvent>, WarehouseError>;

    /// Orders that people call by that name, at most `count`.
    async fn orders_named(
        &self,
        name: &str,
        shop: Option<&str>,
        count: usize,
    ) -> Result<Vec<OrderState>, WarehouseError>;

    /// The states of those orders that are known, in no order.
    async fn orders(&self, keys: &[OrderKey]) -> Result<Vec<OrderState>, WarehouseError>;

    /// The ids among these that have a row, once for each row, in no order.
    async fn loaded(&self, event_ids: &[String]) -> Result<Vec<String>, WarehouseError>;
}
