//! The spread of an entry: the hash that decides its partition, wherever a stream has several.
//!
//! Invariant: it depends on shop and order alone, so that the events of an order are in one
//! partition.

use twox_hash::XxHash3_64;

use crate::event::OrderEvent;

/// Partitions of a stream at most.
pub const MOST_PARTITIONS: u16 = 128;

/// The spread of an event: of its shop and order, or of its own id where it names no order.
#[must_use]
pub fn spread(event: &OrderEvent<'_>) -> u64 {
    let order_id = event.order_id.as_str();
    if order_id.is_empty() {
        return spread_of_key(event.event_id.as_str());
    }
    let shop = event.shop.as_ref().map_or("", |shop| shop.as_str());
    spread_of_key(&format!("{shop}\0{order_id}"))
}

/// The spread of an entry of which only its dedupe key is known.
#[must_use]
pub fn spread_of_key(key: &str) -> u64 {
    XxHash3_64::oneshot(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_one_spread_in_every_release() {
        let event = |shop: Option<&'static str>, order_id: &'static str, event_id: &'static str| OrderEvent {
            shop: shop.map(Into::into),
            order_id: order_id.into(),
            event_id: event_id.into(),
            ..OrderEvent::default()
        };
        let first = spread(&event(Some("a.myshopify.com"), "1", "e-1"));
        assert_eq!(first, spread(&event(Some("a.myshopify.com"), "1", "e-2")));
        assert_ne!(first, spread(&event(Some("b.myshopify.com"), "1", "e-1")));
        assert_eq!(spread(&event(None, "", "e-1")), spread_of_key("e-1"));
        assert_eq!(spread_of_key(""), 0x2d06_8005_38d3_94c2);
    }
}
