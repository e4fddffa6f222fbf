//! Reservations: a flush claims the ids of its entries before it appends them with plain XADDs, and
//! notes them as stored afterwards.
//!
//! The ids of one dedupe window are the fields of a hash, a generation; an id is looked up in this
//! generation and in the one before, so it is known for at least the window. Its value is
//! `<entry id> <digest>` once the entry is stored, and until then a reservation:
//! `~<taken> <owner>-<flush>`, with ` <since>` where it was taken over from a flush that was given
//! up (server time, milliseconds; `since`: when the first of these flushes reserved the id).
//! Invariants:
//! - Only a stored entry's value makes a duplicate; a reservation never does.
//! - A reservation is taken over once it is [`LIFETIME`] old, or at once where its flush was given
//!   up in this process. The stream is then searched for its entry from `since` on.
//! - What is to be noted goes over the connection that the entries went over, or not at all: another
//!   server may have lost them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::Pipeline;

use super::keys::{LogName, millis};
use super::partition::Partitions;
use crate::stream::StreamId;

/// How long other processes respect a reservation whose flush has not noted its entry.
pub(super) const LIFETIME: Duration = Duration::from_secs(3);

/// After this its own flush no longer relies on a reservation, and lets the script look again.
pub(super) const RELIED_ON: Duration = Duration::from_millis(1500);

/// The flushes of this process that have reserved ids.
pub(super) struct Flushes {
    /// Tells this process's reservations from others'; hexadecimal.
    owner: String,
    under_way: Mutex<(u64, BTreeSet<u64>)>,
}

impl Flushes {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            owner: format!("{:016x}", rand::random::<u64>()),
            under_way: Mutex::default(),
        })
    }

    /// Begins a flush, which is under way until the ticket is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> ReservationTicket {
        // No operation leaves the numbers half-changed.
        let mut guard = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, numbers) = &mut *guard;
        *last += 1;
        numbers.insert(*last);
        ReservationTicket {
            number: *last,
            flushes: Arc::clone(self),
        }
    }
}

/// A flush under way.
pub(super) struct ReservationTicket {
    flushes: Arc<Flushes>,
    number: u64,
}

impl ReservationTicket {
    /// The value of an id that this flush reserves at that time.
    pub(super) fn reservation(&self, now: u64) -> String {
        format!("~{now} {}-{}", self.flushes.owner, self.number)
    }

    pub(super) fn owner(&self) -> &str {
        &self.flushes.owner
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Numbers of the process's flushes under way, as `append.lua` takes them.
    pub(super) fn under_way(&self) -> String {
        let guard = self.flushes.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        guard.1.iter().fold(" ".to_owned(), |mut list, number| {
            let _ = write!(list, "{number} ");
            list
        })
    }
}

impl Drop for ReservationTicket {
    fn drop(&mut self) {
        let mut guard = self.flushes.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        guard.1.remove(&self.number);
    }
}

/// What the last flush has yet to note: with the next flush of its writer, or when that settles.
#[derive(Default)]
pub(super) struct Unnoted {
    ticket: Option<ReservationTicket>,
    /// By partition.
    notes: BTreeMap<u16, Notes>,
}

#[derive(Default)]
struct Notes {
    /// Ids and values, in turn.
    stored: Vec<String>,
    /// Ids whose entries were not stored.
    released: Vec<String>,
}

impl Unnoted {
    pub(super) fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Keeps the flush under way until this is noted.
    pub(super) fn hold(&mut self, ticket: ReservationTicket) {
        self.ticket = Some(ticket).filter(|_| !self.is_empty());
    }

    pub(super) fn store(&mut self, partition: u16, id: &str, entry: StreamId, digest: [u8; 16]) {
        let stored = &mut self.notes.entry(partition).or_default().stored;
        stored.push(id.to_owned());
        stored.push(format!("{entry} {}", hex::encode(digest)));
    }

    pub(super) fn release(&mut self, partition: u16, id: &str) {
        let notes = self.notes.entry(partition).or_default();
        notes.released.push(id.to_owned());
    }

    /// Adds the commands that note it, whose answers mean nothing: where one fails, the reservations
    /// are left to expire. `now` is the server's time. Answers how many they are.
    pub(super) fn note(&self, pipeline: &mut Pipeline, partitions: &Partitions, now: u64) -> usize {
        let before = pipeline.len();
        for (&partition, Notes { stored, released }) in &self.notes {
            let keys = &partitions.at(partition).keys;
            let [generation, _] = keys.generations(LogName::Partition(partition), now);
            if !released.is_empty() {
                pipeline.cmd("HDEL").arg(&generation).arg(released);
            }
            if !stored.is_empty() {
                pipeline.cmd("HSET").arg(&generation).arg(stored);
                let expire = pipeline.cmd("PEXPIRE").arg(&generation).arg(keys.generation_lifetime());
                expire.arg("NX");
            }
        }
        pipeline.len() - before
    }

    /// It is noted, or is not to be noted any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The server's clock, as of its last answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerClock {
    millis: u64,
    read: Instant,
}

impl ServerClock {
    /// From the answer to TIME.
    pub(super) fn of((seconds, micros): (u64, u64)) -> Self {
        Self {
            millis: seconds * 1000 + micros / 1000,
            read: Instant::now(),
        }
    }

    /// Unix milliseconds.
    pub(super) fn now(&self) -> u64 {
        self.millis + millis(self.read.elapsed())
    }
}
