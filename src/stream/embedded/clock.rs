//! Clocks: the wall clock gives ids, a steady clock measures idle times and the age of dedupe keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock in milliseconds that never goes back, not even when the wall clock does, and continues
/// over a restart. Clones share it.
///
/// It starts at the wall clock's time, or at the latest reading on record where that is later: what
/// was idle when the process ended counts as idle while the process was away.
#[derive(Debug, Clone)]
pub(super) struct SteadyClock {
    /// Its reading when it was started.
    base: Arc<AtomicI64>,
    started: Instant,
}

impl SteadyClock {
    pub(super) fn start() -> Self {
        Self {
            base: Arc::new(AtomicI64::new(i64::try_from(wall()).unwrap_or(i64::MAX))),
            started: Instant::now(),
        }
    }

    /// Moves the clock up to `latest`, the latest reading that the file holds.
    pub(super) fn advance(&self, latest: i64) {
        let base = latest.saturating_sub(millis(self.started.elapsed()));
        self.base.fetch_max(base, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> i64 {
        let base = self.base.load(Ordering::Relaxed);
        base.saturating_add(millis(self.started.elapsed()))
    }

    /// The time since that reading.
    pub(super) fn since(&self, reading: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.now().saturating_sub(reading)).unwrap_or_default())
    }
}

/// Unix time, milliseconds.
pub(super) fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
