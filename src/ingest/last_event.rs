//! When something last happened, shared between tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The last time of one kind of event, to the millisecond; a cheap clone, without a lock.
#[derive(Debug, Clone)]
pub struct AtomicInstant {
    base: Instant,
    /// Milliseconds after `base`, plus one; 0 is never.
    millis: Arc<AtomicU64>,
}

impl AtomicInstant {
    /// It has not happened yet.
    #[must_use]
    pub fn never() -> Self {
        Self {
            base: Instant::now(),
            millis: Arc::default(),
        }
    }

    /// It happens now.
    pub fn mark(&self) {
        let millis = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.millis.fetch_max(millis + 1, Ordering::Relaxed);
    }

    /// As if it had never happened.
    pub fn forget(&self) {
        self.millis.store(0, Ordering::Relaxed);
    }

    /// Time since then; `None` if it never happened.
    #[must_use]
    pub fn elapsed(&self) -> Option<Duration> {
        let millis = self.millis.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.base.elapsed().saturating_sub(Duration::from_millis(millis)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_happened() {
        let instant = AtomicInstant::never();
        let clone = instant.clone();
        assert_eq!(clone.elapsed(), None);
        instant.mark();
        assert!(clone.elapsed().is_some());
        clone.forget();
        assert_eq!(instant.elapsed(), None);
    }
}
