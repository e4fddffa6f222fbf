//! Appends events of a shop's history, which yields to webhooks.
//!
//! Nothing is appended while the backlog is above a quarter of the stream's cap, or while this node's
//! spool holds anything: what happens now comes first. The ids are not remembered for dedupe (10
//! million orders would take 2.5 GB of Redis); a repeated event is recognized when it is loaded.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::api::{Carrier, Operation};
use super::context::{Operations, OperationsError};
use crate::event::{OrderEvent, Provenance, Timestamp, json, validate};
use crate::stream::{Appended, Destination, NewEntry, codec, spread};

/// Events of one request.
pub const MOST_EVENTS: usize = 200;
/// Bytes of the events of one request, which the escapes of JSON within JSON make larger.
pub const MOST_BYTES: usize = 256 * 1024;

/// Asks for events to be appended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// Events of type `order.imported`, as JSON.
    pub events: Vec<String>,
}

/// What was appended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ImportStep {
    /// All of the request, or none.
    pub appended: u64,
    /// Why nothing was appended; the request is then to be repeated.
    pub waits: Option<String>,
}

impl Operation for ImportRequest {
    type Answer = ImportStep;
    const PATH: &'static str = "/api/import";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<ImportStep, OperationsError> {
        if self.events.is_empty() || self.events.len() > MOST_EVENTS {
            return Err(OperationsError::Invalid("give from 1 to 200 events"));
        }
        let entries = self.events.iter().map(|event| entry(event));
        let entries = entries.collect::<Result<Vec<NewEntry>, _>>()?;
        let this = operations.clone();
        operations.run_step(async move { this.import(&entries).await }).await
    }
}

impl Operations {
    async fn import(&self, entries: &[NewEntry]) -> Result<ImportStep, OperationsError> {
        let waits = |why: &str| ImportStep {
            appended: 0,
            waits: Some(why.to_owned()),
        };
        if self.has_spooled().await? {
            return Ok(waits("the spool of this node holds events that come first"));
        }
        if !self.stream.report().await?.has_room_for_history() {
            return Ok(waits("the backlog is above a quarter of ORDERSTREAM_STREAM_MAXLEN"));
        }
        let appended = self.stream.plain_writer().append(entries).await;
        Appended::answered(&appended)?;
        if appended.iter().all(|one| matches!(one, Appended::Accepted(_))) {
            return Ok(ImportStep {
                appended: entries.len() as u64,
                waits: None,
            });
        }
        Ok(waits("the stream did not take all of it"))
    }

    async fn has_spooled(&self) -> Result<bool, OperationsError> {
        let Some(spool) = &self.spool else { return Ok(false) };
        let found = spool.scan(false, |found, _| {
            *found = true;
            ControlFlow::Break(())
        });
        Ok(found.await?)
    }
}

fn entry(payload: &str) -> Result<NewEntry, OperationsError> {
    let invalid = OperationsError::Invalid("an event is not one of type order.imported, or not valid");
    let event: Option<OrderEvent<'_>> = json::parse(payload.as_bytes()).ok();
    let event = event.filter(|event| event.event_type.as_str() == "order.imported" && validate(event).is_ok());
    let Some(event) = event else { return Err(invalid) };
    let provenance = Provenance {
        source: Some("import".into()),
        shop: event.shop.clone(),
        received_at: Some(Timestamp::from(OffsetDateTime::now_utc()).into_text()),
        ..Provenance::default()
    };
    let fields = codec::encode(&event, &provenance, None).map_err(|_| invalid)?;
    Ok(NewEntry {
        destination: Destination::Stream,
        dedupe_key: event.event_id.as_str().to_owned(),
        digest: [0; 16],
        spread: spread(&event),
        fields,
    })
}
