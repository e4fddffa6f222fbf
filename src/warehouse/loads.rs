//! What was loaded lately, and how long that had taken since the stream took it. Pure.
//!
//! Both times are in the rows: `received_at` by the stream's clock, `loaded_at` by the warehouse's (in PostgreSQL the
//! start of the transaction). Where these clocks disagree, so do the figures; a row that seems to be loaded before it was
//! received counts as loaded at once.

use std::time::Duration;

/// Rows that were loaded within a span of time that ends now, by the warehouse's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loads {
    /// So many of them.
    pub rows: u64,
    /// The span: the one that was asked for, or the shorter one that the most rows which were asked for lie in.
    pub within: Duration,
    /// From receipt to load; `None` of no row.
    pub latency: Option<Latency>,
}

/// Quantiles by nearest rank: each is the latency of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Half of the rows took no longer.
    pub p50: Duration,
    /// 99 % of the rows took no longer.
    pub p99: Duration,
}

impl Loads {
    /// Rows a second.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a bounded count")]
    pub fn per_second(&self) -> f64 {
        // Rows of one transaction are loaded at one time: of too short a span no rate can be told.
        self.rows as f64 / self.within.as_secs_f64().max(0.1)
    }
}

impl Latency {
    /// Of rows that took so long, in any order.
    #[must_use]
    pub fn of(mut took: Vec<Duration>) -> Option<Self> {
        took.sort_unstable();
        Some(Self {
            p50: rank(&took, 50)?,
            p99: rank(&took, 99)?,
        })
    }
}

fn rank(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(millis: impl IntoIterator<Item = u64>) -> Option<(u128, u128)> {
        let took = millis.into_iter().map(Duration::from_millis).collect();
        Latency::of(took).map(|latency| (latency.p50.as_millis(), latency.p99.as_millis()))
    }

    #[test]
    fn quantiles_are_of_rows_that_there_are() {
        assert_eq!(latency([]), None);
        assert_eq!(latency([7]), Some((7, 7)));
        assert_eq!(latency([9, 1]), Some((1, 9)));
        assert_eq!(latency([3, 1, 2]), Some((2, 3)));
        assert_eq!(latency((1..=100).rev()), Some((50, 99)));
        assert_eq!(latency(1..=101), Some((51, 100)));
        assert_eq!(latency(1..=1000), Some((500, 990)));
    }

    #[test]
    fn a_rate_is_over_the_span_that_the_rows_lie_in() {
        let loads = |rows, millis| Loads {
            rows,
            within: Duration::from_millis(millis),
            latency: None,
        };
        for (loads, rate) in [
            (loads(0, 5000), 0.0),
            (loads(10, 5000), 2.0),
            (loads(10_000, 2000), 5000.0),
            (loads(1, 0), 10.0),
        ] {
            assert!((loads.per_second() - rate).abs() < 1e-9, "{loads:?}");
        }
    }
}
