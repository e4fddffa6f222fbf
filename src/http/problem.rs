//! Problem documents: the only place that turns errors into responses (RFC 9457,
//! `application/problem+json`).
//!
//! Owns every error a caller can get, with its status, its stable `code` and its text. What the
//! operator needs is logged where it happens. Invariant: no text repeats what the caller sent.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;

use super::batch_answer::BatchAnswer;
use super::request_id::{self, REQUEST_ID};
use crate::ingest::{AppendError, Shed};
use crate::metrics::Outcome;

/// Seconds after which a shed or unavailable request may be tried again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not served; the table in `spec` describes each.
#[derive(Debug, Clone)]
pub(crate) enum Problem {
    MalformedRequest,
    BrokenBody,
    MalformedBatch,
    MalformedQuery,
    InvalidSignature,
    InvalidToken,
    NotFound,
    /// axum adds `Allow`.
    MethodNotAllowed,
    RequestTimeout,
    /// With the limit in bytes.
    BodyTooLarge(usize),
    /// With the limit in events.
    BatchTooLarge(usize),
    UnsupportedEncoding,
    WrongHost,
    NoWarehouse,
    NoSuchCause,
    AmbiguousFingerprint,
    /// An operator's request that makes no sense; the text says what would.
    InvalidOperation(&'static str),
    NoValidEvent(Arc<BatchAnswer>),
    AtomicRefused(Arc<BatchAnswer>),
    Internal,
    /// Shed at admission.
    Overloaded,
    StreamFull,
    SpoolFull,
    DeadLettersFull,
    StreamUnavailable,
    NothingStored(Arc<BatchAnswer>),
    StoreUnavailable,
    /// The warehouse answers, and cannot be used before somebody changes something; the text says what.
    WarehouseUnusable(String),
    TooManyViewers,
    ShuttingDown,
}

/// The fixed part of a problem.
struct Spec {
    status: u16,
    code: &'static str,
    outcome: Outcome,
    closes: bool,
    detail: &'static str,
}

/// The connection ends with the answer, since unread bytes of the request may be on their way.
const CLOSE: bool = true;
const KEEP: bool = false;

const fn spec(status: u16, code: &'static str, outcome: Outcome, closes: bool, detail: &'static str) -> Spec {
    Spec {
        status,
        code,
        outcome,
        closes,
        detail,
    }
}

/// The body of a problem.
#[derive(Serialize)]
struct Document<'a> {
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    answer: Option<&'a BatchAnswer>,
}

impl Problem {
    /// How it is counted.
    pub(super) fn outcome(&self) -> Outcome {
        self.spec().outcome
    }

    /// The one table: status, code, outcome, whether the connection ends, and the words.
    #[rustfmt::skip]
    fn spec(&self) -> Spec {
        use Outcome::{Invalid, Rejected, Shed, Timeout, TooLarge, Unauthorized, Unavailable};
        match self {
            Self::MalformedRequest => spec(400, "malformed_request", Rejected, CLOSE,
                "The request is not valid HTTP/1.1."),
            Self::BrokenBody => spec(400, "broken_body", Rejected, CLOSE,
                "The body ended early or its framing is invalid."),
            Self::MalformedBatch => spec(400, "malformed_batch", Invalid, KEEP,
                "The body is neither a JSON array nor one JSON object a line."),
            Self::MalformedQuery => spec(400, "malformed_query", Invalid, KEEP,
                "The query, the id or the body does not match the API description (/openapi.yaml)."),
            Self::InvalidSignature => spec(401, "invalid_signature", Unauthorized, CLOSE,
                "X-Shopify-Hmac-Sha256 is missing or does not match the body."),
            Self::InvalidToken => spec(401, "invalid_token", Unauthorized, CLOSE,
                "The Authorization header needs a known bearer token."),
            Self::NotFound => spec(404, "not_found", Rejected, CLOSE,
                "There is nothing at this path."),
            Self::MethodNotAllowed => spec(405, "method_not_allowed", Rejected, CLOSE,
                "The path does not support this method; the Allow header lists those it supports."),
            Self::RequestTimeout => spec(408, "request_timeout", Timeout, CLOSE,
                "The request did not arrive in time."),
            Self::BodyTooLarge(_) => spec(413, "body_too_large", TooLarge, CLOSE,
                "The body has more bytes than the limit."),
            Self::BatchTooLarge(_) => spec(413, "batch_too_large", TooLarge, KEEP,
                "The batch has more events than the limit."),
            Self::UnsupportedEncoding => spec(415, "unsupported_encoding", Rejected, CLOSE,
                "Send the body without Content-Encoding."),
            Self::NoWarehouse => spec(409, "no_warehouse", Rejected, KEEP,
                "This process has no warehouse; ask one that runs workers."),
            Self::NoSuchCause => spec(404, "no_such_cause", Rejected, KEEP,
                "No dead letter has a fingerprint with this prefix."),
            Self::AmbiguousFingerprint => spec(422, "ambiguous_fingerprint", Invalid, KEEP,
                "More than one fingerprint has this prefix: give more digits."),
            Self::InvalidOperation(detail) => spec(422, "invalid_operation", Invalid, KEEP, detail),
            Self::WrongHost => spec(421, "wrong_host", Rejected, CLOSE,
                "The Host header names an unknown host; add it to ORDERSTREAM_ADMIN_HOSTS."),
            Self::NoValidEvent(_) => spec(422, "no_valid_event", Invalid, KEEP,
                "No event of the batch is valid; see results."),
            Self::AtomicRefused(_) => spec(422, "atomic_batch_refused", Invalid, KEEP,
                "An event of the atomic batch is invalid, so none was appended; see results."),
            Self::Internal => spec(500, "internal", Rejected, CLOSE,
                "Internal error: a bug. Give the request id to the operator."),
            Self::Overloaded => spec(503, "overloaded", Shed, CLOSE,
                "Too many requests are in flight. Send it again later."),
            Self::StreamFull => spec(503, "stream_full", Unavailable, KEEP,
                "The stream is at its cap. Send it again later."),
            Self::SpoolFull => spec(503, "spool_full", Unavailable, KEEP,
                "The stream is unavailable and the spool is at its limit. Send it again later."),
            Self::DeadLettersFull => spec(503, "dead_letters_full", Unavailable, KEEP,
                "The delivery can only be quarantined, and the dead letters are at their cap. Send it again later."),
            Self::StreamUnavailable => spec(503, "stream_unavailable", Unavailable, KEEP,
                "The stream did not confirm in time. Send it again; what is stored is not stored twice."),
            Self::NothingStored(_) => spec(503, "nothing_stored", Unavailable, KEEP,
                "No event could be stored; see results. Send them again."),
            Self::StoreUnavailable => spec(503, "store_unavailable", Unavailable, KEEP,
                "The stream or the warehouse is unavailable; the log has the cause. Try again later."),
            Self::WarehouseUnusable(_) => spec(503, "warehouse_unusable", Unavailable, KEEP,
                "The warehouse is not usable."),
            Self::TooManyViewers => spec(503, "too_many_viewers", Unavailable, KEEP,
                "Too many live views are open on this process. Close one, or use another process."),
            Self::ShuttingDown => spec(503, "shutting_down", Unavailable, KEEP,
                "This process is shutting down. Send it again."),
        }
    }

    fn limit(&self) -> Option<usize> {
        if let Self::BodyTooLarge(limit) | Self::BatchTooLarge(limit) = self {
            Some(*limit)
        } else {
            None
        }
    }

    /// In place of the words of the table.
    fn cause(&self) -> Option<&str> {
        if let Self::WarehouseUnusable(cause) = self {
            Some(cause)
        } else {
            None
        }
    }

    fn answer(&self) -> Option<&BatchAnswer> {
        if let Self::NoValidEvent(answer) | Self::AtomicRefused(answer) | Self::NothingStored(answer) = self {
            Some(answer)
        } else {
            None
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.spec().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn extra_headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let retry = self.status() == StatusCode::SERVICE_UNAVAILABLE;
        let bearer = matches!(self, Self::InvalidToken);
        [
            retry.then_some((header::RETRY_AFTER, RETRY_AFTER)),
            bearer.then_some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            self.spec()
                .closes
                .then_some((header::CONNECTION, HeaderValue::from_static("close"))),
        ]
        .into_iter()
        .flatten()
    }

    fn document(&self, request_id: &str) -> Vec<u8> {
        let spec = self.spec();
        let document = Document {
            title: self.status().canonical_reason().unwrap_or_default(),
            status: spec.status,
            code: spec.code,
            detail: self.cause().unwrap_or(spec.detail),
            request_id,
            limit: self.limit(),
            answer: self.answer(),
        };
        // Strings and numbers only: this cannot fail, and an empty body would still carry the
        // status.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// The whole response as bytes, for requests that never became one.
    pub(super) fn to_wire(&self) -> Vec<u8> {
        let id = request_id::fresh();
        let body = self.document(request_id::text(&id));
        let status = self.status();
        let head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\n{REQUEST_ID}: {}\r\n\
             connection: close\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            body.len(),
            request_id::text(&id),
        );
        [head.into_bytes(), body].concat()
    }
}

/// Marks the response; [`render`] writes it once the request id is known.
impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.headers_mut().extend(self.extra_headers());
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of a response that is a problem. The response has its request id already.
pub(super) fn render(mut response: axum::response::Response) -> axum::response::Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let headers = response.headers_mut();
        let request_id = headers.get(REQUEST_ID).map(request_id::text).unwrap_or_default();
        if matches!(problem, Problem::Internal) {
            tracing::error!(request_id, "a request failed by a bug");
        }
        let document = problem.document(request_id);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        // The router has put down the length of the empty body.
        headers.insert(header::CONTENT_LENGTH, document.len().into());
        *response.body_mut() = document.into();
    }
    response
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Overloaded => Self::Overloaded,
            AppendError::Full => Self::StreamFull,
            AppendError::SpoolFull => Self::SpoolFull,
            AppendError::Unavailable(_) => Self::StreamUnavailable,
            AppendError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<Shed> for Problem {
    fn from(_: Shed) -> Self {
        Self::Overloaded
    }
}
