//! The answer to a batch: one result an item, and counts.

use serde::Serialize;

use crate::ingest::{AppendError, Receipt};
use crate::metrics::{Outcome, Outcomes};
use crate::stream::StreamId;

/// All results, in the order of the items.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BatchAnswer {
    counts: ItemCounts,
    results: Vec<ItemResult>,
}

#[derive(Debug, Clone, Default, Serialize)]
struct ItemCounts {
    accepted: u64,
    duplicate: u64,
    spooled: u64,
    invalid: u64,
    unavailable: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum ItemStatus {
    Accepted,
    Duplicate,
    Spooled,
    Invalid,
    Unavailable,
}

/// The result of one item.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ItemResult {
    status: ItemStatus,
    /// `null` where the item could not be read that far.
    event_id: Option<String>,
    stream_id: Option<StreamId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl ItemResult {
    /// The result of an item that was appended.
    pub(super) fn of_append(event_id: String, receipt: &Result<Receipt, AppendError>) -> Self {
        let (status, stream_id) = match receipt {
            Ok(Receipt::Accepted(id)) => (ItemStatus::Accepted, Some(*id)),
            Ok(Receipt::Duplicate(id)) => (ItemStatus::Duplicate, *id),
            Ok(Receipt::Spooled) => (ItemStatus::Spooled, None),
            Ok(Receipt::Conflict) => return Self::invalid(Some(event_id), "event_id was used for another body"),
            Err(error) => return Self::unavailable(event_id, reason(error)),
        };
        Self {
            status,
            event_id: Some(event_id),
            stream_id,
            reason: None,
        }
    }

    pub(super) fn invalid(event_id: Option<String>, reason: impl ToString) -> Self {
        Self {
            status: ItemStatus::Invalid,
            event_id,
            stream_id: None,
            reason: Some(reason.to_string()),
        }
    }

    pub(super) fn unavailable(event_id: String, reason: &str) -> Self {
        Self {
            status: ItemStatus::Unavailable,
            ..Self::invalid(Some(event_id), reason)
        }
    }
}

/// The reason as the sender may read it.
pub(super) fn reason(error: &AppendError) -> &'static str {
    match error {
        AppendError::Overloaded => "too many requests are in flight",
        AppendError::Full => "the stream is at its cap",
        AppendError::SpoolFull => "the stream is unavailable and the spool is at its limit",
        AppendError::Unavailable(_) => "the stream did not confirm in time",
        AppendError::ShuttingDown => "this process is shutting down",
    }
}

impl BatchAnswer {
    pub(super) fn with_capacity(items: usize) -> Self {
        Self {
            counts: ItemCounts::default(),
            results: Vec::with_capacity(items),
        }
    }

    pub(super) fn push(&mut self, result: ItemResult) {
        let count = match result.status {
            ItemStatus::Accepted => &mut self.counts.accepted,
            ItemStatus::Duplicate => &mut self.counts.duplicate,
            ItemStatus::Spooled => &mut self.counts.spooled,
            ItemStatus::Invalid => &mut self.counts.invalid,
            ItemStatus::Unavailable => &mut self.counts.unavailable,
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
