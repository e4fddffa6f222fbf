//! JSON objects into typed values, with errors that can be shown.
//!
//! Owns what an error about somebody's JSON may say: the field, what was expected, the position. Never a value, since
//! the texts of `serde_json` repeat what they met and a body holds personal data.

mod fields;
mod filter;
pub(crate) mod members;
mod read_error;
mod reader;
mod scan;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

pub(crate) use self::fields::fields;
pub(crate) use self::filter::{Kept, filtered};
use self::read_error::ReadError;

/// Reads one JSON object.
///
/// # Errors
/// Where the bytes are no JSON, no object, or a field is not as `T` needs it.
pub fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, InvalidJson> {
    let json = without_mark(json);
    // A derived struct also reads an array, by position.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(InvalidJson {
            field: String::new(),
            problem: "not a JSON object".to_owned(),
            position: None,
        });
    }
    // Checked once as a whole, text need not be checked string by string. What is not UTF-8 may still be read where the
    // fault is in nothing that `T` reads.
    match std::str::from_utf8(json) {
        Ok(text) => reader::read(text).map_err(|(error, at)| InvalidJson::of(error, text, at)),
        Err(_) => read_bytes(json),
    }
}

/// Reads one JSON value of any form; `None` where it is not as `T` needs it, or a list stands in
/// the place of an object.
pub(crate) fn value<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    reader::read(json).ok()
}

/// Line and column of a byte, both from 1 on, as `serde_json` counts them.
fn position(json: &[u8], at: usize) -> (usize, usize) {
    let before = json.get(..at).unwrap_or_default();
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let start = before
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |newline| newline + 1);
    (line, at - start + 1)
}

/// The JSON with U+FFFD for what no text can hold: an escaped NUL, which PostgreSQL refuses, and half a surrogate pair.
/// Both stand only as escapes in strings, at any depth, and what takes their place is as long.
#[must_use]
pub fn mended(json: &[u8]) -> Cow<'_, [u8]> {
    let mut mended = Cow::Borrowed(json);
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', json.get(at..).unwrap_or_default()) {
        at += found;
        let Some(unit) = unit(json, at) else {
            // The escape of one character, which may be a backslash.
            at += 2;
            continue;
        };
        let is_pair = (0xD800..0xDC00).contains(&unit)
            && self::unit(json, at + 6).is_some_and(|second| (0xDC00..0xE000).contains(&second));
        if is_pair {
            at += 12;
            continue;
        }
        if unit == 0 || (0xD800..0xE000).contains(&unit) {
            let escape = at..at + REPLACEMENT.len();
            if let Some(escape) = mended.to_mut().get_mut(escape) {
                escape.copy_from_slice(REPLACEMENT);
            }
        }
        at += 6;
    }
    mended
}

/// U+FFFD, as long as any escape of a UTF-16 unit.
const REPLACEMENT: &[u8; 6] = b"\\ufffd";

/// The UTF-16 unit whose escape stands there.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    // Not `from_str_radix` alone, which would take a sign.
    let digits = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

/// The JSON behind a byte order mark, where there is one: some programs write it before all text.
#[must_use]
pub fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(json)
}

/// The text of a JSON string, borrowed where it has no escapes; `None` of any other value.
#[must_use]
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    let plain = raw.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(plain))
    }
}

/// Reads JSON that is not UTF-8 throughout. The field at fault is not known then.
#[cold]
fn read_bytes<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, InvalidJson> {
    serde_json::from_slice(json).map_err(|error| InvalidJson::of_serde_json(&error))
}

/// JSON that is not as it must be. Its text never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidJson {
    field: String,
    problem: String,
    position: Option<(usize, usize)>,
}

impl InvalidJson {
    fn of(error: ReadError, json: &str, at: usize) -> Self {
        let mismatch = match error {
            ReadError::Mismatch(mismatch) => mismatch,
            // `serde_json` tells what is no JSON where.
            ReadError::Syntax => {
                return match serde_json::from_str::<IgnoredAny>(json) {
                    Err(error) => Self::of_serde_json(&error),
                    Ok(IgnoredAny) => Self {
                        field: String::new(),
                        problem: "not JSON".to_owned(),
                        position: Some(position(json.as_bytes(), at)),
                    },
                };
            }
        };
        Self {
            field: mismatch.field(),
            position: Some(position(json.as_bytes(), mismatch.at)),
            problem: mismatch.problem,
        }
    }

    fn of_serde_json(error: &serde_json::Error) -> Self {
        let problem = if error.is_eof() {
            "the JSON ends too early".to_owned()
        } else if error.is_syntax() || error.is_io() {
            "not JSON".to_owned()
        } else {
            let text = error.to_string();
            let position = format!(" at line {} column {}", error.line(), error.column());
            problem(text.strip_suffix(&position).unwrap_or(&text))
        };
        Self {
            field: String::new(),
            problem,
            position: Some((error.line(), error.column())),
        }
    }

    /// Path of the field at fault (`line_items[2].price`); empty where it is the JSON as a whole.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }
}

/// What was expected, out of an error text of serde, in which what was met comes first and may quote anything.
fn problem(text: &str) -> String {
    match text.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None if text.starts_with("missing field `") => text.to_owned(),
        None => "not as expected".to_owned(),
    }
}

impl fmt::Display for InvalidJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.problem)?;
        match self.position {
            Some((line, column)) => write!(f, " (line {line}, column {column})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Amount, Id, Timestamp};

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read by serde")]
    struct Probe<'a> {
        #[serde(default)]
        price: Option<Amount>,
        #[serde(borrow, default)]
        at: Option<Timestamp<'a>>,
        #[serde(borrow, default)]
        lines: Vec<Line<'a>>,
        #[serde(default)]
        test: bool,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read by serde")]
    struct Line<'a> {
        #[serde(borrow)]
        id: Id<'a>,
    }

    #[test]
    fn what_no_text_can_hold_becomes_a_replacement_character() {
        for (json, expected) in [
            (r#"{"a":"b\/\n\u00e9"}"#, r#"{"a":"b\/\n\u00e9"}"#),
            (r#""\u0000""#, r#""\ufffd""#),
            (
                r#"["\ud800","\uDFFFx",{"\u0000":1}]"#,
                r#"["\ufffd","\ufffdx",{"\ufffd":1}]"#,
            ),
            (r#""\ud83d\ude00\ud83d""#, r#""\ud83d\ude00\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\u0000 \\\u0000""#, r#""\\u0000 \\\ufffd""#),
            (r#""\ud80"#, r#""\ud80"#),
            (r#""\"#, r#""\"#),
            (r#""\u+000""#, r#""\u+000""#),
        ] {
            let found = mended(json.as_bytes());
            assert_eq!(std::str::from_utf8(&found).unwrap(), expected);
            assert_eq!(matches!(found, Cow::Borrowed(_)), json == expected, "{json}");
        }
    }

    #[test]
    fn errors_name_field_and_expectation_and_never_a_value() {
        for (json, text) in [
            (
                r#"{"price":"secret"}"#,
                "price: expected an exact decimal amount below 10^15 with at most 9 decimals",
            ),
            (
                r#"{"at":"secret, expected secret at line 9"}"#,
                "at: expected a point in time",
            ),
            (
                r#"{"lines":[{"id":1},{"id":{"secret":1}}]}"#,
                "lines[1].id: expected a string without NUL or a whole number",
            ),
            (
                r#"{"lines":[{"id":"secret\u0000"}]}"#,
                "lines[0].id: expected a string without NUL",
            ),
            (r#"{"lines":[{"sku":"secret"}]}"#, "lines[0]: missing field `id`"),
            (r#"{"lines":"secret"}"#, "lines: expected a sequence"),
            (
                r#"{"test":"x, expected secret at line 1 column 2"}"#,
                "test: expected a boolean (line 1, column",
            ),
            (
                r#"{"test":"missing field `secret"}"#,
                "test: expected a boolean (line 1, column",
            ),
            (
                "{\"price\":1,\n\"lines\":[{\"id\":1},[\"secret\"]]}",
                "lines[1]: expected an object (line 2, column 19)",
            ),
            (r#"{"price":"1.00","#, "the JSON ends too early (line 1, column 16)"),
            (r#"{"price":secret}"#, "not JSON (line 1, column 10)"),
            (r#"{} "secret""#, "more than one JSON value"),
            (r#"["secret"]"#, "not a JSON object"),
            ("", "not a JSON object"),
            ("secret", "not a JSON object"),
        ] {
            let shown = parse::<Probe<'_>>(json.as_bytes()).unwrap_err().to_string();
            assert!(shown.starts_with(text), "{json}: {shown}");
            assert!(!shown.contains("secret"), "{json}: {shown}");
        }
    }

    #[test]
    fn a_fault_in_what_nobody_reads_is_none() {
        let probe: Probe<'_> = parse(b"{\"note\":\"\xFF\",\"test\":true}").unwrap();
        assert!(probe.test);
        assert!(parse::<Probe<'_>>(b"{\"lines\":[{\"id\":\"\xFF\"}]}").is_err());
    }
}
