//! A body without its personal fields, for `ORDERSTREAM_KEEP_RAW=redacted`.
//!
//! Owns the list. Everything else is copied byte for byte, so amounts and ids stay as they were
//! written.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::json;

/// Fields that are left out wherever they are nested. `customer` and `user` objects go too, but for
/// their `id`.
pub const PERSONAL_FIELDS: [&str; 54] = [
    "account_number",
    "address1",
    "address2",
    "addresses",
    "attributed_staffs",
    "authorization",
    "billing_address",
    "browser_ip",
    "buyer_accepts_marketing",
    "cart_token",
    "checkout_token",
    "city",
    "client_details",
    "company",
    "confirmation_number",
    "contact_email",
    "customer_url",
    "default_address",
    "destination",
    "device_id",
    "email",
    "first_name",
    "ip_address",
    "landing_site",
    "landing_site_ref",
    "last_name",
    "latitude",
    "longitude",
    "message",
    "note",
    "note_attributes",
    "order_status_url",
    "origin_location",
    "destination_location",
    "payment_details",
    "payment_id",
    "phone",
    "properties",
    "province",
    "province_code",
    "receipt",
    "referring_site",
    "shipping_address",
    "sms_marketing_consent",
    "email_marketing_consent",
    "staff_note",
    "token",
    "tracking_number",
    "tracking_numbers",
    "tracking_url",
    "tracking_urls",
    "user_agent",
    "user_id",
    "zip",
];

/// Objects of which only the `id` stays.
const PERSONS: [&str; 2] = ["customer", "user"];

/// Deeper nesting than any body has; what lies deeper is left out.
const MAX_DEPTH: usize = 32;

/// The body without [`PERSONAL_FIELDS`]; `None` where it is not JSON, so that its fields cannot be
/// found.
#[must_use]
pub fn redact(body: &[u8]) -> Option<Vec<u8>> {
    let value: &RawValue = serde_json::from_slice(json::without_mark(body)).ok()?;
    let mut out = String::with_capacity(body.len());
    copy(value.get(), MAX_DEPTH, &mut out)?;
    Some(out.into_bytes())
}

fn copy(json: &str, depth: usize, out: &mut String) -> Option<()> {
    if depth == 0 {
        out.push_str("null");
        return Some(());
    }
    match json.as_bytes().first() {
        Some(b'{') => object(json, |name| !PERSONAL_FIELDS.contains(&name), depth, out),
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            out.push('[');
            for (index, value) in values.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                copy(value.get(), depth - 1, out)?;
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

fn object(json: &str, keep: fn(&str) -> bool, depth: usize, out: &mut String) -> Option<()> {
    let ObjectMembers(members) = serde_json::from_str(json).ok()?;
    out.push('{');
    for (index, (name, value)) in members.iter().filter(|(name, _)| keep(name)).enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&serde_json::to_string(name).ok()?);
        out.push(':');
        if PERSONS.contains(&name.as_ref()) && value.get().starts_with('{') {
            object(value.get(), |name| name == "id", depth - 1, out)?;
        } else {
            copy(value.get(), depth - 1, out)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(json: &str) -> String {
        String::from_utf8(redact(json.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn personal_fields_go_wherever_they_are_and_the_rest_stays_as_written() {
        assert_eq!(
            redacted(
                r#" { "id": 9007199254740993, "email":"a@b.c", "total_price" : "0.10", "subtotal": 89.990,
                    "customer": {"id": 7, "email": "a@b.c", "tags": ["vip"]}, "url":"a\/b",
                    "refunds": [{"note":"x","transactions":[{"amount":1.0,"receipt":{"deep":1}}]}, null],
                    "em\u0061il":"a@b.c" } "#
            ),
            r#"{"id":9007199254740993,"total_price":"0.10","subtotal":89.990,"customer":{"id":7},"url":"a\/b","refunds":[{"transactions":[{"amount":1.0}]},null]}"#
        );
        assert_eq!(
            redacted(r#"{"customer":null,"user":"x"}"#),
            r#"{"customer":null,"user":"x"}"#
        );
    }

    #[test]
    fn what_is_not_json_is_not_kept() {
        for body in ["", "{", "secret", "{\"a\":1} {}"] {
            assert_eq!(redact(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let depth = 100_000;
        let json = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let short = redacted(&json);
        assert!(short.len() < 2 * MAX_DEPTH + 8, "{}", short.len());
    }

    #[test]
    fn the_list_names_each_field_once() {
        let mut fields = PERSONAL_FIELDS.to_vec();
        fields.sort_unstable();
        fields.dedup();
        assert_eq!(fields.len(), PERSONAL_FIELDS.len());
    }
}
