//! The answer to a batch: one result an item, and counts.

use serde::Serialize;

use crate::metrics::{Outcome, Outcomes};
use crate::stream::StreamId;

/// All results, in the order of the items.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BatchAnswer {
    counts: Counts,
    results: Vec<ItemResult>,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Counts {
    accepted: u64,
    duplicate: u64,
    spooled: u64,
    invalid: u64,
    unavailable: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Accepted,
    Duplicate,
    Spooled,
    Invalid,
    Unavailable,
}

/// The result of one item.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ItemResult {
    status: Status,
    /// `null` where the item could not be read that far.
    event_id: Option<String>,
    stream_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl ItemResult {
    pub(super) fn accepted(event_id: String, id: StreamId) -> Self {
        Self::stored(Status::Accepted, event_id, Some(id))
    }

    pub(super) fn duplicate(event_id: String, id: Option<StreamId>) -> Self {
        Self::stored(Status::Duplicate, event_id, id)
    }

    pub(super) fn spooled(event_id: String) -> Self {
        Self::stored(Status::Spooled, event_id, None)
    }

    pub(super) fn invalid(event_id: Option<String>, reason: impl ToString) -> Self {
        Self {
            status: Status::Invalid,
            event_id,
            stream_id: None,
            reason: Some(reason.to_string()),
        }
    }

    pub(super) fn unavailable(event_id: String, reason: &str) -> Self {
        Self {
            status: Status::Unavailable,
            event_id: Some(event_id),
            stream_id: None,
            reason: Some(reason.to_owned()),
        }
    }

    fn stored(status: Status, event_id: String, id: Option<StreamId>) -> Self {
        Self {
            status,
            event_id: Some(event_id),
            stream_id: id.map(|id| id.to_string()),
            reason: None,
        }
    }
}

impl BatchAnswer {
    pub(super) fn with_capacity(items: usize) -> Self {
        Self {
            counts: Counts::default(),
            results: Vec::with_capacity(items),
        }
    }

    pub(super) fn push(&mut self, result: ItemResult) {
        let count = match result.status {
            Status::Accepted => &mut self.counts.accepted,
            Status::Duplicate => &mut self.counts.duplicate,
            Status::Spooled => &mut self.counts.spooled,
            Status::Invalid => &mut self.counts.invalid,
            Status::Unavailable => &mut self.counts.unavailable,
        };
        *count += 1;
        self.results.push(result);
    }

    /// Items that are durable.
    pub(super) fn taken(&self) -> u64 {
        self.counts.accepted + self.counts.duplicate + self.counts.spooled
    }

    pub(super) fn any_invalid(&self) -> bool {
        self.counts.invalid > 0
    }

    /// Also where there is no item at all.
    pub(super) fn all_invalid(&self) -> bool {
        self.counts.invalid == self.results.len() as u64
    }

    pub(super) fn count(&self, outcomes: &Outcomes) {
        outcomes.count_many(Outcome::Accepted, self.counts.accepted);
        outcomes.count_many(Outcome::Duplicate, self.counts.duplicate);
        outcomes.count_many(Outcome::Spooled, self.counts.spooled);
        outcomes.count_many(Outcome::Invalid, self.counts.invalid);
        outcomes.count_many(Outcome::Unavailable, self.counts.unavailable);
    }
}
