//! Looking at a log without being a member of a group: a page of it, from either end.

use super::{Destination, Entry, StreamId};

/// Entries of a page at most.
pub const PAGE: usize = 1000;

/// Which entries of a log, and from which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The log.
    pub log: Destination,
    /// The oldest id asked for, itself included.
    pub from: StreamId,
    /// The newest id asked for, itself included.
    pub to: StreamId,
    /// Which end comes first.
    pub order: Order,
    /// Entries of one page, 1 to [`PAGE`]; what is outside is taken for the nearest.
    pub count: usize,
}

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// In the order of appends.
    OldestFirst,
    /// In the opposite order.
    NewestFirst,
}

/// One page of a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order asked for.
    pub entries: Vec<Entry>,
    /// What to ask for next; `None` after the last page.
    pub next: Option<Range>,
}

impl Range {
    /// A whole log.
    #[must_use]
    pub fn all(log: Destination, order: Order, count: usize) -> Self {
        Self {
            log,
            from: StreamId::MIN,
            to: StreamId::MAX,
            order,
            count,
        }
    }

    /// What was appended from one point in time to another, Unix milliseconds, both included.
    #[must_use]
    pub fn between(self, from_ms: u64, to_ms: u64) -> Self {
        Self {
            from: StreamId { ms: from_ms, seq: 0 },
            to: StreamId {
                ms: to_ms,
                seq: u64::MAX,
            },
            ..self
        }
    }

    /// The page that a store is to fill.
    pub(super) fn page(&self) -> usize {
        self.count.clamp(1, PAGE)
    }

    /// What is left of it behind `last`.
    pub(super) fn behind(self, last: StreamId) -> Option<Self> {
        match self.order {
            Order::OldestFirst => last.successor().map(|from| Self { from, ..self }),
            Order::NewestFirst => last.predecessor().map(|to| Self { to, ..self }),
        }
        .filter(|rest| rest.from <= rest.to)
    }
}
