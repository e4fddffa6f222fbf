//! The exact scalars of an event: text that borrows, ids, money, points in time.
//!
//! Owns their JSON forms. They read leniently what other producers write (an id as a number, an amount as a string,
//! a Python `isoformat()` without an offset) and always write one canonical form.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use rust_decimal::Decimal;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, UtcOffset};

use super::json;

/// A string that borrows from the JSON it came from. (`Option<Cow<str>>` would not: serde borrows only a bare `Cow`.)
///
/// Read from JSON it never holds a NUL character, which PostgreSQL's `text` and `jsonb` refuse.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(pub Cow<'a, str>);

impl Text<'_> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor).map(Self)
    }
}

/// An identifier: text without NUL, or a whole number of up to 64 bits, which becomes its digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<'a>(pub Cow<'a, str>);

impl Id<'_> {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Id<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Id<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Id<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As it stands: an order has a dozen ids, and their digits need not be made into a number and back.
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let text = match json::string(raw) {
            Some(text) if !text.contains('\0') => text,
            None if is_whole_number(raw) => Cow::Borrowed(raw),
            Some(_) | None => {
                let expected = &"a string without NUL or a whole number";
                return Err(de::Error::invalid_value(de::Unexpected::Other("value"), expected));
            }
        };
        Ok(Self(text))
    }
}

/// Whether the JSON is a whole number of up to 64 bits.
fn is_whole_number(raw: &str) -> bool {
    raw != "-0" && (raw.parse::<u64>().is_ok() || raw.parse::<i64>().is_ok())
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string without NUL")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        // JSON writes a NUL only as an escape, and a string with escapes is not borrowed: nothing to look for.
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
        if text.contains('\0') {
            return Err(E::invalid_value(de::Unexpected::Other("NUL"), &self));
        }
        Ok(Cow::Owned(text))
    }
}

/// An exact amount of money: up to 28 significant digits, written scale kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount(pub Decimal);

impl Amount {
    /// Reads a decimal or a JSON number in exponent form, exactly.
    ///
    /// # Errors
    /// Where the text is no decimal, or has more digits than can be kept exactly. The error never repeats the text.
    pub fn parse(text: &str) -> Result<Self, InvalidAmount> {
        let text = text.trim();
        // `Decimal` would also take digit separators.
        if !text
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E'))
        {
            return Err(InvalidAmount);
        }
        let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
        // Exact first: the exponent form rounds a mantissa that is too long.
        let exact = Decimal::from_str_exact(mantissa).map_err(|_| InvalidAmount)?;
        if mantissa.len() == text.len() {
            return Ok(Self(exact));
        }
        Decimal::from_scientific(text).map(Self).map_err(|_| InvalidAmount)
    }

    /// Reads a JSON number, or a string that holds an amount.
    ///
    /// # Errors
    /// As [`Amount::parse`].
    pub fn of_json(raw: &RawValue) -> Result<Self, InvalidAmount> {
        let text = raw.get();
        let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Self::parse(text.unwrap_or_else(|| raw.get()))
    }

    /// The exact sum; `None` where it has more digits than can be kept.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

/// The text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an exact decimal amount of at most 28 digits")]
pub struct InvalidAmount;

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A raw number: `f64` would lose digits, and serde_json's `arbitrary_precision` would change every `Value`.
        // Sign, point, a leading zero and 28 digits fit; an order has dozens of amounts, so none is put on the heap.
        let mut text = [0; 32];
        let mut free = &mut text[..];
        write!(free, "{}", self.0).map_err(serde::ser::Error::custom)?;
        let unused = free.len();
        let raw: &RawValue = serde_json::from_slice(&text[..text.len() - unused]).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::of_json(raw).map_err(|_| {
            de::Error::invalid_value(
                de::Unexpected::Other("text"),
                &"an exact decimal amount of at most 28 digits",
            )
        })
    }
}

/// A point in time that remembers how it was written: the offset carries the shop's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp<'a> {
    text: Text<'a>,
    instant: OffsetDateTime,
}

impl<'a> Timestamp<'a> {
    /// Reads RFC 3339, also with a space for the `T`, and without an offset (taken as UTC, as Python's `isoformat()`
    /// of a naive time is meant).
    ///
    /// # Errors
    /// Where the text is no such time. The error never repeats the text.
    pub fn parse(text: Text<'a>) -> Result<Self, InvalidTimestamp> {
        let instant = parse_instant(text.as_str()).ok_or(InvalidTimestamp)?;
        Ok(Self { text, instant })
    }

    /// Whether it is missing: what [`Timestamp::default`] makes.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.text.as_str().is_empty()
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// The point in time, in the offset it was written with.
    #[must_use]
    pub fn instant(&self) -> OffsetDateTime {
        self.instant
    }

    /// The day as written, in the shop's offset.
    #[must_use]
    pub fn local_date(&self) -> Date {
        self.instant.date()
    }
}

impl Default for Timestamp<'_> {
    /// A missing time: no text, and the epoch.
    fn default() -> Self {
        Self {
            text: Text::default(),
            instant: OffsetDateTime::UNIX_EPOCH,
        }
    }
}

impl From<OffsetDateTime> for Timestamp<'_> {
    /// Writes the time in UTC with milliseconds.
    fn from(instant: OffsetDateTime) -> Self {
        let instant = instant.to_offset(UtcOffset::UTC);
        let text = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            instant.year(),
            u8::from(instant.month()),
            instant.day(),
            instant.hour(),
            instant.minute(),
            instant.second(),
            instant.millisecond()
        );
        Self {
            text: text.into(),
            instant,
        }
    }
}

fn parse_instant(text: &str) -> Option<OffsetDateTime> {
    if let Ok(instant) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(instant);
    }
    let (date, time) = text.trim().split_once([' ', 'T'])?;
    let time = time.trim();
    let has_offset = time.ends_with(['Z', 'z']) || time.contains(['+', '-']);
    OffsetDateTime::parse(&format!("{date}T{time}{}", if has_offset { "" } else { "Z" }), &Rfc3339).ok()
}

/// The text is not a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a point in time (RFC 3339, such as 2026-01-31T09:30:00-05:00)")]
pub struct InvalidTimestamp;

impl Serialize for Timestamp<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Timestamp<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Text::deserialize(deserializer)?).map_err(|_| {
            de::Error::invalid_value(
                de::Unexpected::Other("text"),
                &"a point in time (RFC 3339, such as 2026-01-31T09:30:00-05:00)",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_keep_their_digits() {
        for (json, text) in [
            ("\"5900\"", "5900"),
            ("\"0.10\"", "0.10"),
            ("0.10", "0.10"),
            ("-3.50", "-3.50"),
            ("1e+22", "10000000000000000000000"),
            ("1.5E-7", "0.00000015"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("\" 12.00 \"", "12.00"),
        ] {
            let amount: Amount = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&amount).unwrap(), text, "{json}");
        }
    }

    #[test]
    fn what_is_not_exact_is_no_amount() {
        for json in [
            "\"\"",
            "\"1_000\"",
            "\"1,000\"",
            "\"12 EUR\"",
            "\"NaN\"",
            "true",
            "null",
            "[]",
            "1e400",
            "1.23456789012345678901234567890123",
            "1.23456789012345678901234567890123e2",
            "99999999999999999999999999999999",
        ] {
            assert!(serde_json::from_str::<Amount>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn ids_keep_all_bits() {
        for (json, text) in [
            ("18446744073709551615", "18446744073709551615"),
            ("9007199254740993", "9007199254740993"),
            ("-1", "-1"),
            ("\"gid\\/1\"", "gid/1"),
        ] {
            assert_eq!(serde_json::from_str::<Id<'_>>(json).unwrap().as_str(), text);
        }
        for json in ["18446744073709551616", "1.0", "true", "null", "\"\\u0000\""] {
            assert!(serde_json::from_str::<Id<'_>>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn text_borrows_where_it_can() {
        let plain: Text<'_> = serde_json::from_str("\"plain\"").unwrap();
        assert!(matches!(plain.0, Cow::Borrowed(_)));
        let escaped: Text<'_> = serde_json::from_str("\"a\\/b\"").unwrap();
        assert_eq!(escaped.as_str(), "a/b");
    }

    #[test]
    fn times_are_read_as_sources_write_them() {
        for (text, utc) in [
            ("2026-01-31T21:30:02-05:00", "2026-02-01T02:30:02.000Z"),
            ("2026-01-31T21:30:02.123456+00:00", "2026-01-31T21:30:02.123Z"),
            ("2026-01-31T21:30:02.123456", "2026-01-31T21:30:02.123Z"),
            ("2026-01-31 21:30:02", "2026-01-31T21:30:02.000Z"),
            ("2019-01-01 00:00:00.000Z", "2019-01-01T00:00:00.000Z"),
            ("2016-05-17T04:14:36-00:00", "2016-05-17T04:14:36.000Z"),
        ] {
            let time = Timestamp::parse(text.into()).unwrap();
            assert_eq!(time.as_str(), text);
            assert_eq!(Timestamp::from(time.instant()).as_str(), utc);
        }
        for text in [
            "",
            "yesterday",
            "2026-01-31",
            "2026-13-01T00:00:00Z",
            "1767225600",
            "T",
            " ",
        ] {
            assert!(Timestamp::parse(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_day_is_the_one_written() {
        let late = Timestamp::parse("2026-01-31T21:30:02-05:00".into()).unwrap();
        assert_eq!(late.local_date(), time::macros::date!(2026 - 01 - 31));
    }

    proptest! {
        #[test]
        fn any_decimal_survives_json(mantissa in -(1_i64 << 60)..(1_i64 << 60), scale in 0..28_u32) {
            let amount = Amount(Decimal::new(mantissa, scale));
            let json = serde_json::to_string(&amount).unwrap();
            let again: Amount = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(again.to_string(), amount.to_string());
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = Amount::parse(&text);
            let _ = Timestamp::parse(text.as_str().into());
        }
    }
}
