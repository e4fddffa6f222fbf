//! Entries that the drainer retries later, so that they do not delay the others. Pure; the clock is
//! passed in.
//!
//! Three kinds: entries that the stream refused, retried one by one with growing delay; entries that
//! the dead letters do not take (their cap, their key, their rights), retried together; and entries
//! whose partition is away while others take theirs, retried together once it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::stream::StreamId;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Between two tries of the dead letters.
const ROOM_DELAY: Duration = Duration::from_secs(5);

/// Entries of partitions that are away, in all: some 10 MB of ids.
const MOST_AWAY: usize = 262_144;

/// The entries, by id.
#[derive(Debug, Default)]
pub(super) struct SpoolRetryQueue {
    refused: BTreeMap<StreamId, Refused>,
    without_room: BTreeSet<StreamId>,
    /// When those are tried again.
    room_due: Option<Instant>,
    /// By partition.
    away: BTreeMap<u16, BTreeSet<StreamId>>,
    /// Those whose partition came back, and when one did last.
    back: BTreeSet<StreamId>,
    back_due: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    times: u32,
    due: Instant,
}

impl SpoolRetryQueue {
    pub(super) fn len(&self) -> usize {
        self.refused.len() + self.without_room.len() + self.back.len() + self.away_len()
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

    /// Its partition is away.
    pub(super) fn set_aside(&mut self, id: StreamId, partition: u16) {
        self.forget(id);
        self.away.entry(partition).or_default().insert(id);
    }

    /// The partition takes its entries again.
    pub(super) fn bring_back(&mut self, partition: u16, now: Instant) {
        self.back.append(&mut self.away.remove(&partition).unwrap_or_default());
        self.back_due = Some(now);
    }

    /// Whether further entries of partitions that are away find room.
    pub(super) fn takes_more(&self) -> bool {
        self.away_len() < MOST_AWAY
    }

    fn away_len(&self) -> usize {
        self.away.values().map(BTreeSet::len).sum()
    }

    /// A partition that is away and has entries here.
    pub(super) fn partition_away(&self) -> Option<u16> {
        self.away.keys().next().copied()
    }

    /// It is settled, in flight again, or gone.
    pub(super) fn forget(&mut self, id: StreamId) {
        self.refused.remove(&id);
        self.without_room.remove(&id);
        self.back.remove(&id);
    }

    pub(super) fn holds(&self, id: StreamId) -> bool {
        let is_away = self.away.values().any(|ids| ids.contains(&id));
        is_away || self.back.contains(&id) || self.refused.contains_key(&id) || self.without_room.contains(&id)
    }

    pub(super) fn is_due_back(&self, id: StreamId) -> bool {
        self.back.contains(&id)
    }

    /// The first entry whose partition came back.
    pub(super) fn due_back(&self) -> Option<StreamId> {
        self.back.first().copied()
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
        let back = self.back_due.filter(|_| !self.back.is_empty());
        self.next_below(u32::MAX).into_iter().chain(room).chain(back).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_ones_wait_longer_each_time() {
        let (id, start) = (StreamId::new(1, 0), Instant::now());
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
    fn those_of_a_partition_come_back_together() {
        let start = Instant::now();
        let ids = [1, 2, 3].map(|ms| StreamId::new(ms, 0));
        let mut queue = SpoolRetryQueue::default();
        queue.refuse(ids[0], start);
        for (id, partition) in ids.into_iter().zip([7, 8, 7]) {
            queue.set_aside(id, partition);
        }
        assert_eq!((queue.len(), queue.next(), queue.due_back()), (3, None, None));
        queue.bring_back(7, start);
        assert_eq!((queue.due_back(), queue.partition_away()), (Some(ids[0]), Some(8)));
        assert_eq!((queue.len(), queue.next()), (3, Some(start)));
        assert!(queue.is_due_back(ids[2]) && !queue.is_due_back(ids[1]) && queue.holds(ids[1]));
        queue.forget(ids[0]);
        assert_eq!((queue.due_back(), queue.len()), (Some(ids[2]), 2));
    }

    #[test]
    fn those_without_room_wait_together() {
        let start = Instant::now();
        let ids = [1, 2, 3].map(|ms| StreamId::new(ms, 0));
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
