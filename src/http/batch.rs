//! `POST /events/batch`: many events from trusted services.
//!
//! Owns the way of a batch. Items are judged one by one and appended in pieces: a bad item costs only itself, and what
//! a batch takes in memory is its body and one piece. Invariants: one deadline holds for all pieces; an item is
//! `accepted` or `duplicate` only after the stream confirmed it, `spooled` only once it is on the disk.

mod answer;
mod items;

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

pub(super) use self::answer::Answer;

use self::answer::Verdict;
use super::body::{self, Allowance};
use super::problem::Problem;
use super::webhooks::ANSWER_WITHIN;
use super::{PublicState, flag, request_id, spans};
use crate::event::{OrderEvent, Provenance, Text, json, validate};
use crate::ingest::{AppendError, Receipt, SharedPermit};
use crate::metrics::Outcome;
use crate::shopify::digest;
use crate::spans::{Span, SpanStart};
use crate::stream::{Destination, NewEntry, codec};

/// Items appended at once.
const PIECE: usize = 256;
/// Bytes of items after which a piece takes no further one.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// What all pieces of a batch share.
#[derive(Clone, Copy)]
struct Bounds<'a> {
    /// The body's share of the budget.
    share: &'a SharedPermit,
    /// When the last answer must be there.
    latest: Instant,
    /// The request's.
    span: &'a Span,
    /// What came with the request.
    traceparent: Option<&'a str>,
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

async fn take(state: &PublicState, request: Request) -> Result<Answer, Problem> {
    let began = SpanStart::now();
    let (parts, body) = request.into_parts();
    let admitted = state.credentials.tokens.load().admit(&parts.headers);
    if let Err(problem) = admitted {
        state.failed_tokens.count(parts.extensions.get(), "/events/batch").await;
        return Err(problem);
    }
    let allowance = Allowance {
        admission: &state.admission,
        is_verified: true,
        connection: parts.extensions.get(),
        limit: state.intake.batch_body_limit,
        timeout: state.body_timeout,
    };
    let body = body::read(body, &parts.headers, allowance).await?;
    let traceparent = spans::traceparent(&parts.headers);
    let span = spans::request("/events/batch", began, traceparent);
    let bounds = Bounds {
        share: &body.share,
        latest: Instant::now() + ANSWER_WITHIN,
        span: &span,
        traceparent,
    };
    let settled = settle(state, &parts, &body.bytes, bounds).await;
    let status = settled.as_ref().err().map_or(StatusCode::OK, Problem::status);
    spans::answered(span, status);
    settled
}

async fn settle(state: &PublicState, parts: &Parts, body: &[u8], bounds: Bounds<'_>) -> Result<Answer, Problem> {
    let body = json::mended(body);
    let items = items::split(&body, state.intake.batch_limit)?;
    let answer = if flag(&parts.uri, "atomic")? {
        all_or_none(state, &items, bounds).await?
    } else {
        one_by_one(state, &items, bounds).await
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
async fn all_or_none(state: &PublicState, items: &[&str], bounds: Bounds<'_>) -> Result<Answer, Problem> {
    let mut judged = Answer::with_capacity(items.len());
    for piece in pieces(items) {
        judge(piece, "another event of this atomic batch is invalid", &mut judged).await;
    }
    if judged.any_invalid() && !judged.all_invalid() {
        return Err(Problem::AtomicRefused(Arc::new(judged)));
    }
    Ok(one_by_one(state, items, bounds).await)
}

/// Judges what is not appended, for that reason. Then others get their turn: a whole batch of 32 MiB takes longer to read
/// than any other request should wait for this thread.
async fn judge(piece: &[&str], why: &str, answer: &mut Answer) {
    for item in piece {
        answer.push(match entry(item, None) {
            Ok((event_id, _)) => Verdict::unavailable(event_id, why),
            Err(verdict) => verdict,
        });
    }
    tokio::task::yield_now().await;
}

/// The items in pieces, each as large as is appended at once.
fn pieces<'a, 'b>(mut items: &'a [&'b str]) -> impl Iterator<Item = &'a [&'b str]> {
    std::iter::from_fn(move || {
        let (piece, rest) = items.split_at(piece(items));
        items = rest;
        Some(piece).filter(|piece| !piece.is_empty())
    })
}

/// The first items, as many as are appended at once; never none of some.
fn piece(items: &[&str]) -> usize {
    let mut bytes = 0;
    let fitting = items.iter().take(PIECE).take_while(|item| {
        let fits = bytes < PIECE_BYTES;
        bytes += item.len();
        fits
    });
    fitting.count()
}

async fn one_by_one(state: &PublicState, items: &[&str], bounds: Bounds<'_>) -> Answer {
    let mut answer = Answer::with_capacity(items.len());
    let mut away = None;
    for piece in pieces(items) {
        match &away {
            None => away = append(state, piece, bounds, &mut answer).await,
            // Once the stream fails, or the time is over, the rest is not sent after it.
            Some(error) => judge(piece, why(error), &mut answer).await,
        }
    }
    answer
}

/// Appends one piece and answers an error that the rest of the batch would meet too.
async fn append(state: &PublicState, piece: &[&str], bounds: Bounds<'_>, answer: &mut Answer) -> Option<AppendError> {
    let mut entries = Vec::with_capacity(piece.len());
    let mut judged = Vec::with_capacity(piece.len());
    let send = spans::send(bounds.span, Destination::Stream);
    let carried = spans::carried(&send, bounds.traceparent);
    let bytes = piece.iter().map(|item| item.len()).sum();
    // Where there is no room until then, there is no time for an append either, and each is answered so.
    let converting = state.admission.conversion(bytes, bounds.latest).await;
    for item in piece {
        judged.push(entry(item, carried.as_ref()).map(|(event_id, entry)| {
            entries.push(entry);
            event_id
        }));
    }
    drop(converting);
    let mut away = None;
    let receipts = state.appender.append_many(entries, bounds.share, bounds.latest);
    let receipts = receipts.await;
    spans::sent_many(send, &receipts);
    let mut receipts = receipts.into_iter();
    for item in judged {
        let event_id = match item {
            Ok(event_id) => event_id,
            Err(verdict) => {
                answer.push(verdict);
                continue;
            }
        };
        let receipt = receipts.next().unwrap_or(Err(AppendError::Overloaded));
        answer.push(match receipt {
            Ok(Receipt::Accepted(id)) => Verdict::accepted(event_id, id),
            Ok(Receipt::Duplicate(id)) => Verdict::duplicate(event_id, id),
            Ok(Receipt::Spooled) => Verdict::spooled(event_id),
            Ok(Receipt::Conflict) => Verdict::invalid(Some(event_id), "event_id was used for another body"),
            Err(error) => {
                let verdict = Verdict::unavailable(event_id, why(&error));
                away = Some(error);
                verdict
            }
        });
    }
    away
}

/// What the sender may read of it.
fn why(error: &AppendError) -> &'static str {
    match error {
        AppendError::Overloaded => "too much is in flight",
        AppendError::Full => "the stream is at its cap",
        AppendError::SpoolFull => "the stream does not take it, and the spool is at its limit",
        AppendError::Unavailable(_) => "the stream did not confirm in time",
        AppendError::ShuttingDown => "this process is shutting down",
    }
}

/// The entry of one item and its event's id, or why there is none.
fn entry(item: &str, traceparent: Option<&Text<'_>>) -> Result<(String, NewEntry), Verdict> {
    let event: OrderEvent<'_> = json::parse(item.as_bytes()).map_err(|error| Verdict::invalid(None, error))?;
    let event_id = event.event_id.as_str().to_owned();
    validate(&event).map_err(|error| Verdict::invalid(Some(event_id.clone()), error))?;
    let provenance = Provenance {
        source: Some("batch".into()),
        traceparent: traceparent.cloned(),
        ..Provenance::default()
    };
    let fields =
        codec::encode(&event, &provenance, None).map_err(|error| Verdict::invalid(Some(event_id.clone()), error))?;
    let entry = NewEntry {
        destination: Destination::Stream,
        dedupe_key: event_id.clone(),
        digest: digest(item.as_bytes()),
        fields,
    };
    Ok((event_id, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_bounded_in_items_and_bytes() {
        assert_eq!(piece(&[]), 0);
        assert_eq!(piece(&vec!["{}"; 300]), PIECE);
        let large = "x".repeat(PIECE_BYTES / 2);
        assert_eq!(piece(&[large.as_str(); 5]), 2);
        let whole = "x".repeat(2 * PIECE_BYTES);
        assert_eq!(piece(&[&whole, "{}"]), 1);
    }
}
