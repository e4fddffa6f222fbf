//! `POST /webhooks/orders`: one delivery, from its verified body to a durable entry.
//!
//! Invariant: a verified body never gets a 4xx. What cannot become an event is quarantined, since
//! Shopify drops a subscription whose deliveries are refused repeatedly; its body is kept without
//! personal fields unless all of it is asked for.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::body::ANSWER_WITHIN;
use super::problem::Problem;
use super::request_id;
use super::spans;
use super::state::PublicState;
use super::verified::VerifiedDelivery;
use crate::config::{IntakeConfig, KeepRaw};
use crate::event::{OrderEvent, Provenance, json};
use crate::ingest::{AppendError, Receipt, SharedPermit, quarantine};
use crate::metrics::Outcome;
use crate::shopify::{
    self, ConvertError, DeliveryHints, EventDelivery, EventDeliveryError, KeptNames, REUSED_WEBHOOK_ID, Topic,
    TopicError,
};
use crate::spans::{Span, SpanStart};
use crate::stream::codec::{self, Quarantine, Raw};
use crate::stream::{Destination, NewEntry, StreamId, spread};

/// The answer to a delivery that is durable.
#[derive(Debug, Serialize)]
struct WebhookAnswer {
    status: &'static str,
    event_id: String,
    /// `None` while it is only in the spool.
    stream_id: Option<StreamId>,
    #[serde(skip)]
    outcome: Outcome,
}

/// Why a verified delivery is quarantined.
#[derive(Debug, thiserror::Error)]
enum QuarantineReason {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Body(#[from] ConvertError),
    #[error("{REUSED_WEBHOOK_ID}")]
    Conflict,
    #[error(transparent)]
    Events(#[from] EventDeliveryError),
    #[error(
        "body of another shop: the number in its order_status_url is not the one that orders of this domain had before \
         (ORDERSTREAM_SHOP_BINDING)"
    )]
    OtherShop,
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

async fn take(state: &PublicState, request: Request) -> Result<WebhookAnswer, Problem> {
    let began = SpanStart::now();
    let request_id = request_id::of(request.extensions());
    let verified = VerifiedDelivery::from_request(request, state).await?;
    let delivery = Delivery::new(&verified, request_id, began);
    if let Ok(topic) = Topic::parse(delivery.hints.topic) {
        let version = delivery.hints.api_version;
        state.probes.health.came_in_version(topic.name(), version);
    }
    let taken = delivery.settle(state).await;
    delivery.end(&taken);
    taken
}

/// A verified delivery with everything that identifies it.
struct Delivery<'a> {
    body: &'a [u8],
    permit: &'a SharedPermit,
    hints: DeliveryHints<'a>,
    digest: [u8; 16],
    event_id: Uuid,
    received_at: OffsetDateTime,
    /// The latest time of its answer.
    latest: Instant,
    request_id: Option<HeaderValue>,
    span: Span,
}

impl<'a> Delivery<'a> {
    fn new(verified: &'a VerifiedDelivery, request_id: Option<HeaderValue>, began: SpanStart) -> Self {
        let body = verified.body();
        let hints = verified.hints();
        Self {
            body,
            permit: verified.permit(),
            digest: shopify::digest(body),
            event_id: shopify::event_id(&hints, body),
            span: spans::request("/webhooks/orders", began, hints.traceparent),
            hints,
            received_at: OffsetDateTime::now_utc(),
            latest: Instant::now() + ANSWER_WITHIN,
            request_id,
        }
    }

    async fn settle(&self, state: &PublicState) -> Result<WebhookAnswer, Problem> {
        let converting = state.admission.conversion(self.body.len(), self.latest).await?;
        let entry = self.entry(&state.intake)?;
        drop(converting);
        if entry.is_ok() && self.hints.action.is_none() {
            let (topic, version) = (self.hints.topic, self.hints.api_version);
            state.body_forms.look(topic, version, self.body);
        }
        let is_of_its_shop = entry.is_err() || self.is_of_its_shop(state).await;
        let reason = match entry {
            Err(reason) => reason,
            Ok(_) if !is_of_its_shop => QuarantineReason::OtherShop,
            Ok((entry, send)) => match self
                .append(state, entry, send)
                .await
                .map_err(|error| self.unconfirmed(error))?
            {
                Receipt::Accepted(id) => return Ok(self.taken("accepted", Some(id), Outcome::Accepted)),
                Receipt::Duplicate(id) => return Ok(self.taken("duplicate", id, Outcome::Duplicate)),
                Receipt::Spooled => return Ok(self.taken("spooled", None, Outcome::Spooled)),
                Receipt::Conflict => QuarantineReason::Conflict,
            },
        };
        self.quarantine(state, &reason).await
    }

    /// Whether the shop that the body tells is the one of the headers, as far as that is known.
    async fn is_of_its_shop(&self, state: &PublicState) -> bool {
        let (Some(binding), Some(shop)) = (&state.shop_binding, &self.hints.shop) else {
            return true;
        };
        match shopify::shop_number(self.body) {
            Some(number) => binding.admits(shop, &number).await,
            None => true,
        }
    }

    async fn append(&self, state: &PublicState, entry: NewEntry, send: Span) -> Result<Receipt, AppendError> {
        let receipt = state.appender.append(entry, self.permit, self.latest).await;
        spans::sent(send, &receipt);
        receipt
    }

    /// The entry of the delivery's event and the span of its append, or why it is quarantined.
    fn entry(&self, intake: &IntakeConfig) -> Result<Result<(NewEntry, Span), QuarantineReason>, Problem> {
        let body = json::mended(self.body);
        let delivery = self.hints.action.map(|_| EventDelivery::read(&body, &self.hints));
        let delivery = match delivery.transpose() {
            Ok(delivery) => delivery,
            Err(error) => return Ok(Err(error.into())),
        };
        let mut event = match self.event(&body, delivery.as_ref()) {
            Ok(event) => event,
            Err(reason) => return Ok(Err(reason)),
        };
        let kept = KeptNames {
            note_attributes: &intake.keep_note_attributes,
            line_properties: &intake.keep_line_properties,
        };
        shopify::keep_attributes(&body, kept, &mut event);
        let raw = match intake.keep_raw {
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
            spread: spread(&event),
            fields,
        };
        Ok(Ok((entry, send)))
    }

    /// The event of a webhook's body, or of what was read of a delivery of Shopify's Events.
    fn event<'b>(
        &'b self,
        body: &'b [u8],
        delivery: Option<&'b EventDelivery>,
    ) -> Result<OrderEvent<'b>, QuarantineReason> {
        let (hints, event_id, received_at) = (&self.hints, self.event_id, self.received_at);
        match delivery {
            Some(delivery) => Ok(delivery.event(hints, event_id, received_at)?),
            None => Ok(shopify::convert(
                Topic::parse(hints.topic)?,
                body,
                hints,
                event_id,
                received_at,
            )?),
        }
    }

    fn provenance(&self, send: &Span) -> Provenance<'_> {
        Provenance {
            traceparent: spans::carried(send, self.hints.traceparent),
            ..self.hints.provenance(self.received_at)
        }
    }

    async fn quarantine(&self, state: &PublicState, cause: &QuarantineReason) -> Result<WebhookAnswer, Problem> {
        let event_id = self.event_id.to_string();
        let reason = cause.to_string();
        let send = spans::send(&self.span, Destination::DeadLetters);
        let fields = codec::quarantine_fields(Quarantine {
            event_type: Topic::parse(self.hints.topic).ok().map(Topic::event_type),
            event_id: &event_id,
            received_at: self.received_at,
            provenance: &self.provenance(&send),
            raw: self.quarantined_body(state.intake.keep_raw)?,
            order_id: shopify::named_order(self.hints.topic, self.body).order_id,
            error: &reason,
        });
        let dead_letter = quarantine::dead_letter(&event_id, self.digest, fields);
        let receipt = self.append(state, dead_letter, send).await.map_err(|error| {
            let full = matches!(error, AppendError::Full);
            let problem = self.unconfirmed(error);
            if full { Problem::DeadLettersFull } else { problem }
        })?;
        let id = match receipt {
            Receipt::Accepted(id) => Some(id),
            Receipt::Duplicate(id) => id,
            // Its key holds the digest, so there is no conflict.
            Receipt::Spooled | Receipt::Conflict => None,
        };
        if matches!(cause, QuarantineReason::Events(_)) {
            state.events_deliveries.inc();
        }
        state.quarantine_log.note(&event_id, self.request_id(), &reason);
        Ok(self.taken("quarantined", id, Outcome::Quarantined))
    }

    /// What is no JSON has no fields that could be left out, and is kept as it came.
    fn quarantined_body(&self, keep_raw: KeepRaw) -> Result<Raw, Problem> {
        let redacted = match keep_raw {
            KeepRaw::Full => None,
            KeepRaw::Off | KeepRaw::Redacted => shopify::redact(&json::mended(self.body)),
        };
        let raw = redacted.map_or_else(|| Raw::whole(self.body), |body| Raw::redacted(&body));
        raw.map_err(|error| self.bug(&error))
    }

    fn taken(&self, status: &'static str, stream_id: Option<StreamId>, outcome: Outcome) -> WebhookAnswer {
        let event_id = self.event_id.to_string();
        let shown = stream_id.map(tracing::field::display);
        tracing::debug!(
            event_id,
            request_id = self.request_id(),
            status,
            stream_id = shown,
            "webhook"
        );
        WebhookAnswer {
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
    fn end(mut self, taken: &Result<WebhookAnswer, Problem>) {
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
