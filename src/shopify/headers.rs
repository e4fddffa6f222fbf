//! What a delivery's headers say.
//!
//! Owns the header names, in both of Shopify's spellings (`X-Shopify-*` and the newer `Shopify-*`).
//! Headers are not signed: apart from the signature itself all of it is hints, and a hint that is
//! overlong or malformed is no hint.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use time::OffsetDateTime;

use super::{SignatureError, Topic};
use crate::event::{Provenance, Text, Timestamp};
use crate::traceparent::TraceParent;

/// Longest hint, in bytes.
const MAX_HINT: usize = 255;
/// How far ahead of its receipt a delivery may be triggered: clocks differ.
const MAX_AHEAD: Duration = Duration::from_secs(300);

/// One header's name, prefixed and plain.
struct Spellings {
    prefixed: HeaderName,
    plain: HeaderName,
}

impl Spellings {
    const fn new(prefixed: &'static str, plain: &'static str) -> Self {
        Self {
            prefixed: HeaderName::from_static(prefixed),
            plain: HeaderName::from_static(plain),
        }
    }
}

static TOPIC: Spellings = Spellings::new("x-shopify-topic", "shopify-topic");
static SHOP: Spellings = Spellings::new("x-shopify-shop-domain", "shopify-shop-domain");
static WEBHOOK_ID: Spellings = Spellings::new("x-shopify-webhook-id", "shopify-webhook-id");
static EVENT_ID: Spellings = Spellings::new("x-shopify-event-id", "shopify-event-id");
static TRIGGERED_AT: Spellings = Spellings::new("x-shopify-triggered-at", "shopify-triggered-at");
static API_VERSION: Spellings = Spellings::new("x-shopify-api-version", "shopify-api-version");
static ACTION: Spellings = Spellings::new("x-shopify-action", "shopify-action");
static ORDER_ID: Spellings = Spellings::new("x-shopify-order-id", "shopify-order-id");
static SIGNATURE: Spellings = Spellings::new("x-shopify-hmac-sha256", "shopify-hmac-sha256");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The signature: the value of its header in both spellings, which may be repeated, also in one
/// header (as a proxy joins them), only where all say the same.
///
/// # Errors
/// [`SignatureError::Missing`] or [`SignatureError::Doubled`].
pub fn signature(headers: &HeaderMap) -> Result<&[u8], SignatureError> {
    let names = [&SIGNATURE.prefixed, &SIGNATURE.plain];
    let values = names.into_iter().flat_map(|name| headers.get_all(name));
    let mut signatures = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let first = signatures.next().ok_or(SignatureError::Missing)?;
    if signatures.all(|other| other == first) {
        Ok(first)
    } else {
        Err(SignatureError::Doubled)
    }
}

/// The shop that the headers claim, lower case.
#[must_use]
pub fn shop(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    domain(Cow::Borrowed(hint(headers, &SHOP)?))
}

/// The name of a shop's domain, lower case; `None` of what cannot be one.
pub(super) fn domain(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let is_domain = !text.is_empty() && text.len() <= MAX_HINT && is_domain(&text);
    is_domain.then(|| lower_case(text))
}

/// What the headers claim about a delivery. All of it is unsigned; each is printable ASCII of at
/// most 255 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryHints<'a> {
    /// `orders/create`, however it is written; a topic that is not known as it stands.
    pub topic: Option<&'a str>,
    /// Shop domain, lower case.
    pub shop: Option<Cow<'a, str>>,
    /// One per change and subscription, equal across Shopify's retries.
    pub webhook_id: Option<&'a str>,
    /// Shared by all subscriptions that one change triggers.
    pub event_id: Option<&'a str>,
    /// When the change happened, as written.
    pub triggered_at: Option<&'a str>,
    /// `2026-04`.
    pub api_version: Option<&'a str>,
    /// What a delivery of Shopify's Events tells happened; webhooks have none.
    pub action: Option<&'a str>,
    /// The order concerned; digits.
    pub order_id: Option<&'a str>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
}

impl<'a> DeliveryHints<'a> {
    /// Reads them; never fails.
    #[must_use]
    pub fn new(headers: &'a HeaderMap) -> Self {
        Self {
            topic: hint(headers, &TOPIC).map(|name| Topic::parse(Some(name)).map_or(name, |topic| topic.name())),
            shop: shop(headers),
            webhook_id: hint(headers, &WEBHOOK_ID),
            event_id: hint(headers, &EVENT_ID),
            triggered_at: hint(headers, &TRIGGERED_AT),
            api_version: hint(headers, &API_VERSION),
            action: hint(headers, &ACTION),
            order_id: hint(headers, &ORDER_ID).filter(|id| id.bytes().all(|b| b.is_ascii_digit())),
            traceparent: read(headers, &TRACEPARENT).filter(|text| TraceParent::parse(text).is_some()),
        }
    }

    /// When the delivery was triggered. It is part of an order's version, so a time that is
    /// unreadable, or further ahead of the receipt than clocks differ, is taken as the receipt.
    #[must_use]
    pub fn triggered_at(&self, received_at: OffsetDateTime) -> Option<Timestamp<'_>> {
        let said = Timestamp::parse(self.triggered_at?.into()).ok();
        let credible = said.filter(|at| at.instant() - received_at <= MAX_AHEAD);
        Some(credible.unwrap_or_else(|| received_at.into()))
    }

    /// They as they stand beside the event in a stream entry.
    #[must_use]
    pub fn provenance(&self, received_at: OffsetDateTime) -> Provenance<'_> {
        Provenance {
            source: Some("shopify".into()),
            shop: self.shop.as_deref().map(Text::from),
            topic: self.topic.map(Text::from),
            webhook_id: self.webhook_id.map(Text::from),
            shopify_event_id: self.event_id.map(Text::from),
            triggered_at: self.triggered_at(received_at).map(Timestamp::into_text),
            api_version: self.api_version.map(Text::from),
            traceparent: self.traceparent.map(Text::from),
            received_at: Some(Timestamp::from(received_at).into_text()),
        }
    }
}

/// The value under the prefixed name, else under the plain one.
fn hint<'a>(headers: &'a HeaderMap, name: &Spellings) -> Option<&'a str> {
    read(headers, &name.prefixed).or_else(|| read(headers, &name.plain))
}

fn read<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // `to_str` admits visible ASCII, space and tab only.
    let text = headers.get(name)?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= MAX_HINT).then_some(text)
}

fn is_domain(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}

fn lower_case(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Cow::Owned(text.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn there_is_one_signature_or_none() {
        const PREFIXED: &str = "x-shopify-hmac-sha256";
        const PLAIN: &str = "shopify-hmac-sha256";
        for (pairs, expected) in [
            (&[][..], Err(SignatureError::Missing)),
            (&[(PREFIXED, "a")], Ok(&b"a"[..])),
            (&[(PLAIN, "a")], Ok(b"a")),
            (&[(PREFIXED, "a"), (PLAIN, "a")], Ok(b"a")),
            (&[(PREFIXED, "a"), (PLAIN, "b")], Err(SignatureError::Doubled)),
            (&[(PREFIXED, "a"), (PREFIXED, "b")], Err(SignatureError::Doubled)),
            (&[(PREFIXED, "a, b")], Err(SignatureError::Doubled)),
            (&[(PREFIXED, "a"), (PREFIXED, "a")], Ok(b"a")),
            (&[(PREFIXED, "a, a")], Ok(b"a")),
            (&[(PREFIXED, "a"), (PLAIN, "a"), (PLAIN, "a")], Ok(b"a")),
        ] {
            assert_eq!(signature(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn both_spellings_are_read() {
        for prefix in ["x-", ""] {
            let mut map = HeaderMap::new();
            for (name, value) in [
                ("topic", "orders/create"),
                ("shop-domain", "Example.myshopify.com"),
                ("webhook-id", "w-1"),
                ("event-id", "e-1"),
                ("triggered-at", "2026-01-31T21:30:02.5Z"),
                ("api-version", "2026-04"),
                ("order-id", "9100000000000000123"),
            ] {
                let name = http::HeaderName::try_from(format!("{prefix}shopify-{name}")).unwrap();
                map.insert(name, HeaderValue::from_static(value));
            }
            assert_eq!(
                DeliveryHints::new(&map),
                DeliveryHints {
                    topic: Some("orders/create"),
                    shop: Some("example.myshopify.com".into()),
                    webhook_id: Some("w-1"),
                    event_id: Some("e-1"),
                    triggered_at: Some("2026-01-31T21:30:02.5Z"),
                    api_version: Some("2026-04"),
                    action: None,
                    order_id: Some("9100000000000000123"),
                    traceparent: None,
                }
            );
        }
    }

    #[test]
    fn a_trigger_counts_up_to_five_minutes_ahead_of_the_receipt() {
        let received_at = time::macros::datetime!(2026-01-31 12:00:00 UTC);
        for (said, counts) in [
            (Some("2026-01-31T11:00:00Z"), Some("2026-01-31T11:00:00Z")),
            (Some("2026-01-31T07:05:00-05:00"), Some("2026-01-31T07:05:00-05:00")),
            (Some("2026-01-31T12:05:00.001Z"), Some("2026-01-31T12:00:00.000Z")),
            (Some("9999-12-31T23:59:59Z"), Some("2026-01-31T12:00:00.000Z")),
            (Some("9999-12-31T23:59:59-12:00"), Some("2026-01-31T12:00:00.000Z")),
            (Some("soon"), Some("2026-01-31T12:00:00.000Z")),
            (None, None),
        ] {
            let hints = DeliveryHints {
                triggered_at: said,
                ..DeliveryHints::default()
            };
            let at = hints.triggered_at(received_at);
            assert_eq!(at.as_ref().map(Timestamp::as_str), counts, "{said:?}");
        }
    }

    #[test]
    fn a_topic_has_one_name_however_it_is_written() {
        for (written, name) in [
            ("orders/create", "orders/create"),
            ("Orders/Create", "orders/create"),
            ("ORDER_TRANSACTIONS_CREATE", "order_transactions/create"),
            ("Products/Create", "Products/Create"),
        ] {
            let map = headers(&[("x-shopify-topic", written)]);
            assert_eq!(DeliveryHints::new(&map).topic, Some(name));
        }
    }

    #[test]
    fn a_bad_hint_is_no_hint() {
        let long = "x".repeat(256);
        let map = headers(&[
            ("x-shopify-topic", &long),
            ("x-shopify-shop-domain", "example.com/../"),
            ("x-shopify-webhook-id", "caf\u{e9}"),
            ("x-shopify-event-id", ""),
            ("x-shopify-order-id", "12a"),
        ]);
        assert_eq!(DeliveryHints::new(&map), DeliveryHints::default());
    }
}
