//! The spans of a delivery: the request, and below it each append.
//!
//! Owns names and attributes (OpenTelemetry's conventions for HTTP and messaging). Invariants: a
//! request has a span only once its sender is authenticated, so that strangers neither fill the
//! exporter's queue nor choose what is recorded; no attribute holds a body, a client's address or
//! customer data.

use axum::http::{HeaderMap, StatusCode};

use crate::event::Text;
use crate::ingest::{AppendError, Receipt};
use crate::spans::{self, Span, SpanKind, SpanStart};
use crate::stream::Destination;
use crate::traceparent::TraceParent;

/// The span of an authenticated request.
pub(super) fn request(route: &'static str, began: SpanStart, traceparent: Option<&str>) -> Span {
    let parent = traceparent.and_then(TraceParent::parse);
    let mut span = Span::since(began, || format!("POST {route}").into(), SpanKind::Server, parent);
    span.set_attribute("http.request.method", "POST");
    span.set_attribute("http.route", route);
    span.set_attribute("url.path", route);
    span.set_attribute("url.scheme", "http");
    span
}

/// The trace context that came with a request, where it is well-formed.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    TraceParent::parse(text).map(|_| text)
}

/// Ends it with the status of the answer.
pub(super) fn answered(mut span: Span, status: StatusCode) {
    span.set_number("http.response.status_code", status.as_u16().into());
    if status.is_server_error() {
        span.set_attribute("error.type", status.as_u16());
        span.set_error("");
    }
}

/// The span of an append, whose context its entries carry.
pub(super) fn send(request: &Span, to: Destination) -> Span {
    let Some(names) = spans::names() else {
        return Span::none();
    };
    let name = match to {
        Destination::Stream => &names.stream,
        Destination::DeadLetters => &names.dead_letters,
    };
    let mut span = request.below(|| format!("send {name}").into(), SpanKind::Producer);
    span.set_attribute("messaging.system", names.system);
    span.set_attribute("messaging.destination.name", name);
    span.set_attribute("messaging.operation.name", "send");
    span.set_attribute("messaging.operation.type", "send");
    span
}

/// The trace context of an entry: the one of its append where that is recorded, else what came with
/// the request.
pub(super) fn carried<'a>(send: &Span, traceparent: Option<&'a str>) -> Option<Text<'a>> {
    match send.context() {
        Some(context) => Some(context.to_string().into()),
        None => traceparent.map(Into::into),
    }
}

/// Ends the span of one entry's append.
pub(super) fn sent(mut span: Span, receipt: &Result<Receipt, AppendError>) {
    let (outcome, id) = match receipt {
        Ok(Receipt::Accepted(id)) => ("accepted", Some(*id)),
        Ok(Receipt::Duplicate(id)) => ("duplicate", *id),
        Ok(Receipt::Spooled) => ("spooled", None),
        Ok(Receipt::Conflict) => ("conflict", None),
        Err(error) => {
            span.set_error(error);
            return;
        }
    };
    span.set_attribute("orderstream.outcome", outcome);
    if let Some(id) = id {
        span.set_attribute("messaging.message.id", id);
    }
}

/// Ends the span of a chunk of a batch.
pub(super) fn sent_many(mut span: Span, receipts: &[Result<Receipt, AppendError>]) {
    span.set_number("messaging.batch.message_count", receipts.len() as u64);
    if let Some(error) = receipts.iter().find_map(|receipt| receipt.as_ref().err()) {
        span.set_error(error);
    }
}
