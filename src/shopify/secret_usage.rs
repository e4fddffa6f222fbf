//! How much a secret is used: counted where it verifies, without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Deliveries that one secret verified; a cheap clone of one count. Times are Unix milliseconds,
/// which the caller knows.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Since when it is counted.
    since: u64,
    counts: Arc<UsageCounts>,
}

/// Each is exact by itself; read together they may be a delivery apart.
#[derive(Debug, Default)]
struct UsageCounts {
    deliveries: AtomicU64,
    /// 0: never.
    last: AtomicU64,
}

impl Usage {
    /// None yet.
    pub(super) fn since(since: u64) -> Self {
        Self {
            since,
            counts: Arc::default(),
        }
    }

    pub(super) fn count(&self, now: u64) {
        self.counts.deliveries.fetch_add(1, Ordering::Relaxed);
        self.counts.last.store(now, Ordering::Relaxed);
    }

    /// Deliveries it verified.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.counts.deliveries.load(Ordering::Relaxed)
    }

    /// When it verified the last one; `None`: it verified none.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        Some(self.counts.last.load(Ordering::Relaxed)).filter(|last| *last > 0)
    }

    /// Since when it is unused: the last delivery, or the beginning of the count.
    #[must_use]
    pub fn unused_since(&self) -> u64 {
        self.last().unwrap_or(self.since)
    }
}
