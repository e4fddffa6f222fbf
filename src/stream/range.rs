//! Pages of a log, from either end, for readers that are not members of a group.

use super::entry::{Destination, Entry, StreamId};

/// Entries of a page at most.
pub const PAGE: usize = 1000;
/// Bytes at which a store ends a page, whatever is asked for: of a range, a claim or a read.
pub const PAGE_BYTES: usize = 8 << 20;

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
    pub order: ReadOrder,
    /// Entries of one page, clamped to 1..=[`PAGE`].
    pub count: usize,
}

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOrder {
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
    /// The next page; `None` after the last.
    pub next: Option<Range>,
}

impl Range {
    /// A whole log.
    #[must_use]
    pub fn all(log: Destination, order: ReadOrder, count: usize) -> Self {
        Self {
            log,
            from: StreamId::MIN,
            to: StreamId::MAX,
            order,
            count,
        }
    }

    /// Entries that were appended between two points in time, Unix milliseconds, both included.
    #[must_use]
    pub fn between(self, from_ms: u64, to_ms: u64) -> Self {
        Self {
            from: StreamId::new(from_ms, 0),
            to: StreamId::new(to_ms, u64::MAX),
            ..self
        }
    }

    /// Entries of the page, clamped.
    pub(super) fn page(&self) -> usize {
        self.count.clamp(1, PAGE)
    }

    /// The rest of the range after `last`.
    pub(super) fn behind(self, last: StreamId) -> Option<Self> {
        match self.order {
            ReadOrder::OldestFirst => last.successor().map(|from| Self { from, ..self }),
            ReadOrder::NewestFirst => last.predecessor().map(|to| Self { to, ..self }),
        }
        .filter(|rest| rest.from <= rest.to)
    }
}
