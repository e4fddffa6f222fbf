//! The operators' part of the seam: dead letters, replays, the state of an entry, the audit log, the
//! pause of the group. No webhook needs it.

use std::time::Duration;

use async_trait::async_trait;

use super::entry::{Destination, Entry, Fields, StreamId};
use super::error::StreamError;

/// The consumer that owns entries which were made pending again, until they are claimed.
pub const REPLAY_CONSUMER: &str = "replay";
/// Idle time of entries made pending again. Longer than any `CLAIM_IDLE`, so they are stale at
/// once.
pub(super) const LONG_IDLE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Entries kept in the audit log; the oldest are removed.
pub(super) const AUDIT_ENTRIES: u64 = 10_000;

/// The state of an entry with one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryState {
    /// The group.
    pub group: String,
    /// Whether it is the configured one.
    pub ours: bool,
    /// How far the group came with it.
    pub stage: Stage,
}

/// How far a group came with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// No member was given it yet.
    Unread,
    /// A member was given it and has not acked it.
    Pending {
        /// Its owner.
        consumer: String,
        /// How often it was delivered.
        deliveries: u64,
        /// Time since the last delivery.
        idle: Duration,
    },
    /// It was read and is not pending: acked, or dead-lettered.
    Settled,
}

/// What operators do to a stream. All calls are safe to repeat.
#[async_trait]
pub trait StreamAdmin: Send + Sync {
    /// Removes entries of a log: dead letters that are resolved, or entries that no group needs any
    /// more (the caller has seen that). Returns how many there were.
    async fn remove(&self, log: Destination, ids: &[StreamId]) -> Result<u64, StreamError>;

    /// Takes the original bodies of dead letters below an id; all else of them stays, their ids too.
    /// Returns how many had one. Several processes must not do it at once.
    ///
    /// # Errors
    /// Nothing was changed, or (embedded) a part; also where a group of another program reads the dead
    /// letters, or some were removed meanwhile.
    async fn drop_letter_bodies(&self, before: StreamId) -> Result<u64, StreamError>;

    /// Makes entries pending again for a group (any of the stream's) that was delivered them
    /// before, as if a consumer had fallen silent with them: the group's reclaimer claims them.
    /// Entries that are pending, unread or gone are left unchanged. Returns how many became
    /// pending; `None` where there is no such group.
    async fn make_pending(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError>;

    /// How many of these entries a group was delivered and has no longer pending: those that
    /// [`make_pending`](Self::make_pending) would make pending, if they are in the stream. `None`
    /// where there is no such group.
    async fn settled(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError>;

    /// The state of an entry with each group. Whether it is in the stream at all,
    /// [`range`](super::Stream::range) tells.
    async fn entry_states(&self, id: StreamId) -> Result<Vec<EntryState>, StreamError>;

    /// Appends to the audit log what an operator did, for every node to show. The newest 10,000
    /// entries are kept.
    async fn note(&self, note: &Fields) -> Result<(), StreamError>;

    /// Marks our group as paused since `since`, an RFC 3339 time, for all workers to see; `None`
    /// takes the mark away. The first mark stands until then.
    async fn set_pause(&self, since: Option<&str>) -> Result<(), StreamError>;

    /// Since when our group is paused; `None` where it is not.
    async fn paused_since(&self) -> Result<Option<String>, StreamError>;

    /// The newest entries of the audit log, newest first, at most `count` and a thousand.
    async fn notes(&self, count: usize) -> Result<Vec<Entry>, StreamError>;
}
