//! Decoding of an entry.

use std::borrow::Cow;

use time::OffsetDateTime;

use super::raw::compressed;
use crate::event::{
    EventRecord, InvalidEvent, InvalidJson, OrderEvent, Provenance, Text, Timestamp, json, validate_storable,
};
use crate::stream::entry::{Entry, StreamId};

/// Why an entry is poison: only a change of the entry can help. Names fields, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The entry has no such field.
    #[error("the entry has no field `{0}`")]
    Missing(&'static str),
    /// A field is not text.
    #[error("the entry's field `{0}` is not UTF-8")]
    NotText(&'static str),
    /// `timestamp` beside a payload without one.
    #[error("the entry's field `timestamp` is not a point in time")]
    Timestamp,
    /// The payload is no event's JSON.
    #[error("the entry's payload cannot be read: {0}")]
    Payload(#[from] InvalidJson),
    /// The event lacks what it cannot be stored without, or a field is out of bounds.
    #[error("the entry's event is not valid: {0}")]
    Invalid(#[from] InvalidEvent),
}

/// Replaces characters of the payload that no warehouse can store by U+FFFD ([`json::mended`]):
/// PostgreSQL would refuse such an entry of another producer.
pub fn mend(entry: &mut Entry) {
    let payload = entry.fields.0.iter_mut().find(|(name, _)| name == "payload");
    if let Some((_, payload)) = payload
        && let Cow::Owned(mended) = json::mended(payload)
    {
        *payload = mended.into();
    }
}

/// Decodes an entry, ours or a plain producer's: type, id and time that the payload lacks come from
/// the entry's fields.
///
/// # Errors
/// The entry is poison.
pub fn decode(entry: &Entry) -> Result<EventRecord<'_>, DecodeError> {
    let payload = text(entry, "payload")?.ok_or(DecodeError::Missing("payload"))?;
    // No warehouse accepts JSON with a byte order mark.
    let payload = payload.strip_prefix('\u{FEFF}').unwrap_or(payload);
    let mut event: OrderEvent<'_> = json::parse(payload.as_bytes())?;
    if event.event_type.as_str().is_empty() {
        event.event_type = text(entry, "event_type")?.unwrap_or_default().into();
    }
    if event.event_id.as_str().is_empty() {
        event.event_id = text(entry, "event_id")?.unwrap_or_default().into();
    }
    if event.timestamp.is_missing() {
        let timestamp = text(entry, "timestamp")?.ok_or(DecodeError::Missing("timestamp"))?;
        event.timestamp = Timestamp::parse(timestamp.into()).map_err(|_| DecodeError::Timestamp)?;
    }
    validate_storable(&event)?;
    let provenance = Provenance {
        source: hint(entry, "source"),
        shop: hint(entry, "shop"),
        topic: hint(entry, "topic"),
        webhook_id: hint(entry, "webhook_id"),
        shopify_event_id: hint(entry, "shopify_event_id"),
        triggered_at: hint(entry, "triggered_at"),
        api_version: hint(entry, "api_version"),
        traceparent: hint(entry, "traceparent"),
        received_at: hint(entry, "received_at"),
    };
    let instant = |text: &Option<Text<'_>>| Some(Timestamp::parse(text.clone()?).ok()?.instant());
    let triggered_at = instant(&provenance.triggered_at);
    let received_at = instant(&provenance.received_at);
    let appended_at = appended_at(entry.id);
    Ok(EventRecord {
        event,
        payload,
        provenance,
        triggered_at,
        stream_id: entry.id.to_string(),
        received_at: received_at
            .filter(|at| (*at - appended_at).abs() > APPEND_WITHIN)
            .unwrap_or(appended_at),
        raw: entry
            .fields
            .get("raw")
            .map(|raw| compressed(raw, entry.fields.get("raw_encoding"))),
        is_erased: false,
    })
}

fn text<'a>(entry: &'a Entry, name: &'static str) -> Result<Option<&'a str>, DecodeError> {
    entry
        .fields
        .get(name)
        .map(|value| std::str::from_utf8(value).map_err(|_| DecodeError::NotText(name)))
        .transpose()
}

/// Longest time from the receipt to the append of an entry that was not spooled. Within it the entry's
/// id dates the entry: history goes from the warehouse over into the stream by the time in ids.
const APPEND_WITHIN: time::Duration = time::Duration::seconds(5);

/// Longest hint, in characters: the shop is part of keys.
const MAX_HINT: usize = 255;

/// An optional field: absent where it is unreadable, too long, or contains a NUL, which PostgreSQL
/// refuses.
fn hint<'a>(entry: &'a Entry, name: &'static str) -> Option<Text<'a>> {
    let text = text(entry, name).ok()??;
    let is_short = text.len() <= MAX_HINT || text.chars().count() <= MAX_HINT;
    (!text.is_empty() && is_short && !text.contains('\0')).then(|| text.into())
}

/// The time in an id; the epoch where a producer's own id is out of range.
#[must_use]
pub fn appended_at(id: StreamId) -> OffsetDateTime {
    i64::try_from(id.ms / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .map_or(OffsetDateTime::UNIX_EPOCH, |at| {
            at + time::Duration::milliseconds(i64::try_from(id.ms % 1000).unwrap_or_default())
        })
}
