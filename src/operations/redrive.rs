//! The entry that a dead letter becomes when it is replayed, by the current code.
//!
//! Pure. A worker's dead letter gives back its event's own fields; a quarantined delivery is
//! converted from its body. Invariant: the event id stays, so that the warehouse loads the event
//! once however often it is replayed; only what came under an id that is another event's gets a new
//! one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::entry_view::{body, text};
use crate::config::{IntakeConfig, KeepRaw};
use crate::event::{Timestamp, json};
use crate::shopify::{self, DeliveryHints, KeptNames, REUSED_WEBHOOK_ID, Topic};
use crate::stream::codec::{self, REUSED_ID, Raw};
use crate::stream::{Entry, Fields, spread};

/// An entry to append.
#[derive(Debug)]
pub(super) struct Redriven {
    /// Its fields.
    pub(super) fields: Fields,
    /// Its type.
    pub(super) event_type: String,
    /// Decides its partition.
    pub(super) spread: u64,
}

/// The entry that a dead letter becomes, or why it still cannot be one; the reason names no
/// content.
pub(super) fn redrive(dead_letter: &Entry, intake: &IntakeConfig) -> Result<Redriven, String> {
    // An entry that made a worker panic may do so here.
    let judged = catch_unwind(AssertUnwindSafe(|| {
        if dead_letter.fields.get("payload").is_some() {
            of_payload(dead_letter)
        } else {
            of_body(dead_letter, intake)
        }
    }));
    judged.unwrap_or_else(|_| Err("reading it panicked".to_owned()))
}

/// The entry as it stood before it became a dead letter.
fn of_payload(dead_letter: &Entry) -> Result<Redriven, String> {
    let is_reused = text(dead_letter, "error").is_some_and(|error| error == REUSED_ID);
    let mut entry = Entry {
        id: dead_letter.id,
        fields: codec::entry_fields(&dead_letter.fields),
    };
    codec::mend(&mut entry);
    if is_reused {
        entry.fields = with_new_id(&entry)?;
    }
    let record = codec::decode(&entry).map_err(|error| error.to_string())?;
    let (event_type, spread) = (record.event.event_type.to_string(), spread(&record.event));
    Ok(Redriven {
        event_type,
        spread,
        fields: entry.fields,
    })
}

/// An entry whose event id is another event's becomes an event of its own: its id is made of its
/// payload, so that a repeat is the same event.
fn with_new_id(entry: &Entry) -> Result<Fields, String> {
    let record = codec::decode(entry).map_err(|error| error.to_string())?;
    let hints = DeliveryHints {
        topic: record.provenance.topic.as_ref().map(|topic| topic.as_str()),
        shop: record.provenance.shop.as_ref().map(|shop| shop.as_str().into()),
        ..DeliveryHints::default()
    };
    let event_id = shopify::event_id(&hints, record.payload.as_bytes()).to_string();
    let payload = with_event_id(record.payload, &event_id).map_err(|error| error.to_string())?;
    let mut fields = entry.fields.clone();
    for (name, value) in &mut fields.0 {
        match &**name {
            "event_id" => *value = event_id.clone().into(),
            "payload" => *value = payload.clone().into(),
            _ => {}
        }
    }
    Ok(fields)
}

/// The payload with another event id; all else stays as it is written there.
fn with_event_id(payload: &str, event_id: &str) -> serde_json::Result<String> {
    let event_id = serde_json::value::to_raw_value(event_id)?;
    let mut members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(payload)?;
    members.insert("event_id".into(), &event_id);
    serde_json::to_string(&members)
}

/// The event of a quarantined delivery.
fn of_body(dead_letter: &Entry, intake: &IntakeConfig) -> Result<Redriven, String> {
    let whole = body(dead_letter, intake.body_limit).ok_or(
        "it holds neither a payload nor a body that can be unpacked; bodies go after ORDERSTREAM_RETAIN_LETTER_BODIES",
    )?;
    let body = json::mended(&whole);
    let field = |name| text(dead_letter, name);
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
        .unwrap_or_else(|| shopify::event_id(&hints, &whole));
    let topic = Topic::parse(hints.topic).map_err(|error| error.to_string())?;
    let received_at = received_at(dead_letter);
    let mut event = shopify::convert(topic, &body, &hints, event_id, received_at).map_err(|error| error.to_string())?;
    let names = KeptNames {
        note_attributes: &intake.keep_note_attributes,
        line_properties: &intake.keep_line_properties,
    };
    shopify::keep_attributes(&body, names, &mut event);
    let is_redacted = field("raw_encoding").is_some_and(|encoding| encoding.starts_with("redacted"));
    let raw = kept(&whole, intake.keep_raw, is_redacted)?;
    let provenance = crate::event::Provenance {
        webhook_id: webhook_id.as_deref().map(Into::into),
        ..hints.provenance(received_at)
    };
    let fields = codec::encode(&event, &provenance, raw).map_err(|error| error.to_string())?;
    Ok(Redriven {
        event_type: event.event_type.to_string(),
        spread: spread(&event),
        fields,
    })
}

/// `is_redacted`: the dead letter itself has no more.
fn kept(body: &[u8], keep_raw: KeepRaw, is_redacted: bool) -> Result<Option<Raw>, String> {
    let raw = match keep_raw {
        KeepRaw::Off => None,
        KeepRaw::Full if is_redacted => Some(Raw::redacted(body)),
        KeepRaw::Full => Some(Raw::whole(body)),
        KeepRaw::Redacted => shopify::redact(body).map(|body| Raw::redacted(&body)),
    };
    raw.transpose().map_err(|error| error.to_string())
}

/// When the delivery came.
fn received_at(dead_letter: &Entry) -> OffsetDateTime {
    let told = |name| Some(Timestamp::parse(text(dead_letter, name)?.into()).ok()?.instant());
    told("received_at")
        .or_else(|| told("timestamp"))
        .unwrap_or_else(OffsetDateTime::now_utc)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stream::StreamId;
    use crate::stream::codec::DEAD_LETTER_TRAILER;

    fn redrive(dead_letter: &Entry, keep_raw: KeepRaw, body_limit: usize) -> Result<Redriven, String> {
        let intake = IntakeConfig {
            body_limit,
            batch_body_limit: 0,
            batch_limit: 0,
            bytes_in_flight: 0,
            keep_raw,
            shop_binding: false,
            keep_note_attributes: Arc::default(),
            keep_line_properties: Arc::default(),
        };
        super::redrive(dead_letter, &intake)
    }

    const ORDER: &[u8] = br##"{"id":7,"total_price":"1.50","currency":"EUR","line_items":[],"email":"x@example.com"}"##;

    fn dead_letter(fields: &[(&'static str, &str)]) -> Entry {
        let mut entry = Entry {
            id: StreamId::new(1, 0),
            fields: Fields::default(),
        };
        for (name, value) in fields {
            entry.fields.push(name, value.to_string());
        }
        entry
    }

    fn quarantined(error: &str, body: &[u8]) -> Entry {
        let mut dead_letter = dead_letter(&[
            ("event_id", "a2de5c54-d8da-5a26-b627-bab921270f23"),
            ("timestamp", "2026-01-31T09:30:00Z"),
            ("shop", "example.myshopify.com"),
            ("topic", "orders/create"),
            ("webhook_id", "w-1"),
            ("error", error),
        ]);
        dead_letter.fields.push("raw", codec_text(body));
        dead_letter.fields.push("raw_encoding", "zstd+base64");
        dead_letter
    }

    fn codec_text(body: &[u8]) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(zstd::bulk::compress(body, 3).unwrap())
    }

    fn field(redriven: &Redriven, name: &str) -> Option<String> {
        redriven
            .fields
            .get(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        let payload =
            r#"{"event_type":"order.deleted","event_id":"e","timestamp":"2026-01-31T09:30:00Z","order_id":1}"#;
        let own = [("event_id", "e"), ("error", "its own"), ("payload", payload)];
        let of_letter = DEAD_LETTER_TRAILER.map(|name| (name, "x"));
        let redriven = redrive(&dead_letter(&[&own[..], &of_letter].concat()), KeepRaw::Off, 100).unwrap();
        assert_eq!(redriven.fields, dead_letter(&own).fields);
        assert_eq!(redriven.event_type, "order.deleted");
        let bare = redrive(&dead_letter(&own), KeepRaw::Off, 100).unwrap();
        assert_eq!(bare.fields, dead_letter(&own).fields, "nothing of its own is taken off");
        let broken = dead_letter(&[("payload", "{}")]);
        assert!(redrive(&broken, KeepRaw::Off, 100).unwrap_err().contains("order_id"));
    }

    #[test]
    fn a_delivery_is_converted_anew() {
        let redriven = redrive(&quarantined("mended since", ORDER), KeepRaw::Off, 1000).unwrap();
        assert_eq!(redriven.event_type, "order.created");
        assert_eq!(
            field(&redriven, "event_id").unwrap(),
            "a2de5c54-d8da-5a26-b627-bab921270f23"
        );
        assert_eq!(field(&redriven, "webhook_id").as_deref(), Some("w-1"));
        assert_eq!(field(&redriven, "raw"), None);
        let whole = redrive(&quarantined("mended since", ORDER), KeepRaw::Full, 1000).unwrap();
        assert!(field(&whole, "raw").is_some());
        let reused = redrive(&quarantined(REUSED_WEBHOOK_ID, ORDER), KeepRaw::Off, 1000).unwrap();
        assert_ne!(
            field(&reused, "event_id"),
            field(&redriven, "event_id"),
            "it is another event"
        );
        assert_eq!(field(&reused, "webhook_id").as_deref(), Some("w-1"));
        let broken = redrive(&quarantined("x", b"{}"), KeepRaw::Off, 1000).unwrap_err();
        assert!(broken.starts_with("the body"), "{broken}");
        assert!(
            redrive(&quarantined("x", ORDER), KeepRaw::Off, 3).is_err(),
            "larger than a body may be"
        );
        assert!(redrive(&dead_letter(&[("error", "x")]), KeepRaw::Off, 3).is_err());
    }

    #[test]
    fn what_came_under_a_used_id_is_sent_again_under_its_own() {
        let payload =
            r#"{"event_type":"order.deleted","event_id":"e","timestamp":"2026-01-31T09:30:00Z","order_id":1,"x":1.50}"#;
        let own = [("event_id", "e"), ("payload", payload), ("shop", "a.myshopify.com")];
        let of_letter = DEAD_LETTER_TRAILER.map(|name| (name, if name == "error" { REUSED_ID } else { "x" }));
        let webhook = [("topic", "orders/delete"), ("webhook_id", "w-1")];
        let redrive = |fields: &[&[(&'static str, &str)]]| redrive(&dead_letter(&fields.concat()), KeepRaw::Off, 1000);
        let redriven = redrive(&[&own, &webhook, &of_letter]).unwrap();
        let id = field(&redriven, "event_id").unwrap();
        assert_ne!(id, "e");
        let payload = field(&redriven, "payload").unwrap();
        assert!(payload.contains(r#""x":1.50"#), "nothing else changes: {payload}");
        let payload: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert_eq!((&payload["event_id"], &payload["order_id"]), (&id.into(), &1.into()));
        assert_eq!(field(&redriven, "webhook_id").unwrap(), "w-1");
        assert_eq!(redriven.fields.get("error"), None);
        let again = redrive(&[&own, &webhook, &of_letter]).unwrap();
        assert_eq!(again.fields, redriven.fields, "a repeat is the same event");
        let of_a_batch = redrive(&[&own, &of_letter]).unwrap();
        assert_ne!(field(&of_a_batch, "event_id").unwrap(), "e");
    }
}
