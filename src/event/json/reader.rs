//! JSON into typed values, in seven tenths of the time that `serde_json` takes for an order.
//!
//! Owns where a value is not as it must be. Invariants: what it reads, `serde_json` reads as the
//! same value; what that refuses, it does not read, not even in what is ignored; what that reads, it
//! reads too, except a list in the place of an object, and enums with fields.

use std::borrow::Cow;
use std::iter;

use serde::Deserialize;
use serde::de::value::{BorrowedStrDeserializer, MapDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::read_error::{ReadError, Step};
use super::scan::{escape, plain};

/// How `serde_json` asks for a `RawValue`. Where it changes, the tests of this module fail.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Levels of objects and lists, as many as `serde_json` takes.
const LEVELS: u32 = 127;

type Result<T> = std::result::Result<T, ReadError>;

/// Reads one JSON value and nothing behind it. With an error comes the offset at which reading
/// ended, in bytes.
pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> std::result::Result<T, (ReadError, usize)> {
    let mut reader = JsonReader::new(json);
    let value = T::deserialize(&mut reader).and_then(|value| {
        reader.pass_blanks();
        if reader.at < json.len() {
            return Err(ReadError::mismatch_at(reader.at, "more than one JSON value".to_owned()));
        }
        Ok(value)
    });
    value.map_err(|error| (error, reader.at))
}

struct JsonReader<'a> {
    json: &'a str,
    /// Of the next byte.
    at: usize,
    /// That may still be opened.
    levels: u32,
}

/// What runs for every token is inlined: a call would cost as much as it.
impl<'a> JsonReader<'a> {
    fn new(json: &'a str) -> Self {
        Self {
            json,
            at: 0,
            levels: LEVELS,
        }
    }

    #[inline(always)]
    fn byte(&self) -> Result<u8> {
        self.json.as_bytes().get(self.at).copied().ok_or(ReadError::Syntax)
    }

    /// The next byte that is no blank.
    #[inline(always)]
    fn peek(&mut self) -> Result<u8> {
        let byte = self.byte()?;
        if byte > b' ' {
            return Ok(byte);
        }
        self.pass_blanks();
        self.byte()
    }

    fn pass_blanks(&mut self) {
        while let Ok(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
    }

    #[inline(always)]
    fn pass(&mut self, expected: u8) -> Result<()> {
        if self.peek()? != expected {
            return Err(ReadError::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    #[inline(always)]
    fn pass_word(&mut self, word: &str) -> Result<()> {
        let rest = self.json.as_bytes().get(self.at..).ok_or(ReadError::Syntax)?;
        if !rest.starts_with(word.as_bytes()) {
            return Err(ReadError::Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    /// Answers whether the string stands as it is meant, without escapes.
    #[inline(always)]
    fn pass_string(&mut self) -> Result<bool> {
        self.pass(b'"')?;
        let bytes = self.json.as_bytes();
        let mut at = self.at;
        let mut is_plain = true;
        loop {
            at += plain(bytes.get(at..).unwrap_or_default());
            match *bytes.get(at).ok_or(ReadError::Syntax)? {
                b'"' => break,
                b'\\' => {
                    at += escape(&bytes[at..])?;
                    is_plain = false;
                }
                ..b' ' => return Err(ReadError::Syntax),
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Ok(is_plain)
    }

    /// Answers whether the number is a whole one.
    #[inline(always)]
    fn pass_number(&mut self) -> Result<bool> {
        if self.byte()? == b'-' {
            self.at += 1;
        }
        match self.byte()? {
            b'0' => self.at += 1,
            _ => self.pass_digits()?,
        }
        let mut is_whole = true;
        if let Ok(b'.') = self.byte() {
            self.at += 1;
            self.pass_digits()?;
            is_whole = false;
        }
        if let Ok(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Ok(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.pass_digits()?;
            is_whole = false;
        }
        Ok(is_whole)
    }

    #[inline(always)]
    fn pass_digits(&mut self) -> Result<()> {
        let first = self.at;
        while let Ok(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == first {
            Err(ReadError::Syntax)
        } else {
            Ok(())
        }
    }

    /// Passes a value that is not read.
    fn pass_value(&mut self) -> Result<()> {
        match self.peek()? {
            b'"' => self.pass_string().map(drop),
            b'-' | b'0'..=b'9' => self.pass_number().map(drop),
            b'{' => self.inside(|mut members| {
                while members.go_on()? {
                    members.reader.pass_string()?;
                    members.reader.pass(b':')?;
                    members.reader.pass_value()?;
                }
                Ok(())
            }),
            b'[' => self.inside(|mut members| {
                while members.go_on()? {
                    members.reader.pass_value()?;
                }
                Ok(())
            }),
            b't' => self.pass_word("true"),
            b'f' => self.pass_word("false"),
            b'n' => self.pass_word("null"),
            _ => Err(ReadError::Syntax),
        }
    }

    /// What was passed since `start`.
    fn since(&self, start: usize) -> Result<&'a str> {
        self.json.get(start..self.at).ok_or(ReadError::Syntax)
    }

    #[inline(always)]
    fn string<V: Visitor<'a>>(&mut self, visitor: V) -> Result<V::Value> {
        self.peek()?;
        let start = self.at;
        if self.pass_string()? {
            let text = self.json.get(start + 1..self.at - 1).ok_or(ReadError::Syntax)?;
            return visitor.visit_borrowed_str(text);
        }
        let text = serde_json::from_str(self.since(start)?).map_err(|_| ReadError::Syntax)?;
        visitor.visit_string(text)
    }

    fn number<V: Visitor<'a>>(&mut self, visitor: V) -> Result<V::Value> {
        let start = self.at;
        let is_whole = self.pass_number()?;
        let digits = self.since(start)?;
        if is_whole && let Ok(number) = digits.parse() {
            return visitor.visit_u64(number);
        }
        if is_whole
            && digits != "-0"
            && let Ok(number) = digits.parse()
        {
            return visitor.visit_i64(number);
        }
        visitor.visit_f64(serde_json::from_str(digits).map_err(|_| ReadError::Syntax)?)
    }

    /// What stands between a bracket and its counterpart.
    fn inside<T>(&mut self, read: impl FnOnce(ContainerAccess<'_, 'a>) -> Result<T>) -> Result<T> {
        let end = self.byte()? + 2;
        self.levels = self.levels.checked_sub(1).ok_or(ReadError::Syntax)?;
        self.at += 1;
        let value = read(ContainerAccess {
            reader: self,
            end,
            is_first: true,
            name_at: 0,
            elements: 0,
        })?;
        self.pass(end)?;
        self.levels += 1;
        Ok(value)
    }
}

impl<'a> Deserializer<'a> for &mut JsonReader<'a> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        match self.peek()? {
            b'"' => self.string(visitor),
            b'-' | b'0'..=b'9' => self.number(visitor),
            b'{' => self.inside(|members| visitor.visit_map(members)),
            b'[' => self.inside(|members| visitor.visit_seq(members)),
            b't' => self.pass_word("true").and_then(|()| visitor.visit_bool(true)),
            b'f' => self.pass_word("false").and_then(|()| visitor.visit_bool(false)),
            b'n' => self.pass_word("null").and_then(|()| visitor.visit_unit()),
            _ => Err(ReadError::Syntax),
        }
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        if self.peek()? == b'n' {
            self.pass_word("null")?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, name: &'static str, visitor: V) -> Result<V::Value> {
        if name != RAW_VALUE {
            return visitor.visit_newtype_struct(self);
        }
        self.peek()?;
        let start = self.at;
        self.pass_value()?;
        let raw = BorrowedStrDeserializer::new(self.since(start)?);
        visitor.visit_map(MapDeserializer::new(iter::once((RAW_VALUE, raw))))
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        // A derived struct would read a list as its fields in the order of their declaration.
        if self.peek()? == b'[' {
            return Err(ReadError::mismatch_at(self.at, "expected an object".to_owned()));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let name = Cow::<str>::deserialize(self)?;
        visitor.visit_enum(name.into_deserializer())
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        self.string(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        self.pass_value()?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map
    }
}

/// Of an object or a list.
struct ContainerAccess<'r, 'a> {
    reader: &'r mut JsonReader<'a>,
    /// The closing bracket.
    end: u8,
    is_first: bool,
    /// Of the last name, in an object.
    name_at: usize,
    /// Elements begun, in a list.
    elements: usize,
}

impl ContainerAccess<'_, '_> {
    /// Whether there is one more; passes the comma before it.
    #[inline(always)]
    fn go_on(&mut self) -> Result<bool> {
        let next = self.reader.peek()?;
        if next == self.end {
            return Ok(false);
        }
        if !std::mem::take(&mut self.is_first) {
            self.reader.pass(b',')?;
        }
        Ok(true)
    }

    #[cold]
    fn name(&self) -> String {
        let mut reader = JsonReader::new(self.reader.json);
        reader.at = self.name_at;
        String::deserialize(&mut reader).unwrap_or_default()
    }
}

impl<'a> MapAccess<'a> for ContainerAccess<'_, 'a> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if !self.go_on()? {
            return Ok(None);
        }
        if self.reader.peek()? != b'"' {
            return Err(ReadError::Syntax);
        }
        self.name_at = self.reader.at;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value> {
        self.reader.pass(b':')?;
        self.reader.peek()?;
        let at = self.reader.at;
        let value = seed.deserialize(&mut *self.reader);
        value.map_err(|error| error.within(Step::Member(self.name()), at))
    }
}

impl<'a> SeqAccess<'a> for ContainerAccess<'_, 'a> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if !self.go_on()? {
            return Ok(None);
        }
        self.reader.peek()?;
        let at = self.reader.at;
        let index = self.elements;
        self.elements += 1;
        let value = seed.deserialize(&mut *self.reader);
        value.map(Some).map_err(|error| error.within(Step::Element(index), at))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    use super::*;
    use crate::event::{Amount, Id, Text};

    #[derive(Debug, PartialEq, Deserialize)]
    struct Probe<'a> {
        #[serde(borrow)]
        text: Option<Text<'a>>,
        #[serde(borrow)]
        id: Option<Id<'a>>,
        amount: Option<Amount>,
        whole: Option<i64>,
        flag: Option<bool>,
        #[serde(borrow)]
        list: Option<Vec<Probe<'a>>>,
    }

    /// A string, number or word as it may stand in JSON, and some that may not.
    fn scalar() -> impl Strategy<Value = String> {
        let words = "null true false nul truth";
        let numbers = "0 -0 00 - -1 +1 01 1. .5 1.50 -0.10 1e5 1E-2 1e 18446744073709551615 18446744073709551616";
        let ends = "9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809";
        let strings = r#""" "\u00e9" "\u00" "\ud83d\ude00" "\ud800" "\u0000" "\/\b\n\\" "\x" "12.50" " 'a'"#;
        let odd = [words, numbers, ends, strings].map(|some| some.split(' '));
        let odd: Vec<_> = odd.into_iter().flatten().chain(["\"a\tb\"", ""]).collect();
        prop_oneof![
            proptest::sample::select(odd).prop_map(str::to_owned),
            "\"[ -~é€😀\x1f]{0,24}\"",
            "-?[0-9]{1,20}",
        ]
    }

    fn blank() -> impl Strategy<Value = &'static str> {
        prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t"), 1 => Just("\u{b}")]
    }

    /// JSON, and what is nearly JSON.
    fn json() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            8 => proptest::sample::select(&["text", "id", "amount", "whole", "flag", "list", "other"][..])
                .prop_map(|name| format!("\"{name}\"")),
            1 => scalar(),
        ];
        let member =
            move |value| (key.clone(), blank(), value).prop_map(|(key, blank, value)| format!("{key}{blank}:{value}"));
        scalar().prop_recursive(5, 60, 8, move |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..8).prop_map(|list| ("[", list, "]"));
            let object = proptest::collection::vec(member(inner), 0..8).prop_map(|list| ("{", list, "}"));
            let end = prop_oneof![8 => Just(None), 1 => proptest::sample::select(&["]", "}", ",]", ",}", ""][..]).prop_map(Some)];
            (prop_oneof![list, object], blank(), blank(), end).prop_map(|((open, list, close), before, after, end)| {
                let list = list.join(&format!("{before},{after}"));
                format!("{before}{open}{after}{list}{before}{}", end.unwrap_or(close))
            })
        })
    }

    fn agrees<'a, T: Deserialize<'a> + PartialEq + std::fmt::Debug>(
        json: &'a str,
    ) -> std::result::Result<(), TestCaseError> {
        match read::<T>(json) {
            Err((ReadError::Mismatch(error), _)) if error.problem == "expected an object" => {
                prop_assert!(json[error.at..].starts_with('['));
            }
            read => prop_assert_eq!(serde_json::from_str::<T>(json).ok(), read.ok(), "{}", json),
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn reads_only_what_serde_json_reads_and_as_that(json in json(), cut in any::<proptest::sample::Index>(), with in "[\\PC]{0,1}") {
            let at = cut.index(json.len() + 1);
            let at = (0..=at).rev().find(|&at| json.is_char_boundary(at)).unwrap_or(0);
            for json in [json.clone(), json[..at].to_owned(), format!("{}{with}{}", &json[..at], &json[at..])] {
                agrees::<Probe<'_>>(&json)?;
                agrees::<Value>(&json)?;
                agrees::<BTreeMap<String, Probe<'_>>>(&json)?;
                agrees::<IgnoredAny>(&json)?;
            }
        }
    }

    #[test]
    fn the_usual_is_read_here() {
        let json = r#" {"text":"a \"b\" \u00e9","id":820982911946154508,"amount":"10.00","whole":-3,"flag":true,
            "more":{"a":[1,-2.5e3,{"b":{}},[],"c\\"],"d":null},"list":[{"id":"7","amount":0.10,"text":null}]} "#;
        let read = read::<Probe<'_>>(json).unwrap();
        assert_eq!(read, serde_json::from_str(json).unwrap());
        assert_eq!(read.list.unwrap()[0].amount.unwrap().to_string(), "0.10");
        assert!(super::read::<IgnoredAny>(&json[..json.len() - 2]).is_err());
    }

    #[test]
    fn an_error_tells_the_way_to_the_value() {
        for (json, field, problem, at) in [
            ("[]", "", "expected an object", 0),
            (
                r#"{"flag":true,"list":[{}, [null]]}"#,
                "list[1]",
                "expected an object",
                25,
            ),
            (
                r#"{"l\u0069st":[{"list":[{"whole":"7"}]}]}"#,
                "list[0].list[0].whole",
                "expected i64",
                32,
            ),
            (r#"{"flag": 1}"#, "flag", "expected a boolean", 9),
            (r#"{} 1"#, "", "more than one JSON value", 3),
        ] {
            let Err((ReadError::Mismatch(error), _)) = read::<Probe<'_>>(json) else {
                panic!("{json} was read");
            };
            assert_eq!(
                (error.field().as_str(), error.problem.as_str(), error.at),
                (field, problem, at)
            );
        }
    }

    #[test]
    fn an_enum_without_fields_is_read() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Kind {
            Whole,
            InParts,
        }
        let read = read::<Vec<Kind>>(r#"["in_parts","whole"]"#).unwrap();
        assert_eq!(read, [Kind::InParts, Kind::Whole]);
        assert!(super::read::<Kind>(r#""other""#).is_err());
    }

    #[test]
    fn depth_is_bounded() {
        for (levels, usual) in [
            (LEVELS as usize, true),
            (LEVELS as usize + 1, false),
            (1_000_000, false),
        ] {
            let json = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            assert_eq!(super::read::<IgnoredAny>(&json).is_ok(), usual, "{levels}");
            assert_eq!(super::read::<Value>(&json).is_ok(), usual, "{levels}");
        }
    }
}
