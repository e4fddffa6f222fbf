//! Time: the wall clock for ids, and a steady one for idle times.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds that never go back, not even when the wall clock does, and go on over a restart.
///
/// It starts at the wall clock's time, or at the latest reading on record where that is later: what was idle when the
/// process ended was so while it was away, as far as anybody can tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    base: u64,
    started: Instant,
}

impl Clock {
    /// `latest` is the latest reading that the file holds.
    pub(super) fn after(latest: u64) -> Self {
        Self {
            base: wall().max(latest),
            started: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.base.saturating_add(millis(self.started.elapsed()))
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
