//! A rate: so many a second, evenly.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// What an action does a second, unless it is told otherwise. A constant: a zero here would not compile.
pub(super) const RATE: NonZeroU32 = NonZeroU32::new(500).unwrap();
/// The fastest that may be asked for.
const FASTEST: u32 = 10_000;

/// Lets work through at a rate.
pub(super) struct RateLimit {
    rate: u32,
    due: Instant,
}

impl RateLimit {
    /// `rate` a second; 500 where it is not said, 10,000 at most.
    pub(super) fn new(rate: Option<NonZeroU32>) -> Self {
        Self {
            rate: rate.unwrap_or(RATE).get().min(FASTEST),
            due: Instant::now(),
        }
    }

    /// How many to take at once: about a tenth of a second's.
    pub(super) fn portion(&self) -> usize {
        usize::try_from(self.rate / 10).unwrap_or(1).clamp(1, 100)
    }

    /// How many to do in one step, which shall take about two seconds at most.
    pub(super) fn step(&self, most: usize) -> usize {
        usize::try_from(self.rate).unwrap_or(most).saturating_mul(2).min(most)
    }

    /// Waits until so many may have been done.
    pub(super) async fn pay(&mut self, done: usize) {
        let seconds = f64::from(u32::try_from(done).unwrap_or(u32::MAX)) / f64::from(self.rate);
        self.due += Duration::from_secs_f64(seconds);
        tokio::time::sleep_until(self.due).await;
    }
}
