//! `POST /events/batch`: many events from trusted services.
//!
//! Items are validated one by one and appended in chunks: an invalid item costs only itself, and a
//! batch takes the memory of its body and one chunk. Invariants: one deadline holds for all chunks;
//! an item is `accepted` or `duplicate` only after the stream confirmed it, `spooled` only once it
//! is on the disk.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use time::OffsetDateTime;

use super::batch_answer::{BatchAnswer, ItemResult, reason};
use super::body::{self, ANSWER_WITHIN, BodyBounds};
use super::problem::Problem;
use super::state::PublicState;
use super::{batch_items, request_id, spans};
use crate::event::{OrderEvent, Provenance, Text, Timestamp, json, validate};
use crate::ingest::{AppendError, SharedPermit};
use crate::metrics::Outcome;
use crate::shopify::digest;
use crate::spans::{Span, SpanStart};
use crate::stream::{Destination, NewEntry, codec, spread};

/// Items of one chunk, which are appended at once.
const CHUNK: usize = 256;
/// Bytes of items after which a chunk takes no further one.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// What all chunks of a batch share.
#[derive(Clone, Copy)]
struct BatchContext<'a> {
    /// The body's permit of the memory budget.
    permit: &'a SharedPermit,
    /// When the last answer must be there.
    latest: Instant,
    /// The request's span.
    span: &'a Span,
    /// The trace context that came with the request.
    traceparent: Option<&'a str>,
}

#[derive(Deserialize)]
struct BatchQuery {
    /// Validates all items before any is appended.
    #[serde(default)]
    atomic: bool,
}

/// Takes one batch.
pub(super) async fn receive(State(state): State<Arc<PublicState>>, request: Request) -> Response {
    let taken = take(&state, request).await;
    match &taken {
        Ok(answer) => answer.count(&state.batch_outcomes),
        Err(Problem::NoValidEvent(answer) | Problem::AtomicRefused(answer) | Problem::NothingStored(answer)) => {
            answer.count(&state.batch_outcomes);
        }
        Err(problem) => state.batch_outcomes.count(problem.outcome()),
    }
    let unauthorized = taken
        .as_ref()
        .is_err_and(|problem| problem.outcome() == Outcome::Unauthorized);
    state.probes.health.answered(unauthorized);
    match taken {
        Ok(answer) => Json(answer).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn take(state: &PublicState, request: Request) -> Result<BatchAnswer, Problem> {
    let began = SpanStart::now();
    let (parts, body) = request.into_parts();
    let admitted = state.credentials.tokens.load().admit(&parts.headers);
    if let Err(problem) = admitted {
        state.failed_tokens.count(parts.extensions.get(), "/events/batch").await;
        return Err(problem);
    }
    let bounds = BodyBounds {
        admission: &state.admission,
        is_verified: true,
        connection: parts.extensions.get(),
        limit: state.intake.batch_body_limit,
        timeout: state.body_timeout,
    };
    let body = body::read(body, &parts.headers, bounds).await?;
    let traceparent = spans::traceparent(&parts.headers);
    let span = spans::request("/events/batch", began, traceparent);
    let shared = BatchContext {
        permit: &body.permit,
        latest: Instant::now() + ANSWER_WITHIN,
        span: &span,
        traceparent,
    };
    let settled = settle(state, &parts, &body.bytes, shared).await;
    let status = settled.as_ref().err().map_or(StatusCode::OK, Problem::status);
    spans::answered(span, status);
    settled
}

async fn settle(
    state: &PublicState,
    parts: &Parts,
    body: &[u8],
    shared: BatchContext<'_>,
) -> Result<BatchAnswer, Problem> {
    let body = json::mended(body);
    let items = batch_items::split(&body, state.intake.batch_limit)?;
    let query = Query::<BatchQuery>::try_from_uri(&parts.uri).map_err(|_| Problem::MalformedQuery)?;
    let answer = if query.atomic {
        all_or_none(state, &items, shared).await?
    } else {
        one_by_one(state, &items, shared).await
    };
    if let Some(request_id) = request_id::of(&parts.extensions) {
        let request_id = request_id::text(&request_id);
        tracing::debug!(request_id, items = items.len(), taken = answer.taken(), "batch");
    }
    if answer.taken() > 0 {
        Ok(answer)
    } else if answer.all_invalid() {
        Err(Problem::NoValidEvent(Arc::new(answer)))
    } else {
        Err(Problem::NothingStored(Arc::new(answer)))
    }
}

/// Validates everything before anything is appended.
async fn all_or_none(state: &PublicState, items: &[&str], shared: BatchContext<'_>) -> Result<BatchAnswer, Problem> {
    let mut validated = BatchAnswer::with_capacity(items.len());
    for chunk in chunks(items) {
        validate_only(chunk, "another event of this atomic batch is invalid", &mut validated).await;
    }
    if validated.any_invalid() && !validated.all_invalid() {
        return Err(Problem::AtomicRefused(Arc::new(validated)));
    }
    Ok(one_by_one(state, items, shared).await)
}

/// Validates items that are not appended, for the reason `why`. Yields then: a whole batch of 32
/// MiB takes longer to read than another request should wait for this thread.
async fn validate_only(chunk: &[&str], why: &str, answer: &mut BatchAnswer) {
    for item in chunk {
        answer.push(match entry(item, None) {
            Ok((event_id, _)) => ItemResult::unavailable(event_id, why),
            Err(result) => result,
        });
    }
    tokio::task::yield_now().await;
}

/// The items in chunks.
fn chunks<'a, 'b>(mut items: &'a [&'b str]) -> impl Iterator<Item = &'a [&'b str]> {
    std::iter::from_fn(move || {
        let (chunk, rest) = items.split_at(chunk(items));
        items = rest;
        Some(chunk).filter(|chunk| !chunk.is_empty())
    })
}

/// The number of items in the first chunk: at least one, if there are any.
fn chunk(items: &[&str]) -> usize {
    let mut bytes = 0;
    let fitting = items.iter().take(CHUNK).take_while(|item| {
        let fits = bytes < CHUNK_BYTES;
        bytes += item.len();
        fits
    });
    fitting.count()
}

async fn one_by_one(state: &PublicState, items: &[&str], shared: BatchContext<'_>) -> BatchAnswer {
    let mut answer = BatchAnswer::with_capacity(items.len());
    let mut failed = None;
    for chunk in chunks(items) {
        match &failed {
            None => failed = append(state, chunk, shared, &mut answer).await,
            // Once the stream fails, or the time is over, the rest is not sent after it.
            Some(error) => validate_only(chunk, reason(error), &mut answer).await,
        }
    }
    answer
}

/// Appends one chunk and answers an error that the rest of the batch would meet too.
async fn append(
    state: &PublicState,
    chunk: &[&str],
    shared: BatchContext<'_>,
    answer: &mut BatchAnswer,
) -> Option<AppendError> {
    let mut entries = Vec::with_capacity(chunk.len());
    let mut validated = Vec::with_capacity(chunk.len());
    let send = spans::send(shared.span, Destination::Stream);
    let carried = spans::carried(&send, shared.traceparent);
    let bytes = chunk.iter().map(|item| item.len()).sum();
    // Where there is no room until then, there is no time for an append either, which then refuses
    // each item.
    let converting = state.admission.conversion(bytes, shared.latest).await;
    for item in chunk {
        validated.push(entry(item, carried.as_ref()).map(|(event_id, entry)| {
            entries.push(entry);
            event_id
        }));
    }
    drop(converting);
    let mut failed = None;
    let receipts = state.appender.append_many(entries, shared.permit, shared.latest);
    let receipts = receipts.await;
    spans::sent_many(send, &receipts);
    let mut receipts = receipts.into_iter();
    for item in validated {
        let event_id = match item {
            Ok(event_id) => event_id,
            Err(result) => {
                answer.push(result);
                continue;
            }
        };
        let receipt = receipts.next().unwrap_or(Err(AppendError::Overloaded));
        answer.push(ItemResult::of_append(event_id, &receipt));
        failed = receipt.err().or(failed);
    }
    failed
}

/// The entry of one item and its event's id, or why there is none.
fn entry(item: &str, traceparent: Option<&Text<'_>>) -> Result<(String, NewEntry), ItemResult> {
    let event: OrderEvent<'_> = json::parse(item.as_bytes()).map_err(|error| ItemResult::invalid(None, error))?;
    let event_id = event.event_id.as_str().to_owned();
    validate(&event).map_err(|error| ItemResult::invalid(Some(event_id.clone()), error))?;
    let provenance = Provenance {
        source: Some("batch".into()),
        traceparent: traceparent.cloned(),
        received_at: Some(Timestamp::from(OffsetDateTime::now_utc()).into_text()),
        ..Provenance::default()
    };
    let fields =
        codec::encode(&event, &provenance, None).map_err(|error| ItemResult::invalid(Some(event_id.clone()), error))?;
    let entry = NewEntry {
        destination: Destination::Stream,
        dedupe_key: event_id.clone(),
        digest: digest(item.as_bytes()),
        spread: spread(&event),
        fields,
    };
    Ok((event_id, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_bounded_in_items_and_bytes() {
        assert_eq!(chunk(&[]), 0);
        assert_eq!(chunk(&vec!["{}"; 300]), CHUNK);
        let large = "x".repeat(CHUNK_BYTES / 2);
        assert_eq!(chunk(&[large.as_str(); 5]), 2);
        let whole = "x".repeat(2 * CHUNK_BYTES);
        assert_eq!(chunk(&[&whole, "{}"]), 1);
    }
}
