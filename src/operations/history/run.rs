//! A run through history as it is asked for, step by step, and what is written down of it.
//!
//! Invariant: what a note says was done is the sum of all steps until then, which the run carries with it; who asks has
//! it, and nobody keeps a table of runs.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::operations::serde_ext::or_null;
use crate::operations::{Bounds, Operations, OperationsError, has_nul};
use crate::stream::StreamId;
use crate::warehouse::history::EventPosition;

/// Which part of history, and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The oldest entry; without it, all that is retained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StreamId>,
    /// The newest entry; without it, the newest there is when the run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<StreamId>,
    /// For which group; without it, ours. Only ours has a warehouse to read what the stream no longer has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
    /// Entries a second, 1 to 10,000; 500 where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU32>,
    /// The `next` of the step before.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub next: Option<Remaining>,
    /// Do no more: only write down what was done up to `next`.
    #[serde(default)]
    pub stop: bool,
}

/// Where a rebuild goes on, and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebuildRequest {
    /// The `next` of the step before; without it, it begins.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub next: Option<Remaining>,
    /// Do no more: only write down what was done up to `next`.
    #[serde(default)]
    pub stop: bool,
}

/// What a run has still before it, and what it did until here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remaining {
    /// What is still to be read from `order_events`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub stored: Option<Span>,
    /// What is still to be read from the stream.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub stream: Option<Bounds>,
    /// Entries and events that were done in all steps until here, for the note of it.
    #[serde(default)]
    pub done: u64,
    /// Those that were left.
    #[serde(default)]
    pub left: u64,
}

impl Remaining {
    /// Whether nothing is before it any more.
    pub(super) fn is_none(&self) -> bool {
        self.stored.is_none() && self.stream.is_none()
    }

    /// Adds what a step came to.
    pub(super) fn add(&mut self, step: &HistoryStep) {
        self.done = self.done.saturating_add(step.pending).saturating_add(step.applied);
        self.left = self.left.saturating_add(step.left);
    }
}

/// A span of `order_events`, by arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// After this time ...
    #[serde(with = "time::serde::rfc3339")]
    pub after: OffsetDateTime,
    /// ... and this event of it; empty is before all of them.
    #[serde(default)]
    pub event_id: String,
    /// Before this time.
    #[serde(with = "time::serde::rfc3339")]
    pub before: OffsetDateTime,
}

impl Span {
    pub(super) fn place(&self) -> Result<EventPosition, OperationsError> {
        if has_nul(&self.event_id) {
            return Err(OperationsError::Invalid("`next` is not as a step answered it"));
        }
        Ok(EventPosition {
            received_at: self.after,
            event_id: self.event_id.clone(),
        })
    }
}

/// One step of a run.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryStep {
    /// Entries that became pending again, or would: read by the group, and pending with nobody.
    pub pending: u64,
    /// Events of `order_events` that were applied again, or would be.
    pub applied: u64,
    /// Entries and events that were left: unread or pending already, or unreadable.
    pub left: u64,
    /// How many events of `order_events` the run is to apply; only in the first step, and only where they could be counted.
    pub stored: Option<u64>,
    /// What nobody has; only in the first step.
    pub missing: Option<MissingRange>,
    /// What is left of the run; null at its end.
    pub next: Option<Remaining>,
}

impl HistoryStep {
    /// Entries and events that a step looked at.
    pub(super) fn found(&self) -> usize {
        usize::try_from(self.pending + self.applied + self.left).unwrap_or(usize::MAX)
    }
}

/// A part of the range, a minute or longer, that neither stream nor warehouse has anything of; of two, the longer one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingRange {
    /// Its beginning.
    #[serde(with = "time::serde::rfc3339")]
    pub from: OffsetDateTime,
    /// Its end.
    #[serde(with = "time::serde::rfc3339")]
    pub to: OffsetDateTime,
    /// Why, and the shorter one.
    pub reason: String,
}

impl MissingRange {
    /// Whether it is so long that somebody has to look into it: an hour. Shorter quiet times are of every day.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.to - self.from >= time::Duration::HOUR
    }
}

impl ReplayRequest {
    /// For the record.
    pub(super) fn what(&self) -> String {
        let id = |id: Option<StreamId>, else_: &str| id.map_or_else(|| else_.to_owned(), |id| id.to_string());
        let (from, to) = (id(self.from, "the first"), id(self.to, "the newest"));
        let group = self.group.as_deref().unwrap_or("ours");
        format!("{from} to {to}, group {group}")
    }
}

/// Where a run is when it is written down.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// After its first step, and it goes on.
    Begun,
    /// Whoever asked stops here, or the next step failed.
    Interrupted,
    /// At its end.
    Ended,
}

impl Operations {
    /// Writes down where a run is, and what all its steps came to.
    pub(super) async fn record_run(&self, action: &'static str, what: &str, stage: Stage, run: &Remaining) {
        let stage = match stage {
            Stage::Begun => "begun",
            Stage::Interrupted => "interrupted",
            Stage::Ended => "to the end",
        };
        self.record(action, &format!("{what}, {stage}"), run.done, run.left)
            .await;
    }
}
