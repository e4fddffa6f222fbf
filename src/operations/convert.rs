//! A dead letter, judged by the current code: what would be appended if it were sent through again.
//!
//! Pure. A worker's letter is its event's own fields again; a delivery that was quarantined is converted anew from its
//! body, by the converter of today. Invariant: the event id stays, so that the warehouse takes the event once however
//! often it is replayed; only a delivery whose webhook id stood for another body gets one of its own.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use time::OffsetDateTime;
use uuid::Uuid;

use super::content::{body, text};
use crate::config::KeepRaw;
use crate::event::Timestamp;
use crate::shopify::{self, DeliveryHints, REUSED_WEBHOOK_ID, Topic};
use crate::stream::codec::{self, LETTER_FIELDS, Raw};
use crate::stream::{Entry, Fields};

/// What would be appended.
#[derive(Debug)]
pub(super) struct Revived {
    /// Its fields.
    pub(super) fields: Fields,
    /// Its type.
    pub(super) event_type: String,
}

/// The entry that a letter becomes, or why it still cannot be one; the reason names no content.
pub(super) fn revive(letter: &Entry, keep_raw: KeepRaw, body_limit: usize) -> Result<Revived, String> {
    // What made a worker panic may do so here.
    let judged = catch_unwind(AssertUnwindSafe(|| {
        if letter.fields.get("payload").is_some() {
            again(letter)
        } else {
            anew(letter, keep_raw, body_limit)
        }
    }));
    judged.unwrap_or_else(|_| Err("reading it panicked".to_owned()))
}

/// The entry as it stood before it became a letter.
fn again(letter: &Entry) -> Result<Revived, String> {
    let mut fields = letter.fields.clone();
    // They were put at the end; an entry may have had fields of these names before.
    let own = fields.0.len().saturating_sub(LETTER_FIELDS.len());
    let ends_as_letter = fields.0.iter().skip(own).map(|(name, _)| &**name).eq(LETTER_FIELDS);
    if ends_as_letter {
        fields.0.truncate(own);
    }
    let entry = Entry { id: letter.id, fields };
    let record = codec::decode(&entry).map_err(|error| error.to_string())?;
    let event_type = record.event.event_type.to_string();
    Ok(Revived {
        event_type,
        fields: entry.fields,
    })
}

/// The delivery, converted by the code of today.
fn anew(letter: &Entry, keep_raw: KeepRaw, body_limit: usize) -> Result<Revived, String> {
    let body = body(letter, body_limit).ok_or("it holds neither a payload nor a body that can be unpacked")?;
    let field = |name| text(letter, name);
    let (topic, webhook_id, shopify_event_id) = (field("topic"), field("webhook_id"), field("shopify_event_id"));
    let (triggered_at, api_version, traceparent) = (field("triggered_at"), field("api_version"), field("traceparent"));
    let is_reused = field("error").is_some_and(|error| error == REUSED_WEBHOOK_ID);
    let hints = DeliveryHints {
        topic: topic.as_deref(),
        shop: field("shop").map(Cow::Owned),
        webhook_id: webhook_id.as_deref().filter(|_| !is_reused),
        event_id: shopify_event_id.as_deref(),
        triggered_at: triggered_at.as_deref(),
        api_version: api_version.as_deref(),
        traceparent: traceparent.as_deref(),
        ..DeliveryHints::default()
    };
    let known = field("event_id").and_then(|id| Uuid::parse_str(&id).ok());
    let event_id = known
        .filter(|_| !is_reused)
        .unwrap_or_else(|| shopify::event_id(&hints, &shopify::digest(&body)));
    let topic = Topic::parse(hints.topic).map_err(|error| error.to_string())?;
    let event =
        shopify::convert(topic, &body, &hints, event_id, received_at(letter)).map_err(|error| error.to_string())?;
    let raw = kept(&body, keep_raw)?;
    let provenance = crate::event::Provenance {
        webhook_id: webhook_id.as_deref().map(Into::into),
        ..hints.provenance()
    };
    let fields = codec::encode(&event, &provenance, raw).map_err(|error| error.to_string())?;
    Ok(Revived {
        event_type: event.event_type.to_string(),
        fields,
    })
}

fn kept(body: &[u8], keep_raw: KeepRaw) -> Result<Option<Raw>, String> {
    let raw = match keep_raw {
        KeepRaw::Off => None,
        KeepRaw::Full => Some(Raw::whole(body)),
        KeepRaw::Redacted => shopify::redact(body).map(|body| Raw::redacted(&body)),
    };
    raw.transpose().map_err(|error| error.to_string())
}

/// When the delivery came.
fn received_at(letter: &Entry) -> OffsetDateTime {
    text(letter, "timestamp")
        .and_then(|at| Timestamp::parse(at.into()).ok().map(|at| at.instant()))
        .unwrap_or_else(OffsetDateTime::now_utc)
}
