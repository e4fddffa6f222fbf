//! What this process knows the stream to have held, so that a loss is noticed that makes no call
//! fail: FLUSHALL, a restart without the file, a failover to a replica that lagged.
//!
//! Each report looks for the newest entry of the one before. Where it is gone, the server's count
//! of entries ever added tells how many are: what was trimmed in good order was added all the same,
//! so it never looks like a loss. Whatever was confirmed to a writer of ours since is looked for
//! one by one, where the server is another one (or runs anew) or its count is too small.
//! Invariants: a loss is counted once, even where new entries came right after it; memory is
//! bounded, so that after very many confirmations between two reports a loss is told as smaller
//! than it is.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stream::{Lost, StreamId};

/// Confirmations kept until the next report, which comes every second: 1.5 MiB.
const CONFIRMED_AT_MOST: usize = 1 << 16;

/// Shared by the writers and the reports of one stream.
#[derive(Debug, Default)]
pub(super) struct LossDetector {
    /// Confirmed since the last report.
    confirmed: Mutex<Vec<StreamId>>,
    /// Held over a whole report: reports are compared in the order of their making.
    seen: tokio::sync::Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    before: Position,
    lost: Lost,
}

/// How far a stream has come, how much of it our group had not acked, and what nobody has resolved
/// yet.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// Which run of which server it is, where that is known.
    pub(super) run: Option<String>,
    pub(super) last_id: StreamId,
    /// Entries ever added.
    pub(super) added: u64,
    pub(super) backlog: u64,
}

/// One report in the making.
pub(super) struct Comparison<'a> {
    loss_detector: &'a LossDetector,
    seen: tokio::sync::MutexGuard<'a, Seen>,
    /// Confirmed since the report before.
    since: Vec<StreamId>,
}

impl LossDetector {
    /// The store confirmed these appends.
    pub(super) fn confirm(&self, ids: impl IntoIterator<Item = StreamId>) {
        let mut confirmed = self.confirmed();
        let room = CONFIRMED_AT_MOST.saturating_sub(confirmed.len());
        confirmed.extend(ids.into_iter().take(room));
    }

    /// Begins a report.
    pub(super) async fn compare(&self) -> Comparison<'_> {
        let seen = self.seen.lock().await;
        // What the report before saw is in its count, though it may have been confirmed only then: kept
        // any longer, it would be counted again after a loss.
        let since = {
            let mut confirmed = self.confirmed();
            confirmed.retain(|id| *id > seen.before.last_id);
            confirmed.clone()
        };
        Comparison {
            loss_detector: self,
            seen,
            since,
        }
    }

    fn confirmed(&self) -> MutexGuard<'_, Vec<StreamId>> {
        // No operation leaves the list half-changed.
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Comparison<'_> {
    /// The newest entry of the report before; the least id where there was none.
    pub(super) fn newest_before(&self) -> StreamId {
        self.seen.before.last_id
    }

    /// Ids to be looked for, now that the stream is there; none where all is well. `above`: where
    /// [`newest_before`](Self::newest_before) is gone, how many entries stand above it.
    pub(super) fn doubtful(&self, now: &Position, above: Option<u64>) -> &[StreamId] {
        let before = &self.seen.before;
        let is_another = before.run.is_some() && before.run != now.run;
        let is_short = now.added < before.added + self.since.len() as u64;
        if is_another || is_short || self.gone(now, above) > 0 {
            &self.since
        } else {
            &[]
        }
    }

    /// Ends the report, with so many of the doubtful ones absent; answers all that was ever lost.
    pub(super) fn end(mut self, now: Position, above: Option<u64>, absent: u64) -> Lost {
        let gone = self.gone(&now, above);
        if gone + absent > 0 {
            self.seen.lost.times += 1;
            self.seen.lost.entries += gone.min(self.seen.before.backlog) + absent;
        }
        if let Some(last) = self.since.iter().max() {
            self.loss_detector.confirmed().retain(|id| id > last);
        }
        self.seen.before = now;
        self.seen.lost
    }

    /// Entries of the report before that are gone without having been removed.
    fn gone(&self, now: &Position, above: Option<u64>) -> u64 {
        above.map_or(0, |above| {
            let left = now.added.saturating_sub(above);
            self.seen.before.added.saturating_sub(left)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    fn at(run: &str, ms: u64, added: u64, backlog: u64) -> Position {
        Position {
            run: Some(run.to_owned()),
            last_id: id(ms),
            added,
            backlog,
        }
    }

    /// A stream at 50 with 30 entries ever added, 4 of them not acked; confirmations of 51 and 52
    /// since.
    async fn detector() -> LossDetector {
        let loss_detector = LossDetector::default();
        loss_detector.confirm([id(49), id(50)]);
        let comparison = loss_detector.compare().await;
        assert_eq!(comparison.end(at("a", 50, 30, 4), None, 0), Lost::default());
        loss_detector.confirm([id(50), id(51), id(52)]);
        loss_detector
    }

    #[tokio::test]
    async fn all_is_well() {
        for (now, above) in [
            (at("a", 52, 32, 6), None),
            (at("a", 60, 40, 9), None),
            // Trimmed in good order.
            (at("a", 52, 32, 0), Some(2)),
            (at("a", 52, 32, 0), Some(0)),
        ] {
            let loss_detector = detector().await;
            let comparison = loss_detector.compare().await;
            assert_eq!(comparison.newest_before(), id(50));
            assert_eq!(comparison.doubtful(&now, above), []);
            assert_eq!(comparison.end(now.clone(), above, 0), Lost::default(), "{now:?}");
            assert_eq!(loss_detector.compare().await.since, []);
        }
    }

    #[tokio::test]
    async fn what_a_report_saw_before_it_was_confirmed_is_counted_once() {
        let loss_detector = LossDetector::default();
        let comparison = loss_detector.compare().await;
        loss_detector.confirm([id(50)]);
        assert_eq!(comparison.end(at("a", 50, 30, 4), None, 0), Lost::default());
        let comparison = loss_detector.compare().await;
        assert_eq!(comparison.end(at("a", 50, 30, 4), None, 0), Lost::default());
        // Emptied, and in use again.
        let comparison = loss_detector.compare().await;
        assert_eq!(comparison.end(at("a", 0, 0, 0), Some(0), 0).entries, 4);
        let (comparison, now) = (loss_detector.compare().await, at("a", 60, 3, 3));
        assert_eq!(comparison.doubtful(&now, None), []);
        assert_eq!(comparison.end(now, None, 0).entries, 4);
    }

    #[tokio::test]
    async fn what_is_gone_is_counted_once_whatever_came_after() {
        for (now, above, absent, entries) in [
            // Emptied; and in use again.
            (at("a", 0, 0, 0), Some(0), 2, 6),
            (at("a", 60, 100, 100), Some(100), 2, 6),
            // Another server that lagged by three; by one.
            (at("b", 90, 49, 40), Some(20), 2, 3),
            (at("b", 90, 49, 40), None, 1, 1),
            // Another server that has all.
            (at("b", 90, 49, 40), None, 0, 0),
            // The same, one entry short.
            (at("a", 52, 31, 5), None, 1, 1),
        ] {
            let loss_detector = detector().await;
            let comparison = loss_detector.compare().await;
            assert_eq!(comparison.doubtful(&now, above), [id(51), id(52)], "{now:?}");
            let lost = if entries > 0 {
                Lost {
                    times: 1,
                    entries,
                    dead_letters: 0,
                }
            } else {
                Lost::default()
            };
            assert_eq!(comparison.end(now.clone(), above, absent), lost, "{now:?}");
            let comparison = loss_detector.compare().await;
            assert_eq!(comparison.doubtful(&now, None), []);
            assert_eq!(comparison.end(now, None, 0), lost);
        }
    }
}
