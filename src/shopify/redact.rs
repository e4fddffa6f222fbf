//! A body without its personal fields, for `ORDERSTREAM_KEEP_RAW=redacted` and for the dead letters.
//!
//! Owns the list. Everything else is copied byte for byte, so amounts and ids stay as they were
//! written.

use super::order;
use crate::event::json::{self, Kept};

/// Fields that are left out wherever they are nested; of the objects in `KEPT_MEMBERS` all but one
/// member goes, too, and of `landing_site` all but its UTM tags.
pub const PERSONAL_FIELDS: [&str; 53] = [
    "abandoned_checkout_url",
    "account_number",
    "address1",
    "address2",
    "addresses",
    "attributed_staffs",
    "authorization",
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
    "invoice_url",
    "ip_address",
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

/// Objects of which only one member stays, as in an event.
const KEPT_MEMBERS: [(&str, &str); 4] = [
    ("customer", "id"),
    ("user", "id"),
    ("billing_address", "country_code"),
    ("shipping_address", "country_code"),
];

/// The body without [`PERSONAL_FIELDS`]; `None` where it is not JSON, so that its fields cannot be
/// found.
#[must_use]
pub fn redact(body: &[u8]) -> Option<Vec<u8>> {
    json::filtered(body, &rule)
}

/// The body of a redaction that does not say whose it is either.
#[must_use]
pub fn without_customer(body: &[u8]) -> Option<Vec<u8>> {
    json::filtered(body, &|name| match name {
        "customer" | "customer_id" => Kept::Nothing,
        _ => rule(name),
    })
}

fn rule(name: &str) -> Kept {
    if name == "landing_site" {
        return Kept::Part(order::utm_tags);
    }
    match KEPT_MEMBERS.iter().find(|(object, _)| *object == name) {
        Some((_, member)) => Kept::Only(member),
        None if PERSONAL_FIELDS.contains(&name) => Kept::Nothing,
        None => Kept::Filtered,
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
                    "customer": {"id": 7, "email": "a@b.c", "tags": ["vip"]},
                    "shipping_address": {"name": "x", "zip": "1", "country_code": "CA"}, "url":"a\/b",
                    "refunds": [{"note":"x","transactions":[{"amount":1.0,"receipt":{"deep":1}}]}, null],
                    "em\u0061il":"a@b.c" } "#
            ),
            r#"{"id":9007199254740993,"total_price":"0.10","subtotal":89.990,"customer":{"id":7},"shipping_address":{"country_code":"CA"},"url":"a\/b","refunds":[{"transactions":[{"amount":1.0}]},null]}"#
        );
        assert_eq!(
            redacted(r#"{"customer":null,"user":"x"}"#),
            r#"{"customer":null,"user":"x"}"#
        );
        assert_eq!(
            redacted(
                r#"{"landing_site":"\/a?email=x%40y.z&utm_source=n%26w&gclid=1&utm_term=a+b#utm_x","a":{"landing_site":7}}"#
            ),
            r#"{"landing_site":"/?utm_source=n%26w&utm_term=a+b","a":{"landing_site":null}}"#
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
        assert!(short.len() < 72, "{}", short.len());
    }

    #[test]
    fn the_list_names_each_field_once() {
        let mut fields = PERSONAL_FIELDS.to_vec();
        fields.sort_unstable();
        fields.dedup();
        assert_eq!(fields.len(), PERSONAL_FIELDS.len());
    }
}
