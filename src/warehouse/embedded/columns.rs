//! Rows as SQLite keeps them: amounts as they were sent, times as text that sorts, JSON as text.
//!
//! Owns the text of each. Everything is owned, since it is written on another thread.

use rusqlite::types::Value;
use rust_decimal::Decimal;
use time::{Date, OffsetDateTime, UtcOffset};

use crate::warehouse::rows;

/// Earlier than every time, and no time.
const EARLIEST: &str = "-infinity";

/// One column of all rows.
pub(super) struct ValueColumn {
    /// Its name.
    pub(super) name: &'static str,
    /// A value a row.
    pub(super) values: Vec<Value>,
    /// Holds a value that cannot be kept.
    pub(super) unfit: bool,
}

impl ValueColumn {
    /// `None` out of `write` is a value that does not fit.
    fn new<T>(name: &'static str, values: impl Iterator<Item = Option<T>>, write: impl Fn(T) -> Option<Value>) -> Self {
        let mut unfit = false;
        let values = values.map(|value| {
            let Some(value) = value else { return Value::Null };
            write(value).unwrap_or_else(|| {
                unfit = true;
                Value::Null
            })
        });
        Self {
            name,
            values: values.collect(),
            unfit,
        }
    }
}

impl<'a> rows::Column<'a> for ValueColumn {
    fn text(name: &'static str, values: impl Iterator<Item = Option<&'a str>>) -> Self {
        Self::new(name, values, |text| Some(Value::Text(text.to_owned())))
    }

    fn json(name: &'static str, values: impl Iterator<Item = Option<&'a str>>) -> Self {
        Self::text(name, values)
    }

    fn bytes(name: &'static str, values: impl Iterator<Item = Option<&'a [u8]>>) -> Self {
        Self::new(name, values, |bytes| Some(Value::Blob(bytes.to_owned())))
    }

    fn numeric(name: &'static str, values: impl Iterator<Item = Option<Decimal>>) -> Self {
        Self::new(name, values, amount)
    }

    fn int4(name: &'static str, values: impl Iterator<Item = i32>) -> Self {
        Self::int8(name, values.map(|number| Some(number.into())))
    }

    fn int8(name: &'static str, values: impl Iterator<Item = Option<i64>>) -> Self {
        Self::new(name, values, |number| Some(Value::Integer(number)))
    }

    fn boolean(name: &'static str, values: impl Iterator<Item = Option<bool>>) -> Self {
        Self::int8(name, values.map(|value| value.map(i64::from)))
    }

    fn date(name: &'static str, values: impl Iterator<Item = Date>) -> Self {
        Self::new(name, values.map(Some), |day| Some(Value::Text(date_text(day)?)))
    }

    fn instant(name: &'static str, values: impl Iterator<Item = Option<OffsetDateTime>>) -> Self {
        Self::new(name, values, instant)
    }

    fn version(name: &'static str, values: impl Iterator<Item = Option<OffsetDateTime>>) -> Self {
        Self::new(name, values.map(Some), |at| match at {
            Some(at) => instant(at),
            None => Some(Value::Text(EARLIEST.to_owned())),
        })
    }
}

/// With its digits; never `-0`, which no other store knows.
fn amount(amount: Decimal) -> Option<Value> {
    let mut amount = amount;
    if amount.is_zero() {
        amount.set_sign_positive(true);
    }
    Some(Value::Text(amount.to_string()))
}

/// UTC to the microsecond, always 27 characters.
pub(super) fn instant(at: OffsetDateTime) -> Option<Value> {
    let at = at.checked_to_offset(UtcOffset::UTC)?;
    let (hour, minute, second, micros) = at.to_hms_micro();
    let day = date_text(at.date())?;
    Some(Value::Text(format!(
        "{day}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
    )))
}

/// Years of four digits: what sorts as text.
fn date_text(day: Date) -> Option<String> {
    let (year, month, day) = (day.year(), u8::from(day.month()), day.day());
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02}"))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn text(value: Option<Value>) -> Option<String> {
        match value {
            Some(Value::Text(text)) => Some(text),
            Some(Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_)) | None => None,
        }
    }

    #[test]
    fn amounts_keep_their_digits() {
        for (written, kept) in [
            ("5900", Some("5900")),
            ("0.10", Some("0.10")),
            ("-0.50", Some("-0.50")),
            ("-0.00", Some("0.00")),
            ("999999999999999999.99", Some("999999999999999999.99")),
        ] {
            assert_eq!(text(amount(written.parse().unwrap())).as_deref(), kept, "{written}");
        }
    }

    #[test]
    fn times_are_utc_and_of_one_width() {
        for (at, kept) in [
            (datetime!(2026-01-31 21:30:02.5 -5), Some("2026-02-01T02:30:02.500000Z")),
            (
                datetime!(0001-01-01 00:00:00.000001 UTC),
                Some("0001-01-01T00:00:00.000001Z"),
            ),
            (datetime!(0000-01-01 00:00 +1), None),
            (datetime!(9999-12-31 23:59 -1), None),
        ] {
            assert_eq!(text(instant(at)).as_deref(), kept, "{at}");
        }
    }
}
