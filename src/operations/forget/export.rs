//! All that is held of a customer, as the stores hold it: the answer to a request for it, or a record
//! of what is about to be forgotten.
//!
//! The walk is that of the run that forgets, and changes nothing. What it answers is personal: it goes
//! to whoever asks, with the admin token, and to no log.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::person::Person;
use super::{ForgetRequest, ForgetRest, ForgetStep};
use crate::ingest::SpooledEntry;
use crate::operations::api::{Carrier, Operation, or_null};
use crate::operations::context::{Operations, OperationsError};
use crate::operations::entry_view::{body, shown};
use crate::operations::history::TimeSpan;
use crate::stream::codec::Unpacker;
use crate::stream::{Destination, Entry};
use crate::warehouse::people::{People as _, PersonQuery};

/// Rows of `order_events` that one step looks through; their bodies may have some MiB each.
const ROWS: usize = 1000;

/// Asks for a step of an export of what is held of a customer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportPerson {
    /// The customer's id.
    pub customer: String,
    /// The shop; only where several shops know that id, or no order names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shop: Option<String>,
    /// Further orders of the customer, beside those that a privacy request names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<String>,
    /// The `next` of the step before; without it, an export begins.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub next: Option<ForgetRest>,
}

/// One step of an export.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PersonExport {
    /// What it found.
    pub records: Vec<HeldRecord>,
    /// What is left of the export; null at its end.
    pub next: Option<ForgetRest>,
}

/// A row, an entry or a dead letter.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldRecord {
    /// `orders`, `order_items`, `order_events`, `stream`, `dead_letters` or `spool`.
    pub store: String,
    /// Id there: of an order, an event or an entry.
    pub id: String,
    /// The event, or what a row says of the person; text where it is no JSON, null where there is only a
    /// body.
    pub content: Box<RawValue>,
    /// The body that is kept beside it; base64 where it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl HeldRecord {
    fn new(store: &str, id: String, content: Option<String>, body: Option<&[u8]>) -> Self {
        let json = |text: String| RawValue::from_string(text.clone()).or_else(|_| to_raw_value(&text));
        let content = content.and_then(|text| json(text).ok());
        Self {
            store: store.to_owned(),
            id,
            content: content.unwrap_or_else(|| RawValue::NULL.to_owned()),
            body: body.map(|body| shown(body, usize::MAX).0),
        }
    }

    fn of_entry(store: &str, entry: &Entry, body_limit: usize) -> Self {
        let payload = entry.fields.get("payload");
        let content = payload.map(|payload| shown(payload, usize::MAX).0);
        Self::new(store, entry.id.to_string(), content, body(entry, body_limit).as_deref())
    }
}

impl Operation for ExportPerson {
    type Answer = PersonExport;
    const PATH: &'static str = "/api/forget/export";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<PersonExport, OperationsError> {
        let request = ForgetRequest {
            customer: Some(self.customer),
            shop: self.shop,
            orders: self.orders,
            verify: true,
            next: self.next,
        };
        request.validate()?;
        let this = operations.clone();
        operations
            .run_step(async move { this.export_step(request).await })
            .await
    }
}

impl Operations {
    async fn export_step(&self, request: ForgetRequest) -> Result<PersonExport, OperationsError> {
        let Some(mut rest) = request.next.clone() else {
            let rest = self.begin_forgetting(&request, &mut ForgetStep::default()).await?;
            self.record("forget", &format!("an export of a customer of {}", rest.shop), 0, 0)
                .await;
            let records = self.held_rows(&rest).await?;
            return Ok(PersonExport {
                records,
                next: Some(rest),
            });
        };
        let person = Person {
            shop: rest.shop.clone(),
            customer: request.customer,
            orders: rest.orders.clone(),
        };
        let entries = |store, found: Vec<Entry>| {
            let records = found
                .iter()
                .map(|entry| HeldRecord::of_entry(store, entry, self.body_limit));
            Vec::from_iter(records)
        };
        let records = if let Some(span) = rest.stored.take() {
            let (records, left) = self.held_events(&person, span).await?;
            rest.stored = left;
            records
        } else if let Some(range) = rest.stream.take() {
            let (found, left) = self.about(&person, Destination::Stream, range).await?;
            rest.stream = left;
            entries("stream", found)
        } else if let Some(range) = rest.dead_letters.take() {
            let (found, left) = self.about(&person, Destination::DeadLetters, range).await?;
            rest.dead_letters = left;
            entries("dead_letters", found)
        } else {
            let found = self.spooled_entries(person).await?;
            return Ok(PersonExport {
                records: entries("spool", found),
                next: None,
            });
        };
        Ok(PersonExport {
            records,
            next: Some(rest),
        })
    }

    /// What `orders` and `order_items` say of the person.
    async fn held_rows(&self, rest: &ForgetRest) -> Result<Vec<HeldRecord>, OperationsError> {
        let keys = Vec::from_iter(rest.orders.iter().map(|order| (rest.shop.clone(), order.clone())));
        let rows = self.warehouse()?.rows_about(&keys).await?;
        let record = |(table, order, row)| HeldRecord::new(table, order, Some(row), None);
        Ok(rows.into_iter().map(record).collect())
    }

    async fn held_events(
        &self,
        person: &Person,
        span: TimeSpan,
    ) -> Result<(Vec<HeldRecord>, Option<TimeSpan>), OperationsError> {
        let warehouse = self.warehouse()?;
        let query = PersonQuery {
            shop: &person.shop,
            customer_id: person.customer.as_deref(),
            order_ids: &person.orders,
        };
        let (events, end) = warehouse.events_about(query, &span.place()?, span.before, ROWS).await?;
        let ids = Vec::from_iter(events.iter().map(|event| event.event_id.clone()));
        let bodies = warehouse.bodies(&ids).await?;
        let mut unpacker = Unpacker::default();
        let records = events.into_iter().map(|event| {
            let packed = bodies.get(&event.event_id);
            let body = packed.map(|packed| {
                unpacker
                    .unpack_frame(packed, self.body_limit)
                    .unwrap_or_else(|_| packed.clone())
            });
            HeldRecord::new("order_events", event.event_id, Some(event.payload), body.as_deref())
        });
        let records = records.collect();
        let left = end.map(|end| TimeSpan {
            after: end.received_at,
            event_id: end.event_id,
            ..span
        });
        Ok((records, left))
    }

    pub(super) async fn spooled_entries(&self, person: Person) -> Result<Vec<Entry>, OperationsError> {
        let Some(spool) = &self.spool else {
            return Ok(Vec::new());
        };
        let body_limit = self.body_limit;
        let gather = move |found: &mut Vec<Entry>, spooled: SpooledEntry| {
            if person.is_in(&spooled.entry, body_limit) {
                found.push(spooled.entry);
            }
            ControlFlow::Continue(())
        };
        Ok(spool.scan(Vec::new(), gather).await?)
    }
}
