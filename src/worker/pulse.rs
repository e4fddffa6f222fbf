//! Proof of life of one loop.
//!
//! Invariant: a loop that waits for work is alive; one that is at work must move within a bound.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const AT_REST: u64 = u64::MAX;

/// Last sign of life.
#[derive(Debug)]
pub(super) struct Pulse {
    born: Instant,
    last_ms: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            born: Instant::now(),
            last_ms: AtomicU64::new(AT_REST),
        }
    }

    /// The loop moves.
    pub(super) fn beat(&self) {
        self.last_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    /// The loop waits for work, for as long as that takes.
    pub(super) fn rest(&self) {
        self.last_ms.store(AT_REST, Ordering::Relaxed);
    }

    /// Whether it rests or moved within `bound`.
    pub(super) fn is_alive(&self, bound: Duration) -> bool {
        let last = self.last_ms.load(Ordering::Relaxed);
        last == AT_REST || u128::from(self.age_ms().saturating_sub(last)) <= bound.as_millis()
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(AT_REST - 1)
    }
}
