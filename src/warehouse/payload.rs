//! Whether two payloads say the same: compared as JSON, not as text.
//!
//! Pure, and the same for every store: PostgreSQL keeps payloads as `jsonb` and SQLite keeps them
//! as text, and a known event id with another payload has to be distinguished from a second
//! delivery of the same event in both. Invariant: whatever `jsonb` calls equal is equal here (order
//! of keys, escapes, `0.1` and `0.10`); numbers are compared by their digits, so that none is
//! rounded.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::event::{EventRecord, json, without_person};

/// Deeper JSON counts as different; `serde_json` reads no deeper either.
const DEPTH: u32 = 128;

/// The field that a webhook has from its headers, or from its receipt, where its body has no time.
const TIME: &str = "timestamp";

/// How the payload of a known event is compared with that of its row.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventComparison {
    /// The event's `timestamp` need not be its body's: two deliveries of one body may differ in it.
    without_time: bool,
    /// The event is without what is personal, which the row may still have.
    pub(super) is_erased: bool,
}

impl EventComparison {
    pub(super) fn of(record: &EventRecord<'_>) -> Self {
        let source = record.provenance.source.as_ref();
        let is_triggered_at = |at| at == record.event.timestamp.instant();
        Self {
            without_time: source.is_some_and(|source| source.as_str() == "shopify")
                && record.triggered_at.is_none_or(is_triggered_at),
            is_erased: record.is_erased,
        }
    }

    pub(super) fn is_same(self, stored: &str, payload: &str) -> bool {
        let is_same = |stored: &str| is_same(stored, payload, self.without_time);
        is_same(stored) || (self.is_erased && without_person(stored).is_some_and(|stored| is_same(&stored)))
    }
}

/// Whether both payloads are the same JSON; `without_time` leaves their `timestamp` out.
fn is_same(one: &str, other: &str, without_time: bool) -> bool {
    if one == other {
        return true;
    }
    let (Some(mut one), Some(mut other)) = (object(one), object(other)) else {
        return false;
    };
    if without_time {
        one.remove(TIME);
        other.remove(TIME);
    }
    is_same_object(&one, &other, 0)
}

type Object<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

fn object(text: &str) -> Option<Object<'_>> {
    // Of a key that comes twice the last value counts, as in `jsonb`.
    serde_json::from_str(text).ok()
}

fn is_same_object(one: &Object<'_>, other: &Object<'_>, depth: u32) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|((name, value), (other_name, other_value))| {
            name == other_name && is_same_value(value.get(), other_value.get(), depth + 1)
        })
}

fn is_same_value(one: &str, other: &str, depth: u32) -> bool {
    if one == other {
        return true;
    }
    if depth > DEPTH {
        return false;
    }
    match (one.as_bytes().first(), other.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => match (object(one), object(other)) {
            (Some(one), Some(other)) => is_same_object(&one, &other, depth),
            _ => false,
        },
        (Some(b'['), Some(b'[')) => match (list(one), list(other)) {
            (Some(one), Some(other)) => {
                let mut pairs = one.iter().zip(&other);
                one.len() == other.len() && pairs.all(|(a, b)| is_same_value(a.get(), b.get(), depth + 1))
            }
            _ => false,
        },
        (Some(b'"'), Some(b'"')) => json::string(one).is_some_and(|one| Some(one) == json::string(other)),
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
            number(one).is_some_and(|one| Some(one) == number(other))
        }
        _ => false,
    }
}

fn list(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(text).ok()
}

/// Sign, significant digits and the power of ten of the last of them; zero has none of them.
fn number(text: &str) -> Option<(bool, String, i64)> {
    let (digits, power) = match text.split_once(['e', 'E']) {
        Some((digits, power)) => (digits, power.parse().ok()?),
        None => (text, 0_i64),
    };
    let (is_negative, digits) = digits.strip_prefix('-').map_or((false, digits), |rest| (true, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{part}");
    let significant = all.trim_end_matches('0');
    let shifted = i64::try_from(all.len() - significant.len()).ok()?;
    let places = i64::try_from(part.len()).ok()?;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let power = power.checked_sub(places)?.checked_add(shifted)?;
    Some((is_negative, significant.to_owned(), power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_as_json_is_the_same() {
        for (one, other) in [
            (r#"{"a":1,"b":[2,"x"]}"#, r#"{ "b" : [2.0, "\u0078"], "a" : 1 }"#),
            (r#"{"a":0.10}"#, r#"{"a":0.1}"#),
            (r#"{"a":5900}"#, r#"{"a":5.9e3}"#),
            (r#"{"a":-0.0}"#, r#"{"a":0}"#),
            (r#"{"a":10}"#, r#"{"a":1E+1}"#),
            (r#"{"a":0.001}"#, r#"{"a":1e-3}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":"\ud83d\ude00"}"#, r#"{"a":"😀"}"#),
        ] {
            assert!(is_same(one, other, false), "{one} {other}");
            assert!(is_same(other, one, false), "{other} {one}");
        }
    }

    #[test]
    fn what_differs_in_a_digit_or_a_type_is_not() {
        for (one, other) in [
            (r#"{"a":12345678901234567890.01}"#, r#"{"a":12345678901234567890.02}"#),
            (r#"{"a":5900}"#, r#"{"a":"5900"}"#),
            (r#"{"a":1}"#, r#"{"a":10}"#),
            (r#"{"a":1}"#, r#"{"a":-1}"#),
            (r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":null}"#, r#"{"a":false}"#),
            (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#),
            (r#"{"a":[1]}"#, r#"{"a":[1,1]}"#),
            (r#"{"a":{}}"#, r#"{"a":[]}"#),
            (r#"{"a":1,"b":1}"#, r#"{"a":1,"c":1}"#),
            (r#"{"a":1}"#, "[1]"),
            (r#"{"a":1}"#, "{"),
        ] {
            assert!(!is_same(one, other, false), "{one} {other}");
            assert!(!is_same(other, one, false), "{other} {one}");
        }
        let deep = |end: &str| format!(r#"{{"a":{}{end}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert!(!is_same(&deep("1"), &deep("1.0"), false), "it ends");
    }

    #[test]
    fn a_time_of_receipt_is_left_out() {
        let at = |time: &str, order: u8| format!(r#"{{"timestamp":"{time}","order_id":"{order}"}}"#);
        assert!(is_same(
            &at("2026-01-01T00:00:00Z", 1),
            &at("2026-01-01T00:00:09Z", 1),
            true
        ));
        assert!(!is_same(
            &at("2026-01-01T00:00:00Z", 1),
            &at("2026-01-01T00:00:09Z", 1),
            false
        ));
        assert!(!is_same(
            &at("2026-01-01T00:00:00Z", 1),
            &at("2026-01-01T00:00:00Z", 2),
            true
        ));
    }
}
