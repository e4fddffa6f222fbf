//! Latencies in fixed buckets, so that those of several nodes can be added. Pure.
//!
//! Bucket `i` holds latencies above 0.1 ms × 2^((i - 1) / 4) and up to 0.1 ms × 2^(i / 4): four
//! buckets an octave, so that a quantile is wrong by a tenth at most. The last one holds everything
//! above.

use serde::{Deserialize, Serialize};

use crate::metrics::{DELAY_BUCKETS, upper_bound};

/// Latencies of one span of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half took no longer, in milliseconds; none of nothing.
    #[serde(default)]
    pub p50_ms: Option<f64>,
    /// 99 % took no longer.
    #[serde(default)]
    pub p99_ms: Option<f64>,
    /// `[bucket, count]` of those that are not empty, in order.
    #[serde(default)]
    pub buckets: Vec<(u16, u64)>,
}

impl Latency {
    /// From the counts of buckets, each of which is named once, in order.
    #[must_use]
    pub fn of_counts(counts: impl IntoIterator<Item = (u16, u64)>) -> Self {
        let mut latency = Self {
            buckets: counts.into_iter().filter(|(_, count)| *count > 0).collect(),
            ..Self::default()
        };
        latency.p50_ms = latency.quantile_ms(0.5);
        latency.p99_ms = latency.quantile_ms(0.99);
        latency
    }

    /// All of them together.
    #[must_use]
    pub fn sum<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut counts = [0_u64; DELAY_BUCKETS];
        for &(bucket, count) in parts.into_iter().flat_map(|part| &part.buckets) {
            // A later release may have more of them.
            let bucket = usize::from(bucket).min(DELAY_BUCKETS - 1);
            counts[bucket] = counts[bucket].saturating_add(count);
        }
        Self::of_counts((0..).zip(counts))
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// By nearest rank; within a bucket ranks are spread evenly.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of some seconds are far below 2^52"
    )]
    pub(crate) fn quantile_ms(&self, share: f64) -> Option<f64> {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        for &(bucket, count) in &self.buckets {
            if below + count >= rank {
                let lower = bucket.checked_sub(1).map_or(0.0, upper_bound);
                let upper = upper_bound(bucket);
                let within = (rank - below) as f64 / count as f64;
                return Some((lower + (upper - lower) * within) * 1000.0);
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_added_up_and_quantiles_are_within_a_bucket() {
        let (fast, slow) = (Latency::of_counts([(40, 99)]), Latency::of_counts([(41, 0), (60, 101)]));
        let both = Latency::sum([&fast, &slow]);
        assert_eq!((both.count(), both.buckets.len()), (200, 2));
        let (p50, p99) = (both.p50_ms.unwrap(), both.p99_ms.unwrap());
        assert!(p50 > upper_bound(59) * 1e3 && p50 <= upper_bound(60) * 1e3, "{p50}");
        assert!(p50 < p99 && p99 <= upper_bound(60) * 1e3, "{p99}");
        let none = Latency::sum([]);
        assert_eq!((none.p50_ms, none.p99_ms, none.count()), (None, None, 0));
        let later = Latency::of_counts([(1000, 1)]);
        assert_eq!(Latency::sum([&later]).buckets, [(83, 1)]);
    }
}
