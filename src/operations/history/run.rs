//! Requests and answers of replay and rebuild, and the record of a run.
//!
//! A run is several steps; each answer carries what is left and the sums until then, and the next
//! request brings them back. So the caller keeps a run, and the service has no table of runs.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::operations::api::or_null;
use crate::operations::context::{Operations, OperationsError};
use crate::operations::entry_view::has_nul;
use crate::operations::redrive_run::IdRange;
use crate::stream::StreamId;
use crate::warehouse::history::EventPosition;

/// Asks for a step of a replay.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The oldest entry; by default the oldest retained one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StreamId>,
    /// The newest entry; by default the newest there is when the run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<StreamId>,
    /// The group, by default ours. Only ours has a warehouse that holds what the stream no longer
    /// has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Changes nothing, counts what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Entries a second, 1 to 10,000; 500 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU32>,
    /// The `next` of the step before; without it, a run begins.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub next: Option<Remaining>,
    /// Ends the run: only records what was done up to `next`.
    #[serde(default)]
    pub stop: bool,
}

/// Asks for a step of a rebuild.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebuildRequest {
    /// The `next` of the step before; without it, a run begins.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub next: Option<Remaining>,
    /// Ends the run: only records what was done up to `next`.
    #[serde(default)]
    pub stop: bool,
}

/// What is left of a run, and what it did so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remaining {
    /// What is still to be read from `order_events`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub stored: Option<TimeSpan>,
    /// What is still to be read from the stream.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub stream: Option<IdRange>,
    /// Entries and events that were done in all steps so far, for the audit log.
    #[serde(default)]
    pub done: u64,
    /// Those that were left as they were.
    #[serde(default)]
    pub left: u64,
}

/// A span of `order_events`, by arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSpan {
    /// After this time, and
    #[serde(with = "time::serde::rfc3339")]
    pub after: OffsetDateTime,
    /// after this event of the same time; empty is before all of them.
    #[serde(default)]
    pub event_id: String,
    /// Before this time.
    #[serde(with = "time::serde::rfc3339")]
    pub before: OffsetDateTime,
}

/// One step of a replay or rebuild.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryStep {
    /// Entries that became pending again, or would: read by the group, and pending with no
    /// consumer.
    pub pending: u64,
    /// Events of `order_events` that were applied again, or would be.
    pub applied: u64,
    /// Entries and events that were left as they were: unread or pending already, or unreadable.
    pub left: u64,
    /// Events of `order_events` that the run is to apply; only in the first step, where they could
    /// be counted in time.
    pub stored: Option<u64>,
    /// What neither store has; only in the first step.
    pub missing: Option<MissingRange>,
    /// What is left of the run; null at its end.
    pub next: Option<Remaining>,
}

/// A part of the range, a minute or longer, of which neither stream nor warehouse has anything; of
/// two, the longer one.
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
    /// Whether it is an hour or longer, and has to be investigated: shorter quiet times are usual.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.to - self.from >= time::Duration::HOUR
    }
}

impl TimeSpan {
    pub(in crate::operations) fn place(&self) -> Result<EventPosition, OperationsError> {
        if has_nul(&self.event_id) {
            return Err(OperationsError::Invalid("`next` is not as a step answered it"));
        }
        Ok(EventPosition {
            received_at: self.after,
            event_id: self.event_id.clone(),
        })
    }
}

impl HistoryStep {
    /// Entries and events that the step handled.
    pub(super) fn found(&self) -> usize {
        usize::try_from(self.pending + self.applied + self.left).unwrap_or(usize::MAX)
    }
}

impl ReplayRequest {
    /// For the audit log.
    pub(super) fn what(&self) -> String {
        let id = |id: Option<StreamId>, else_: &str| id.map_or_else(|| else_.to_owned(), |id| id.to_string());
        let (from, to) = (id(self.from, "the first"), id(self.to, "the newest"));
        let group = self.group.as_deref().unwrap_or("ours");
        format!("{from} to {to}, group {group}")
    }
}

/// A run, as the audit log names it.
pub(super) struct Run {
    pub(super) action: &'static str,
    pub(super) what: String,
    /// False for a dry run.
    pub(super) is_recorded: bool,
    /// Where it is before the step; `None` where it begins.
    pub(super) at: Option<Remaining>,
}

impl Operations {
    /// Ends a step: adds it to the run's sums, and records the run where it begins, ends or fails.
    pub(super) async fn finish_step(
        &self,
        run: &Run,
        outcome: Result<(Remaining, HistoryStep), OperationsError>,
    ) -> Result<HistoryStep, OperationsError> {
        let (mut rest, mut step) = match outcome {
            Ok(done) => done,
            Err(error) => {
                self.stop(run).await?;
                return Err(error);
            }
        };
        rest.done = rest.done.saturating_add(step.pending).saturating_add(step.applied);
        rest.left = rest.left.saturating_add(step.left);
        let is_over = rest.stored.is_none() && rest.stream.is_none();
        match (&run.at, is_over) {
            (_, true) => self.record_run(run, "to the end", &rest).await,
            (None, false) => self.record_run(run, "begun", &rest).await,
            // Of a long run, the first step and the last are recorded.
            (Some(_), false) => {}
        }
        step.next = (!is_over).then_some(rest);
        Ok(step)
    }

    /// Records that a run ends here; one that did no step is not recorded.
    pub(super) async fn stop(&self, run: &Run) -> Result<HistoryStep, OperationsError> {
        if let Some(rest) = &run.at {
            self.record_run(run, "interrupted", rest).await;
        }
        Ok(HistoryStep::default())
    }

    async fn record_run(&self, run: &Run, stage: &str, rest: &Remaining) {
        if run.is_recorded {
            let what = format!("{}, {stage}", run.what);
            self.record(run.action, &what, rest.done, rest.left).await;
        }
    }
}
