//! The writer to one server: a flush is two round trips over a connection that is held from flush to
//! flush.
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

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Pipeline;
use scopeguard::ScopeGuard;

use super::chunk::{chunks, is_large};
use super::durability::Proof;
use super::error;
use super::keys::LogName;
use super::node::{ConnectionGuard, breaks_connection};
use super::partition::Partitions;
use super::reservation::{Flushes, LIFETIME, ServerClock, Unnoted};
use super::server::Server;
use crate::stream::{Appended, NewEntry, StreamError};

/// How long the last seen length of the stream may be relied on for plain XADDs.
const ROOM_FRESH: Duration = Duration::from_millis(100);
/// How long a flush that others follow waits for another's reservation of an id: longer than that
/// takes to note its entry.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_millis(250);
/// How long a single flush does: until the reservation may be taken over.
pub(super) const LONG_PATIENCE: Duration = LIFETIME.saturating_add(Duration::from_secs(1));

pub(super) struct NodeWriter {
    /// Of a log of the flush; the others' are the same one.
    pub(super) server: Arc<Server>,
    pub(super) partitions: Arc<Partitions>,
    pub(super) flushes: Arc<Flushes>,
    pub(super) held: Option<ConnectionGuard>,
    /// How the server behind the held connection proves what it stored, and whether it did so for
    /// the last flush.
    pub(super) proof: Proof,
    pub(super) proven: Result<(), StreamError>,
    /// Entries below the cap of a partition, and when that was seen.
    rooms: BTreeMap<u16, (u64, Instant)>,
    /// Of the server behind the held connection; only with dedupe.
    pub(super) clock: Option<ServerClock>,
    /// What went over the held connection and is to be noted.
    pub(super) unnoted: Unnoted,
    /// Some commands of the flush were answered by another node, and what these wrote is proven.
    pub(super) is_redirected: bool,
    /// Where dedupe is on, whether this writer asks for ids and remembers them.
    with_dedupe: bool,
}

impl NodeWriter {
    pub(super) fn new(partitions: Arc<Partitions>, flushes: Arc<Flushes>, with_dedupe: bool) -> Self {
        Self {
            server: Arc::clone(&partitions.at(0).server),
            partitions,
            flushes,
            held: None,
            proof: Proof::default(),
            proven: Ok(()),
            rooms: BTreeMap::new(),
            clock: None,
            unnoted: Unnoted::default(),
            is_redirected: false,
            with_dedupe,
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
    pub(super) async fn append_within(&mut self, entries: &[NewEntry], patience: Duration) -> Vec<Appended> {
        let appended = self.try_append(entries, patience).await;
        appended.unwrap_or_else(|error| Appended::all_failed(error, entries.len()))
    }

    async fn try_append(&mut self, entries: &[NewEntry], patience: Duration) -> Result<Vec<Appended>, StreamError> {
        let server = Arc::clone(&self.server);
        // A flush that is given up midway leaves its answer on the way: nobody else is to meet
        // that, or to wait for it.
        let mut guard = scopeguard::guard(self.acquire().await?, |guard| server.discard(guard));
        let mut flushed = self.flush(&mut guard, entries, patience).await;
        let guard = ScopeGuard::into_inner(guard);
        if let Ok(outcomes) = &mut flushed {
            self.doubt_of_another(&guard, entries, outcomes);
        }
        match &flushed {
            Err(error) if breaks_connection(error) => self.server.discard(guard),
            Ok(outcomes) if outcomes.iter().any(fails_connection) => self.server.discard(guard),
            // Back to the pool: before the next flush the server is asked again what it is able to
            // prove.
            Err(StreamError::Unconfirmed(_)) => self.server.count_unproven(),
            _ => self.held = Some(guard),
        }
        let mut outcomes = flushed.inspect_err(|_| self.unnoted.clear())?;
        for (entry, outcome) in entries.iter().zip(&mut outcomes) {
            if let LogName::Partition(number) = self.partitions.log_of(entry) {
                let partition = self.partitions.at(number);
                match outcome {
                    Appended::Accepted(id) => {
                        partition.loss_detector.confirm([*id]);
                        id.part = number;
                    }
                    Appended::Duplicate(id) | Appended::Conflict(id) => id.part = number,
                    Appended::Full
                    | Appended::Refused(_)
                    | Appended::TooLarge(_)
                    | Appended::Unavailable(_)
                    | Appended::Failed(_) => {}
                }
            }
        }
        Ok(outcomes)
    }

    async fn flush(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
        patience: Duration,
    ) -> Result<Vec<Appended>, StreamError> {
        self.proven = Ok(());
        self.is_redirected = false;
        let outcomes = if self.dedupes() {
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

    /// What a server confirms that is not the one to use any more is going to be thrown away: it is
    /// to be sent again, where that cannot store it twice.
    fn doubt_of_another(&self, guard: &ConnectionGuard, entries: &[NewEntry], outcomes: &mut [Appended]) {
        if self.is_redirected || !self.dedupes() || !self.server.may_change() {
            return;
        }
        for (entry, outcome) in entries.iter().zip(outcomes) {
            let server = self.partitions.server(self.partitions.log_of(entry));
            if is_stored(outcome) && !server.is_current(guard) {
                let why = format!("{} is not the primary any more", guard.node.address);
                *outcome = Appended::Failed(Arc::new(StreamError::Unconfirmed(why)));
            }
        }
    }

    /// Those of the entries at `places` whose plain XADDs cannot meet a cap: so much room was there
    /// in their partition a moment ago that other writers cannot have filled it meanwhile.
    pub(super) fn with_ample_room(&self, entries: &[NewEntry], places: Vec<usize>) -> Vec<usize> {
        let mut ample = self.by_partition(entries, &places);
        ample.retain(|partition, places| {
            let least = self.partitions.at(*partition).keys.maxlen / 2 + places.len() as u64;
            let room = self.rooms.get(partition);
            room.is_some_and(|(room, seen)| seen.elapsed() < ROOM_FRESH && *room > least)
        });
        ample.into_values().flatten().collect()
    }

    /// Takes note of the length of a partition.
    pub(super) fn saw_length(&mut self, partition: u16, length: Option<u64>) {
        let maxlen = self.partitions.at(partition).keys.maxlen;
        match length {
            Some(length) => self
                .rooms
                .insert(partition, (maxlen.saturating_sub(length), Instant::now())),
            None => self.rooms.remove(&partition),
        };
    }

    pub(super) fn dedupes(&self) -> bool {
        self.with_dedupe && self.partitions.at(0).keys.dedupe_window.is_some()
    }

    /// The partition of an entry; of a dead letter the first, whose keys know the dead letters.
    pub(super) fn partition_at(&self, entry: &NewEntry) -> u16 {
        self.partitions.log_of(entry).partition()
    }

    /// Places of a flush by partition, in order.
    pub(super) fn by_partition(&self, entries: &[NewEntry], places: &[usize]) -> BTreeMap<u16, Vec<usize>> {
        let mut of_each: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for &place in places {
            if let Some(entry) = entries.get(place) {
                of_each.entry(self.partition_at(entry)).or_default().push(place);
            }
        }
        of_each
    }

    /// Without dedupe.
    async fn append_all(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
    ) -> Result<Vec<Appended>, StreamError> {
        let mut outcomes = vec![Appended::Full; entries.len()];
        let is_of_a_partition = |entry| self.partitions.log_of(entry) != LogName::DeadLetters;
        let all = Vec::from_iter(0..entries.len());
        let plain = match entries.iter().all(is_of_a_partition) {
            true => self.with_ample_room(entries, all.clone()),
            false => Vec::new(),
        };
        let is_plain = HashSet::<usize>::from_iter(plain.iter().copied());
        let rest = Vec::from_iter(all.into_iter().filter(|place| !is_plain.contains(place)));
        if !plain.is_empty() {
            let is_last = rest.is_empty();
            self.append_plainly(guard, entries, &plain, None, &mut outcomes, is_last)
                .await?;
        }
        if !rest.is_empty() {
            let calls = chunks(entries, rest, self.partitions.count());
            self.call_until_answered(guard, entries, calls, None, &mut outcomes)
                .await?;
        }
        Ok(outcomes)
    }

    /// Tells refusals for the server's reasons from those for an entry's own. A log of which the
    /// server took nothing at all has failed, and where that is all there is, the flush is an error;
    /// not where only large entries found no memory, since smaller ones may. With one partition
    /// the dead letters fail with it.
    fn judge(&self, entries: &[NewEntry], mut outcomes: Vec<Appended>) -> Result<Vec<Appended>, StreamError> {
        let domain = |entry| Some(self.partitions.log_of(entry)).filter(|_| self.partitions.fail_apart());
        // Of each log whether all was refused, and why.
        let mut verdicts: BTreeMap<Option<LogName>, (bool, Option<StreamError>)> = BTreeMap::new();
        for (entry, outcome) in entries.iter().zip(&mut outcomes) {
            let (is_whole, cause) = verdicts.entry(domain(entry)).or_insert((true, None));
            let Some(error) = self.servers_refusal(outcome) else {
                *is_whole = false;
                continue;
            };
            let is_too_large = error::is_out_of_memory(&error) && is_large(entry);
            *outcome = if is_too_large {
                Appended::TooLarge(error.to_string())
            } else {
                Appended::Unavailable(error.to_string())
            };
            if !is_too_large && cause.is_none() {
                *cause = Some(error);
            }
        }
        let is_one = verdicts.len() == 1;
        let failed = verdicts
            .into_iter()
            .filter_map(|(log, (is_whole, cause))| Some((log, cause.filter(|_| is_whole)?)));
        let failed: Vec<_> = failed.map(|(log, error)| (log, Arc::new(error))).collect();
        if let ([(_, error)], true) = (&*failed, is_one) {
            return Err(StreamError::clone(error));
        }
        for (entry, outcome) in entries.iter().zip(&mut outcomes) {
            if let Some((_, error)) = failed.iter().find(|(log, _)| *log == domain(entry)) {
                *outcome = Appended::Failed(Arc::clone(error));
            }
        }
        Ok(outcomes)
    }

    /// What a refusal means that speaks of the server or the user, not of one entry.
    fn servers_refusal(&self, outcome: &Appended) -> Option<StreamError> {
        let Appended::Refused(line) = outcome else { return None };
        error::is_the_servers(error::code_of(line)).then(|| error::line_error(&self.server.address(), line))
    }

    /// Notes what the last flush left.
    pub(super) async fn settle(&mut self) {
        let (Some(guard), Some(clock)) = (self.held.take(), self.clock) else {
            return;
        };
        let mut pipeline = Pipeline::new();
        let unnoted = std::mem::take(&mut self.unnoted);
        let notes = unnoted.note(&mut pipeline, &self.partitions, clock.now());
        let server = Arc::clone(&self.server);
        let mut guard = scopeguard::guard(guard, |guard| server.discard(guard));
        if unnoted.is_empty() || self.query(&mut guard, &mut pipeline, notes, None).await.is_ok() {
            self.held = Some(ScopeGuard::into_inner(guard));
        }
    }
}

/// Whether a call failed so that nothing more may go over its connection.
fn fails_connection(outcome: &Appended) -> bool {
    matches!(outcome, Appended::Failed(error) if breaks_connection(error))
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
