//! The scalars of an event: text that borrows, ids, quantities, points in time.
//!
//! Owns their JSON forms. They read tolerantly what other producers write (an id as a number, a
//! Python `isoformat()` without an offset) and always write one canonical form.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, UtcOffset};

use super::json;

/// A string that borrows from the JSON it came from. (`Option<Cow<str>>` would not: serde borrows
/// only a bare `Cow`.)
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

    /// Its first characters, at most so many.
    #[must_use]
    pub fn cut(self, characters: usize) -> Self {
        let Some((end, _)) = self.0.char_indices().nth(characters) else {
            return self;
        };
        Self(match self.0 {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or(text)),
            Cow::Owned(mut text) => {
                text.truncate(end);
                Cow::Owned(text)
            }
        })
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
/// Shopify's global form (`gid://shopify/Order/917001`) is the number at its end: one thing has one
/// id.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        // As it stands: an order has a dozen ids, and their digits need not be made into a number
        // and back.
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        match json::string(raw) {
            Some(text) if !text.contains('\0') => Ok(Self(without_path(text))),
            None if is_whole_number(raw) => Ok(Self(Cow::Borrowed(raw))),
            Some(_) | None => {
                let expected = &"a string without NUL or a whole number";
                Err(de::Error::invalid_value(de::Unexpected::Other("value"), expected))
            }
        }
    }
}

/// The number at the end of a global id; any other id as it is.
fn without_path(id: Cow<'_, str>) -> Cow<'_, str> {
    let path = id.strip_prefix("gid://shopify/").and_then(|path| path.split_once('/'));
    let number = path.map(|(_, number)| number.len());
    let number = number.filter(|digits| *digits > 0 && id.bytes().rev().take(*digits).all(|b| b.is_ascii_digit()));
    let Some(at) = number.map(|digits| id.len() - digits) else {
        return id;
    };
    match id {
        Cow::Borrowed(id) => Cow::Borrowed(id.get(at..).unwrap_or(id)),
        Cow::Owned(mut id) => Cow::Owned(id.split_off(at)),
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
        // JSON writes a NUL only as an escape, and a string with escapes is not borrowed: nothing
        // to look for.
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

/// A number of units: whole, from 0 to 10^9.
struct Quantity(i64);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(QuantityVisitor).map(Self)
    }
}

struct QuantityVisitor;

impl Visitor<'_> for QuantityVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 0 to {MOST_UNITS}")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        let units = i64::try_from(number).ok().filter(|units| *units <= MOST_UNITS);
        units.ok_or_else(|| E::invalid_value(de::Unexpected::Other("number"), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        let units = u64::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Other("number"), &self))?;
        self.visit_u64(units)
    }
}

/// Most units of one line, and of one order: no sum over an event overflows.
pub(crate) const MOST_UNITS: i64 = 1_000_000_000;

/// For serde: a quantity within bounds.
pub(crate) fn quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Quantity::deserialize(deserializer).map(|Quantity(units)| units)
}

/// For serde: a quantity within bounds, or none.
pub(crate) fn optional_quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let quantity = Option::<Quantity>::deserialize(deserializer)?;
    Ok(quantity.map(|Quantity(units)| units))
}

/// For serde: a list; null is an empty one.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Option::<Vec<T>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Characters of a name that are kept: PostgreSQL's index takes no row of more than 2.7 KB.
pub(crate) const MAX_NAME: usize = 255;

/// For serde: an order's name, cut where it is longer than is kept.
pub(super) fn optional_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Text<'de>>, D::Error> {
    let name = Option::<Text<'de>>::deserialize(deserializer)?;
    Ok(name.map(|name| name.cut(MAX_NAME)))
}

/// A point in time that remembers how it was written: the offset carries the shop's day.
///
/// Its year is 1 to 9999, in UTC and as written: what every store keeps, and what can be moved to
/// any offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp<'a> {
    text: Text<'a>,
    instant: OffsetDateTime,
}

impl<'a> Timestamp<'a> {
    /// Reads RFC 3339, also with a space for the `T`, with an offset as `-0500` or `-05`, and
    /// without one (taken as UTC, as Python's `isoformat()` of a naive time is meant).
    ///
    /// # Errors
    /// Where the text is no such time, or one out of bounds. The error never repeats the text.
    pub fn parse(text: Text<'a>) -> Result<Self, InvalidTimestamp> {
        let instant = parse_instant(text.as_str()).filter(|at| is_kept(*at));
        let instant = instant.ok_or(InvalidTimestamp)?;
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

    /// The text alone.
    #[must_use]
    pub fn into_text(self) -> Text<'a> {
        self.text
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

/// A point in time whose offset says nothing: always written in UTC with microseconds, 27
/// characters, which sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UtcTime(OffsetDateTime);

impl From<OffsetDateTime> for UtcTime {
    fn from(instant: OffsetDateTime) -> Self {
        let instant = instant.checked_to_offset(UtcOffset::UTC).unwrap_or(instant);
        let micros = instant.microsecond() * 1_000;
        Self(instant.replace_nanosecond(micros).unwrap_or(instant))
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (date, (hour, minute, second, micros)) = (self.0.date(), self.0.to_hms_micro());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        serializer.collect_str(&format_args!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        ))
    }
}

impl<'de> Deserialize<'de> for UtcTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Timestamp::deserialize(deserializer).map(|at| at.instant().into())
    }
}

fn parse_instant(text: &str) -> Option<OffsetDateTime> {
    if let Ok(instant) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(instant);
    }
    let (date, time) = text.trim().split_once([' ', 'T'])?;
    let time = time.trim();
    let (clock, offset) = time.rfind(['+', '-']).map_or((time, ""), |at| time.split_at(at));
    let (hours, minutes) = match offset.len() {
        0 if time.ends_with(['Z', 'z']) => ("", ""),
        0 => ("Z", ""),
        3 => (offset, ":00"),
        5 => (offset.get(..3)?, offset.get(3..)?),
        _ => (offset, ""),
    };
    let colon = if offset.len() == 5 { ":" } else { "" };
    OffsetDateTime::parse(&format!("{date}T{clock}{hours}{colon}{minutes}"), &Rfc3339).ok()
}

/// Whether every store keeps it.
fn is_kept(instant: OffsetDateTime) -> bool {
    let in_bounds = |at: OffsetDateTime| (1..=9999).contains(&at.year());
    in_bounds(instant) && instant.checked_to_offset(UtcOffset::UTC).is_some_and(in_bounds)
}

/// The text is not a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {EXPECTED_TIME}")]
pub struct InvalidTimestamp;

/// What a time must be, for error texts.
pub(crate) const EXPECTED_TIME: &str =
    "a point in time (RFC 3339, such as 2026-01-31T09:30:00-05:00) of the years 1 to 9999 in UTC";

impl Serialize for Timestamp<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Timestamp<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Text::deserialize(deserializer)?)
            .map_err(|_| de::Error::invalid_value(de::Unexpected::Other("text"), &EXPECTED_TIME))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_whole_and_bounded() {
        let read = |json: &str| serde_json::from_str::<Quantity>(json).map(|Quantity(units)| units);
        assert_eq!(read("0").unwrap(), 0);
        assert_eq!(read("1000000000").unwrap(), MOST_UNITS);
        for json in [
            "-1",
            "1000000001",
            "9223372036854775807",
            "18446744073709551615",
            "1e30",
            "1.5",
            "\"1\"",
        ] {
            let error = read(json).map(drop).unwrap_err().to_string();
            assert!(
                error.contains("expected a whole number from 0 to 1000000000"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(Text::from("größe").cut(3).as_str(), "grö");
        assert_eq!(Text::from("größe".to_owned()).cut(3).as_str(), "grö");
        assert_eq!(Text::from("größe").cut(5).as_str(), "größe");
    }

    #[test]
    fn ids_keep_all_bits() {
        for (json, text) in [
            ("18446744073709551615", "18446744073709551615"),
            ("9007199254740993", "9007199254740993"),
            ("-1", "-1"),
            ("\"gid\\/1\"", "gid/1"),
            ("\"gid://shopify/Order/917001\"", "917001"),
            (
                "\"gid:\\/\\/shopify\\/Customer\\/9007199254740993\"",
                "9007199254740993",
            ),
            ("\"gid://shopify/Order/917001?x\"", "gid://shopify/Order/917001?x"),
            ("\"gid://shopify/Order/\"", "gid://shopify/Order/"),
            ("\"gid://other/Order/1\"", "gid://other/Order/1"),
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
            ("2026-01-31T21:30:02-0500", "2026-02-01T02:30:02.000Z"),
            ("2026-01-31 21:30:02.5+0530", "2026-01-31T16:00:02.500Z"),
            ("2026-01-31 21:30:02+00", "2026-01-31T21:30:02.000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59+12:00", "9999-12-31T11:59:59.000Z"),
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
            "2026-01-31T21:30:02-05000",
            "2026-01-31T21:30:02-0é",
            "2026-01-31T21:30:02+0é0",
            "9999-12-31T23:59:59-12:00",
            "9999-12-31T23:59:59.999999999-00:01",
            "0000-12-31T23:59:59Z",
            "0000-12-31T23:59:59-12:00",
            "0001-01-01T00:00:00+12:00",
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
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = Timestamp::parse(text.as_str().into());
        }
    }
}
