//! Entries that the drainer retries later, so that they do not delay the others. Pure; the clock is
//! passed in.
//!
//! Two kinds: entries that the stream refused, retried one by one with growing delay; and entries
//! that the dead letters do not take (their cap, their key, their rights), retried together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::stream::StreamId;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Between two tries of the dead letters.
const ROOM_DELAY: Duration = Duration::from_secs(5);

/// The entries, by id.
#[derive(Debug, Default)]
pub(super) struct SpoolRetryQueue {
    refused: BTreeMap<StreamId, Refused>,
    without_room: BTreeSet<StreamId>,
    /// When those are tried again.
    room_due: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    times: u32,
    due: Instant,
}

impl SpoolRetryQueue {
    pub(super) fn len(&self) -> usize {
        self.refused.len() + self.without_room.len()
    }

    /// The entry was refused once more; answers how often by now.
    pub(super) fn refuse(&mut self, id: StreamId, now: Instant) -> u32 {
        let times = self.refused.get(&id).map_or(0, |refused| refused.times);
        let delay = FIRST_DELAY.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX));
        self.postpone(id, times.saturating_add(1), now + delay.min(LONGEST_DELAY))
    }

    /// Its dead letter could not be written.
    pub(super) fn keep(&mut self, id: StreamId, now: Instant) {
        let times = self.refused.get(&id).map_or(0, |refused| refused.times);
        self.postpone(id, times, now + LONGEST_DELAY);
    }

    fn postpone(&mut self, id: StreamId, times: u32, due: Instant) -> u32 {
        self.without_room.remove(&id);
        self.refused.insert(id, Refused { times, due });
        times
    }

    /// The dead letters do not take it.
    pub(super) fn lacks_room(&mut self, id: StreamId, now: Instant) {
        self.refused.remove(&id);
        self.without_room.insert(id);
        self.room_due = Some(now + ROOM_DELAY);
    }

    /// It is settled, or gone.
    pub(super) fn forget(&mut self, id: StreamId) {
        self.refused.remove(&id);
        self.without_room.remove(&id);
    }

    pub(super) fn holds(&self, id: StreamId) -> bool {
        self.refused.contains_key(&id) || self.without_room.contains(&id)
    }

    pub(super) fn waits_for_room(&self, id: StreamId) -> bool {
        self.without_room.contains(&id)
    }

    /// The first entry without room, if it is time to try those again.
    pub(super) fn due_for_room(&self, now: Instant) -> Option<StreamId> {
        let first = self.without_room.first()?;
        self.room_due.is_none_or(|due| due <= now).then_some(*first)
    }

    /// A refused entry that is due.
    pub(super) fn due(&self, now: Instant) -> Option<StreamId> {
        let due = self.refused.iter().find(|(_, refused)| refused.due <= now);
        due.map(|(id, _)| *id)
    }

    /// When the next entry is due that was refused less often than `most` times.
    pub(super) fn next_below(&self, most: u32) -> Option<Instant> {
        let below = self.refused.values().filter(|refused| refused.times < most);
        below.map(|refused| refused.due).min()
    }

    /// When anything is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let room = self.room_due.filter(|_| !self.without_room.is_empty());
        self.next_below(u32::MAX).into_iter().chain(room).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_ones_wait_longer_each_time() {
        let (id, start) = (StreamId { ms: 1, seq: 0 }, Instant::now());
        let mut queue = SpoolRetryQueue::default();
        for (nth, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)] {
            assert_eq!(queue.refuse(id, start), nth);
            let delay = Duration::from_secs(seconds);
            assert_eq!(queue.due(start + delay - Duration::from_millis(1)), None);
            assert_eq!(queue.due(start + delay), Some(id));
            assert_eq!(queue.next(), Some(start + delay));
            assert_eq!(queue.next_below(nth + 1), Some(start + delay));
            assert_eq!(queue.next_below(nth), None);
        }
        queue.forget(id);
        assert_eq!((queue.len(), queue.next()), (0, None));
    }

    #[test]
    fn those_without_room_wait_together() {
        let start = Instant::now();
        let ids = [1, 2, 3].map(|ms| StreamId { ms, seq: 0 });
        let mut queue = SpoolRetryQueue::default();
        for id in ids {
            queue.lacks_room(id, start);
        }
        assert_eq!(queue.due_for_room(start), None);
        assert_eq!(queue.due_for_room(start + ROOM_DELAY), Some(ids[0]));
        queue.forget(ids[0]);
        queue.keep(ids[1], start);
        assert_eq!(queue.due_for_room(start + ROOM_DELAY), Some(ids[2]));
        assert_eq!(queue.len(), 2);
    }
}
