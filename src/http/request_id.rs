//! The id that ties an answer to the operator's logs.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderValue};

/// Header of every answer, and of a request where a proxy in front gave it one.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// Characters of an id that is taken over from a request.
const LONGEST: usize = 64;

/// Start of this process's ids, so that two processes do not share any.
static PROCESS: LazyLock<u32> = LazyLock::new(rand::random);
static COUNT: AtomicU64 = AtomicU64::new(1);

/// Visible ASCII without quotes, at most [`LONGEST`] characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// A new one, unique within and, for all practical purposes, between processes.
    pub(super) fn fresh() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:08x}-{count:x}", *PROCESS);
        Self(HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// The request's own id where it is harmless, else a new one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(REQUEST_ID) {
            Some(given) if is_harmless(given.as_bytes()) => Self(given.clone()),
            _ => Self::fresh(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(super) fn into_header(self) -> HeaderValue {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_harmless(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.:/+=".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_over_only_harmless_ids() {
        let of = |value: &'static str| {
            let headers = HeaderMap::from_iter([(
                REQUEST_ID.parse().unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )]);
            RequestId::of(&headers).as_str().to_owned()
        };
        assert_eq!(of("abc-123"), "abc-123");
        for bad in ["", "a b", "a\"b", "é", &"x".repeat(65).leak()[..]] {
            assert_ne!(of(bad), bad);
        }
        assert_ne!(RequestId::fresh(), RequestId::fresh());
    }
}
