//! `POST /webhooks/orders`: one delivery, from its verified body to a durable entry.
//!
//! Owns the way of one webhook (see `lib.rs`). Invariant: a verified body never gets a 4xx. What cannot become an event
//! is quarantined with its raw bytes, since refusing it again and again makes Shopify drop the subscription.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::PublicState;
use super::problem::Problem;
use super::request_id;
use super::spans;
use super::verified::VerifiedDelivery;
use crate::config::KeepRaw;
use crate::event::{Provenance, json};
use crate::ingest::{AppendError, Receipt, SharedPermit, quarantine};
use crate::metrics::{Metrics, Outcome, SecretLabels};
use crate::shopify::{self, ConvertError, DeliveryHints, REUSED_WEBHOOK_ID, Topic, TopicError};
use crate::spans::{Span, SpanStart};
use crate::stream::codec::{self, Quarantine, Raw};
use crate::stream::{Destination, NewEntry, StreamId};

/// From the last byte of the body to the answer, whatever hangs behind. Shopify hangs up after five seconds.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(2800);

/// Counters of secrets by index; the last one stands for all further ones.
const COUNTED_SECRETS: usize = 8;

/// Verified deliveries by secret, looked up once.
#[derive(Debug, Clone)]
pub(super) struct BySecret([Counter; COUNTED_SECRETS]);

impl BySecret {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let mut secret = 0..;
        Self(std::array::from_fn(|_| {
            let secret = secret.next().unwrap_or_default();
            metrics.signatures.get_or_create_owned(&SecretLabels { secret })
        }))
    }

    pub(super) fn count(&self, secret: usize) {
        self.0[secret.min(COUNTED_SECRETS - 1)].inc();
    }
}

/// The answer to a delivery that is durable.
#[derive(Debug, Serialize)]
struct Taken {
    status: &'static str,
    event_id: String,
    /// `None` while it is only in the spool.
    stream_id: Option<StreamId>,
    #[serde(skip)]
    outcome: Outcome,
}

/// Why a verified delivery is quarantined.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Body(#[from] ConvertError),
    #[error("{REUSED_WEBHOOK_ID}")]
    Conflict,
}

/// Takes one webhook.
pub(super) async fn receive(State(state): State<Arc<PublicState>>, request: Request) -> Response {
    let taken = take(&state, request).await;
    let outcome = match &taken {
        Ok(taken) => taken.outcome,
        Err(problem) => problem.outcome(),
    };
    state.webhook_outcomes.count(outcome);
    state.probes.health.answered(outcome == Outcome::Unauthorized);
    state.probes.health.delivered(outcome);
    match taken {
        Ok(taken) => Json(taken).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn take(state: &PublicState, request: Request) -> Result<Taken, Problem> {
    let began = SpanStart::now();
    let request_id = request_id::of(request.extensions());
    let delivery = VerifiedDelivery::from_request(request, state).await?;
    let arrival = Arrival::new(&delivery, request_id, began);
    let taken = arrival.settle(state).await;
    arrival.end(&taken);
    taken
}

/// A verified delivery with everything that identifies it.
struct Arrival<'a> {
    body: &'a [u8],
    share: &'a SharedPermit,
    hints: DeliveryHints<'a>,
    digest: [u8; 16],
    event_id: Uuid,
    received_at: OffsetDateTime,
    /// Whatever hangs behind, it is answered before.
    latest: Instant,
    request_id: Option<HeaderValue>,
    span: Span,
}

impl<'a> Arrival<'a> {
    fn new(delivery: &'a VerifiedDelivery, request_id: Option<HeaderValue>, began: SpanStart) -> Self {
        let body = delivery.body();
        let hints = delivery.hints();
        Self {
            body,
            share: delivery.share(),
            digest: shopify::digest(body),
            event_id: shopify::event_id(&hints, body),
            span: spans::request("/webhooks/orders", began, hints.traceparent),
            hints,
            received_at: OffsetDateTime::now_utc(),
            latest: Instant::now() + ANSWER_WITHIN,
            request_id,
        }
    }

    async fn settle(&self, state: &PublicState) -> Result<Taken, Problem> {
        let converting = state.admission.conversion(self.body.len(), self.latest).await?;
        let entry = self.entry(state.intake.keep_raw)?;
        drop(converting);
        let unusable = match entry {
            Err(unusable) => unusable,
            Ok((entry, send)) => match self
                .append(state, entry, send)
                .await
                .map_err(|error| self.unconfirmed(error))?
            {
                Receipt::Accepted(id) => return Ok(self.taken("accepted", Some(id), Outcome::Accepted)),
                Receipt::Duplicate(id) => return Ok(self.taken("duplicate", id, Outcome::Duplicate)),
                Receipt::Spooled => return Ok(self.taken("spooled", None, Outcome::Spooled)),
                Receipt::Conflict => Unusable::Conflict,
            },
        };
        self.quarantine(state, &unusable).await
    }

    async fn append(&self, state: &PublicState, entry: NewEntry, send: Span) -> Result<Receipt, AppendError> {
        let receipt = state.appender.append(entry, self.share, self.latest).await;
        spans::sent(send, &receipt);
        receipt
    }

    /// The entry of the event that the delivery is and the span of its append, or why it is none.
    fn entry(&self, keep_raw: KeepRaw) -> Result<Result<(NewEntry, Span), Unusable>, Problem> {
        let body = json::mended(self.body);
        let event = Topic::parse(self.hints.topic)
            .map_err(Unusable::Topic)
            .and_then(|topic| {
                Ok(shopify::convert(
                    topic,
                    &body,
                    &self.hints,
                    self.event_id,
                    self.received_at,
                )?)
            });
        let event = match event {
            Ok(event) => event,
            Err(unusable) => return Ok(Err(unusable)),
        };
        let raw = match keep_raw {
            KeepRaw::Off => None,
            KeepRaw::Full => Some(Raw::whole(self.body).map_err(|error| self.bug(&error))?),
            KeepRaw::Redacted => shopify::redact(self.body)
                .map(|body| Raw::redacted(&body))
                .transpose()
                .map_err(|error| self.bug(&error))?,
        };
        let send = spans::send(&self.span, Destination::Stream);
        let fields = codec::encode(&event, &self.provenance(&send), raw).map_err(|error| self.bug(&error))?;
        let entry = NewEntry {
            destination: Destination::Stream,
            dedupe_key: self.event_id.to_string(),
            digest: self.digest,
            fields,
        };
        Ok(Ok((entry, send)))
    }

    fn provenance(&self, send: &Span) -> Provenance<'_> {
        Provenance {
            traceparent: spans::carried(send, self.hints.traceparent),
            ..self.hints.provenance(self.received_at)
        }
    }

    async fn quarantine(&self, state: &PublicState, unusable: &Unusable) -> Result<Taken, Problem> {
        let event_id = self.event_id.to_string();
        let reason = unusable.to_string();
        let send = spans::send(&self.span, Destination::DeadLetters);
        let fields = codec::quarantine_fields(Quarantine {
            event_type: Topic::parse(self.hints.topic).ok().map(Topic::event_type),
            event_id: &event_id,
            received_at: self.received_at,
            provenance: &self.provenance(&send),
            raw: Raw::whole(self.body).map_err(|error| self.bug(&error))?,
            order_id: shopify::named_order(self.hints.topic, self.body).order_id,
            error: &reason,
        });
        let letter = quarantine::letter(&event_id, self.digest, fields);
        let receipt = self.append(state, letter, send).await.map_err(|error| {
            let full = matches!(error, AppendError::Full);
            let problem = self.unconfirmed(error);
            if full { Problem::DeadLettersFull } else { problem }
        })?;
        let id = match receipt {
            Receipt::Accepted(id) => Some(id),
            Receipt::Duplicate(id) => id,
            // Its key holds the digest, so that there is no conflict.
            Receipt::Spooled | Receipt::Conflict => None,
        };
        state.quarantine_log.note(&event_id, self.request_id(), &reason);
        Ok(self.taken("quarantined", id, Outcome::Quarantined))
    }

    fn taken(&self, status: &'static str, stream_id: Option<StreamId>, outcome: Outcome) -> Taken {
        let event_id = self.event_id.to_string();
        let shown = stream_id.map(tracing::field::display);
        tracing::debug!(
            event_id,
            request_id = self.request_id(),
            status,
            stream_id = shown,
            "webhook"
        );
        Taken {
            status,
            event_id,
            stream_id,
            outcome,
        }
    }

    fn unconfirmed(&self, error: AppendError) -> Problem {
        tracing::debug!(event_id = %self.event_id, request_id = self.request_id(), %error, "not appended");
        error.into()
    }

    fn bug(&self, error: &dyn std::fmt::Display) -> Problem {
        tracing::error!(event_id = %self.event_id, request_id = self.request_id(), %error, "cannot encode a delivery");
        Problem::Internal
    }

    fn request_id(&self) -> Option<&str> {
        self.request_id.as_ref().map(request_id::text)
    }

    /// Ends its span.
    fn end(mut self, taken: &Result<Taken, Problem>) {
        let status = match taken {
            Ok(taken) => {
                self.span.set_attribute("orderstream.outcome", taken.status);
                StatusCode::OK
            }
            Err(problem) => problem.status(),
        };
        self.span.set_attribute("orderstream.event_id", self.event_id);
        for (name, text) in [
            ("orderstream.shop", self.hints.shop.as_deref()),
            ("orderstream.topic", self.hints.topic),
            ("orderstream.request_id", self.request_id.as_ref().map(request_id::text)),
        ] {
            if let Some(text) = text {
                self.span.set_attribute(name, text);
            }
        }
        spans::answered(self.span, status);
    }
}
