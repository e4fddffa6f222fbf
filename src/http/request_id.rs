//! Request ids: the maker for tower-http's layers, and the check of ids that come with a request.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request};
use tower_http::request_id::{MakeRequestId, RequestId};

/// Header of every answer, and of a request where a proxy in front gave it one.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of an id that is taken over from a request.
const LONGEST: usize = 64;

/// Start of this process's ids, so that two processes do not share any.
static PROCESS: LazyLock<u32> = LazyLock::new(rand::random);
static COUNT: AtomicU64 = AtomicU64::new(1);

/// Makes ids that are unique within and, for all practical purposes, between processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountedIds;

impl MakeRequestId for CountedIds {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        Some(RequestId::new(fresh()))
    }
}

/// A new id.
pub(super) fn fresh() -> HeaderValue {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let text = format!("{:08x}-{count:x}", *PROCESS);
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown"))
}

/// Drops an id that the request came with, unless it is safe to log and to send back.
pub(super) fn drop_unsafe<B>(mut request: Request<B>) -> Request<B> {
    let headers = request.headers_mut();
    if headers.contains_key(&REQUEST_ID) && !has_safe(headers) {
        headers.remove(&REQUEST_ID);
    }
    request
}

/// The id of a request that came through the layers.
pub(super) fn of(extensions: &Extensions) -> Option<HeaderValue> {
    extensions.get().map(|id: &RequestId| id.header_value().clone())
}

/// An id as text; all are ASCII.
pub(super) fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

fn has_safe(headers: &HeaderMap) -> bool {
    let mut ids = headers.get_all(&REQUEST_ID).iter();
    let is_single = |id: &HeaderValue| is_safe(id.as_bytes());
    ids.next().is_some_and(is_single) && ids.next().is_none()
}

fn is_safe(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.:/+=".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_over_only_safe_ids() {
        let kept = |value: &str| {
            let request = Request::builder().header(REQUEST_ID, value.as_bytes());
            let request = drop_unsafe(request.body(()).unwrap());
            request.headers().contains_key(REQUEST_ID)
        };
        assert!(kept("abc-123"));
        for bad in ["", "a b", "a\"b", "é", &"x".repeat(65)] {
            assert!(!kept(bad), "{bad}");
        }
        let twice = Request::builder().header(REQUEST_ID, "a").header(REQUEST_ID, "a");
        assert!(drop_unsafe(twice.body(()).unwrap()).headers().is_empty());
        assert_ne!(fresh(), fresh());
    }
}
