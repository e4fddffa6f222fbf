//! How many dead letters came lately. [`Recent`] keeps the counts of the last looks;
//! [`recent_ages`] asks the stream once for what came before this process looked.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use crate::config::DeadLetterLevels;
use crate::stream::{Destination, Range, ReadOrder, Stream, StreamError, StreamReport};

/// Dead letters of one page: with their bodies, which may be large, since the store answers no ids
/// alone.
const PAGE: usize = 20;
/// Looks that are kept over the window.
const SAMPLES: u32 = 900;

/// Dead letters that came within the window, and what was accepted meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDeadLetters {
    /// How many; resolved ones count as long as others are there.
    pub count: u64,
    /// Of those, how many since the first look within the window, and entries that the stream took
    /// in the same time; `None` where only one look was taken.
    pub share: Option<(u64, u64)>,
}

/// Ages of the dead letters within `levels.window`, newest first; no more of them than it takes to
/// be critical.
///
/// # Errors
/// The stream did not answer.
pub async fn recent_ages(stream: &dyn Stream, levels: &DeadLetterLevels) -> Result<Vec<Duration>, StreamError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let from = millis(now.saturating_sub(levels.window));
    let enough = usize::try_from(levels.new.critical.saturating_add(1)).unwrap_or(usize::MAX);
    let newest_first = Range::all(Destination::DeadLetters, ReadOrder::NewestFirst, PAGE).between(from, u64::MAX);
    let (mut ages, mut next) = (Vec::new(), Some(newest_first));
    while let Some(range) = next.filter(|_| ages.len() < enough) {
        let page = stream.range(range).await?;
        let age = |ms| now.saturating_sub(Duration::from_millis(ms));
        ages.extend(page.entries.iter().map(|letter| age(letter.id.ms)));
        next = page.next;
    }
    Ok(ages)
}

/// What the stores counted at one look.
#[derive(Debug, Clone, Copy)]
struct LookCounts {
    at: Instant,
    dead_letters: u64,
    accepted: Option<u64>,
}

/// The counts of the looks within the window. Dead letters are counted by how many were ever added,
/// so no look reads one.
#[derive(Debug)]
pub(super) struct Recent {
    window: Duration,
    looks: VecDeque<LookCounts>,
    /// When the first look was taken, and the ages at that time of the dead letters that came
    /// before it.
    before: Option<(Instant, Vec<Duration>)>,
}

impl Recent {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            looks: VecDeque::new(),
            before: None,
        }
    }

    /// Whether it lacks the dead letters that came before its first look.
    pub(super) fn is_new(&self) -> bool {
        self.before.is_none()
    }

    /// The first look is about to be taken, and these are the ages of what came before.
    pub(super) fn begin(&mut self, ages: Vec<Duration>, now: Instant) {
        self.before = Some((now, ages));
    }

    /// Adds a look and tells what came within the window; `None` where the store does not count
    /// dead letters, or what came before is not known yet.
    pub(super) fn look(&mut self, stream: &StreamReport, now: Instant) -> Option<NewDeadLetters> {
        let counted = LookCounts {
            at: now,
            dead_letters: stream.dead_letters_added?,
            accepted: stream.entries_added,
        };
        let (began, before) = self.before.as_ref()?;
        let is_recent = |age: &&Duration| **age + now.duration_since(*began) <= self.window;
        let before = before.iter().filter(is_recent).count() as u64;
        // A count that went down is one of a new stream, in which everything is new.
        if self.looks.back().is_some_and(|last| counted.is_before(last)) {
            self.looks.clear();
            self.looks.push_back(LookCounts {
                dead_letters: 0,
                accepted: counted.accepted.map(|_| 0),
                ..counted
            });
        }
        while self
            .looks
            .front()
            .is_some_and(|old| now.duration_since(old.at) > self.window)
        {
            self.looks.pop_front();
        }
        let is_due = |last: &LookCounts| now.duration_since(last.at) >= self.window / SAMPLES;
        if self.looks.back().is_none_or(is_due) {
            self.looks.push_back(counted);
        }
        let oldest = self.looks.front().copied().unwrap_or(counted);
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let came = since(counted.dead_letters, oldest.dead_letters);
        let accepted = counted.accepted.zip(oldest.accepted);
        Some(NewDeadLetters {
            count: before + came,
            share: accepted.map(|(now, then)| (came, since(now, then))),
        })
    }
}

impl LookCounts {
    fn is_before(&self, last: &Self) -> bool {
        let accepted = self.accepted.zip(last.accepted);
        self.dead_letters < last.dead_letters || accepted.is_some_and(|(now, then)| now < then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(900);

    fn counts(dead_letters: u64, accepted: u64) -> StreamReport {
        StreamReport {
            dead_letters_added: Some(dead_letters),
            entries_added: Some(accepted),
            ..StreamReport::default()
        }
    }

    #[test]
    fn what_came_within_the_window_is_counted_also_what_came_before_the_start() {
        let start = Instant::now();
        let mut recent = Recent::new(WINDOW);
        assert_eq!(
            recent.look(&counts(50, 500), start),
            None,
            "what came before is not known"
        );
        recent.begin([100, 800].map(Duration::from_secs).to_vec(), start);
        let mut at = |second, dead_letters, accepted| {
            let now = start + Duration::from_secs(second);
            let new = recent.look(&counts(dead_letters, accepted), now).unwrap();
            (new.count, new.share)
        };
        assert_eq!(at(0, 50, 500), (2, Some((0, 0))));
        assert_eq!(at(50, 53, 600), (5, Some((3, 100))));
        assert_eq!(at(101, 53, 700), (4, Some((3, 200))), "one of before is 901 s old");
        assert_eq!(at(900, 53, 700), (3, Some((3, 200))));
        assert_eq!(at(951, 54, 701), (1, Some((1, 1))), "counted from the look at 101 s");
        assert_eq!(at(960, 2, 10), (2, Some((2, 10))), "the store was emptied");
        assert_eq!(at(961, 3, 20), (3, Some((3, 20))));
    }

    #[test]
    fn a_store_that_does_not_count_leaves_it_unknown() {
        let mut recent = Recent::new(WINDOW);
        recent.begin(Vec::new(), Instant::now());
        assert_eq!(recent.look(&StreamReport::default(), Instant::now()), None);
    }
}
