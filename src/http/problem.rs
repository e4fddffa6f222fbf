//! The only place that turns errors into responses: RFC 9457 `application/problem+json`.
//!
//! Owns every error a caller can meet, with its status, its stable `code` and its words. What the operator needs is
//! logged where it happens and never stands here. Invariant: no text repeats what the caller sent.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;

use super::batch::Answer;
use super::request_id::{self, REQUEST_ID};
use crate::ingest::{AppendError, Shed};
use crate::metrics::Outcome;

/// Seconds after which a shed or unavailable request may be tried again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not served.
#[derive(Debug, Clone)]
pub(crate) enum Problem {
    /// The bytes are not an HTTP request.
    MalformedRequest,
    /// The body broke off or its framing is wrong.
    BrokenBody,
    /// The body is neither a JSON array nor NDJSON.
    MalformedBatch,
    /// The query, path or body of an API request cannot be read.
    MalformedQuery,
    /// No signature, or none that any secret made over this body.
    InvalidSignature,
    /// No bearer token, or an unknown one.
    InvalidToken,
    /// No such path.
    NotFound,
    /// The path exists, the method does not; axum adds `Allow`.
    MethodNotAllowed,
    /// Head or body did not arrive in time.
    RequestTimeout,
    /// More than so many bytes.
    BodyTooLarge(usize),
    /// More than so many events.
    BatchTooLarge(usize),
    /// Content-Encoding other than identity.
    UnsupportedEncoding,
    /// The `Host` header names no host that this listener answers for.
    WrongHost,
    /// This process has no warehouse to look into.
    NoWarehouse,
    /// No dead letter has a fingerprint that begins so.
    NoSuchCause,
    /// More than one fingerprint begins so.
    AmbiguousFingerprint,
    /// An operator's request that makes no sense; the text says what would.
    InvalidOperation(&'static str),
    /// No event of the batch was valid.
    NoValidEvent(Arc<Answer>),
    /// An atomic batch with an invalid event: nothing of it was appended.
    AtomicRefused(Arc<Answer>),
    /// A bug.
    Internal,
    /// Shed at admission.
    Overloaded,
    /// The stream is at its cap.
    StreamFull,
    /// The stream does not take it, and the spool is at its limit.
    SpoolFull,
    /// The dead letters are at their cap.
    DeadLettersFull,
    /// The stream did not confirm in time.
    StreamUnavailable,
    /// Valid events, and the stream took none of them.
    NothingStored(Arc<Answer>),
    /// Stream or warehouse cannot do what an operator asks for now.
    StoreUnavailable,
    /// As many watch already as may.
    TooManyViewers,
    /// Draining.
    ShuttingDown,
}

/// What is fixed about a problem.
struct Facts {
    status: u16,
    code: &'static str,
    outcome: Outcome,
    closes: bool,
    detail: &'static str,
}

/// The connection ends with the answer: unread bytes of the request may still be on their way.
const CLOSE: bool = true;
const KEEP: bool = false;

const fn facts(status: u16, code: &'static str, outcome: Outcome, closes: bool, detail: &'static str) -> Facts {
    Facts {
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
    answer: Option<&'a Answer>,
}

impl Problem {
    /// How it is counted.
    pub(super) fn outcome(&self) -> Outcome {
        self.facts().outcome
    }

    /// The one table: status, code, outcome, whether the connection ends, and the words.
    #[rustfmt::skip]
    fn facts(&self) -> Facts {
        use Outcome::{Invalid, Rejected, Shed, Timeout, TooLarge, Unauthorized, Unavailable};
        match self {
            Self::MalformedRequest => facts(400, "malformed_request", Rejected, CLOSE,
                "The request is not valid HTTP/1.1."),
            Self::BrokenBody => facts(400, "broken_body", Rejected, CLOSE,
                "The body ended early or is framed wrongly."),
            Self::MalformedBatch => facts(400, "malformed_batch", Invalid, KEEP,
                "The body is neither a JSON array nor one JSON object a line."),
            Self::MalformedQuery => facts(400, "malformed_query", Invalid, KEEP,
                "The query, the id or the body is not as the API's description has it."),
            Self::InvalidSignature => facts(401, "invalid_signature", Unauthorized, CLOSE,
                "X-Shopify-Hmac-Sha256 is missing or does not match the body."),
            Self::InvalidToken => facts(401, "invalid_token", Unauthorized, CLOSE,
                "Authorization needs a known bearer token."),
            Self::NotFound => facts(404, "not_found", Rejected, CLOSE,
                "There is nothing at this path."),
            Self::MethodNotAllowed => facts(405, "method_not_allowed", Rejected, CLOSE,
                "The path does not take this method; Allow names those it takes."),
            Self::RequestTimeout => facts(408, "request_timeout", Timeout, CLOSE,
                "The request did not arrive in time."),
            Self::BodyTooLarge(_) => facts(413, "body_too_large", TooLarge, CLOSE,
                "The body has more bytes than the limit."),
            Self::BatchTooLarge(_) => facts(413, "batch_too_large", TooLarge, KEEP,
                "The batch has more events than the limit."),
            Self::UnsupportedEncoding => facts(415, "unsupported_encoding", Rejected, CLOSE,
                "Send the body without Content-Encoding."),
            Self::NoWarehouse => facts(409, "no_warehouse", Rejected, KEEP,
                "This process has no warehouse; ask one that runs workers."),
            Self::NoSuchCause => facts(404, "no_such_cause", Rejected, KEEP,
                "No dead letter has a fingerprint that begins so."),
            Self::AmbiguousFingerprint => facts(422, "ambiguous_fingerprint", Invalid, KEEP,
                "More than one fingerprint begins so: give more of its digits."),
            Self::InvalidOperation(detail) => facts(422, "invalid_operation", Invalid, KEEP, detail),
            Self::WrongHost => facts(421, "wrong_host", Rejected, CLOSE,
                "The Host header names a host that this listener does not answer for: ORDERSTREAM_ADMIN_HOSTS can name it."),
            Self::NoValidEvent(_) => facts(422, "no_valid_event", Invalid, KEEP,
                "No event of the batch is valid; see results."),
            Self::AtomicRefused(_) => facts(422, "atomic_batch_refused", Invalid, KEEP,
                "An event of the atomic batch is invalid, so none was appended; see results."),
            Self::Internal => facts(500, "internal", Rejected, CLOSE,
                "The request met a bug; quote the request id to the operator."),
            Self::Overloaded => facts(503, "overloaded", Shed, CLOSE,
                "Too much is in flight. Send it again later."),
            Self::StreamFull => facts(503, "stream_full", Unavailable, KEEP,
                "The stream is at its cap. Send it again later."),
            Self::SpoolFull => facts(503, "spool_full", Unavailable, KEEP,
                "The stream does not take it for now, and the spool is at its limit. Send it again later."),
            Self::DeadLettersFull => facts(503, "dead_letters_full", Unavailable, KEEP,
                "The delivery can only be quarantined, and the dead letters are at their cap. Send it again later."),
            Self::StreamUnavailable => facts(503, "stream_unavailable", Unavailable, KEEP,
                "The stream did not confirm in time. Send it again; what is stored is not stored twice."),
            Self::NothingStored(_) => facts(503, "nothing_stored", Unavailable, KEEP,
                "No event could be stored; see results. Send them again."),
            Self::StoreUnavailable => facts(503, "store_unavailable", Unavailable, KEEP,
                "The stream or the warehouse cannot do that now; the log says why. Ask again."),
            Self::TooManyViewers => facts(503, "too_many_viewers", Unavailable, KEEP,
                "As many watch this process as may at once. Close one, or watch another process."),
            Self::ShuttingDown => facts(503, "shutting_down", Unavailable, KEEP,
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

    fn answer(&self) -> Option<&Answer> {
        if let Self::NoValidEvent(answer) | Self::AtomicRefused(answer) | Self::NothingStored(answer) = self {
            Some(answer)
        } else {
            None
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.facts().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn extra_headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let retry = self.status() == StatusCode::SERVICE_UNAVAILABLE;
        let bearer = matches!(self, Self::InvalidToken);
        [
            retry.then_some((header::RETRY_AFTER, RETRY_AFTER)),
            bearer.then_some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            self.facts()
                .closes
                .then_some((header::CONNECTION, HeaderValue::from_static("close"))),
        ]
        .into_iter()
        .flatten()
    }

    fn document(&self, request_id: &str) -> Vec<u8> {
        let facts = self.facts();
        let document = Document {
            title: self.status().canonical_reason().unwrap_or_default(),
            status: facts.status,
            code: facts.code,
            detail: facts.detail,
            request_id,
            limit: self.limit(),
            answer: self.answer(),
        };
        // Strings and numbers only: this cannot fail, and an empty body would still carry the status.
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

/// A handler's answer is marked here and written by [`render`], when the request id is known.
impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.headers_mut().extend(self.extra_headers());
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the problem that a handler answered with, if it did. The answer carries its request id already.
pub(super) fn render(mut response: axum::response::Response) -> axum::response::Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let headers = response.headers_mut();
        let request_id = headers.get(REQUEST_ID).map(request_id::text).unwrap_or_default();
        if matches!(problem, Problem::Internal) {
            tracing::error!(request_id, "a request met a bug");
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
