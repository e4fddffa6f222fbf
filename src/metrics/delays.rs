//! A histogram that can also be read back, for the latency in a node's record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::histogram::Histogram;

/// Buckets that are read back: 21 octaves of four, which end at about 210 s.
pub const DELAY_BUCKETS: usize = 84;
/// Seconds that the first bucket ends at.
const FIRST: f64 = 0.0001;
const AN_OCTAVE: f64 = 4.0;

/// Counts of all buckets.
pub type DelayCounts = [u64; DELAY_BUCKETS];

/// Delays, exported as a histogram of Prometheus' and counted in finer buckets beside it; a cheap
/// clone.
#[derive(Debug, Clone)]
pub struct Delays {
    exported: Histogram,
    counts: Arc<[AtomicU64; DELAY_BUCKETS]>,
}

impl Delays {
    pub(super) fn new(exported: Histogram) -> Self {
        Self {
            exported,
            counts: Arc::new([const { AtomicU64::new(0) }; DELAY_BUCKETS]),
        }
    }

    /// Counts one.
    pub fn observe(&self, seconds: f64) {
        self.exported.observe(seconds);
        self.counts[bucket(seconds)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts since the start.
    #[must_use]
    pub fn counts(&self) -> DelayCounts {
        std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed))
    }
}

/// Where a bucket ends, in seconds; it begins where the one before ends, the first at 0.
#[must_use]
pub fn upper_bound(bucket: u16) -> f64 {
    FIRST * (f64::from(bucket) / AN_OCTAVE).exp2()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and the result is clamped"
)]
fn bucket(seconds: f64) -> usize {
    let bucket = ((seconds / FIRST).log2() * AN_OCTAVE).ceil() as usize;
    bucket.min(DELAY_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_in_the_bucket_that_ends_next() {
        for seconds in [0.0001, 0.000_15, 0.001, 0.02, 1.0, 30.0, 170.0] {
            let found = u16::try_from(bucket(seconds)).unwrap();
            assert!(seconds <= upper_bound(found) * 1.000_001, "{seconds}");
            assert!(found == 0 || seconds > upper_bound(found - 1) * 0.999_999, "{seconds}");
        }
        assert_eq!((bucket(-1.0), bucket(0.0), bucket(f64::NAN)), (0, 0, 0));
        assert_eq!(bucket(1e9), DELAY_BUCKETS - 1);
    }
}
