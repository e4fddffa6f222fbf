//! Bulk operations.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::shop::Shop;

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
