//! Tolerant readers of optional fields: a value that cannot be read is none.
//!
//! Owns which of their forms are accepted. An order is never quarantined for a character in a title
//! or a digit in a tax.

use std::borrow::Cow;

use serde::de::{Error, IgnoredAny, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::event::{Amount, EXPECTED_AMOUNT, Text, Timestamp, json};

/// An amount as [`Amount::of_json_if_any`] reads it: none where it is no decimal (`""`, or what a
/// float made of nothing: `1.7763568394002505e-15`), and an error only where it is too large to be
/// kept.
pub(super) fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Amount>, D::Error> {
    let raw = Option::<&RawValue>::deserialize(deserializer)?;
    let Some(raw) = raw else { return Ok(None) };
    Amount::of_json_if_any(raw).map_err(|_| Error::invalid_value(Unexpected::Other("text"), &EXPECTED_AMOUNT))
}

/// A point in time; `""` is none, and anything else an error: it says on which day an order counts.
pub(super) fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp<'de>>, D::Error> {
    let text = Option::<Text<'de>>::deserialize(deserializer)?.filter(|text| !text.as_str().is_empty());
    text.map(Timestamp::parse).transpose().map_err(|_| {
        Error::invalid_value(
            Unexpected::Other("text"),
            &"a point in time (RFC 3339, years 1 to 9999 in UTC) or \"\"",
        )
    })
}

/// Whether the field is there, whatever it holds.
pub(super) fn presence<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Whatever of that form is there; none where it has another.
pub(super) fn any<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    Ok(json::value::<Option<T>>(raw).flatten())
}

/// As [`any`], for a text, of which an order has dozens: in half the time.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LossyText<'de>>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    Ok(LossyText::of_json(raw))
}

/// An amount as [`amount`] reads it, but none also where it is too large.
pub(super) fn any_amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Amount>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(Amount::of_json_if_any(raw).ok().flatten())
}

/// What of a list has that form; empty where it is no list.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    let all = json::value::<Option<Vec<T>>>(raw);
    Ok(all.map(Option::unwrap_or_default).unwrap_or_else(|| {
        let each = json::value::<Vec<&RawValue>>(raw).unwrap_or_default();
        each.into_iter().filter_map(|one| json::value(one.get())).collect()
    }))
}

/// Text that a merchant or an app wrote. A number is its digits as they stand, and a NUL, which
/// PostgreSQL refuses, becomes U+FFFD.
#[derive(Debug, Clone)]
pub(super) struct LossyText<'a>(pub(super) Cow<'a, str>);

impl<'a> LossyText<'a> {
    /// Reads a JSON string or number; none of any other value.
    fn of_json(raw: &'a str) -> Option<Self> {
        if raw.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
            return Some(Self(raw.into()));
        }
        let text = json::string(raw)?;
        // JSON writes a NUL only as an escape, and a string with escapes is not borrowed.
        Some(Self(match text {
            Cow::Owned(text) if text.contains('\0') => Cow::Owned(text.replace('\0', "\u{FFFD}")),
            Cow::Owned(_) | Cow::Borrowed(_) => text,
        }))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LossyText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        Self::of_json(raw).ok_or_else(|| Error::invalid_type(Unexpected::Other("value"), &"a string or a number"))
    }
}

impl<'a> From<LossyText<'a>> for Text<'a> {
    fn from(LossyText(text): LossyText<'a>) -> Self {
        Text(text)
    }
}

/// Characters of a text that are kept where Shopify itself takes no more.
const MAX_SHORT: usize = 255;

/// A text of a few words; an empty one is none.
pub(super) fn short(text: Option<LossyText<'_>>) -> Option<Text<'_>> {
    let text = text.map(|LossyText(text)| Text(text).cut(MAX_SHORT));
    text.filter(|text| !text.as_str().is_empty())
}
