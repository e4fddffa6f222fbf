//! Which deliveries are the same.
//!
//! Owns the event id of a webhook. Invariant: Shopify's retries of one delivery get one id, and two subscriptions'
//! deliveries of one change get two.

use sha2::{Digest as _, Sha256};
use uuid::{Uuid, uuid};

use super::DeliveryHints;

/// Namespace of the UUIDv5 event ids. Fixed for ever: another one would make every known event new.
pub const EVENT_NAMESPACE: Uuid = uuid!("6f9d3b0e-5c41-4f1c-9d57-2f8f0b6f4a11");

/// Digest of a body: SHA-256, cut to 16 bytes.
#[must_use]
pub fn digest(body: &[u8]) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(body)[..16]);
    digest
}

/// UUIDv5 of `shop LF topic LF webhook:ID`, or, where the delivery has no webhook id, of `shop LF topic LF body:HEX`
/// with the body's [`digest`]. What a header does not tell is empty.
#[must_use]
pub fn event_id(hints: &DeliveryHints<'_>, body_digest: &[u8; 16]) -> Uuid {
    let shop = hints.shop.as_deref().unwrap_or_default();
    let topic = hints.topic.unwrap_or_default();
    let name = match hints.webhook_id {
        Some(id) => format!("{shop}\n{topic}\nwebhook:{id}"),
        None => format!("{shop}\n{topic}\nbody:{}", hex::encode(body_digest)),
    };
    Uuid::new_v5(&EVENT_NAMESPACE, name.as_bytes())
}
