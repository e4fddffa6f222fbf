//! The content of one entry or dead letter: its event, its fields, its body. Only here, and in the
//! exports of dead letters and of a customer, are personal fields shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::shopify::redact;
use crate::stream::codec::Unpacker;
use crate::stream::{Entry, codec};

/// Bytes of a field's value that are shown.
const MAX_VALUE: usize = 64 << 10;
/// Bytes of a body that are shown.
const MAX_BODY: usize = 1 << 20;

/// Content of an entry.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntryContent {
    /// The event, digits as they were sent; `None` where it cannot be read.
    pub event: Option<Box<RawValue>>,
    /// Why it cannot be read.
    pub undecodable: Option<String>,
    /// All fields in order.
    pub fields: Vec<EntryField>,
    /// The original body, where it was kept; at most 1 MiB of it.
    pub body: Option<String>,
    /// The same without personal fields; `None` also where it is not JSON or longer than 1 MiB.
    pub body_redacted: Option<String>,
}

/// A field of an entry.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntryField {
    /// Its name.
    pub name: String,
    /// Its value; at most 64 KiB of it. Base64 where it is not text.
    pub value: String,
    /// Whether `value` is base64 for bytes that are not text.
    pub binary: bool,
    /// Bytes of the whole value.
    pub bytes: usize,
}

impl EntryContent {
    /// `body_limit`: bytes that a body may have.
    pub(super) fn of(entry: &Entry, body_limit: usize) -> Self {
        let decoded = codec::decode(entry)
            .map_err(|error| error.to_string())
            .and_then(|record| serde_json::value::to_raw_value(&record.event).map_err(|error| error.to_string()));
        let (event, undecodable) = match decoded {
            Ok(event) => (Some(event), None),
            Err(why) => (None, Some(why)),
        };
        let fields = entry.fields.0.iter().map(|(name, value)| field(name, value, MAX_VALUE));
        let body = body(entry, body_limit);
        let redacted = body.as_deref().filter(|body| body.len() <= MAX_BODY).and_then(redact);
        Self {
            event,
            undecodable,
            fields: fields.collect(),
            body: body.map(|body| shown(&body, MAX_BODY).0),
            body_redacted: redacted.and_then(|body| String::from_utf8(body).ok()),
        }
    }
}

/// The body that an entry keeps, unpacked, at most `limit` bytes of it.
pub(super) fn body(entry: &Entry, limit: usize) -> Option<Vec<u8>> {
    unpacked(entry, &mut Unpacker::default(), limit)
}

/// As [`body`], with an unpacker that serves many.
pub(super) fn unpacked(entry: &Entry, unpacker: &mut Unpacker, limit: usize) -> Option<Vec<u8>> {
    let encoding = std::str::from_utf8(entry.fields.get("raw_encoding")?).ok()?;
    unpacker.unpack(entry.fields.get("raw")?, encoding, limit).ok()
}

/// At most `most` bytes of its value.
pub(super) fn field(name: &str, value: &[u8], most: usize) -> EntryField {
    let (text, binary) = shown(value, most);
    EntryField {
        name: name.to_owned(),
        value: text,
        binary,
        bytes: value.len(),
    }
}

/// The beginning of it as text, or base64 where it is none.
pub(super) fn shown(value: &[u8], most: usize) -> (String, bool) {
    match std::str::from_utf8(value) {
        Ok(text) => (text[..text.floor_char_boundary(most)].to_owned(), false),
        Err(_) => (STANDARD.encode(&value[..value.len().min(most)]), true),
    }
}

/// A field as text; `None` where it is absent, empty or no text.
pub(super) fn text(entry: &Entry, name: &str) -> Option<String> {
    as_text(entry.fields.get(name)?)
}

/// As [`text`], of the last field of that name.
pub(super) fn last_text(entry: &Entry, name: &str) -> Option<String> {
    let (_, value) = entry.fields.0.iter().rev().find(|(field, _)| field == name)?;
    as_text(value)
}

/// No store takes a NUL character in a text, and PostgreSQL refuses a query with one.
pub(super) fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

fn as_text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}
