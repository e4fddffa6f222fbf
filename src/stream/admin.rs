//! What an operator may ask of a stream and do to it, beside what the service itself does all day.
//!
//! Owns the words for that. Nothing here is on the way of a webhook.

use std::time::Duration;

use async_trait::async_trait;

use super::{Entry, Fields, StreamError, StreamId};

/// The consumer whose entries are until somebody claims them, once they were made pending again.
pub const REPLAY_CONSUMER: &str = "replay";
/// Longer than any `CLAIM_IDLE` may be: what was made pending again is stale at once.
pub(super) const LONG_IDLE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Notes kept; the oldest go.
pub(super) const NOTES: u64 = 10_000;

/// Where an entry stands with one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryState {
    /// The group.
    pub group: String,
    /// Whether it is the configured one.
    pub ours: bool,
    /// What the group did with it.
    pub stage: Stage,
}

/// How far a group came with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// No member was given it yet.
    Unread,
    /// A member was given it and has not acked it.
    Pending {
        /// Whose it is.
        consumer: String,
        /// How often it was handed out.
        deliveries: u64,
        /// Since it last was.
        idle: Duration,
    },
    /// It was read, and nobody has it pending: acked, or dead-lettered.
    Settled,
}

/// A stream as an operator sees it. All calls are safe to repeat.
#[async_trait]
pub trait StreamAdmin: Send + Sync {
    /// Removes dead letters that are resolved; answers how many were there.
    async fn remove_dead_letters(&self, ids: &[StreamId]) -> Result<u64, StreamError>;

    /// Makes entries pending again for a group (any of the stream's) that was given them before, as if a consumer had
    /// fallen silent with them: the group's reclaimer takes them over. What is pending, unread or gone is left as it is.
    /// Answers how many became pending; `None` where there is no such group.
    async fn make_pending(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError>;

    /// How many of these entries a group was given and nobody has pending: those that [`make_pending`](Self::make_pending)
    /// would make pending, as long as they are in the stream. `None` where there is no such group.
    async fn settled(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError>;

    /// Where an entry stands with each group; whether it is in the stream at all, [`range`](super::Stream::range) tells.
    async fn entry_states(&self, id: StreamId) -> Result<Vec<EntryState>, StreamError>;

    /// Writes down what an operator did, beside the stream, for every node to show. The newest 10,000 are kept.
    async fn note(&self, note: &Fields) -> Result<(), StreamError>;

    /// The newest notes, newest first, at most `count` and a thousand.
    async fn notes(&self, count: usize) -> Result<Vec<Entry>, StreamError>;
}
