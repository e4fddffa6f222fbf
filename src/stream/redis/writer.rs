//! The writer: a flush is two round trips over a connection that is held from flush to flush.
//!
//! With dedupe the first reserves the ids (`reservation.rs`), and the second appends by plain XADDs
//! what was reserved; the ids and digests of its entries are noted with the next flush, or when the
//! writer settles. What is known, reserved or given up already, near the cap, or for the dead
//! letters goes through `append.lua`, some hundred a call, which decides and appends in one step.
//! Without dedupe a flush is plain XADDs while there is ample room, and that script near the cap.
//! `dedupe.rs` has the order of these steps, `round_trip.rs` the steps.
//!
//! Invariants: one outcome an entry, in order; a flush of which nothing was taken for reasons of the
//! server's has failed as a whole, and so has one whose durability is not proven; otherwise each
//! entry carries its own outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::Pipeline;
use scopeguard::ScopeGuard;

use super::chunk::{Chunk, chunks, is_large};
use super::durability::Proof;
use super::error;
use super::keys::Keys;
use super::loss_detector::LossDetector;
use super::reservation::{Flushes, LIFETIME, ServerClock, Unnoted};
use super::server::{ConnectionGuard, Server, breaks_connection};
use crate::stream::{Appended, Destination, NewEntry, StreamError, StreamId, Writer};

/// How long the last seen length of the stream may be relied on for plain XADDs.
const ROOM_FRESH: Duration = Duration::from_millis(100);
/// How long a flush that others follow waits for another's reservation of an id: longer than that
/// takes to note its entry.
const SHORT_PATIENCE: Duration = Duration::from_millis(250);
/// How long a single flush does: until the reservation may be taken over.
const LONG_PATIENCE: Duration = LIFETIME.saturating_add(Duration::from_secs(1));
pub(super) struct RedisWriter {
    pub(super) server: Arc<Server>,
    pub(super) keys: Arc<Keys>,
    pub(super) loss_detector: Arc<LossDetector>,
    pub(super) flushes: Arc<Flushes>,
    pub(super) held: Option<ConnectionGuard>,
    /// How the server behind the held connection proves what it stored, and whether it did so for
    /// the last flush.
    pub(super) proof: Proof,
    pub(super) proven: Result<(), StreamError>,
    /// Entries below the cap, and when that was seen.
    pub(super) room: Option<(u64, Instant)>,
    /// Of the server behind the held connection; only with dedupe.
    pub(super) clock: Option<ServerClock>,
    /// What went over the held connection and is to be noted.
    pub(super) unnoted: Unnoted,
}

impl RedisWriter {
    pub(super) fn new(
        server: Arc<Server>,
        keys: Arc<Keys>,
        loss_detector: Arc<LossDetector>,
        flushes: Arc<Flushes>,
    ) -> Self {
        Self {
            server,
            keys,
            loss_detector,
            flushes,
            held: None,
            proof: Proof::default(),
            proven: Ok(()),
            room: None,
            clock: None,
            unnoted: Unnoted::default(),
        }
    }

    async fn acquire(&mut self) -> Result<ConnectionGuard, StreamError> {
        match self.held.take() {
            Some(guard) if self.server.is_current(&guard) => Ok(guard),
            _ => {
                self.unnoted.clear();
                self.clock = None;
                let (guard, proof) = Proof::acquire(&self.server).await?;
                self.proof = proof;
                Ok(guard)
            }
        }
    }

    /// A flush over the held connection; `patience`: how long it waits for other flushes'
    /// reservations.
    async fn append_within(&mut self, entries: &[NewEntry], patience: Duration) -> Vec<Appended> {
        if entries.is_empty() {
            return Vec::new();
        }
        let appended = self.try_append(entries, patience).await;
        appended.unwrap_or_else(|error| Appended::all_failed(error, entries.len()))
    }

    async fn try_append(&mut self, entries: &[NewEntry], patience: Duration) -> Result<Vec<Appended>, StreamError> {
        let server = Arc::clone(&self.server);
        // A flush that is given up midway leaves its answer on the way: nobody else is to meet
        // that, or to wait for it.
        let mut guard = scopeguard::guard(self.acquire().await?, |guard| server.discard(guard));
        let flushed = self.flush(&mut guard, entries, patience).await;
        let guard = ScopeGuard::into_inner(guard);
        match &flushed {
            Err(error) if breaks_connection(error) => self.server.discard(guard),
            // Back to the pool: before the next flush the server is asked again what it is able to
            // prove.
            Err(StreamError::Unconfirmed(_)) => self.server.count_unproven(),
            _ => self.held = Some(guard),
        }
        let outcomes = flushed.inspect_err(|_| self.unnoted.clear())?;
        self.loss_detector.confirm(stored(entries, &outcomes));
        Ok(outcomes)
    }

    async fn flush(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
        patience: Duration,
    ) -> Result<Vec<Appended>, StreamError> {
        self.proven = Ok(());
        let outcomes = if self.keys.dedupe_window.is_some() {
            self.append_once(guard, entries, patience).await?
        } else {
            self.append_all(guard, entries).await?
        };
        let outcomes = self.judge(entries, outcomes)?;
        let proven = std::mem::replace(&mut self.proven, Ok(()));
        if outcomes.iter().any(is_stored) {
            proven?;
        }
        Ok(outcomes)
    }

    /// Whether plain XADDs of so many entries cannot meet the cap: so much room was there a moment
    /// ago that other writers cannot have filled it meanwhile.
    pub(super) fn has_ample_room(&self, entries: usize) -> bool {
        let is_ample = |room| room > self.keys.maxlen / 2 + entries as u64;
        self.room
            .is_some_and(|(room, seen)| seen.elapsed() < ROOM_FRESH && is_ample(room))
    }

    /// Without dedupe.
    async fn append_all(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
    ) -> Result<Vec<Appended>, StreamError> {
        let mut outcomes = vec![Appended::Full; entries.len()];
        let is_plain = entries.iter().all(|entry| entry.destination == Destination::Stream);
        if is_plain && self.has_ample_room(entries.len()) {
            let all = Chunk::of(Destination::Stream, (0..entries.len()).collect(), entries);
            self.append_plainly(guard, entries, &all, None, &mut outcomes, true)
                .await?;
        } else {
            let calls = chunks(entries, 0..entries.len());
            self.call_until_answered(guard, entries, calls, None, &mut outcomes)
                .await?;
        }
        Ok(outcomes)
    }

    /// Tells refusals for the server's reasons from those for an entry's own. An error where the
    /// server took nothing at all; not where only large entries found no memory, since smaller ones
    /// may.
    fn judge(&self, entries: &[NewEntry], mut outcomes: Vec<Appended>) -> Result<Vec<Appended>, StreamError> {
        let (mut is_whole, mut cause) = (true, None);
        for (entry, outcome) in entries.iter().zip(&mut outcomes) {
            let Some(error) = self.servers_refusal(outcome) else {
                is_whole = false;
                continue;
            };
            let is_too_large = error::is_out_of_memory(&error) && is_large(entry);
            *outcome = if is_too_large {
                Appended::TooLarge(error.to_string())
            } else {
                Appended::Unavailable(error.to_string())
            };
            cause = cause.or(Some(error).filter(|_| !is_too_large));
        }
        match cause {
            Some(error) if is_whole => Err(error),
            _ => Ok(outcomes),
        }
    }

    /// What a refusal means that speaks of the server or the user, not of one entry.
    fn servers_refusal(&self, outcome: &Appended) -> Option<StreamError> {
        let Appended::Refused(line) = outcome else { return None };
        error::is_the_servers(error::code_of(line)).then(|| error::line_error(&self.server.address(), line))
    }
}

#[async_trait]
impl Writer for RedisWriter {
    async fn append(&mut self, entries: &[NewEntry]) -> Vec<Appended> {
        let appended = self.append_within(entries, LONG_PATIENCE).await;
        self.settle().await;
        appended
    }

    async fn append_with_more(&mut self, entries: &[NewEntry]) -> Vec<Appended> {
        self.append_within(entries, SHORT_PATIENCE).await
    }

    async fn settle(&mut self) {
        let (Some(guard), Some(clock)) = (self.held.take(), self.clock) else {
            return;
        };
        let mut pipeline = Pipeline::new();
        let [generation, _] = self.keys.generations(&self.keys.stream, clock.now());
        let unnoted = std::mem::take(&mut self.unnoted);
        unnoted.note(&mut pipeline, &generation, &self.keys);
        let server = Arc::clone(&self.server);
        let mut guard = scopeguard::guard(guard, |guard| server.discard(guard));
        if unnoted.is_empty() || self.query(&mut guard, &mut pipeline).await.is_ok() {
            self.held = Some(ScopeGuard::into_inner(guard));
        }
    }
}

/// Whether a store is claimed, now or before.
pub(super) fn is_stored(outcome: &Appended) -> bool {
    match outcome {
        Appended::Accepted(_) | Appended::Duplicate(_) | Appended::Conflict(_) => true,
        Appended::Full
        | Appended::Refused(_)
        | Appended::TooLarge(_)
        | Appended::Unavailable(_)
        | Appended::Failed(_) => false,
    }
}

/// Ids of what is new in the stream.
fn stored(entries: &[NewEntry], outcomes: &[Appended]) -> impl Iterator<Item = StreamId> {
    entries
        .iter()
        .zip(outcomes)
        .filter_map(|(entry, outcome)| match outcome {
            Appended::Accepted(id) if entry.destination == Destination::Stream => Some(*id),
            Appended::Accepted(_)
            | Appended::Duplicate(_)
            | Appended::Conflict(_)
            | Appended::Full
            | Appended::Refused(_)
            | Appended::TooLarge(_)
            | Appended::Unavailable(_)
            | Appended::Failed(_) => None,
        })
}
