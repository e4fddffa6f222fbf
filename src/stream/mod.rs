//! The seam to the stream: a durable log with consumer groups, whatever stores it.
//!
//! Owns the vocabulary (ids, fields, outcomes) and what each call promises; `redis/` implements it on Redis Streams,
//! `embedded/` in a file.
//! Nothing above this module may know which store is behind it. Invariants that every implementation keeps:
//! a confirmed append is as durable as the store is configured to be; dedupe and append are one atomic step; entries
//! that any group has not acked are never removed; and at the cap an append answers [`Appended::Full`], it evicts nothing.

pub mod codec;
pub mod embedded;
pub mod redis;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio_util::sync::CancellationToken;

pub use self::admin::{EntryState, REPLAY_CONSUMER, Stage, StreamAdmin};
pub use self::error::StreamError;
pub use self::nodes::{Heartbeat, NodeRegistry};
pub use self::range::{Order, PAGE, Page, Range};
pub use self::report::{ConsumerReport, GroupReport, Lost, Restored, ServerReport, StreamReport};

mod admin;
mod error;
mod nodes;
mod range;
mod report;

/// Position of an entry, `ms-seq`: Unix milliseconds at append and a sequence within them. Totally ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix time of the append, milliseconds.
    pub ms: u64,
    /// Counts entries within one millisecond.
    pub seq: u64,
}

impl StreamId {
    /// Before every entry.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// After every entry.
    pub const MAX: Self = Self {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// The id right after; `None` after the last.
    #[must_use]
    pub fn successor(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => self.ms.checked_add(1).map(|ms| Self { ms, seq: 0 }),
        }
    }

    /// The id right before; `None` before the first.
    #[must_use]
    pub fn predecessor(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => self.ms.checked_sub(1).map(|ms| Self { ms, seq: u64::MAX }),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for StreamId {
    type Err = InvalidStreamId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, seq) = text.split_once('-').unwrap_or((text, "0"));
        match (ms.parse(), seq.parse()) {
            // Rust would also read a plus sign.
            (Ok(ms), Ok(seq)) if !text.contains('+') => Ok(Self { ms, seq }),
            _ => Err(InvalidStreamId),
        }
    }
}

impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The text is not a stream id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stream id (milliseconds-sequence, such as 1767225600000-0)")]
pub struct InvalidStreamId;

/// Fields of one entry, in order. Names that this program writes are static; a foreign producer's are kept as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(Cow<'static, str>, Bytes)>);

impl Fields {
    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Adds a field at the end.
    pub fn push(&mut self, name: &'static str, value: impl Into<Bytes>) {
        self.0.push((Cow::Borrowed(name), value.into()));
    }
}

/// One entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub id: StreamId,
    /// What it holds.
    pub fields: Fields,
}

/// Which log an append goes to, or is looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The stream that the groups read.
    Stream,
    /// The dead letters (quarantine at the door).
    DeadLetters,
}

/// An entry to be appended.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// Which log it goes to.
    pub destination: Destination,
    /// What it is deduped by. Used only where dedupe is on; within one destination a key is appended once per window.
    pub dedupe_key: String,
    /// Digest of the body it came from: the same key with another digest is a conflict, not a duplicate.
    pub digest: [u8; 16],
    /// What is written.
    pub fields: Fields,
}

/// What became of one append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is stored.
    Accepted(StreamId),
    /// Its key was stored before, with the same body, as this entry.
    Duplicate(StreamId),
    /// Its key was stored before, with another body, as this entry; nothing was appended.
    Conflict(StreamId),
    /// The destination is at its cap; nothing was appended.
    Full,
    /// The store refused this one entry; its neighbours are not concerned. The text names no content.
    Refused(String),
    /// The store has no memory for an entry of this size, though a smaller one may fit; nothing was appended.
    TooLarge(String),
    /// The store does not take it for now, for reasons that are not the entry's; nothing was appended. It is to be tried
    /// again as it is.
    Unavailable(String),
}

/// An entry as a group member got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The entry.
    pub entry: Entry,
    /// How often it was handed out, this time included. A hint only: crashes and claims count too.
    pub deliveries: u64,
    /// What earlier attempts at it came to.
    pub attempts: Attempts,
}

/// What is on record of the tries at one entry, kept in the store so that it outlives a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Tries that ended with the entry itself at fault.
    pub failed: u32,
    /// Tries alone that began and have no outcome on record ("killed its worker").
    pub unfinished: u32,
}

/// A step in the record of one entry's tries. It carries the count to reach, so that one whose answer got lost may be
/// written again without counting twice; a count never goes down to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A try alone begins: the one that makes `unfinished` so many.
    Begin(u32),
    /// It ended with the entry at fault, which makes `failed` so many; `unfinished` back to 0.
    Failed(u32),
    /// It ended with something else at fault: `unfinished` back to 0.
    Spared,
}

/// Which pending entries a claim asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'a> {
    /// The consumer's own (after a restart or a lost reply), except those that it has in hand: they are neither claimed
    /// nor counted as handed out once more.
    Own(&'a [StreamId]),
    /// Other consumers', idle for at least this long.
    Stale(Duration),
}

/// One page of claimed entries.
#[derive(Debug, Clone, Default)]
pub struct Claimed {
    /// Entries that now belong to the caller, oldest first.
    pub entries: Vec<Delivered>,
    /// Ids that were pending but no longer exist: a loss, removed from the pending list and to be reported.
    pub deleted: Vec<StreamId>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<StreamId>,
}

/// What became of entries in hand; those in neither list are settled or another consumer's, and are to be let go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// To be worked on: the consumer's, or pending with nobody and in no stream, where the copy in hand may be the last.
    pub held: Vec<StreamId>,
    /// Were the consumer's but no longer exist: a loss, removed from the pending list and to be reported. To be worked on
    /// all the same, since the copy in hand is the last.
    pub gone: Vec<StreamId>,
}

/// A terminal entry, on its way to the dead letters.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The entry.
    pub entry: Entry,
    /// Why; names no content.
    pub error: String,
    /// Attempts made.
    pub attempts: u32,
    /// Who gave up.
    pub consumer: String,
}

/// What a trim removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// From the old end, in whole.
    pub prefix: u64,
    /// One by one, behind an old pending entry.
    pub pinned: u64,
}

/// Appends; holds its connection over flushes. One flush is in flight at a time. One that is given up (its future dropped)
/// has an unknown outcome, and is in nobody's way.
#[async_trait]
pub trait Writer: Send {
    /// Appends all entries and answers one outcome each, in order.
    ///
    /// # Errors
    /// The whole flush failed. [`StreamError::is_refused`] tells whether it certainly was not stored (safe to resend
    /// even without dedupe) or whether the outcome is unknown.
    async fn append(&mut self, entries: &[NewEntry]) -> Result<Vec<Appended>, StreamError>;
}

/// Reads as one consumer of the group; holds a connection of its own, since a blocking read occupies it.
#[async_trait]
pub trait Reader: Send {
    /// Up to `count` entries that no member of the group was given yet; waits up to `block` for the first.
    /// Answers early and empty when `cancel` fires. Never loses a delivery by being cancelled.
    ///
    /// # Errors
    /// The read failed; entries may have been delivered all the same, so the caller claims [`Claim::Own`] before it
    /// reads on. A missing group is created at 0 and is no error.
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

    /// A reader for that consumer.
    fn reader(&self, consumer: &str) -> Box<dyn Reader>;

    /// Creates stream and group (at 0) where they are missing. Answers whether the group had to be created.
    async fn ensure_group(&self) -> Result<bool, StreamError>;

    /// Makes a page of pending entries the consumer's, from `start` on, at most `count`.
    async fn claim(
        &self,
        consumer: &str,
        which: Claim<'_>,
        start: StreamId,
        count: usize,
    ) -> Result<Claimed, StreamError>;

    /// Resets the idle time of entries in hand, of those that are still the consumer's; answers which are to be worked
    /// on. Where the group had to be created again, all are.
    async fn refresh(&self, consumer: &str, ids: &[StreamId]) -> Result<Refreshed, StreamError>;

    /// Acks. `tried` (a subset of `ids`) have a record of attempts, which goes too. Answers how many were pending.
    async fn ack(&self, ids: &[StreamId], tried: &[StreamId]) -> Result<u64, StreamError>;

    /// Writes a step into the record of an entry's tries and answers the record after it.
    async fn record(&self, id: StreamId, step: Step) -> Result<Attempts, StreamError>;

    /// Appends the letter, with the `order_id` and `shop` that its payload tells, to the dead letters and acks the entry,
    /// in that order.
    /// Answers false, and changes nothing, where the dead letters are at their cap. Of an entry with more fields than the
    /// store can move (thousands), the letter keeps those that this program knows, and its error says how many it lacks.
    async fn dead_letter(&self, letter: &DeadLetter) -> Result<bool, StreamError>;

    /// Removes acked entries beyond what is to be retained; never one that a group still needs, and none while ours is
    /// missing, since it is going to be created at 0.
    async fn trim(&self) -> Result<Trimmed, StreamError>;

    /// Removes consumers that were silent for `silent` and have nothing pending; answers their names.
    async fn remove_silent_consumers(&self, silent: Duration) -> Result<Vec<String>, StreamError>;

    /// Makes entries pending again that a foreign command took off our group, so that nobody would have been given them any
    /// more; to be called once a second. Only a store that others have access to has such commands.
    async fn restore(&self) -> Result<Vec<Restored>, StreamError> {
        Ok(Vec::new())
    }

    /// A page of a log, for those who look at it without being a member of the group; changes nothing.
    async fn range(&self, range: Range) -> Result<Page, StreamError>;

    /// What health needs to know.
    async fn report(&self) -> Result<StreamReport, StreamError>;

    /// Makes sure that a write would be taken now, and could be proven as durable as is configured (a tiny write of its
    /// own, and room below the cap).
    async fn confirm_writable(&self) -> Result<(), StreamError>;

    /// What the server is and how it is configured, for `check` and the warnings at start.
    async fn inspect(&self) -> Result<ServerReport, StreamError>;
}
