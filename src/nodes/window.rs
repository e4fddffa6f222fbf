//! Rates of this process: what its counters grew by lately. Pure; the clock is handed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::latency::Latency;
use crate::metrics::{DELAY_BUCKETS, DelayCounts};

/// The span of rates and latencies: two heartbeats, so that none is missed.
const LATELY: Duration = Duration::from_secs(10);
/// The span that refused requests are counted over.
const MINUTE: Duration = Duration::from_secs(60);

/// Counts since the start of this process.
#[derive(Debug, Clone)]
pub struct Totals {
    /// Events that were stored or spooled.
    pub accepted: u64,
    /// Requests that were answered 401.
    pub unauthorized: u64,
    /// Events that were new to the warehouse.
    pub loaded: u64,
    /// Captured events that were stored.
    pub captured: u64,
    /// From acceptance to commit.
    pub delays: DelayCounts,
}

/// What changed lately; unknown before there are two samples.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) accepted_per_second: Option<f64>,
    pub(super) unauthorized_per_minute: Option<u64>,
    pub(super) loaded_per_second: Option<f64>,
    pub(super) captured_per_second: Option<f64>,
    pub(super) latency: Option<Latency>,
}

/// The samples of the last minute, oldest first.
#[derive(Debug, Default)]
pub(super) struct SampleWindow(VecDeque<(Instant, Totals)>);

impl SampleWindow {
    /// Adds a sample, and tells what changed since those before it.
    pub(super) fn add(&mut self, now: Instant, totals: Totals) -> Rates {
        let age = |at: Instant| now.saturating_duration_since(at);
        // The youngest sample that is a minute old stays: what changed since then is a minute's.
        while self.0.get(1).is_some_and(|(at, _)| age(*at) >= MINUTE) {
            self.0.pop_front();
        }
        let is_recent = |(at, _): &&(Instant, Totals)| age(*at) <= LATELY;
        let recent = self.0.iter().find(is_recent).or(self.0.back());
        let rates = match (recent, self.0.front()) {
            (Some((at, before)), Some((_, a_minute_ago))) => {
                let seconds = age(*at).as_secs_f64();
                let per_second = |new: u64, old: u64| rate(new.saturating_sub(old), seconds);
                let grown = |bucket: usize| totals.delays[bucket].saturating_sub(before.delays[bucket]);
                let latency = Latency::of_counts((0..).zip((0..DELAY_BUCKETS).map(grown)));
                Rates {
                    accepted_per_second: per_second(totals.accepted, before.accepted),
                    unauthorized_per_minute: Some(totals.unauthorized.saturating_sub(a_minute_ago.unauthorized)),
                    loaded_per_second: per_second(totals.loaded, before.loaded),
                    captured_per_second: per_second(totals.captured, before.captured),
                    latency: (latency.count() > 0).then_some(latency),
                }
            }
            _ => Rates::default(),
        };
        self.0.push_back((now, totals));
        rates
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of some seconds are far below 2^52")]
fn rate(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(accepted: u64, unauthorized: u64, loaded: u64) -> Totals {
        let mut delays = [0; DELAY_BUCKETS];
        delays[40] = loaded;
        Totals {
            accepted,
            unauthorized,
            loaded,
            captured: accepted,
            delays,
        }
    }

    #[test]
    fn rates_are_of_ten_seconds_and_refusals_of_a_minute() {
        let start = Instant::now();
        let mut window = SampleWindow::default();
        assert_eq!(window.add(start, totals(5, 7, 9)), Rates::default());
        for second in 1..=70 {
            let now = start + Duration::from_secs(second);
            // Ten a second until the 60th second, and a refusal each second.
            let count = second.min(60) * 10;
            let rates = window.add(now, totals(5 + count, 7 + second, 9 + count));
            assert_eq!(rates.unauthorized_per_minute, Some(second.min(60)), "at {second} s");
            let expected = match second {
                ..=60 => 10.0,
                61..70 => f64::from(10 - u32::try_from(second - 60).unwrap()),
                _ => 0.0,
            };
            assert_eq!(rates.loaded_per_second, Some(expected), "at {second} s");
            assert_eq!(rates.accepted_per_second, Some(expected), "at {second} s");
            assert_eq!(rates.captured_per_second, Some(expected), "at {second} s");
            assert_eq!(rates.latency.is_some(), second < 70, "at {second} s");
        }
        assert_eq!(window.0.len(), 61);
    }
}
