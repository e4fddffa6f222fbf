//! Liveness of one loop, for `/livez`.
//!
//! Invariant: an idle loop is alive; one that is at work must make progress within a bound.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const IDLE: u64 = u64::MAX;
/// Margin above the longest read or load, after which a loop counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// How long a loop may go without progress. A read waits for `block`. A load is slow, not stuck,
/// for as long as the warehouse lets it run: its statement timeout is below `claim_idle`, and a
/// call may take half as long again.
pub(super) fn patience(block: Duration, claim_idle: Duration) -> Duration {
    block + claim_idle * 2 + STUCK
}

/// When the loop last made progress.
#[derive(Debug)]
pub(super) struct Liveness {
    born: Instant,
    last_ms: AtomicU64,
}

impl Liveness {
    pub(super) fn new() -> Self {
        Self {
            born: Instant::now(),
            last_ms: AtomicU64::new(IDLE),
        }
    }

    /// The loop makes progress.
    pub(super) fn beat(&self) {
        self.last_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    /// The loop waits for work, however long.
    pub(super) fn idle(&self) {
        self.last_ms.store(IDLE, Ordering::Relaxed);
    }

    /// Whether it is idle or made progress within `bound`.
    pub(super) fn is_alive(&self, bound: Duration) -> bool {
        let last = self.last_ms.load(Ordering::Relaxed);
        last == IDLE || u128::from(self.age_ms().saturating_sub(last)) <= bound.as_millis()
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(IDLE - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_as_slow_as_the_warehouse_allows_is_not_stuck() {
        for claim_idle in [Duration::from_secs(60), Duration::from_secs(3600)] {
            let statement_timeout = claim_idle - Duration::from_millis(1);
            let longest_call = statement_timeout * 3 / 2;
            assert!(patience(Duration::ZERO, claim_idle) > longest_call + Duration::from_secs(30));
        }
    }

    #[test]
    fn only_a_loop_at_work_has_to_move() {
        let (hour, ago) = (Duration::from_secs(3600), Duration::from_secs(300));
        let liveness = Liveness {
            born: Instant::now().checked_sub(ago).unwrap(),
            last_ms: AtomicU64::new(0),
        };
        assert!(liveness.is_alive(patience(Duration::ZERO, hour)));
        assert!(!liveness.is_alive(patience(Duration::ZERO, Duration::from_secs(60))));
        liveness.idle();
        assert!(liveness.is_alive(Duration::ZERO));
        liveness.beat();
        assert!(liveness.is_alive(ago));
    }
}
