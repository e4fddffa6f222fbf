//! A copy of JSON in which some members are left out, wherever they are nested.
//!
//! Everything else is copied byte for byte, so amounts and ids stay as they were written.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deeper nesting than any body has; what lies deeper is left out.
const MAX_DEPTH: usize = 32;

/// What is kept of a member, by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kept {
    /// Nothing, not even its name.
    Nothing,
    /// Its value, filtered likewise.
    Filtered,
    /// Of an object only that member; any other value as it is.
    Only(&'static str),
    /// Of a text what this answers, null where it answers nothing; null for any other value.
    Part(fn(&str) -> Option<String>),
}

/// The copy; `None` where it is no JSON, so that its members cannot be found.
pub(crate) fn filtered(json: &[u8], rule: &dyn Fn(&str) -> Kept) -> Option<Vec<u8>> {
    let value: &RawValue = serde_json::from_slice(super::without_mark(json)).ok()?;
    let mut out = String::with_capacity(json.len());
    copy(value.get(), rule, MAX_DEPTH, &mut out)?;
    Some(out.into_bytes())
}

fn copy(json: &str, rule: &dyn Fn(&str) -> Kept, depth: usize, out: &mut String) -> Option<()> {
    if depth == 0 {
        out.push_str("null");
        return Some(());
    }
    match json.as_bytes().first() {
        Some(b'{') => object(json, rule, depth, out),
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            out.push('[');
            for (index, value) in values.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                copy(value.get(), rule, depth - 1, out)?;
            }
            out.push(']');
            Some(())
        }
        _ => {
            out.push_str(json);
            Some(())
        }
    }
}

fn object(json: &str, rule: &dyn Fn(&str) -> Kept, depth: usize, out: &mut String) -> Option<()> {
    let ObjectMembers(members) = serde_json::from_str(json).ok()?;
    let members = members.into_iter().map(|(name, value)| (rule(&name), name, value));
    out.push('{');
    for (index, (kept, name, value)) in members.filter(|(kept, ..)| !matches!(kept, Kept::Nothing)).enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&serde_json::to_string(&name).ok()?);
        out.push(':');
        match kept {
            Kept::Only(member) if value.get().starts_with('{') => {
                let only = |name: &str| if name == member { Kept::Filtered } else { Kept::Nothing };
                object(value.get(), &only, depth - 1, out)?;
            }
            Kept::Part(of) => {
                let part = serde_json::from_str::<Cow<'_, str>>(value.get()).ok();
                let part = part.and_then(|text| of(&text));
                out.push_str(&serde_json::to_string(&part).ok()?);
            }
            Kept::Nothing | Kept::Filtered | Kept::Only(_) => copy(value.get(), rule, depth - 1, out)?,
        }
    }
    out.push('}');
    Some(())
}

/// Members of an object in their order, values unread.
struct ObjectMembers<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for ObjectMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        struct ObjectMembersVisitor;
        impl<'de> Visitor<'de> for ObjectMembersVisitor {
            type Value = ObjectMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(ObjectMembers(members))
            }
        }
        deserializer.deserialize_map(ObjectMembersVisitor)
    }
}
