//! Reads a request's body whole: within its limit, its time and the budget of all bodies.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::problem::Problem;
use crate::ingest::{Admission, Admitted, Share};

/// What one request's body may take.
pub(super) struct Allowance<'a> {
    pub(super) admission: &'a Admission,
    /// Bytes.
    pub(super) limit: usize,
    /// From now to the last byte.
    pub(super) timeout: Duration,
}

/// The bytes of a body, and their share of the budget.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) share: Share,
}

/// Reads the body. One that is announced as too large is refused before its first byte.
pub(super) async fn read(body: Body, headers: &HeaderMap, allowance: Allowance<'_>) -> Result<Whole, Problem> {
    if is_encoded(headers) {
        return Err(Problem::UnsupportedEncoding);
    }
    if body.size_hint().lower() > allowance.limit as u64 {
        return Err(Problem::BodyTooLarge(allowance.limit));
    }
    let reading = collect(body, allowance.limit, allowance.admission.open());
    match tokio::time::timeout(allowance.timeout, reading).await {
        Ok(read) => read,
        Err(_) => Err(Problem::RequestTimeout),
    }
}

/// A body in one piece, as most come, is not copied.
async fn collect(mut body: Body, limit: usize, mut share: Admitted) -> Result<Whole, Problem> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| Problem::BrokenBody)?.into_data() else {
            continue; // trailers
        };
        if first.len() + rest.len() + piece.len() > limit {
            return Err(Problem::BodyTooLarge(limit));
        }
        share.grow(piece.len())?;
        if first.is_empty() && rest.is_empty() {
            first = piece;
            continue;
        }
        if rest.is_empty() {
            // Most come in two pieces: room for both, and none for what is only announced.
            rest.reserve(first.len() + piece.len());
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&piece);
    }
    let bytes = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Whole {
        bytes,
        share: share.into(),
    })
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.any(|encoding| !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}
