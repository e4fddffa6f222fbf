//! Which dead letters are about an order.
//!
//! A dead letter that carries an `order_id` is compared by it. One without (an earlier release
//! wrote it, or its body names no order that can be read) is decoded, and every one is where a name
//! is asked for.

use crate::event::NamedOrder;
use crate::operations::entry_view::{last_text, text, unpacked};
use crate::shopify;
use crate::stream::Entry;
use crate::stream::codec::Unpacker;

pub(super) struct DeadLetterFilter {
    orders: Vec<String>,
    /// Whether one of them is a name, which dead letters do not carry.
    has_name: bool,
    unpacker: Unpacker,
    body_limit: usize,
}

impl DeadLetterFilter {
    pub(super) fn new(orders: &[String], body_limit: usize) -> Self {
        let is_name = |order: &String| !order.bytes().all(|byte| byte.is_ascii_digit());
        Self {
            has_name: orders.iter().any(is_name),
            orders: orders.to_vec(),
            unpacker: Unpacker::default(),
            body_limit,
        }
    }

    /// Decides by the dead letter's own `order_id`; `None` where it has to be decoded.
    pub(super) fn by_id(&self, dead_letter: &Entry) -> Option<bool> {
        let order_id = last_text(dead_letter, "order_id")?;
        let is_about = self.orders.contains(&order_id);
        (is_about || !self.has_name).then_some(is_about)
    }

    /// Decides by its payload or body.
    pub(super) fn by_content(&mut self, dead_letter: &Entry) -> bool {
        if let Some(payload) = dead_letter.fields.get("payload") {
            return NamedOrder::of_payload(payload).is_any_of(&self.orders);
        }
        let body = unpacked(dead_letter, &mut self.unpacker, self.body_limit).unwrap_or_default();
        let order = shopify::named_order(text(dead_letter, "topic").as_deref(), &body);
        if order.order_id.is_some() {
            return order.is_any_of(&self.orders);
        }
        // Not an order that can be read; that its text mentions one is the best evidence there is.
        let body = String::from_utf8_lossy(&body);
        self.orders.iter().any(|order| mentions(&body, order))
    }

    pub(super) fn is_about(&mut self, dead_letter: &Entry) -> bool {
        self.by_id(dead_letter).unwrap_or_else(|| self.by_content(dead_letter))
    }
}

/// The shop of a dead letter, also of one that an earlier release wrote.
pub(super) fn shop(dead_letter: &Entry) -> Option<String> {
    let payload = || NamedOrder::of_payload(dead_letter.fields.get("payload")?).shop;
    last_text(dead_letter, "shop").or_else(payload)
}

/// Whether a body that cannot be read as an event mentions the order, by id or name, with neither
/// letter nor digit beside it. Another figure of the same digits is taken for it.
fn mentions(body: &str, order: &str) -> bool {
    let is_alone = |at: usize| {
        let before = body[..at].chars().next_back();
        let after = body[at + order.len()..].chars().next();
        [before, after].into_iter().flatten().all(|c| !c.is_alphanumeric())
    };
    body.match_indices(order).any(|(at, _)| is_alone(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_an_order_by_the_whole_of_it() {
        for (body, order, names) in [
            (r#"{"id":1042}"#, "1042", true),
            (r#"{"id": "1042", "x": 1}"#, "1042", true),
            (r#"{"id":10425}"#, "1042", false),
            (r#"{"id":91042}"#, "1042", false),
            (r##"{"name":"#1042"}"##, "#1042", true),
            (r##"{"name":"#10421"}"##, "#1042", false),
            ("é1042", "1042", false),
        ] {
            assert_eq!(mentions(body, order), names, "{body} {order}");
        }
    }
}
