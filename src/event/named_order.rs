//! Which order a text names that may not be readable as an event.

use super::json::members::{members, text};

/// An order as a payload or a body names it, as far as that can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedOrder {
    /// Its id.
    pub order_id: Option<String>,
    /// What people call it.
    pub name: Option<String>,
    /// Its shop.
    pub shop: Option<String>,
}

impl NamedOrder {
    /// The order of an event's payload.
    #[must_use]
    pub fn of_payload(payload: &[u8]) -> Self {
        let [order_id, name, shop] = members(payload, ["order_id", "name", "shop"]).map(|value| value.and_then(text));
        Self { order_id, name, shop }
    }

    /// Whether it is one of these, by id or name.
    #[must_use]
    pub fn is_any_of(&self, orders: &[String]) -> bool {
        let mut known = [&self.order_id, &self.name].into_iter().flatten();
        known.any(|known| orders.contains(known))
    }
}
