//! The way of one event, told as moments.
//!
//! Pure. Owns the words for what happened to it and what became of it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::TracedOrder;
use crate::operations::dead_letters::DeadLetter;
use crate::operations::events::{EntrySummary, GroupProgress, appended_at};
use crate::stream::StreamId;
use crate::warehouse::history::StoredEvent;

/// One thing that happened to one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEvent {
    /// When, RFC 3339; null where it has no time.
    pub at: Option<String>,
    /// What.
    pub what: Step,
    /// A sentence for a person.
    pub detail: String,
    /// Shop of the event; empty where it is not known.
    pub shop: String,
    /// The event.
    pub event_id: Option<String>,
    /// Its type.
    pub event_type: Option<String>,
    /// Its entry, or the dead letter.
    pub stream_id: Option<StreamId>,
    /// Whether that still stands where it was written; null where it was not looked for.
    pub stands: Option<bool>,
}

/// Stations of an event, in the order of its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The change in the shop.
    Happened,
    /// Shopify made a delivery of it.
    Triggered,
    /// The spool of this node took it, and has it.
    Spooled,
    /// The stream confirmed it.
    Received,
    /// A group has not read it.
    Unread,
    /// A consumer has it in hand, or left it.
    Pending,
    /// A group is done with it.
    Settled,
    /// A worker gave it up, or the door quarantined it.
    DeadLettered,
    /// The warehouse committed it.
    Loaded,
}

/// What is known of one event. It may have several entries: one that is replayed from the dead letters gets another, and
/// without dedupe one that comes again.
#[derive(Default)]
pub(super) struct KnownEvent {
    pub(super) stored: Option<StoredEvent>,
    /// In the spool.
    pub(super) spooled: Vec<EntrySummary>,
    /// In the stream.
    pub(super) entries: Vec<RetainedEntry>,
    /// Whether the entry that it was loaded from was looked for, and is gone.
    pub(super) is_gone: bool,
}

/// An entry that is in the stream, and how far the groups came with it.
pub(super) struct RetainedEntry {
    pub(super) line: EntrySummary,
    pub(super) fates: Vec<GroupProgress>,
}

impl From<EntrySummary> for RetainedEntry {
    fn from(line: EntrySummary) -> Self {
        Self {
            line,
            fates: Vec::new(),
        }
    }
}

impl TimelineEvent {
    /// Its place on the time line: by time, then what has one that nobody can read, by that text, then what has none.
    pub(super) fn place(&self) -> (bool, Result<OffsetDateTime, String>, Step) {
        let at = self.at.as_deref().unwrap_or_default();
        let time = OffsetDateTime::parse(at, &Rfc3339).map_err(|_| at.to_owned());
        (self.at.is_none(), time, self.what)
    }
}

impl KnownEvent {
    /// The entry that it was loaded from, where that is not among those found.
    pub(super) fn unseen(&self) -> Option<StreamId> {
        let id = self.stored.as_ref()?.stream_id.parse().ok()?;
        self.entries.iter().all(|entry| entry.line.id != id).then_some(id)
    }

    /// All that is known, as moments.
    pub(super) fn tell(self, orders: &[TracedOrder], moments: &mut Vec<TimelineEvent>) {
        let blank = self.blank();
        let tell = |(at, what, detail)| TimelineEvent {
            at,
            what,
            detail,
            ..blank.clone()
        };
        moments.extend(self.on_the_way().into_iter().map(tell));
        if let Some(id) = self.unseen() {
            let stands = self.is_gone.then_some(false);
            moments.push(self.received(id, stands, &blank));
        }
        for RetainedEntry { line, fates } in &self.entries {
            let received = self.received(line.id, Some(true), &blank);
            for fate in fates {
                let (at, what, mut detail) = station(fate);
                if self.entries.len() > 1 {
                    detail = format!("{}, {detail}", line.id);
                }
                moments.push(TimelineEvent {
                    at,
                    what,
                    detail,
                    ..received.clone()
                });
            }
            moments.push(received);
        }
        if let Some(event) = &self.stored {
            let detail = format!("loaded: {}", outcome(event, orders));
            moments.push(tell((written(event.loaded_at), Step::Loaded, detail)));
        }
    }

    /// What its moments have in common. Those that are of no entry have the one it was loaded from, else the newest.
    fn blank(&self) -> TimelineEvent {
        let newest = self.entries.iter().map(|entry| &entry.line).max_by_key(|line| line.id);
        let (stored, line) = (self.stored.as_ref(), newest.or(self.spooled.first()));
        let loaded_from = stored.and_then(|event| event.stream_id.parse().ok());
        let shop = stored.map(|event| event.shop.clone());
        TimelineEvent {
            at: None,
            what: Step::Received,
            detail: String::new(),
            shop: shop.or_else(|| line?.shop.clone()).unwrap_or_default(),
            event_id: stored
                .map(|event| event.event_id.clone())
                .or_else(|| line?.event_id.clone()),
            event_type: stored
                .map(|event| event.event_type.clone())
                .or_else(|| line?.event_type.clone()),
            stream_id: loaded_from.or(newest.map(|line| line.id)),
            stands: match self.unseen() {
                Some(_) => self.is_gone.then_some(false),
                None => newest.map(|_| true),
            },
        }
    }

    /// Up to its entries.
    fn on_the_way(&self) -> Vec<(Option<String>, Step, String)> {
        let mut way = Vec::new();
        if let Some(event) = &self.stored {
            let happened = "happened in the shop".to_owned();
            way.push((written(event.occurred_at), Step::Happened, happened));
            let triggered = "Shopify triggered the delivery".to_owned();
            way.extend(event.triggered_at.map(|at| (written(at), Step::Triggered, triggered)));
        }
        let whither = if self.stored.is_none() && self.entries.is_empty() {
            "from where it goes to the stream"
        } else {
            "and goes from there to the stream, which has it already"
        };
        for spooled in &self.spooled {
            let detail = format!("in the spool of this node, {whither}");
            way.push((spooled.received_at.clone(), Step::Spooled, detail));
        }
        way
    }

    /// One of its entries.
    fn received(&self, id: StreamId, stands: Option<bool>, blank: &TimelineEvent) -> TimelineEvent {
        let told = match stands {
            Some(true) => "it still stands there",
            Some(false) => "it is no longer there",
            None => "whether it still stands there was not looked for",
        };
        let loaded = self.stored.as_ref().filter(|event| event.stream_id.parse() == Ok(id));
        TimelineEvent {
            at: loaded.map_or_else(|| appended_at(id), |event| written(event.received_at)),
            detail: format!("appended to the stream as {id}; {told}"),
            stream_id: Some(id),
            stands,
            ..blank.clone()
        }
    }
}

/// How far a group came, as a moment.
fn station(fate: &GroupProgress) -> (Option<String>, Step, String) {
    let group = &fate.group;
    match (fate.stage.as_str(), &fate.consumer, fate.idle_seconds) {
        ("pending", _, None) => (
            None,
            Step::Pending,
            format!("group {group}: made pending again by a replay; nobody has claimed it yet"),
        ),
        ("pending", Some(consumer), Some(idle)) => {
            let at = OffsetDateTime::now_utc() - time::Duration::seconds_f64(idle.clamp(0.0, 1e9));
            let times = fate.deliveries.unwrap_or_default();
            let detail = format!("group {group}: pending with {consumer}, handed out {times} times, last then");
            (written(at), Step::Pending, detail)
        }
        ("unread", ..) => (None, Step::Unread, format!("group {group}: not read yet")),
        _ => (
            None,
            Step::Settled,
            format!("group {group}: read, and nobody has it pending"),
        ),
    }
}

/// What a loaded event is to its order now.
fn outcome(event: &StoredEvent, orders: &[TracedOrder]) -> &'static str {
    let order = orders
        .iter()
        .find(|order| order.shop == event.shop && order.order_id == event.order_id);
    let Ok(record) = event.record() else {
        return "its payload cannot be read any more";
    };
    match order {
        None => "it has its row in order_events, and the order has none",
        Some(order) if order.last_event_id.as_deref() == Some(&event.event_id) => "it is the order's newest state",
        Some(_) if record.event.is_deletion() => "it marked the order as deleted",
        Some(_) if record.event.is_whole() => "another version of the order is newer",
        Some(_) => "it does not carry the whole order",
    }
}

/// A dead letter.
pub(super) fn from_dead_letter(dead_letter: DeadLetter) -> TimelineEvent {
    TimelineEvent {
        at: dead_letter.failed_at,
        what: Step::DeadLettered,
        detail: match dead_letter.consumer.filter(|_| dead_letter.original_id.is_some()) {
            Some(consumer) => format!(
                "given up by {consumer} after {} attempts: {}",
                dead_letter.attempts, dead_letter.error
            ),
            None => format!("quarantined at the door: {}", dead_letter.error),
        },
        stands: Some(true),
        shop: dead_letter.shop.unwrap_or_default(),
        event_id: dead_letter.event_id,
        event_type: dead_letter.event_type,
        stream_id: Some(dead_letter.id),
    }
}

/// A dead letter that is still in the spool.
pub(super) fn from_spooled(dead_letter: DeadLetter) -> TimelineEvent {
    TimelineEvent {
        at: appended_at(dead_letter.id),
        what: Step::Spooled,
        detail: format!(
            "quarantined at the door: {}; in the spool of this node, from where it goes to the dead letters",
            dead_letter.error
        ),
        stream_id: None,
        stands: None,
        ..from_dead_letter(dead_letter)
    }
}

/// RFC 3339.
pub(super) fn written(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_line_goes_by_time_and_not_by_its_text() {
        use Step::{DeadLettered, Happened, Loaded, Received, Unread};
        let event = |(at, what): (Option<&str>, Step)| TimelineEvent {
            at: at.map(str::to_owned),
            what,
            detail: String::new(),
            shop: String::new(),
            event_id: None,
            event_type: None,
            stream_id: None,
            stands: None,
        };
        let line = [
            (Some("2026-01-05T11:00:00+01:00"), Happened),
            (Some("2026-01-05T10:00:00Z"), Received),
            (Some("2026-01-05T10:00:00.5Z"), Received),
            (Some("2026-01-05T10:00:00.51Z"), Happened),
            (Some("2026-01-05T10:00:01Z"), Loaded),
            (Some("1 o'clock"), DeadLettered),
            (Some("2 o'clock"), Happened),
            (None, Unread),
        ];
        let mut moments = Vec::from_iter(line.into_iter().rev().map(event));
        moments.sort_by_cached_key(TimelineEvent::place);
        assert_eq!(moments, line.map(event));
    }
}
