//! The entries that one consumer has in flight: read or claimed, and not yet acked, dead-lettered
//! or released.
//!
//! Invariants: an entry is in flight once. What is in flight is kept fresh by the lease renewer. An
//! entry that was lost to another consumer is never counted against.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stream::{Delivered, StreamId};

/// Their ids.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<HashSet<StreamId>>);

impl InFlight {
    /// Takes entries that are not in flight, and were not `before` they were asked for: one that
    /// was settled while the stream was still answering must not come back.
    pub(super) fn take(&self, entries: Vec<Delivered>, before: &HashSet<StreamId>) -> Vec<Delivered> {
        let mut held = self.lock();
        entries
            .into_iter()
            .filter(|delivered| !before.contains(&delivered.entry.id) && held.insert(delivered.entry.id))
            .collect()
    }

    /// Removes entries.
    pub(super) fn release(&self, ids: &[StreamId]) {
        let mut held = self.lock();
        for id in ids {
            held.remove(id);
        }
    }

    pub(super) fn contains(&self, id: StreamId) -> bool {
        self.lock().contains(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn ids(&self) -> HashSet<StreamId> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<StreamId>> {
        // No operation above leaves the set half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Attempts, Entry, Fields};

    fn delivered(ms: u64) -> Delivered {
        Delivered {
            entry: Entry {
                id: StreamId::new(ms, 0),
                fields: Fields::default(),
            },
            deliveries: 1,
            attempts: Attempts::default(),
        }
    }

    #[test]
    fn takes_each_once_and_nothing_that_was_settled_meanwhile() {
        let held = InFlight::default();
        assert_eq!(held.take(vec![delivered(1), delivered(2)], &HashSet::new()).len(), 2);
        let before = held.ids();
        held.release(&[StreamId::new(1, 0)]);
        let taken = held.take(vec![delivered(1), delivered(2), delivered(3)], &before);
        assert_eq!(taken, [delivered(3)]);
        assert_eq!(held.len(), 2);
        assert!(!held.contains(StreamId::new(1, 0)));
    }
}
