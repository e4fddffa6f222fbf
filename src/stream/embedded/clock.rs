//! Time: the wall clock for ids, and a steady one for idle times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds that never go back, not even when the wall clock does, and go on over a restart. A cheap clone of the same.
///
/// It starts at the wall clock's time, or at the latest reading on record where that is later: what was idle when the
/// process ended was so while it was away, as far as anybody can tell.
#[derive(Debug, Clone)]
pub(super) struct SteadyClock {
    /// What it read when it was started.
    base: Arc<AtomicU64>,
    started: Instant,
}

impl SteadyClock {
    pub(super) fn start() -> Self {
        Self {
            base: Arc::new(AtomicU64::new(wall())),
            started: Instant::now(),
        }
    }

    /// Is not behind `latest`, the latest reading that the file holds.
    pub(super) fn advance(&self, latest: u64) {
        let base = latest.saturating_sub(millis(self.started.elapsed()));
        self.base.fetch_max(base, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u64 {
        let base = self.base.load(Ordering::Relaxed);
        base.saturating_add(millis(self.started.elapsed()))
    }

    /// The time since that reading.
    pub(super) fn since(&self, reading: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(reading))
    }
}

/// Unix time, milliseconds.
pub(super) fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
