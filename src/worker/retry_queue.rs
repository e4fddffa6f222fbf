//! Entries to be retried alone, each at its time.
//!
//! Invariants: bounded in entries here and in bytes by their reservations. Entries due at the same
//! moment come out in random order, so that whoever kills workers from outside does not always meet
//! the same entry.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::memory::Reservation;
use crate::stream::{Delivered, StreamId};

/// An entry that is to be retried alone, because it may be at fault.
#[derive(Debug)]
pub(super) struct Suspect {
    /// The entry and what is on record of it.
    pub(super) delivered: Delivered,
    /// When the next try is due.
    pub(super) due: Instant,
    /// Since when it is suspected: a load after that shows that others load.
    pub(super) since: Instant,
    /// Tries in which something else was at fault.
    pub(super) postponed: u32,
    /// The end of its last try is not on record yet.
    pub(super) owes_end: bool,
    /// Why it is dead-lettered, where it only waits for room in the dead letters.
    pub(super) verdict: Option<String>,
    /// What it takes of the memory for retries; `None` before it is in the queue.
    pub(super) memory: Option<Reservation>,
}

impl Suspect {
    pub(super) fn new(delivered: Delivered, delay: Duration) -> Self {
        let now = Instant::now();
        Self {
            delivered,
            due: now + delay,
            since: now,
            postponed: 0,
            owes_end: false,
            verdict: None,
            memory: None,
        }
    }

    pub(super) fn id(&self) -> StreamId {
        self.delivered.entry.id
    }

    /// The same, later.
    pub(super) fn after(self, delay: Duration) -> Self {
        Self {
            due: Instant::now() + delay,
            ..self
        }
    }
}

/// The entries, by the time they are due.
#[derive(Debug)]
pub(super) struct RetryQueue {
    by_due: BTreeMap<(Instant, u64), Suspect>,
    limit: usize,
}

impl RetryQueue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            by_due: BTreeMap::new(),
            limit,
        }
    }

    /// Adds one; where the queue is full, removes and returns the one that is due last.
    #[must_use]
    pub(super) fn add(&mut self, suspect: Suspect) -> Option<Suspect> {
        self.by_due.insert((suspect.due, rand::random()), suspect);
        if self.by_due.len() > self.limit {
            self.by_due.pop_last().map(|(_, last)| last)
        } else {
            None
        }
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_due.first_key_value().map(|((due, _), _)| *due)
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<Suspect> {
        self.by_due.pop_first().map(|(_, suspect)| suspect)
    }

    /// Whether `count` or more are due: then no more work should be taken on.
    pub(super) fn is_behind(&self, count: usize) -> bool {
        let now = Instant::now();
        self.by_due
            .keys()
            .nth(count.saturating_sub(1))
            .is_some_and(|(due, _)| *due <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Attempts, Entry, Fields};

    fn suspect(ms: u64, delay: Duration) -> Suspect {
        let entry = Entry {
            id: StreamId::new(ms, 0),
            fields: Fields::default(),
        };
        Suspect::new(
            Delivered {
                entry,
                deliveries: 3,
                attempts: Attempts::default(),
            },
            delay,
        )
    }

    #[test]
    fn gives_up_the_latest_when_full_and_hands_out_the_earliest() {
        let hour = Duration::from_secs(3600);
        let mut queue = RetryQueue::new(2);
        assert!(queue.add(suspect(1, hour)).is_none());
        assert!(queue.add(suspect(2, Duration::ZERO)).is_none());
        assert!(queue.is_behind(1));
        assert!(!queue.is_behind(2));
        assert_eq!(queue.add(suspect(3, hour * 2)).map(|s| s.id().ms), Some(3));
        assert_eq!(queue.pop().map(|s| s.id().ms), Some(2));
        assert!(!queue.is_behind(1));
        assert_eq!(queue.pop().map(|s| s.id().ms), Some(1));
        assert!(queue.next_due().is_none());
    }
}
