//! Names and order of the fields, and the encoding of an event.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;

use super::raw::Raw;
use crate::event::{OrderEvent, Provenance};
use crate::stream::entry::Fields;

/// Every field that an entry of this program may have.
pub(in crate::stream) const FIELDS: [&str; 15] = [
    "event_type",
    "event_id",
    "timestamp",
    "payload",
    "received_at",
    "source",
    "shop",
    "topic",
    "webhook_id",
    "shopify_event_id",
    "triggered_at",
    "api_version",
    "traceparent",
    "raw",
    "raw_encoding",
];

/// Usual bytes of an entry's values beside the payload.
pub(super) const SMALL_VALUES: usize = 512;
/// Usual bytes of all values of an entry. A larger entry grows the buffer.
const USUAL_ENTRY: usize = 3072 + SMALL_VALUES;

/// The fields of an event's entry.
///
/// # Errors
/// Never in practice: an event always has a JSON form.
pub fn encode(
    event: &OrderEvent<'_>,
    provenance: &Provenance<'_>,
    raw: Option<Raw>,
) -> Result<Fields, serde_json::Error> {
    let mut values = EntryValues::with_capacity(USUAL_ENTRY);
    let mut fields = Fields(Vec::with_capacity(FIELDS.len()));
    fields.push("event_type", values.text(event.event_type.as_str()));
    fields.push("event_id", values.text(event.event_id.as_str()));
    fields.push("timestamp", values.text(event.timestamp.as_str()));
    fields.push("payload", values.json(event)?);
    push_provenance(&mut fields, &mut values, provenance);
    if let Some(raw) = raw {
        push_raw(&mut fields, raw);
    }
    Ok(fields)
}

/// Writes the values of one entry into one buffer, which they share.
pub(super) struct EntryValues(BytesMut);

impl EntryValues {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    pub(super) fn text(&mut self, text: &str) -> Bytes {
        self.0.extend_from_slice(text.as_bytes());
        self.0.split().freeze()
    }

    fn json(&mut self, value: &impl Serialize) -> Result<Bytes, serde_json::Error> {
        serde_json::to_writer((&mut self.0).writer(), value)?;
        Ok(self.0.split().freeze())
    }
}

pub(super) fn push_provenance(fields: &mut Fields, values: &mut EntryValues, provenance: &Provenance<'_>) {
    for (name, text) in [
        ("received_at", &provenance.received_at),
        ("source", &provenance.source),
        ("shop", &provenance.shop),
        ("topic", &provenance.topic),
        ("webhook_id", &provenance.webhook_id),
        ("shopify_event_id", &provenance.shopify_event_id),
        ("triggered_at", &provenance.triggered_at),
        ("api_version", &provenance.api_version),
        ("traceparent", &provenance.traceparent),
    ] {
        if let Some(text) = text {
            fields.push(name, values.text(text.as_str()));
        }
    }
}

/// Appends a kept body.
pub fn push_raw(fields: &mut Fields, raw: Raw) {
    fields.push("raw", raw.text);
    fields.push("raw_encoding", raw.encoding);
}
