//! The state of this process' appends, which the health checks read.
//!
//! Invariant: only a flush that failed as a whole counts as a failure; what the store refuses of
//! single entries says nothing of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time of the last event of one kind, to the millisecond; a cheap clone, without a lock.
#[derive(Debug, Clone)]
pub struct AtomicInstant {
    base: Instant,
    /// Milliseconds after `base`, plus one; 0 is never.
    millis: Arc<AtomicU64>,
}

impl AtomicInstant {
    /// No event so far.
    #[must_use]
    pub fn never() -> Self {
        Self {
            base: Instant::now(),
            millis: Arc::default(),
        }
    }

    /// Sets it to now.
    pub fn mark(&self) {
        let millis = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.millis.fetch_max(millis + 1, Ordering::Relaxed);
    }

    /// Sets it back to never.
    pub fn forget(&self) {
        self.millis.store(0, Ordering::Relaxed);
    }

    /// Time since the event; `None` if there was none.
    #[must_use]
    pub fn elapsed(&self) -> Option<Duration> {
        let millis = self.millis.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.base.elapsed().saturating_sub(Duration::from_millis(millis)))
    }
}

/// The last success, and the failure since, if any; a cheap clone.
#[derive(Debug, Clone)]
pub struct AppendStats {
    accepted: AtomicInstant,
    failed: AtomicInstant,
}

impl AppendStats {
    /// Nothing was appended so far.
    #[must_use]
    pub fn none() -> Self {
        Self {
            accepted: AtomicInstant::never(),
            failed: AtomicInstant::never(),
        }
    }

    /// The stream took an entry.
    pub fn succeed(&self) {
        self.accepted.mark();
        self.failed.forget();
    }

    /// A flush to the stream failed as a whole: the store is away, at its cap, or refuses appends.
    pub fn fail(&self) {
        self.failed.mark();
    }

    /// When the stream last took an entry from this process.
    #[must_use]
    pub fn last_accepted(&self) -> &AtomicInstant {
        &self.accepted
    }

    /// Whether a flush failed within `limit` and no entry was taken since.
    #[must_use]
    pub fn are_failing(&self, limit: Duration) -> bool {
        self.failed.elapsed().is_some_and(|elapsed| elapsed < limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_instant() {
        let instant = AtomicInstant::never();
        let clone = instant.clone();
        assert_eq!(clone.elapsed(), None);
        instant.mark();
        assert!(clone.elapsed().is_some());
        clone.forget();
        assert_eq!(instant.elapsed(), None);
    }

    #[test]
    fn a_failure_counts_until_the_next_success_or_for_a_while() {
        let append_stats = AppendStats::none();
        let limit = Duration::from_secs(600);
        assert!(!append_stats.are_failing(limit));
        append_stats.fail();
        assert!(append_stats.are_failing(limit));
        assert!(!append_stats.are_failing(Duration::ZERO));
        append_stats.succeed();
        assert!(!append_stats.are_failing(limit));
    }
}
