//! Deliveries: what a group member gets, claims, holds and gives up.

use std::time::Duration;

use super::entry::{Entry, StreamId};

/// An entry as it was delivered to a group member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The entry.
    pub entry: Entry,
    /// How often it was delivered, this time included. A hint only: crashes and claims count too.
    pub deliveries: u64,
    /// The record of earlier attempts.
    pub attempts: Attempts,
}

impl Delivered {
    /// The same as an entry of that partition.
    pub(super) fn in_partition(mut self, partition: u16) -> Self {
        self.entry.id.part = partition;
        self
    }
}

/// The record of attempts at one entry, kept in the store so that it outlives a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts that failed because of the entry itself.
    pub failed: u32,
    /// Attempts with the entry alone that began and have no recorded outcome ("killed its worker").
    pub unfinished: u32,
}

/// A step in the record of attempts. It carries the count to reach, so that a step whose answer got
/// lost can be written again without counting twice; a higher count is never lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptStep {
    /// An attempt with the entry alone begins: the one that brings `unfinished` to this count.
    Begin(u32),
    /// It failed because of the entry, which brings `failed` to this count and `unfinished` to 0.
    Failed(u32),
    /// It ended for another reason: `unfinished` goes to 0.
    Spared,
}

/// Which pending entries a claim asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'a> {
    /// The consumer's own (after a restart or a lost reply), except these, which are in flight:
    /// they are neither claimed nor counted as delivered once more.
    Own(&'a [StreamId]),
    /// Other consumers', idle for at least this long.
    Stale(Duration),
}

/// One page of claimed entries.
#[derive(Debug, Clone, Default)]
pub struct Claimed {
    /// Entries that now belong to the caller, oldest first.
    pub entries: Vec<Delivered>,
    /// Ids that were pending but no longer exist: a loss, removed from the pending list and to be
    /// reported.
    pub deleted: Vec<StreamId>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<StreamId>,
}

/// The state of entries in flight. Those in neither list are settled or another consumer's, and are
/// to be dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// To be processed: the consumer's own, and those neither pending nor in the stream, whose only
    /// copy may be this one.
    pub held: Vec<StreamId>,
    /// Were the consumer's but no longer exist: a loss, removed from the pending list and to be
    /// reported. To be processed all the same, since the copy in flight is the last.
    pub gone: Vec<StreamId>,
}

/// An entry to be moved to the dead letters.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The entry.
    pub entry: Entry,
    /// The reason; names no content.
    pub error: String,
    /// Attempts made.
    pub attempts: u32,
    /// The consumer that gave up.
    pub consumer: String,
}

/// Entries that a trim removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// From the old end.
    pub prefix: u64,
    /// One by one, behind an old pending entry.
    pub pinned: u64,
}
