//! The watcher: notices that the stream went back in time, as after FLUSHALL or a failover to a replica that lagged.
//!
//! Such a loss makes no call fail: what was confirmed is just not there any more. Invariant: it is said once, with how
//! many events may be missing from the warehouse, and counted.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::outage::{Outage, rest};
use crate::metrics::Metrics;
use crate::stream::{Stream, StreamId, StreamReport};

const PAUSE: Duration = Duration::from_secs(1);

/// Watches until `stop` fires.
pub async fn run(stream: Arc<dyn Stream>, metrics: Metrics, stop: CancellationToken) {
    let mut outage = Outage::of("watching the stream");
    let mut before = Position::default();
    while rest(PAUSE, &stop).await {
        let now = match stream.report().await {
            Ok(report) => Position::of(&report),
            Err(error) => {
                outage.failed(&error);
                continue;
            }
        };
        outage.over();
        if now.is_behind(&before) {
            let letters = before.dead_letters.saturating_sub(now.dead_letters);
            metrics.entries_lost.inc_by(before.backlog + letters);
            error!(
                was_at = before.last_id.map(|id| id.to_string()),
                is_at = now.last_id.map(|id| id.to_string()),
                may_be_missing = before.backlog,
                dead_letters_missing = letters,
                "the stream lost entries that it had confirmed (emptied, or failed over?): of those, what was not yet \
                 loaded is missing unless its sender sends it again"
            );
        }
        before = now;
    }
}

/// How far a stream has come, how much of it our group had not acked, and what nobody has resolved yet.
#[derive(Debug, Default)]
struct Position {
    last_id: Option<StreamId>,
    added: Option<u64>,
    backlog: u64,
    dead_letters: u64,
}

impl Position {
    fn of(report: &StreamReport) -> Self {
        let ours = report.groups.iter().find(|group| group.ours);
        Self {
            last_id: report.last_id,
            added: report.entries_added,
            backlog: ours.map_or(report.length, |group| group.pending + group.lag.unwrap_or_default()),
            dead_letters: report.dead_letters,
        }
    }

    /// Ids alone do not tell: an emptied stream goes on at the present time.
    fn is_behind(&self, before: &Self) -> bool {
        self.last_id < before.last_id || self.added.zip(before.added).is_some_and(|(now, before)| now < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64, added: Option<u64>) -> Position {
        let last_id = (ms > 0).then_some(StreamId { ms, seq: 0 });
        Position {
            last_id,
            added,
            ..Position::default()
        }
    }

    #[test]
    fn only_a_step_back_is_a_loss() {
        assert!(!at(0, None).is_behind(&Position::default()));
        assert!(!at(5, Some(3)).is_behind(&Position::default()));
        assert!(!at(5, Some(3)).is_behind(&at(5, Some(3))));
        assert!(!at(9, Some(4)).is_behind(&at(5, None)));
        assert!(at(0, Some(0)).is_behind(&at(5, Some(3))), "emptied");
        assert!(at(9, Some(1)).is_behind(&at(5, Some(3))), "emptied and in use again");
        assert!(at(4, None).is_behind(&at(5, None)), "failed over");
    }
}
