//! Fields of dead letters: what they have beside the fields of an entry, and the entry's fields
//! taken out again. Pure.

use bytes::Bytes;
use time::OffsetDateTime;

use super::encode::{EntryValues, SMALL_VALUES, push_provenance, push_raw};
use super::raw::Raw;
use crate::event::{NamedOrder, Provenance, Timestamp};
use crate::stream::delivery::DeadLetter;
use crate::stream::entry::Fields;

/// The last fields of a dead letter, after those of its entry.
pub const DEAD_LETTER_TRAILER: [&str; 6] = [
    "original_stream",
    "original_id",
    "failed_at",
    "error",
    "attempts",
    "consumer",
];

/// The error of a dead letter whose event id was stored before with another body.
pub const REUSED_ID: &str = "its id was used for another body";

/// A delivery that is dead-lettered at intake.
#[derive(Debug, Clone)]
pub struct Quarantine<'a> {
    /// `order.created`, where the topic is known.
    pub event_type: Option<&'a str>,
    /// The id that the event would have had.
    pub event_id: &'a str,
    /// Time of receipt.
    pub received_at: OffsetDateTime,
    /// Its origin.
    pub provenance: &'a Provenance<'a>,
    /// The body, as far as it is kept.
    pub raw: Raw,
    /// The order that the body names, where it can be read.
    pub order_id: Option<String>,
    /// Why it cannot become an event; names no content.
    pub error: &'a str,
}

/// The fields of a dead letter that never was an entry: no `payload`, but the body; `original_*`
/// are empty.
#[must_use]
pub fn quarantine_fields(delivery: Quarantine<'_>) -> Fields {
    let received_at = Timestamp::from(delivery.received_at);
    let mut values = EntryValues::with_capacity(SMALL_VALUES);
    let mut fields = Fields(Vec::with_capacity(19));
    fields.push("event_type", values.text(delivery.event_type.unwrap_or("unknown")));
    fields.push("event_id", values.text(delivery.event_id));
    fields.push("timestamp", values.text(received_at.as_str()));
    push_provenance(&mut fields, &mut values, delivery.provenance);
    push_raw(&mut fields, delivery.raw);
    if let Some(order_id) = delivery.order_id {
        fields.push("order_id", order_id);
    }
    push_trailer(&mut fields, ["", ""], delivery.received_at, delivery.error, 0, "ingest");
    fields
}

/// The fields of a dead letter that has these, and never was an entry of the stream: `original_*`
/// are empty.
#[must_use]
pub fn dead_letter_fields(mut fields: Fields, error: &str, attempts: u32, failed_at: OffsetDateTime) -> Fields {
    for (name, value) in found_by(&fields) {
        fields.push(name, value);
    }
    push_trailer(&mut fields, ["", ""], failed_at, error, attempts, "ingest");
    fields
}

/// The fields of an entry's dead letter.
pub(in crate::stream) fn dead_letter_of(dead: &DeadLetter, stream: &str) -> Fields {
    let mut fields = dead.entry.fields.clone();
    for (name, value) in found_by(&fields) {
        fields.push(name, value);
    }
    let (id, now) = (dead.entry.id.to_string(), OffsetDateTime::now_utc());
    push_trailer(
        &mut fields,
        [stream, &id],
        now,
        &dead.error,
        dead.attempts,
        &dead.consumer,
    );
    fields
}

fn push_trailer(
    fields: &mut Fields,
    [stream, id]: [&str; 2],
    failed_at: OffsetDateTime,
    error: &str,
    attempts: u32,
    consumer: &str,
) {
    let (failed_at, attempts) = (Timestamp::from(failed_at), attempts.to_string());
    let trailer = [stream, id, failed_at.as_str(), error, &attempts, consumer];
    for (name, value) in DEAD_LETTER_TRAILER.into_iter().zip(trailer) {
        fields.push(name, Bytes::copy_from_slice(value.as_bytes()));
    }
}

/// `order_id` and `shop`, by which a dead letter is found: where they can be read and the entry has
/// no such field of its own. They follow the fields of the entry. Where the entry's own is its last
/// field, it is repeated, so that [`entry_fields`] removes what was added and nothing else.
pub(in crate::stream) fn found_by(entry: &Fields) -> Vec<(&'static str, String)> {
    let order = entry.get("payload").map(|payload| NamedOrder::of_payload(payload));
    let order = order.unwrap_or_default();
    let own = |name| {
        let text = std::str::from_utf8(entry.get(name)?).ok()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let last = entry.0.last().map(|(name, _)| &**name);
    let is_repeated = matches!(last, Some("order_id" | "shop"));
    let mut found = Vec::new();
    for (name, told) in [("order_id", order.order_id), ("shop", order.shop)] {
        let own = own(name);
        if own.is_none() || is_repeated {
            found.extend(own.or(told).map(|value| (name, value)));
        }
    }
    found
}

/// The fields of the entry that became this dead letter. Fields of these names that were the
/// entry's own are kept.
#[must_use]
pub fn entry_fields(dead_letter: &Fields) -> Fields {
    let mut fields = dead_letter.clone();
    let own = fields.0.len().saturating_sub(DEAD_LETTER_TRAILER.len());
    if !fields
        .0
        .iter()
        .skip(own)
        .map(|(name, _)| &**name)
        .eq(DEAD_LETTER_TRAILER)
    {
        return fields;
    }
    fields.0.truncate(own);
    for name in ["shop", "order_id"] {
        let Some(last) = fields.0.pop_if(|(last, _)| last == name) else {
            continue;
        };
        // Dead letters of earlier releases have neither.
        let is_told = found_by(&fields)
            .iter()
            .any(|(told, value)| *told == name && value.as_bytes() == last.1);
        if !is_told {
            fields.0.push(last);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(own: &[(&'static str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in own {
            fields.push(name, (*value).to_owned());
        }
        fields
    }

    #[test]
    fn a_dead_letter_is_found_by_its_order_and_gives_its_entry_back() {
        let payload = ("payload", r#"{"order_id":7,"shop":"a.myshopify.com","items":"damaged""#);
        let (order_id, shop) = (("order_id", "7"), ("shop", "a.myshopify.com"));
        for (own, added) in [
            (&[payload][..], &["order_id", "shop"][..]),
            (&[payload, shop, ("topic", "t")], &["order_id"]),
            (&[order_id, payload], &["shop"]),
            (&[order_id, shop, payload], &[]),
            (&[payload, order_id], &["order_id", "shop"]),
            (&[payload, ("shop", "b.myshopify.com")], &["order_id", "shop"]),
            (&[("payload", "{}"), order_id, shop], &["order_id", "shop"]),
            (&[("payload", "{}"), ("shop", "")], &[]),
            (&[("payload", "not JSON")], &[]),
            (&[("payload", "{}"), ("error", "its own")], &[]),
        ] {
            let own = fields(own);
            let found = found_by(&own);
            assert_eq!(Vec::from_iter(found.iter().map(|(name, _)| *name)), added);
            let mut letter = own.clone();
            let ended = DEAD_LETTER_TRAILER.map(|name| (name, "x".to_owned()));
            for (name, value) in found.into_iter().chain(ended) {
                letter.push(name, value);
            }
            assert_eq!(entry_fields(&letter), own);
            assert_eq!(entry_fields(&own), own, "nothing of its own is taken off");
        }
    }
}
