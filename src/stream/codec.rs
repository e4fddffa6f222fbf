//! Entry fields ↔ event: the public format of the stream.
//!
//! Owns names and order of the fields (contract: the first four are what every reader and plain producer knows).
//! Pure. Invariant: decode(encode(x)) = x. Every field is UTF-8 text, `raw` included: a client that decodes replies
//! (redis-py with `decode_responses=True`) fails on a whole reply that holds one binary value.
//!
//! `raw` is a body, compressed and made text; `raw_encoding` lists what was done to it, in that order, and is
//! `zstd+base64` or `redacted+zstd+base64`. In Python: `zstandard.decompress(base64.b64decode(fields["raw"]))`.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use time::OffsetDateTime;

use super::{Entry, Fields, StreamId};
use crate::event::{
    EventRecord, InvalidEvent, InvalidJson, OrderEvent, Provenance, Text, Timestamp, json, validate_identity,
};

const WHOLE: &str = "zstd+base64";
const REDACTED: &str = "redacted+zstd+base64";

/// zstd's own default: orders shrink to a fifth in well under a millisecond.
const ZSTD_LEVEL: i32 = 3;

/// A body as it stands in an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    text: Bytes,
    encoding: &'static str,
}

impl Raw {
    /// Packs a body as it came.
    ///
    /// # Errors
    /// Where zstd cannot get memory.
    pub fn whole(body: &[u8]) -> io::Result<Self> {
        Self::pack(body, WHOLE)
    }

    /// Packs a body from which the personal fields are gone already.
    ///
    /// # Errors
    /// Where zstd cannot get memory.
    pub fn redacted(body: &[u8]) -> io::Result<Self> {
        Self::pack(body, REDACTED)
    }

    fn pack(body: &[u8], encoding: &'static str) -> io::Result<Self> {
        let packed = zstd::bulk::compress(body, ZSTD_LEVEL)?;
        Ok(Self {
            text: STANDARD.encode(packed).into(),
            encoding,
        })
    }
}

/// The body behind `raw` and `raw_encoding`, at most `limit` bytes of it.
///
/// # Errors
/// Where the encoding is not ours, the text is damaged, or the body is larger.
pub fn unpack(raw: &[u8], raw_encoding: &str, limit: usize) -> Result<Vec<u8>, UnpackError> {
    if ![WHOLE, REDACTED].contains(&raw_encoding) {
        return Err(UnpackError::Encoding);
    }
    let packed = STANDARD.decode(raw).map_err(|_| UnpackError::Damaged)?;
    zstd::bulk::decompress(&packed, limit).map_err(|_| UnpackError::Damaged)
}

/// Why a kept body cannot be had back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// Another program's, or a later version's.
    #[error("raw_encoding is neither zstd+base64 nor redacted+zstd+base64")]
    Encoding,
    /// Not what the encoding says, or too large.
    #[error("raw is damaged, or larger than the limit")]
    Damaged,
}

/// The fields of an event's entry.
///
/// # Errors
/// Never in practice: an event always has a JSON form.
pub fn encode(
    event: &OrderEvent<'_>,
    provenance: &Provenance<'_>,
    raw: Option<Raw>,
) -> Result<Fields, serde_json::Error> {
    let payload = serde_json::to_vec(event)?;
    let mut fields = Fields(Vec::with_capacity(14));
    push_text(&mut fields, "event_type", event.event_type.as_str());
    push_text(&mut fields, "event_id", event.event_id.as_str());
    push_text(&mut fields, "timestamp", event.timestamp.as_str());
    fields.push("payload", payload);
    push_provenance(&mut fields, provenance);
    push_raw(&mut fields, raw);
    Ok(fields)
}

/// A delivery that is dead-lettered at the door.
#[derive(Debug, Clone)]
pub struct Quarantine<'a> {
    /// `order.created`, where the topic is known.
    pub event_type: Option<&'a str>,
    /// The id that the event would have had.
    pub event_id: &'a str,
    /// When the delivery came.
    pub received_at: OffsetDateTime,
    /// Where it came from.
    pub provenance: &'a Provenance<'a>,
    /// The body as it came.
    pub raw: Raw,
    /// Why it cannot become an event; names no content.
    pub error: &'a str,
}

/// The fields of a dead letter that never was an entry: no `payload`, but the body; `original_*` are empty.
#[must_use]
pub fn quarantine_fields(letter: Quarantine<'_>) -> Fields {
    let received_at = Timestamp::from(letter.received_at);
    let mut fields = Fields(Vec::with_capacity(19));
    push_text(&mut fields, "event_type", letter.event_type.unwrap_or("unknown"));
    push_text(&mut fields, "event_id", letter.event_id);
    push_text(&mut fields, "timestamp", received_at.as_str());
    push_provenance(&mut fields, letter.provenance);
    push_raw(&mut fields, Some(letter.raw));
    push_text(&mut fields, "original_stream", "");
    push_text(&mut fields, "original_id", "");
    push_text(&mut fields, "failed_at", received_at.as_str());
    push_text(&mut fields, "error", letter.error);
    push_text(&mut fields, "attempts", "0");
    push_text(&mut fields, "consumer", "ingest");
    fields
}

fn push_text(fields: &mut Fields, name: &'static str, text: &str) {
    fields.push(name, Bytes::copy_from_slice(text.as_bytes()));
}

fn push_provenance(fields: &mut Fields, provenance: &Provenance<'_>) {
    for (name, text) in [
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
            push_text(fields, name, text.as_str());
        }
    }
}

fn push_raw(fields: &mut Fields, raw: Option<Raw>) {
    if let Some(raw) = raw {
        fields.push("raw", raw.text);
        fields.push("raw_encoding", raw.encoding);
    }
}

/// Why an entry is no event: poison, since nothing but a change of the entry can help. Names fields, never values.
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
    /// The event lacks what it cannot be stored without.
    #[error("the entry's event is not valid: {0}")]
    Invalid(#[from] InvalidEvent),
}

/// Reads an entry, ours or a plain producer's: where the payload lacks type, id or time, the entry's fields give them.
///
/// # Errors
/// The entry is poison.
pub fn decode(entry: &Entry) -> Result<EventRecord<'_>, DecodeError> {
    let payload = text(entry, "payload")?.ok_or(DecodeError::Missing("payload"))?;
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
    validate_identity(&event)?;
    let provenance = Provenance {
        source: hint(entry, "source"),
        shop: hint(entry, "shop"),
        topic: hint(entry, "topic"),
        webhook_id: hint(entry, "webhook_id"),
        shopify_event_id: hint(entry, "shopify_event_id"),
        triggered_at: hint(entry, "triggered_at"),
        api_version: hint(entry, "api_version"),
        traceparent: hint(entry, "traceparent"),
    };
    let triggered_at = provenance
        .triggered_at
        .clone()
        .and_then(|at| Timestamp::parse(at).ok())
        .map(|at| at.instant());
    Ok(EventRecord {
        event,
        payload,
        provenance,
        triggered_at,
        stream_id: entry.id.to_string(),
        received_at: appended_at(entry.id),
        raw: entry.fields.get("raw").map(AsRef::as_ref),
    })
}

fn text<'a>(entry: &'a Entry, name: &'static str) -> Result<Option<&'a str>, DecodeError> {
    entry
        .fields
        .get(name)
        .map(|value| std::str::from_utf8(value).map_err(|_| DecodeError::NotText(name)))
        .transpose()
}

/// A field that nobody depends on: unreadable is absent, and so is a NUL, which PostgreSQL refuses.
fn hint<'a>(entry: &'a Entry, name: &'static str) -> Option<Text<'a>> {
    let text = text(entry, name).ok()??;
    (!text.is_empty() && !text.contains('\0')).then(|| text.into())
}

/// The time in an id; ids that a producer made up may hold any number, and then it is the epoch.
fn appended_at(id: StreamId) -> OffsetDateTime {
    i64::try_from(id.ms / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .map_or(OffsetDateTime::UNIX_EPOCH, |at| {
            at + time::Duration::milliseconds(i64::try_from(id.ms % 1000).unwrap_or_default())
        })
}
