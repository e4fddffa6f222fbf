//! Members of a JSON object that may be damaged: what stands before the damage is read.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// The values under these names at the top of a JSON object, as far as it can be read. Of a name that stands there twice,
/// the later one.
pub(crate) fn members<'j, const N: usize>(json: &'j [u8], names: [&str; N]) -> [Option<&'j RawValue>; N] {
    let mut members = Members {
        names,
        found: [None; N],
    };
    // What was found until an error stays.
    let _ = serde_json::Deserializer::from_slice(json).deserialize_map(&mut members);
    members.found
}

/// The text of a string, or the digits of a whole number; `None` of any other value, and of an empty one.
pub(crate) fn text(value: &RawValue) -> Option<String> {
    let raw = value.get();
    let text = match super::string(raw) {
        Some(text) => text.into_owned(),
        None => raw.to_owned(),
    };
    let is_text = raw.starts_with('"') || raw.bytes().all(|byte| byte.is_ascii_digit());
    (is_text && !text.is_empty()).then_some(text)
}

struct Members<'n, 'j, const N: usize> {
    names: [&'n str; N],
    found: [Option<&'j RawValue>; N],
}

impl<'j, const N: usize> Visitor<'j> for &mut Members<'_, 'j, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let value: &RawValue = map.next_value()?;
            if let Some(at) = self.names.iter().position(|wanted| *wanted == name) {
                self.found[at] = Some(value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &[u8]) -> [Option<String>; 2] {
        members(json, ["id", "name"]).map(|value| value.and_then(text))
    }

    #[test]
    fn what_stands_before_the_damage_is_read() {
        let some = |text: &str| Some(text.to_owned());
        for (json, found) in [
            (
                &br#"{"id":9100000000000000123,"name":"\u00e98"}"#[..],
                [some("9100000000000000123"), some("é8")],
            ),
            (br#"{"id":7,"name":"a","tags":"b""#, [some("7"), some("a")]),
            (br#"{"id":7,"tags":tru"#, [some("7"), None]),
            (b"{\"id\":\"7\",\"note\":\"\xFF\",\"name\":\"a\"}", [some("7"), None]),
            (br#"{"id":{"id":7},"name":["a"]}"#, [None, None]),
            (br#"{"id":1.5,"name":""}"#, [None, None]),
            (br#"{"id":1,"id":2}"#, [some("2"), None]),
            (br#"[{"id":1}]"#, [None, None]),
            (b"", [None, None]),
        ] {
            assert_eq!(read(json), found, "{}", String::from_utf8_lossy(json));
        }
    }
}
