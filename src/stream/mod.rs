//! The seam to the stream: a durable log with consumer groups, whatever stores it.
//!
//! `redis/` implements it on Redis Streams, `embedded/` in an SQLite file; code above this module
//! must not know which. The words are those of Redis Streams: entry, group, consumer, pending,
//! claim, ack, lag, idle.
//!
//! # Layout
//! A stream has two logs ([`Destination`]): the entries, which groups read, and the dead letters,
//! which operators read. Beside them it keeps the dedupe keys of appended entries, each group's
//! pending list, the record of attempts at single entries, the audit log of operators, the
//! checkpoints of captures (`checkpoint.rs`), and the heartbeats of nodes. `entry.rs` has ids and
//! fields, `delivery.rs` what a group member gets, `range.rs` pages of a log, `spread.rs` what
//! decides a partition, `report.rs` figures, `admin.rs` the operators' part ([`StreamAdmin`]),
//! `nodes.rs` heartbeats ([`NodeRegistry`]), `error.rs` failures. `codec.rs` is the public format
//! of an entry's fields.
//!
//! # Laws
//! Every implementation keeps them; `tests/suite/stream/laws/` runs over each.
//! - Ids rise strictly over both logs; none is given twice.
//! - A confirmed append is as durable as the store is configured to be. A dedupe key is known only
//!   once its entry is stored, so an append with an unknown outcome can be repeated; where it was
//!   stored and that is not known, the store may hold it twice.
//! - At its cap a log answers [`Appended::Full`]; no entry is evicted.
//! - An entry that any group has not acked is never trimmed. Trimming starts from the old end;
//!   acked entries behind an old pending one are removed one by one.
//! - Delivery is at least once: an entry is pending with one consumer from its delivery to its ack.
//!   A claim changes the owner; what is pending but gone from the log is reported as a loss.
//! - A missing group is created at 0, so that what was appended before is read.
//! - Calls may be repeated, and cancelling one loses nothing: its outcome is unknown then.
//! - What the store loses is detected and reported ([`Lost`]): the number where it is known, else a
//!   bound or unknown.
//!
//! # Order of use
//! [`Stream::ensure_group`] first. A consumer claims its own pending entries ([`Claim::Own`])
//! before it reads, and again after each failed read, since the failed call may have delivered
//! entries. While it works it refreshes what it holds more often than `CLAIM_IDLE`. Dead letters
//! are written before the ack. At its end it stops reading, acks what it has finished, and leaves
//! the rest pending for other consumers.
//!
//! # Absent, and why
//! - No exactly-once delivery: the warehouse's unique event id decides.
//! - No in-memory implementation: the embedded one needs no server, so tests use the real stores.
//! - No negative acknowledgement: an entry that is not acked becomes stale and is claimed.

pub mod codec;
pub mod embedded;
pub mod redis;

mod admin;
mod checkpoint;
mod delivery;
mod entry;
mod error;
mod nodes;
mod range;
mod report;
mod spread;

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use self::admin::{EntryState, REPLAY_CONSUMER, Stage, StreamAdmin};
pub use self::checkpoint::{Checkpoint, CheckpointedAppend, CheckpointedWriter};
pub use self::delivery::{AttemptStep, Attempts, Claim, Claimed, DeadLetter, Delivered, Refreshed, Trimmed};
pub use self::entry::{Appended, Destination, Entry, Fields, InvalidStreamId, NewEntry, StreamId};
pub use self::error::StreamError;
pub use self::nodes::{Heartbeat, NodeRegistry};
pub use self::range::{PAGE, PAGE_BYTES, Page, Range, ReadOrder};
pub use self::report::{ConsumerReport, GroupReport, Lost, PartitionReport, Restored, ServerReport, StreamReport};
pub use self::spread::{MOST_PARTITIONS, spread, spread_of_key};

/// Appends, over a connection of its own. One flush is in flight at a time; one whose future is
/// dropped has an unknown outcome and does not block the next.
#[async_trait]
pub trait Writer: Send {
    /// Appends all entries and returns one outcome each, in order, always.
    async fn append(&mut self, entries: &[NewEntry]) -> Vec<Appended>;

    /// As [`append`](Self::append), for a caller with more to append: what the store notes about
    /// these entries may go with the next call. The caller calls [`settle`](Self::settle) where none
    /// follows within 50 ms, and at its end. An entry that another process is appending is
    /// [`Appended::Unavailable`] sooner.
    async fn append_with_more(&mut self, entries: &[NewEntry]) -> Vec<Appended> {
        self.append(entries).await
    }

    /// Notes what the last call left. Where that fails or is dropped, repeats of those entries are
    /// recognized later, or may be appended again.
    async fn settle(&mut self) {}

    /// The partition whose failure is this entry's; `None` for a dead letter beside several
    /// partitions, since it is in none of them.
    fn partition_of(&self, _entry: &NewEntry) -> Option<u16> {
        Some(0)
    }
}

/// Reads as one consumer of the group, over a connection of its own, since a blocking read occupies
/// it.
#[async_trait]
pub trait Reader: Send {
    /// Up to `count` entries (fewer where they are large: [`PAGE_BYTES`]) that no member of the
    /// group was given yet; waits up to `block` for the first. Returns early and empty when
    /// `cancel` fires. Never loses a delivery by being cancelled.
    ///
    /// # Errors
    /// The read failed; entries may have been delivered all the same, so the caller claims
    /// [`Claim::Own`] before it reads on. A missing group is no error: it is created at 0, and the
    /// read returns empty at once.
    async fn read(
        &mut self,
        count: usize,
        block: Duration,
        cancel: &CancellationToken,
    ) -> Result<Vec<Delivered>, StreamError>;
}

/// A stream with one consumer group of ours. All calls are safe to repeat.
#[async_trait]
pub trait Stream: StreamAdmin + NodeRegistry + 'static {
    /// A writer with a connection of its own.
    fn writer(&self) -> Box<dyn Writer>;

    /// A writer that neither asks nor remembers whether an event was appended before: for history,
    /// which the warehouse recognizes by the event's id, and whose ids would fill the store's memory.
    fn plain_writer(&self) -> Box<dyn Writer>;

    /// A writer whose appends move the checkpoint of that producer.
    fn checkpointed(&self, source: &str) -> Box<dyn CheckpointedWriter>;

    /// How many partitions it has: logs, each with an order, a cap and a fate of its own.
    fn partitions(&self) -> u16 {
        1
    }

    /// How many there are to be read and trimmed: also those that processes with another number of
    /// partitions write to, or did.
    fn readable(&self) -> u16 {
        self.partitions()
    }

    /// Learns [`readable`](Self::readable) from what all processes noted; with `is_noted` notes this
    /// one's own number of partitions first.
    async fn learn_layout(&self, _is_noted: bool) -> Result<(), StreamError> {
        Ok(())
    }

    /// Which of the writers' queues an entry goes to: one that hangs must not hold up the others'.
    /// Less than the number of partitions.
    fn lane(&self, _entry: &NewEntry) -> usize {
        0
    }

    /// Whether the partitions may be on several servers, which fail one by one.
    fn is_distributed(&self) -> bool {
        false
    }

    /// The partition whose log has that name in its store: of a dead letter's `original_stream`.
    /// The first where none has.
    fn partition_named(&self, _log: &str) -> u16 {
        0
    }

    /// A reader of a partition for that consumer.
    fn reader(&self, consumer: &str, partition: u16) -> Box<dyn Reader>;

    /// Creates stream and group (at 0) where they are missing. Returns whether the group was
    /// missing.
    async fn ensure_group(&self) -> Result<bool, StreamError>;

    /// Makes a page of pending entries of the partition of `start` the consumer's, from there on, at
    /// most `count`.
    async fn claim(
        &self,
        consumer: &str,
        which: Claim<'_>,
        start: StreamId,
        count: usize,
    ) -> Result<Claimed, StreamError>;

    /// Resets the idle time of entries in flight that are still the consumer's. Returns which are
    /// to be processed: all of them where the group was missing.
    async fn refresh(&self, consumer: &str, ids: &[StreamId]) -> Result<Refreshed, StreamError>;

    /// Acks. `tried` (a subset of `ids`) have a record of attempts, which is removed. Returns how
    /// many were pending.
    async fn ack(&self, ids: &[StreamId], tried: &[StreamId]) -> Result<u64, StreamError>;

    /// Writes a step into the record of attempts of an entry, and returns the record.
    async fn record(&self, id: StreamId, step: AttemptStep) -> Result<Attempts, StreamError>;

    /// Appends an entry, with the `order_id` and `shop` of its payload, to the dead letters and
    /// acks it, in that order. Returns false, and changes nothing, where the dead letters are at
    /// their cap. Of an entry with more fields than the store can move (thousands), the dead letter
    /// keeps those that this program knows, and its error says how many it lacks.
    async fn dead_letter(&self, dead_letter: &DeadLetter) -> Result<bool, StreamError>;

    /// Removes acked entries beyond what is to be retained; never one that a group still needs, and
    /// none while ours is missing, since it will be created at 0. Of one partition.
    async fn trim(&self, partition: u16) -> Result<Trimmed, StreamError>;

    /// Removes consumers that were silent for `silent` and have nothing pending. Returns their
    /// names.
    async fn remove_silent_consumers(&self, silent: Duration) -> Result<Vec<String>, StreamError>;

    /// Makes entries pending again that a foreign command took off our group, so that no consumer
    /// would get them; to be called once a second. Only a store that other programs can access has
    /// such commands.
    async fn restore(&self) -> Result<Vec<Restored>, StreamError> {
        Ok(Vec::new())
    }

    /// A page of a log, read without being a member of the group; changes nothing.
    async fn range(&self, range: Range) -> Result<Page, StreamError>;

    /// Notes the number of a shop as that of a domain, unless one is noted already; returns the noted
    /// one. It is kept for as long as the store is.
    async fn bind_shop(&self, domain: &str, number: &str) -> Result<String, StreamError>;

    /// The figures for health.
    async fn report(&self) -> Result<StreamReport, StreamError>;

    /// Checks, by a tiny write, that an append to that partition would be accepted now with the
    /// configured durability, and that there is room below the cap.
    async fn confirm_writable(&self, partition: u16) -> Result<(), StreamError>;

    /// What the server is and how it is configured, for `check` and the warnings at start.
    async fn inspect(&self) -> Result<ServerReport, StreamError>;
}
