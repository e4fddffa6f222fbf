//! A batch's body into its items: a JSON array, or one JSON object a line. Pure; nothing is copied.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::problem::Problem;
use crate::event::json;

/// The items' JSON, at most `limit` of them. A malformed array is refused as a whole; a malformed
/// line is one invalid item.
pub(super) fn split(body: &[u8], limit: usize) -> Result<Vec<&str>, Problem> {
    let body = std::str::from_utf8(json::without_mark(body)).map_err(|_| Problem::MalformedBatch)?;
    let items = match body.trim_ascii_start().as_bytes().first() {
        Some(b'[') => array(body, limit).map_err(|_| Problem::MalformedBatch)?,
        Some(b'{') => lines(body, limit),
        Some(_) | None => return Err(Problem::MalformedBatch),
    };
    items.ok_or(Problem::BatchTooLarge(limit))
}

fn lines(body: &str, limit: usize) -> Option<Vec<&str>> {
    let lines = body.lines().map(str::trim_ascii).filter(|line| !line.is_empty());
    let items: Vec<_> = lines.take(limit.saturating_add(1)).collect();
    (items.len() <= limit).then_some(items)
}

/// `None` where there are more than `limit`; reading stops there, so a body of many tiny items
/// takes no more memory.
fn array(body: &str, limit: usize) -> Result<Option<Vec<&str>>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(body);
    let mut exceeded = false;
    let reading = Array {
        limit,
        exceeded: &mut exceeded,
    };
    let items = reading.deserialize(&mut deserializer);
    if exceeded {
        return Ok(None);
    }
    let items = items?;
    deserializer.end()?;
    Ok(Some(items))
}

struct Array<'e> {
    limit: usize,
    exceeded: &'e mut bool,
}

impl<'de> DeserializeSeed<'de> for Array<'_> {
    type Value = Vec<&'de str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Array<'_> {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<&RawValue>()? {
            if items.len() == self.limit {
                *self.exceeded = true;
                return Err(A::Error::custom("too many"));
            }
            items.push(item.get());
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(body: &str) -> Result<Vec<&str>, &'static str> {
        split(body.as_bytes(), 3).map_err(|problem| {
            if matches!(problem, Problem::BatchTooLarge(3)) {
                "too large"
            } else {
                assert!(matches!(problem, Problem::MalformedBatch));
                "malformed"
            }
        })
    }

    #[test]
    fn splits_both_forms() {
        assert_eq!(outcome("[]"), Ok(vec![]));
        assert_eq!(outcome(" [ {\"a\": 1} , 2 ]\n"), Ok(vec!["{\"a\": 1}", "2"]));
        assert_eq!(outcome("{\"a\":1}"), Ok(vec!["{\"a\":1}"]));
        assert_eq!(outcome("\n{\"a\":1}\r\n\n{broken\n"), Ok(vec!["{\"a\":1}", "{broken"]));
        assert_eq!(outcome("[1,2,3]"), Ok(vec!["1", "2", "3"]));
        assert_eq!(outcome("\u{FEFF}[1]"), Ok(vec!["1"]));
        assert_eq!(outcome("\u{FEFF}{\"a\":1}"), Ok(vec!["{\"a\":1}"]));
    }

    #[test]
    fn refuses_what_is_neither_or_too_many() {
        for body in ["", "  ", "x", "\"text\"", "[1,2", "[1] [2]", "[1,2,]"] {
            assert_eq!(outcome(body), Err("malformed"), "{body:?}");
        }
        assert_eq!(outcome("[1,2,3,4]"), Err("too large"));
        assert_eq!(outcome("[1,2,3,4,broken"), Err("too large"));
        assert_eq!(outcome("{}\n{}\n{}\n{}"), Err("too large"));
        assert!(split(b"[\"\xff\"]", 3).is_err());
    }
}
