//! Entry fields ↔ event: the public format of the stream.
//!
//! Owns names and order of the fields (contract: the first four are what every reader and plain producer knows).
//! Pure. Invariant: decode(encode(x)) = x. Every field is UTF-8 text, `raw` included: a client that decodes replies
//! (redis-py with `decode_responses=True`) fails on a whole reply that holds one binary value.
//!
//! `raw` is a body, compressed and made text; `raw_encoding` lists what was done to it, in that order, and is
//! `zstd+base64` or `redacted+zstd+base64`. In Python: `zstandard.decompress(base64.b64decode(fields["raw"]))`.

mod dead_letter;

use std::borrow::Cow;
use std::cell::RefCell;
use std::{fmt, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use time::OffsetDateTime;
use zstd::bulk::{Compressor, Decompressor};

pub(super) use self::dead_letter::found_by;
pub use self::dead_letter::{DEAD_LETTER_TRAILER, entry_fields};

use super::{Entry, Fields, StreamId};
use crate::event::{
    EventRecord, InvalidEvent, InvalidJson, OrderEvent, Provenance, Text, Timestamp, json, validate_storable,
};

/// Every field that an entry of this program may have.
pub(super) const FIELDS: [&str; 14] = [
    "event_type",
    "event_id",
    "timestamp",
    "payload",
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

const WHOLE: &str = "zstd+base64";
const REDACTED: &str = "redacted+zstd+base64";

/// zstd's own default: orders shrink to a fifth in well under a millisecond.
const ZSTD_LEVEL: i32 = 3;

/// Bytes of an entry's values beside the payload, mostly.
const SMALL_VALUES: usize = 512;
/// Bytes of all values of an entry with an order of a few lines. A larger one grows it.
const USUAL_ENTRY: usize = 2048 + SMALL_VALUES;

thread_local! {
    /// What zstd works with costs more to set up than a body to pack.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

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
        let packed = PACKER.with_borrow_mut(|packer| match packer {
            Some(ready) => ready.compress(body),
            none => none.insert(Compressor::new(ZSTD_LEVEL)?).compress(body),
        })?;
        Ok(Self {
            text: STANDARD.encode(packed).into(),
            encoding,
        })
    }
}

/// Unpacks bodies. One for many, where there are many: what zstd works with costs more to set up than a body to unpack.
#[derive(Default)]
pub struct Unpacker(Option<Decompressor<'static>>);

impl Unpacker {
    /// The body behind `raw` and `raw_encoding`, at most `limit` bytes of it.
    ///
    /// # Errors
    /// Where the encoding is not ours, the text is damaged, or the body is larger.
    pub fn unpack(&mut self, raw: &[u8], raw_encoding: &str, limit: usize) -> Result<Vec<u8>, UnpackError> {
        if ![WHOLE, REDACTED].contains(&raw_encoding) {
            return Err(UnpackError::Encoding);
        }
        let packed = STANDARD.decode(raw).map_err(|_| UnpackError::Damaged)?;
        // What is packed says how large it was; to take memory for the largest body costs more than to unpack.
        let size = zstd::zstd_safe::get_frame_content_size(&packed).map_err(|_| UnpackError::Damaged)?;
        let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(limit);
        let body = match &mut self.0 {
            Some(ready) => ready.decompress(&packed, size.min(limit)),
            none => Decompressor::new().and_then(|new| none.insert(new).decompress(&packed, size.min(limit))),
        };
        body.map_err(|_| UnpackError::Damaged)
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
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
    let mut values = Values::with_capacity(USUAL_ENTRY);
    let mut fields = Fields(Vec::with_capacity(FIELDS.len()));
    fields.push("event_type", values.text(event.event_type.as_str()));
    fields.push("event_id", values.text(event.event_id.as_str()));
    fields.push("timestamp", values.text(event.timestamp.as_str()));
    fields.push("payload", values.json(event)?);
    push_provenance(&mut fields, &mut values, provenance);
    push_raw(&mut fields, raw);
    Ok(fields)
}

/// Writes the values of one entry one behind the other into one piece of memory, which they share.
struct Values(BytesMut);

impl Values {
    fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    fn text(&mut self, text: &str) -> Bytes {
        self.0.extend_from_slice(text.as_bytes());
        self.0.split().freeze()
    }

    fn json(&mut self, value: &impl Serialize) -> Result<Bytes, serde_json::Error> {
        serde_json::to_writer((&mut self.0).writer(), value)?;
        Ok(self.0.split().freeze())
    }
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
    /// The order that the body names, where it can be read.
    pub order_id: Option<String>,
    /// Why it cannot become an event; names no content.
    pub error: &'a str,
}

/// The fields of a dead letter that never was an entry: no `payload`, but the body; `original_*` are empty.
#[must_use]
pub fn quarantine_fields(letter: Quarantine<'_>) -> Fields {
    let received_at = Timestamp::from(letter.received_at);
    let mut values = Values::with_capacity(SMALL_VALUES);
    let mut fields = Fields(Vec::with_capacity(19));
    fields.push("event_type", values.text(letter.event_type.unwrap_or("unknown")));
    fields.push("event_id", values.text(letter.event_id));
    fields.push("timestamp", values.text(received_at.as_str()));
    push_provenance(&mut fields, &mut values, letter.provenance);
    push_raw(&mut fields, Some(letter.raw));
    if let Some(order_id) = letter.order_id {
        fields.push("order_id", order_id);
    }
    ended(fields, letter.error, 0, letter.received_at)
}

/// Why an entry is dead-lettered whose key was stored before with another body. Its event id is taken.
pub const REUSED_ID: &str = "its id was used for another body";

/// The fields of a dead letter that has these, and never was an entry of the stream: `original_*` are empty.
#[must_use]
pub fn dead_letter_fields(mut fields: Fields, error: &str, attempts: u32, failed_at: OffsetDateTime) -> Fields {
    for (name, value) in found_by(&fields) {
        fields.push(name, value);
    }
    ended(fields, error, attempts, failed_at)
}

/// With what became of it.
fn ended(mut fields: Fields, error: &str, attempts: u32, failed_at: OffsetDateTime) -> Fields {
    let mut values = Values::with_capacity(SMALL_VALUES);
    fields.push("original_stream", "");
    fields.push("original_id", "");
    fields.push("failed_at", values.text(Timestamp::from(failed_at).as_str()));
    fields.push("error", values.text(error));
    fields.push("attempts", values.text(&attempts.to_string()));
    fields.push("consumer", "ingest");
    fields
}

fn push_provenance(fields: &mut Fields, values: &mut Values, provenance: &Provenance<'_>) {
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
            fields.push(name, values.text(text.as_str()));
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
    /// The event lacks what it cannot be stored without, or a field is out of bounds.
    #[error("the entry's event is not valid: {0}")]
    Invalid(#[from] InvalidEvent),
}

/// Puts U+FFFD in the payload for what no warehouse's text can hold ([`json::mended`]); without it such an entry of
/// another producer would be one that PostgreSQL refuses.
pub fn mend(entry: &mut Entry) {
    let payload = entry.fields.0.iter_mut().find(|(name, _)| name == "payload");
    if let Some((_, payload)) = payload
        && let Cow::Owned(mended) = json::mended(payload)
    {
        *payload = mended.into();
    }
}

/// Reads an entry, ours or a plain producer's: where the payload lacks type, id or time, the entry's fields give them.
///
/// # Errors
/// The entry is poison.
pub fn decode(entry: &Entry) -> Result<EventRecord<'_>, DecodeError> {
    let payload = text(entry, "payload")?.ok_or(DecodeError::Missing("payload"))?;
    // No warehouse's JSON begins with a byte order mark.
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
        raw: entry
            .fields
            .get("raw")
            .map(|raw| compressed(raw, entry.fields.get("raw_encoding"))),
    })
}

/// The zstd bytes behind `raw`; what is not ours, or damaged, stays as it is.
fn compressed<'a>(raw: &'a Bytes, encoding: Option<&Bytes>) -> Cow<'a, [u8]> {
    let ours = encoding.is_some_and(|encoding| [WHOLE, REDACTED].iter().any(|known| known.as_bytes() == encoding));
    match STANDARD.decode(raw) {
        Ok(bytes) if ours => Cow::Owned(bytes),
        Ok(_) | Err(_) => Cow::Borrowed(raw),
    }
}

fn text<'a>(entry: &'a Entry, name: &'static str) -> Result<Option<&'a str>, DecodeError> {
    entry
        .fields
        .get(name)
        .map(|value| std::str::from_utf8(value).map_err(|_| DecodeError::NotText(name)))
        .transpose()
}

/// Longest hint, in characters: the shop is part of keys.
const MAX_HINT: usize = 255;

/// A field that nobody depends on: one that is unreadable or too long is absent, and so is a NUL, which PostgreSQL
/// refuses.
fn hint<'a>(entry: &'a Entry, name: &'static str) -> Option<Text<'a>> {
    let text = text(entry, name).ok()??;
    let is_short = text.len() <= MAX_HINT || text.chars().count() <= MAX_HINT;
    (!text.is_empty() && is_short && !text.contains('\0')).then(|| text.into())
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

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::event::{AddedLine, Amount, Id, Item, OrderEdit, Refund, RefundLine, ShippingLine};

    fn entry(fields: &[(&'static str, &str)]) -> Entry {
        let mut entry = Entry {
            id: StreamId {
                ms: 1_767_225_600_123,
                seq: 4,
            },
            fields: Fields::default(),
        };
        for (name, value) in fields {
            entry.fields.push(name, (*value).to_owned());
        }
        entry
    }

    #[test]
    fn a_plain_producers_entry_is_read() {
        let entry = entry(&[
            ("event_type", "order.created"),
            ("event_id", "e-1"),
            ("timestamp", "2026-01-31T21:30:02.123456"),
            (
                "payload",
                r#"{"order_id": 5400000000001, "customer_id": 7, "total_amount": 19.99, "currency": "EUR", "items": [{"sku": "A", "qty": 2, "price": 9.995, "colour": "red"}], "more": {"a": [1]}}"#,
            ),
        ]);
        let record = decode(&entry).unwrap();
        assert_eq!(record.event.event_type.as_str(), "order.created");
        assert_eq!(record.event.event_id.as_str(), "e-1");
        assert_eq!(record.event.timestamp.as_str(), "2026-01-31T21:30:02.123456");
        assert_eq!(record.event.order_id.as_str(), "5400000000001");
        assert_eq!(record.event.customer_id.as_ref().unwrap().as_str(), "7");
        assert_eq!(record.event.total_amount.unwrap().to_string(), "19.99");
        assert!(record.event.is_whole());
        assert_eq!(record.stream_id, "1767225600123-4");
        assert_eq!(record.received_at, time::macros::datetime!(2026-01-01 00:00:00.123 UTC));
        assert_eq!(record.provenance, Provenance::default());
    }

    #[test]
    fn poison_names_its_field() {
        let good = ("payload", r#"{"order_id":1}"#);
        for (fields, reason) in [
            (&[][..], "no field `payload`"),
            (&[("payload", "")], "payload cannot be read: not a JSON object"),
            (&[("payload", "{\"order_id\":NaN}")], "payload cannot be read: not JSON"),
            (&[("payload", "{}")], "missing field `order_id`"),
            (
                &[("payload", r#"{"order_id":1,"items":[{"qty":1000000001,"price":1}]}"#)],
                "items[0].qty: expected a whole number from 0 to 1000000000",
            ),
            (
                &[("payload", r#"{"order_id":1,"total_amount":0.0000000001}"#)],
                "total_amount: expected an exact decimal amount below 10^15 with at most 9 decimals",
            ),
            (
                &[("payload", r#"{"order_id":1,"updated_at":"9999-12-31T23:59:59-12:00"}"#)],
                "updated_at: expected a point in time",
            ),
            (&[good], "no field `timestamp`"),
            (
                &[good, ("timestamp", "9999-12-31T23:59:59-12:00")],
                "`timestamp` is not a point in time",
            ),
            (&[good, ("timestamp", "soon")], "`timestamp` is not a point in time"),
            (&[good, ("timestamp", "2026-01-01T00:00:00")], "event_type: missing"),
            (
                &[good, ("timestamp", "2026-01-01T00:00:00"), ("event_type", "a.b")],
                "event_id: missing",
            ),
        ] {
            let shown = decode(&entry(fields)).unwrap_err().to_string();
            assert!(shown.contains(reason), "{shown}");
        }
        let mut binary = Entry::clone(&entry(&[]));
        binary.fields.push("payload", vec![0xFF]);
        assert_eq!(decode(&binary).unwrap_err(), DecodeError::NotText("payload"));
    }

    #[test]
    fn unreadable_provenance_is_absent() {
        let mut entry = entry(&[
            ("event_type", "order.created"),
            ("event_id", "e"),
            ("timestamp", "2026-01-01T00:00:00Z"),
            ("payload", r#"{"order_id":1}"#),
            ("topic", "a\0b"),
            ("webhook_id", &"x".repeat(256)),
            ("shop", ""),
            ("triggered_at", "soon"),
            ("raw", "dGV4dA=="),
        ]);
        entry.fields.push("source", vec![0xFF]);
        entry.id.ms = u64::MAX;
        let record = decode(&entry).unwrap();
        assert_eq!(record.shop(), "");
        assert_eq!(record.provenance.source, None);
        assert_eq!(record.provenance.topic, None);
        assert_eq!(record.provenance.webhook_id, None);
        assert_eq!(record.triggered_at, None);
        assert_eq!(record.received_at, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(record.raw.as_deref(), Some(&b"dGV4dA=="[..]));
    }

    #[test]
    fn a_body_comes_back_from_quarantine() {
        let body = b"not \xFF JSON";
        let fields = quarantine_fields(Quarantine {
            event_type: None,
            event_id: "e-1",
            received_at: OffsetDateTime::UNIX_EPOCH,
            provenance: &Provenance {
                topic: Some("products/create".into()),
                ..Provenance::default()
            },
            raw: Raw::whole(body).unwrap(),
            order_id: Some("7".to_owned()),
            error: "why",
        });
        let names: Vec<_> = fields.0.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(
            names,
            [
                "event_type",
                "event_id",
                "timestamp",
                "topic",
                "raw",
                "raw_encoding",
                "order_id",
                "original_stream",
                "original_id",
                "failed_at",
                "error",
                "attempts",
                "consumer"
            ]
        );
        let raw = fields.get("raw").unwrap();
        let mut unpacker = Unpacker::default();
        let mut unpack = |raw, encoding, limit| unpacker.unpack(raw, encoding, limit);
        assert_eq!(unpack(raw, "zstd+base64", 100).unwrap(), body);
        assert_eq!(unpack(raw, "zstd+base64", 3), Err(UnpackError::Damaged));
        assert_eq!(unpack(raw, "gzip", 100), Err(UnpackError::Encoding));
        assert_eq!(unpack(b"?", "zstd+base64", 100), Err(UnpackError::Damaged));
        assert_eq!(unpack(raw, "zstd+base64", 100).unwrap(), body, "after what was damaged");
        assert!(fields.0.iter().all(|(_, value)| std::str::from_utf8(value).is_ok()));
    }

    #[test]
    fn the_first_four_fields_are_the_contract() {
        let entry = entry(&[
            (
                "payload",
                r#"{"event_type":"a.b","event_id":"e","timestamp":"2026-01-01T00:00:00Z","order_id":1}"#,
            ),
            ("source", "batch"),
            ("traceparent", "t"),
        ]);
        let record = decode(&entry).unwrap();
        let raw = Raw::redacted(b"{}").unwrap();
        let fields = encode(&record.event, &record.provenance, Some(raw)).unwrap();
        let names: Vec<_> = fields.0.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(
            names,
            [
                "event_type",
                "event_id",
                "timestamp",
                "payload",
                "source",
                "traceparent",
                "raw",
                "raw_encoding"
            ]
        );
        assert_eq!(fields.get("raw_encoding").unwrap().as_ref(), b"redacted+zstd+base64");
    }

    fn text() -> impl Strategy<Value = Text<'static>> {
        "[^\\x00]{1,20}".prop_map(Text::from)
    }

    fn id() -> impl Strategy<Value = Id<'static>> {
        prop_oneof![
            any::<u64>().prop_map(|number| number.to_string().into()),
            "[ -~é]{1,20}".prop_map(Id::from)
        ]
    }

    fn amount() -> impl Strategy<Value = Amount> {
        (-10_i64.pow(11)..10_i64.pow(11), 0..10_u32)
            .prop_map(|(mantissa, scale)| Amount(rust_decimal::Decimal::new(mantissa, scale)))
    }

    fn timestamp() -> impl Strategy<Value = Timestamp<'static>> {
        (0..4_102_444_800_000_i64)
            .prop_map(|ms| Timestamp::from(OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(ms)))
    }

    prop_compose! {
        fn item()(
            sku in option::of(prop_oneof![Just(Id::from("")), id()]), qty in 0..1000_i64, price in amount(),
            line_id in option::of(id()), title in option::of(text()), current_qty in option::of(0..=1_000_000_000_i64),
            discount in option::of(amount()), tax in option::of(amount()), gift_card in option::of(any::<bool>()),
        ) -> Item<'static> {
            Item {
                sku, qty, price, line_id, variant_id: None, product_id: None, title, current_qty, discount, tax, gift_card,
            }
        }
    }

    prop_compose! {
        fn refund_line()(line_id in option::of(id()), qty in 0..1000_i64, subtotal in option::of(amount()),
                         tax in option::of(amount()), restock_type in option::of(text()),
                         gift_card in option::of(any::<bool>())) -> RefundLine<'static> {
            RefundLine { line_id, qty, subtotal, tax, restock_type, location_id: None, gift_card }
        }
    }

    prop_compose! {
        fn refund()(refund_id in id(), processed_at in option::of(timestamp()), amount in amount(),
                    pending_amount in option::of(amount()), tax in option::of(amount()), currency in option::of(text()),
                    lines in option::of(prop::collection::vec(refund_line(), 0..3)), shipping in option::of(amount()),
                    adjustments in option::of(amount())) -> Refund<'static> {
            Refund {
                refund_id, processed_at, amount, pending_amount, tax, currency, lines, shipping, shipping_tax: tax,
                duties: pending_amount, adjustments, adjustments_tax: adjustments,
            }
        }
    }

    prop_compose! {
        fn shipping_line()(line_id in option::of(id()), title in option::of(text()), price in option::of(amount()),
                           tax in option::of(amount()), removed in option::of(any::<bool>())) -> ShippingLine<'static> {
            ShippingLine { line_id, title, price, discounted_price: price, tax, removed }
        }
    }

    prop_compose! {
        fn edit()(edit_id in option::of(id()), committed_at in option::of(timestamp()),
                  additions in prop::collection::vec((id(), 1..1000_i64), 0..3)) -> OrderEdit<'static> {
            let additions = additions.into_iter().map(|(line_id, qty)| AddedLine { line_id, qty }).collect();
            OrderEdit { edit_id, committed_at, additions }
        }
    }

    prop_compose! {
        fn event()(
            event_type in "[a-z_]{1,10}\\.[a-z]{1,10}", event_id in "[ -~]{1,128}", timestamp in timestamp(),
            order_id in id(), customer_id in option::of(id()), total_amount in option::of(amount()),
            currency in option::of(text()), items in option::of(prop::collection::vec(item(), 0..4)),
            updated_at in option::of(timestamp()), financial_status in option::of(text()),
            subtotal in option::of(amount()), test in option::of(any::<bool>()),
            refunds in option::of(prop::collection::vec(refund(), 0..3)), edit in option::of(edit()),
            shipping_lines in option::of(prop::collection::vec(shipping_line(), 0..3)),
        ) -> OrderEvent<'static> {
            OrderEvent {
                event_type: event_type.into(), event_id: event_id.into(), timestamp, order_id, customer_id,
                total_amount, currency, items, updated_at, financial_status, subtotal, test, refunds,
                shop: None, name: None, created_at: None, processed_at: None, cancelled_at: None,
                fulfillment_status: None, total_discounts: None, total_shipping: None, total_tax: None,
                taxes_included: test, current_total_amount: total_amount, presentment_currency: None,
                presentment_total_amount: None, source_name: None, total_tip: subtotal, total_duties: total_amount,
                total_fees: subtotal, shipping_lines, edit,
            }
        }
    }

    proptest! {
        #[test]
        fn an_entry_survives_encode_and_decode(
            event in event(),
            source in option::of(text()), shop in option::of(text()), triggered_at in option::of(timestamp()),
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let provenance = Provenance {
                source,
                shop,
                triggered_at: triggered_at.as_ref().map(|at| at.as_str().to_owned().into()),
                ..Provenance::default()
            };
            let fields = encode(&event, &provenance, Some(Raw::whole(&body).unwrap())).unwrap();
            let entry = Entry { id: StreamId { ms: 5, seq: 0 }, fields };
            let record = decode(&entry).unwrap();
            prop_assert_eq!(&record.event, &event);
            prop_assert_eq!(&record.provenance, &provenance);
            prop_assert_eq!(record.triggered_at, triggered_at.map(|at| at.instant()));
            prop_assert_eq!(zstd::bulk::decompress(record.raw.as_deref().unwrap(), 200).unwrap(), body);
            // Digits too, which comparing decimals would not see.
            prop_assert_eq!(serde_json::to_string(&record.event).unwrap(), record.payload);
        }
    }
}
