//! The timeline of an order: what happened to each of its events, as records and as sentences.
//! Pure.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::operations::dead_letters::DeadLetterSummary;
use crate::operations::events::{EntrySummary, GroupProgress, appended_at};
use crate::stream::StreamId;
use crate::warehouse::history::{OrderState, StoredEvent};

/// One thing that happened to one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEvent {
    /// When, RFC 3339; null where it has no time.
    pub at: Option<String>,
    /// What.
    #[serde(rename = "what")]
    pub step: TimelineStep,
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
    /// Whether that is still where it was written; null where it was not looked up.
    pub stands: Option<bool>,
}

/// Steps of an event, in the order in which it takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimelineStep {
    /// The change in the shop.
    Happened,
    /// Shopify triggered a delivery of it.
    Triggered,
    /// It is in the spool of this node.
    Spooled,
    /// The stream confirmed it.
    Received,
    /// A group has not read it.
    Unread,
    /// A consumer read it, and has not acked it.
    Pending,
    /// A group read it, and no consumer has it pending.
    Settled,
    /// It became a dead letter.
    DeadLettered,
    /// The warehouse committed it.
    Loaded,
}

/// What is known of one event. It may have several entries: one that is replayed from the dead
/// letters gets another, and without dedupe one that is delivered again.
#[derive(Default)]
pub(super) struct KnownEvent {
    pub(super) stored: Option<StoredEvent>,
    /// In the spool.
    pub(super) spooled: Vec<EntrySummary>,
    /// In the stream, and how far the groups came with them.
    pub(super) entries: Vec<(EntrySummary, Vec<GroupProgress>)>,
    /// Whether the entry that it was loaded from was looked up, and is gone.
    pub(super) is_gone: bool,
}

impl TimelineEvent {
    /// Sorts by time, then what has a time that cannot be read, by its text, then what has none.
    pub(super) fn place(&self) -> (bool, Result<OffsetDateTime, String>, TimelineStep) {
        let at = self.at.as_deref().unwrap_or_default();
        let time = OffsetDateTime::parse(at, &Rfc3339).map_err(|_| at.to_owned());
        (self.at.is_none(), time, self.step)
    }

    pub(super) fn of_dead_letter(dead_letter: DeadLetterSummary) -> Self {
        let DeadLetterSummary { attempts, error, .. } = &dead_letter;
        let detail = match dead_letter
            .consumer
            .as_ref()
            .filter(|_| dead_letter.original_id.is_some())
        {
            Some(consumer) => format!("given up by {consumer} after {attempts} attempts: {error}"),
            None => format!("rejected at intake: {error}"),
        };
        Self {
            at: dead_letter.failed_at,
            step: TimelineStep::DeadLettered,
            detail,
            stands: Some(true),
            shop: dead_letter.shop.unwrap_or_default(),
            event_id: dead_letter.event_id,
            event_type: dead_letter.event_type,
            stream_id: Some(dead_letter.id),
        }
    }

    /// A dead letter that the spool still holds.
    pub(super) fn of_spooled_dead_letter(dead_letter: DeadLetterSummary) -> Self {
        Self {
            at: appended_at(dead_letter.id),
            step: TimelineStep::Spooled,
            detail: format!(
                "rejected at intake: {}; in the spool of this node, from where it goes to the dead letters",
                dead_letter.error
            ),
            stream_id: None,
            stands: None,
            ..Self::of_dead_letter(dead_letter)
        }
    }

    /// The progress of a group, with an entry whose other fields are `entry`'s.
    fn of_group(progress: &GroupProgress, entry: &Self) -> Self {
        let group = &progress.group;
        let (at, step, detail) = match (progress.stage.as_str(), &progress.consumer, progress.idle_seconds) {
            ("pending", Some(consumer), Some(idle)) => {
                let at = OffsetDateTime::now_utc() - time::Duration::seconds_f64(idle.clamp(0.0, 1e9));
                let times = progress.deliveries.unwrap_or_default();
                let detail =
                    format!("group {group}: pending with {consumer}, delivered {times} times, last at this time");
                (rfc3339(at), TimelineStep::Pending, detail)
            }
            ("pending", ..) => {
                let detail = format!("group {group}: made pending again by a replay, not yet claimed");
                (None, TimelineStep::Pending, detail)
            }
            ("unread", ..) => (None, TimelineStep::Unread, format!("group {group}: not read yet")),
            _ => (
                None,
                TimelineStep::Settled,
                format!("group {group}: read, and no longer pending"),
            ),
        };
        Self {
            at,
            step,
            detail,
            ..entry.clone()
        }
    }
}

impl KnownEvent {
    /// The entry that it was loaded from, where that is not among those found.
    pub(super) fn loaded_from(&self) -> Option<StreamId> {
        let id = self.stored.as_ref()?.stream_id.parse().ok()?;
        self.entries.iter().all(|(entry, _)| entry.id != id).then_some(id)
    }

    /// Adds all that is known of it.
    pub(super) fn append_to(self, timeline: &mut Vec<TimelineEvent>, orders: &[OrderState]) {
        let blank = self.blank();
        let mut push = |at, step, detail| {
            timeline.push(TimelineEvent {
                at,
                step,
                detail,
                ..blank.clone()
            });
        };
        if let Some(event) = &self.stored {
            push(
                rfc3339(event.occurred_at),
                TimelineStep::Happened,
                "happened in the shop".to_owned(),
            );
            if let Some(at) = event.triggered_at {
                push(
                    rfc3339(at),
                    TimelineStep::Triggered,
                    "Shopify triggered the delivery".to_owned(),
                );
            }
            let detail = format!("loaded: {}", effect(event, orders));
            push(rfc3339(event.loaded_at), TimelineStep::Loaded, detail);
        }
        for spooled in &self.spooled {
            let next = match self.stored.is_none() && self.entries.is_empty() {
                true => "from where it goes to the stream",
                false => "from where it goes to the stream, which has it already",
            };
            let detail = format!("in the spool of this node, {next}");
            push(spooled.received_at.clone(), TimelineStep::Spooled, detail);
        }
        if let Some(id) = self.loaded_from() {
            timeline.push(self.received(id, self.is_gone.then_some(false), &blank));
        }
        for (entry, groups) in &self.entries {
            let received = self.received(entry.id, Some(true), &blank);
            for progress in groups {
                let mut reached = TimelineEvent::of_group(progress, &received);
                if self.entries.len() > 1 {
                    reached.detail = format!("{}, {}", entry.id, reached.detail);
                }
                timeline.push(reached);
            }
            timeline.push(received);
        }
    }

    /// What all of its timeline has in common. What is of no entry has the one it was loaded from,
    /// else the newest.
    fn blank(&self) -> TimelineEvent {
        let newest = self.entries.iter().map(|(entry, _)| entry).max_by_key(|entry| entry.id);
        let (stored, entry) = (self.stored.as_ref(), newest.or(self.spooled.first()));
        let own = |of_event: fn(&StoredEvent) -> &String, of_entry: fn(&EntrySummary) -> &Option<String>| {
            stored
                .map(|event| of_event(event).clone())
                .or_else(|| of_entry(entry?).clone())
        };
        TimelineEvent {
            at: None,
            step: TimelineStep::Received,
            detail: String::new(),
            shop: own(|event| &event.shop, |entry| &entry.shop).unwrap_or_default(),
            event_id: own(|event| &event.event_id, |entry| &entry.event_id),
            event_type: own(|event| &event.event_type, |entry| &entry.event_type),
            stream_id: stored
                .and_then(|event| event.stream_id.parse().ok())
                .or(newest.map(|entry| entry.id)),
            stands: match self.loaded_from() {
                Some(_) => self.is_gone.then_some(false),
                None => newest.map(|_| true),
            },
        }
    }

    /// The append of one of its entries.
    fn received(&self, id: StreamId, stands: Option<bool>, blank: &TimelineEvent) -> TimelineEvent {
        let state = match stands {
            Some(true) => "it is still there",
            Some(false) => "it is no longer there",
            None => "whether it is still there was not looked up",
        };
        TimelineEvent {
            at: appended_at(id),
            detail: format!("appended to the stream as {id}; {state}"),
            stream_id: Some(id),
            stands,
            ..blank.clone()
        }
    }
}

/// What a loaded event is to its order now.
fn effect(event: &StoredEvent, orders: &[OrderState]) -> &'static str {
    let order = orders
        .iter()
        .find(|order| order.shop == event.shop && order.order_id == event.order_id);
    let Ok(record) = event.record() else {
        return "its payload cannot be decoded any more";
    };
    match order {
        None => "it has its row in order_events, and the order has none",
        Some(order) if order.last_event_id.as_deref() == Some(&event.event_id) => "it is the order's newest state",
        Some(_) if record.event.is_deletion() => "it marked the order as deleted",
        Some(_) if record.event.is_whole() => "another version of the order is newer",
        Some(_) => "it does not carry the whole order",
    }
}

fn rfc3339(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_line_goes_by_time_and_not_by_its_text() {
        use TimelineStep::{DeadLettered, Happened, Loaded, Received, Unread};
        let event = |(at, step): (Option<&str>, TimelineStep)| TimelineEvent {
            at: at.map(str::to_owned),
            step,
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
