//! What the warehouse has of an entry that the stream may no longer have.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::api::{Carrier, Operation};
use super::context::{Operations, OperationsError};
use crate::stream::StreamId;

/// Bounds the search, whose index is that of `received_at`: how long before its append the delivery of
/// an entry was received, at most, and how far the clocks of process and store may be apart. One that
/// was spooled for longer is not found.
const AROUND: Duration = Duration::seconds(10);

/// Asks for the event that was loaded from an entry.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GetLoadedEntry {
    /// The entry's id.
    pub id: StreamId,
}

/// An event that was loaded from an entry.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoadedEntry {
    /// Its id.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Its shop; empty where it has none.
    pub shop: String,
    /// The order it is about.
    pub order_id: String,
    /// When it was received.
    #[serde(with = "time::serde::rfc3339")]
    pub received_at: OffsetDateTime,
    /// When it was loaded.
    #[serde(with = "time::serde::rfc3339")]
    pub loaded_at: OffsetDateTime,
}

impl Operation for GetLoadedEntry {
    type Answer = LoadedEntry;
    const PATH: &'static str = "/api/loaded/{id}";
    const CARRIER: Carrier = Carrier::Path;

    async fn run(self, operations: &Operations) -> Result<LoadedEntry, OperationsError> {
        let _permit = operations.read_permit().await?;
        let absent = || OperationsError::NotFound("event in the warehouse");
        let nanoseconds = i128::from(self.id.ms) * 1_000_000;
        let appended = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).map_err(|_| absent())?;
        let begin = appended.checked_sub(AROUND).ok_or_else(absent)?;
        let end = appended.checked_add(AROUND).ok_or_else(absent)?;
        let warehouse = operations.warehouse()?;
        let found = warehouse.event_of_entry(&self.id.to_string(), begin, end).await?;
        let event = found.ok_or_else(absent)?;
        Ok(LoadedEntry {
            event_id: event.event_id,
            event_type: event.event_type,
            shop: event.shop,
            order_id: event.order_id,
            received_at: event.received_at,
            loaded_at: event.loaded_at,
        })
    }
}
