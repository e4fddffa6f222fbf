//! Orders as GraphQL.

use serde_json::{Value, json};

use super::search::utc;

/// The node of an order; `body` is what its newest webhook holds.
pub fn order(body: &Value) -> Value {
    json!({
        "__typename": "Order", "id": format!("gid://shopify/Order/{}", body["id"]), "updatedAt": utc(&body["updated_at"]),
    })
}
