//! Which order a body names that could not be converted.
//!
//! Owns where each kind of body keeps the order's id. Tolerant: what stands before the damage of a
//! body is read, and a body that names no order has none.

use super::partial::order_number;
use crate::event::NamedOrder;
use crate::event::json::members::{members, text};

/// The order that a body names. `id` is the order's only under the topics of orders, and where the
/// body's own global id says so.
#[must_use]
pub fn named_order(topic: Option<&str>, body: &[u8]) -> NamedOrder {
    const NAMES: [&str; 6] = [
        "order_id",
        "order_edit",
        "admin_graphql_api_order_id",
        "admin_graphql_api_id",
        "id",
        "name",
    ];
    let [order_id, edit, order_gid, own_gid, id, name] = members(body, NAMES);
    let edited = edit.and_then(|edit| members(edit.get().as_bytes(), ["order_id"])[0]);
    let named = [order_id, edited, order_gid].into_iter().flatten().find_map(text);
    let is_order = topic.is_some_and(|topic| topic.to_ascii_lowercase().starts_with("orders"))
        || own_gid.and_then(text).is_some_and(|gid| order_number(&gid).is_some());
    let own = id.filter(|_| is_order).and_then(text);
    NamedOrder {
        order_id: named.or(own).map(bare),
        name: name.filter(|_| is_order).and_then(text),
        shop: None,
    }
}

/// A global id as the bare number, by which every other body knows the order.
fn bare(id: String) -> String {
    match order_number(&id) {
        Some(number) => number.as_str().to_owned(),
        None => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_body_names_its_order() {
        let named = |topic, body: &str| {
            let order = named_order(topic, body.as_bytes());
            (order.order_id, order.name)
        };
        let some = |text: &str| Some(text.to_owned());
        for (topic, body, order_id, name) in [
            (
                Some("orders/create"),
                r##"{"id":7,"name":"#7","line_items":"none"}"##,
                some("7"),
                some("#7"),
            ),
            (Some("ORDERS_CREATE"), r#"{"id":7"#, some("7"), None),
            (Some("orders/delete"), r#"{"id":7,"x":"#, some("7"), None),
            (
                Some("orders/edited"),
                r#"{"order_edit":{"id":1,"order_id":7}}"#,
                some("7"),
                None,
            ),
            (Some("refunds/create"), r#"{"id":1,"order_id":7}"#, some("7"), None),
            (
                Some("orders/risk_assessment_changed"),
                r#"{"order_id":null,"admin_graphql_api_order_id":"gid:\/\/shopify\/Order\/7"}"#,
                some("7"),
                None,
            ),
            (
                None,
                r#"{"id":7,"admin_graphql_api_id":"gid://shopify/Order/7"}"#,
                some("7"),
                None,
            ),
            (Some("products/create"), r#"{"id":7,"name":"Tea"}"#, None, None),
            (Some("orders/create"), "not JSON", None, None),
        ] {
            assert_eq!(named(topic, body), (order_id, name), "{body}");
        }
    }
}
