//! The event id of a webhook, and the digest of its body: which deliveries are the same. Invariant:
//! Shopify's retries of one delivery get one id, and two subscriptions' deliveries of one change
//! get two.

use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_128;
use uuid::{Uuid, uuid};

use super::DeliveryHints;

/// Namespace of the UUIDv5 event ids. Fixed for ever: another one would make every known event new.
pub const EVENT_NAMESPACE: Uuid = uuid!("6f9d3b0e-5c41-4f1c-9d57-2f8f0b6f4a11");

/// Why a delivery is quarantined whose webhook id stood for another body before.
pub const REUSED_WEBHOOK_ID: &str = "the webhook id was used for another body";

/// Tells two bodies under one key apart. Not for secrets: XXH3 takes a tenth of SHA-256's time, and
/// whoever wanted two bodies with one digest would have to make both, but each of them is signed.
#[must_use]
pub fn digest(body: &[u8]) -> [u8; 16] {
    XxHash3_128::oneshot(body).to_be_bytes()
}

/// UUIDv5 of `shop LF topic LF webhook:ID`, or, where the delivery has no webhook id, of `shop LF
/// topic LF body:HEX` with the first 16 bytes of the body's SHA-256. A header that is absent is an
/// empty text.
#[must_use]
pub fn event_id(hints: &DeliveryHints<'_>, body: &[u8]) -> Uuid {
    let shop = hints.shop.as_deref().unwrap_or_default();
    let topic = hints.topic.unwrap_or_default();
    let name = match hints.webhook_id {
        Some(id) => format!("{shop}\n{topic}\nwebhook:{id}"),
        None => format!("{shop}\n{topic}\nbody:{}", hex::encode(&Sha256::digest(body)[..16])),
    };
    Uuid::new_v5(&EVENT_NAMESPACE, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python's `uuid.uuid5`. They must never change: a known event would be new.
    #[test]
    fn event_ids_are_fixed_for_ever() {
        let hints = DeliveryHints {
            shop: Some("example.myshopify.com".into()),
            topic: Some("orders/create"),
            webhook_id: Some("b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"),
            ..DeliveryHints::default()
        };
        let body = br#"{"id":1}"#;
        assert_eq!(event_id(&hints, body), uuid!("a2de5c54-d8da-5a26-b627-bab921270f23"));
        assert_eq!(
            event_id(&DeliveryHints::default(), body),
            uuid!("b08a32a3-c3c8-5e58-b54e-e801a01faa01")
        );
    }

    #[test]
    fn the_body_counts_only_without_a_webhook_id() {
        let known = DeliveryHints {
            webhook_id: Some("w"),
            ..DeliveryHints::default()
        };
        assert_eq!(event_id(&known, b"1"), event_id(&known, b"2"));
        let unknown = DeliveryHints::default();
        assert_ne!(event_id(&unknown, b"1"), event_id(&unknown, b"2"));
    }

    /// As the reference implementation (`xxhsum -H2`) has it: what an older process remembered must
    /// still match.
    #[test]
    fn digests_are_the_same_in_every_process() {
        assert_eq!(hex::encode(digest(b"")), "99aa06d3014798d86001c324468d497f");
    }
}
