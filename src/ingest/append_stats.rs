//! How the appends of this process go, for health to look at.
//!
//! Owns what the writers leave behind of each flush. Invariant: only a flush that failed as a whole counts as a failure;
//! what the store refuses of single entries says nothing of the others.

use std::time::Duration;

use super::AtomicInstant;

/// The last success, and the failure since, if any; a cheap clone.
#[derive(Debug, Clone)]
pub struct AppendStats {
    accepted: AtomicInstant,
    failed: AtomicInstant,
}

impl AppendStats {
    /// None has been tried yet.
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
