//! One entry laid open: its event, its fields as they stand, its body. The only view with personal fields in it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::stream::codec::Unpacker;
use crate::stream::{Entry, codec};

/// Bytes of a field's value that are shown.
const SHOWN: usize = 64 << 10;
/// Bytes of a body that are shown.
const SHOWN_BODY: usize = 1 << 20;

/// What an entry holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Content {
    /// The event, digits as they were sent; `None` where it cannot be read.
    pub event: Option<Box<RawValue>>,
    /// Why it cannot be read.
    pub undecodable: Option<String>,
    /// All fields in order.
    pub fields: Vec<Field>,
    /// The original body, where it was kept; at most 1 MiB of it.
    pub body: Option<String>,
}

/// A field as it stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value; at most 64 KiB of it. Base64 where it is not text.
    pub value: String,
    /// Whether `value` is base64 for bytes that are not text.
    pub binary: bool,
    /// Bytes of the whole value.
    pub bytes: usize,
}

impl Content {
    /// `body_limit`: bytes that a body may have.
    pub(super) fn of(entry: &Entry, body_limit: usize) -> Self {
        let decoded = codec::decode(entry)
            .map_err(|error| error.to_string())
            .and_then(|record| serde_json::value::to_raw_value(&record.event).map_err(|error| error.to_string()));
        let (event, undecodable) = match decoded {
            Ok(event) => (Some(event), None),
            Err(why) => (None, Some(why)),
        };
        let fields = entry.fields.0.iter().map(|(name, value)| field(name, value));
        Self {
            event,
            undecodable,
            fields: fields.collect(),
            body: body(entry, body_limit).map(|body| shown(&body, SHOWN_BODY).0),
        }
    }
}

/// The body that an entry keeps, unpacked, at most `limit` bytes of it.
pub(super) fn body(entry: &Entry, limit: usize) -> Option<Vec<u8>> {
    unpacked(entry, &mut Unpacker::default(), limit)
}

/// What tells the order that an entry is about: its payload, else its body, which may be anything; without JSON's escapes.
pub(super) fn told<'a>(entry: &'a Entry, unpacker: &mut Unpacker, limit: usize) -> Cow<'a, [u8]> {
    match entry.fields.get("payload") {
        Some(payload) => unescaped(Cow::Borrowed(payload)),
        None => unescaped(unpacked(entry, unpacker, limit).unwrap_or_default().into()),
    }
}

/// What JSON escapes as what it stands for; all else as it is, since this may be no JSON.
fn unescaped(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return text;
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        plain.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some((c, after)) = character(rest) {
            plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        } else {
            plain.push(b'\\');
        }
    }
    plain.extend_from_slice(rest);
    plain.into()
}

/// The character that an escape stands for, the backslash being read, and what comes after it; `None` where it is none.
fn character(escape: &[u8]) -> Option<(char, &[u8])> {
    let (kind, after) = escape.split_first()?;
    match kind {
        b'"' | b'\\' | b'/' => Some((char::from(*kind), after)),
        // None of them is part of a word.
        b'b' | b'f' | b'n' | b'r' | b't' => Some((' ', after)),
        b'u' => {
            let unit = |digits: &[u8]| u16::from_str_radix(std::str::from_utf8(digits.get(..4)?).ok()?, 16).ok();
            let (first, after) = (unit(after)?, &after[4..]);
            let second = after.strip_prefix(b"\\u").and_then(unit);
            let c = char::decode_utf16([first].into_iter().chain(second)).next()?.ok()?;
            Some((c, if c.len_utf16() == 2 { &after[6..] } else { after }))
        }
        _ => None,
    }
}

fn unpacked(entry: &Entry, unpacker: &mut Unpacker, limit: usize) -> Option<Vec<u8>> {
    let encoding = std::str::from_utf8(entry.fields.get("raw_encoding")?).ok()?;
    unpacker.unpack(entry.fields.get("raw")?, encoding, limit).ok()
}

fn field(name: &str, value: &[u8]) -> Field {
    let (text, binary) = shown(value, SHOWN);
    Field {
        name: name.to_owned(),
        value: text,
        binary,
        bytes: value.len(),
    }
}

/// The beginning of it as text, or base64 where it is none.
fn shown(value: &[u8], most: usize) -> (String, bool) {
    match std::str::from_utf8(value) {
        Ok(text) => (text[..text.floor_char_boundary(most)].to_owned(), false),
        Err(_) => (STANDARD.encode(&value[..value.len().min(most)]), true),
    }
}

/// A field as text; `None` where it is absent, empty or no text.
pub(super) fn text(entry: &Entry, name: &str) -> Option<String> {
    let text = std::str::from_utf8(entry.fields.get(name)?).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_escapes_is_read_as_what_it_stands_for() {
        for (text, plain) in [
            (r#"{"name":"EU-77\/b"}"#, r#"{"name":"EU-77/b"}"#),
            (r"\u00e98\u0026", "é8&"),
            (r"\ud83d\ude001", "😀1"),
            (r"\ud83d1 \ude001 \u12", r"\ud83d1 \ude001 \u12"),
            (r"a\n1042\\n", r"a 1042\n"),
            (r"\x1042\", r"\x1042\"),
            (r"\ud83d\u", r"\ud83d\u"),
            ("none", "none"),
        ] {
            assert_eq!(unescaped(text.as_bytes().into()), plain.as_bytes(), "{text}");
        }
    }
}
