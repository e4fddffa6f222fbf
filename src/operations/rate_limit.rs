//! Spreads the work of an action evenly over time: so many entries a second.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// Entries a second by default. Evaluated at compile time.
const DEFAULT_RATE: NonZeroU32 = NonZeroU32::new(500).unwrap();
/// Entries a second at most.
const MAX_RATE: u32 = 10_000;

pub(super) struct RateLimit {
    /// Entries a second.
    rate: u32,
    due: Instant,
}

impl RateLimit {
    pub(super) fn new(rate: Option<NonZeroU32>) -> Self {
        Self {
            rate: rate.unwrap_or(DEFAULT_RATE).get().min(MAX_RATE),
            due: Instant::now(),
        }
    }

    /// Entries to take at once: about a tenth of a second's.
    pub(super) fn portion(&self) -> usize {
        usize::try_from(self.rate / 10).unwrap_or(1).clamp(1, 100)
    }

    /// Entries of one step, at most `max`: what takes about two seconds.
    pub(super) fn step(&self, max: usize) -> usize {
        usize::try_from(self.rate).unwrap_or(max).saturating_mul(2).min(max)
    }

    /// Waits until `done` more entries are within the rate.
    pub(super) async fn pay(&mut self, done: usize) {
        let seconds = f64::from(u32::try_from(done).unwrap_or(u32::MAX)) / f64::from(self.rate);
        self.due += Duration::from_secs_f64(seconds);
        tokio::time::sleep_until(self.due).await;
    }
}
