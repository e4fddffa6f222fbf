//! Bulk operations.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::shop::Shop;

/// The lines of the file of a bulk operation over these orders: children of an order anywhere in it.
pub fn lines(orders: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for order in orders {
        let mut order = order.clone();
        for list in ["lineItems", "shippingLines", "agreements"] {
            let children = order.as_object_mut().unwrap().remove(list).unwrap_or_default();
            for mut child in nodes(&children) {
                child["__parentId"] = order["id"].clone();
                let sales = child.as_object_mut().unwrap().remove("sales").unwrap_or_default();
                for mut sale in nodes(&sales) {
                    sale["__parentId"] = child["id"].clone();
                    lines.push(sale.to_string());
                }
                lines.push(child.to_string());
            }
        }
        lines.push(order.to_string());
    }
    lines.shuffle(&mut StdRng::seed_from_u64(7));
    lines
}

fn nodes(connection: &Value) -> Vec<Value> {
    let edges = connection["edges"].as_array().into_iter().flatten();
    edges.map(|edge| edge["node"].clone()).collect()
}

#[derive(Debug, Default)]
pub struct Bulk {}

/// `data` of `Run` and `Poll`, and of what else concerns bulk operations; `None` for other operations.
pub fn answer(shop: &mut Shop, _operation: &str, _variables: &Value, _base: &str) -> Option<Value> {
    let Bulk {} = shop.bulk;
    None
}

/// A result file, by the path below `/bulk/`.
pub fn download(_shop: &mut Shop, _path: &str, _range: Option<&str>) -> Response {
    StatusCode::NOT_FOUND.into_response()
}
