//! Share of a shop's bucket of points that this process uses.
//!
//! Shopify counts the cost of each query against a bucket that refills at a steady rate, by plan.
//! This is a bucket of the same kind, smaller by the configured share in capacity and rate, so that
//! the rest is left to whatever else uses the app. Pure: the caller brings the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// Of a query that was not asked yet, points.
const UNKNOWN_COST: f64 = 50.0;
/// Bucket and rate of the smallest plan, until Shopify names the shop's: points, points a second.
const SMALLEST: ThrottleStatus = ThrottleStatus {
    maximum_available: 1000.0,
    currently_available: 1000.0,
    restore_rate: 50.0,
};

/// `extensions.cost` of an answer; points.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cost {
    requested_query_cost: f64,
    /// Absent where the query was not run.
    actual_query_cost: Option<f64>,
    throttle_status: ThrottleStatus,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThrottleStatus {
    maximum_available: f64,
    currently_available: f64,
    restore_rate: f64,
}

impl Cost {
    /// Until the bucket has the points for it, where it was throttled.
    pub(super) fn until_restored(&self) -> Duration {
        let status = self.throttle_status;
        let lacking = (self.requested_query_cost - status.currently_available).max(0.0);
        seconds(lacking / status.restore_rate.max(1.0))
    }

    /// Points that were used.
    pub(super) fn used(&self) -> f64 {
        self.actual_query_cost.unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct PointBudget {
    share: f64,
    limits: ThrottleStatus,
    available: f64,
    at: Instant,
    /// By name of the document, as requested last.
    costs: HashMap<&'static str, f64>,
}

impl PointBudget {
    pub(super) fn new(percent: u32, now: Instant) -> Self {
        let share = f64::from(percent) / 100.0;
        Self {
            share,
            limits: SMALLEST,
            available: SMALLEST.maximum_available * share,
            at: now,
            costs: HashMap::new(),
        }
    }

    /// Takes the points that a query is expected to cost; `Err` says how long until there are enough.
    pub(super) fn take(&mut self, document: &'static str, now: Instant) -> Result<f64, Duration> {
        let capacity = self.limits.maximum_available * self.share;
        let rate = (self.limits.restore_rate * self.share).max(0.1);
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.available = (self.available + passed * rate).min(capacity);
        self.at = now;
        let cost = self.costs.get(document).copied().unwrap_or(UNKNOWN_COST);
        // One that costs more than all of the share waits until it is full.
        let lacking = cost.min(capacity) - self.available;
        if lacking > 0.0 {
            return Err(seconds(lacking / rate).max(Duration::from_millis(1)));
        }
        self.available -= cost;
        Ok(cost)
    }

    /// Corrects what was taken by what Shopify says; `None`: it charged nothing.
    pub(super) fn settle(&mut self, document: &'static str, taken: f64, cost: Option<&Cost>) {
        self.available += taken - cost.map_or(0.0, Cost::used);
        if let Some(cost) = cost {
            self.limits = cost.throttle_status;
            self.costs.insert(document, cost.requested_query_cost);
        }
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(requested: f64, actual: Option<f64>, available: f64) -> Cost {
        Cost {
            requested_query_cost: requested,
            actual_query_cost: actual,
            throttle_status: ThrottleStatus {
                maximum_available: 2000.0,
                currently_available: available,
                restore_rate: 100.0,
            },
        }
    }

    #[test]
    fn a_share_of_bucket_and_rate_is_used_and_no_more() {
        let start = Instant::now();
        let mut budget = PointBudget::new(50, start);
        let (mut now, mut used) = (start, 0.0);
        while now < start + Duration::from_secs(60) {
            match budget.take("Q", now) {
                Ok(taken) => {
                    used += 25.0;
                    budget.settle("Q", taken, Some(&cost(40.0, Some(25.0), 1500.0)));
                }
                Err(wait) => now += wait,
            }
        }
        // Half of 2000 at once, and half of 100 a second.
        assert!((3000.0..=4050.0).contains(&used), "{used}");
    }

    #[test]
    fn what_was_not_run_costs_nothing_and_waits_for_the_bucket() {
        let now = Instant::now();
        let mut budget = PointBudget::new(50, now);
        let throttled = cost(300.0, None, 50.0);
        assert_eq!(throttled.until_restored(), Duration::from_millis(2500));
        for _ in 0..100 {
            let taken = budget.take("Q", now).unwrap();
            budget.settle("Q", taken, Some(&throttled));
        }
    }

    #[test]
    fn a_query_that_costs_more_than_the_share_is_asked_when_that_is_full() {
        let mut now = Instant::now();
        let mut budget = PointBudget::new(10, now);
        let taken = budget.take("Q", now).unwrap();
        budget.settle("Q", taken, Some(&cost(900.0, Some(900.0), 1100.0)));
        let mut waits = 0;
        while let Err(wait) = budget.take("Q", now) {
            now += wait;
            waits += 1;
        }
        assert!((1..4).contains(&waits), "{waits}");
    }
}
