//! Growth, drain rate and the share of 401s, from the snapshots of the last minute.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::observation::Observation;

/// What "lately" means for growth and the share of 401s.
const LATELY: Duration = Duration::from_secs(60);
/// Time and requests below which growth and share say nothing.
const LEAST_TIME: Duration = Duration::from_secs(10);
const LEAST_REQUESTS: u64 = 20;

/// Requests of the public listener.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    answered: AtomicU64,
    unauthorized: AtomicU64,
}

impl Traffic {
    pub(super) fn count(&self, unauthorized: bool) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if unauthorized {
            self.unauthorized.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One snapshot, kept for a minute.
struct RateSample {
    at: Instant,
    length: u64,
    /// Out of the spool, since the start.
    moved: Option<u64>,
    answered: u64,
    unauthorized: u64,
}

/// The looks of the last minute, oldest first; at most one a second.
#[derive(Default)]
pub(super) struct RecentSamples(VecDeque<RateSample>);

impl RecentSamples {
    /// Adds this snapshot and tells what changed since the oldest one. `moved` entries have left
    /// the spool since the start.
    #[allow(clippy::cast_precision_loss, reason = "counts of one minute are far below 2^52")]
    pub(super) fn look(&mut self, seen: &mut Observation, traffic: &Traffic, moved: Option<u64>, now: Instant) {
        let new = RateSample {
            at: now,
            length: seen.stream.length,
            moved,
            answered: traffic.answered.load(Ordering::Relaxed),
            unauthorized: traffic.unauthorized.load(Ordering::Relaxed),
        };
        while self.0.front().is_some_and(|old| now.duration_since(old.at) > LATELY) {
            self.0.pop_front();
        }
        if let Some(old) = self.0.front() {
            let time = now.duration_since(old.at);
            if time >= LEAST_TIME {
                seen.growth = Some((new.length as f64 - old.length as f64) / time.as_secs_f64());
            }
            let answered = new.answered.saturating_sub(old.answered);
            if answered >= LEAST_REQUESTS {
                seen.unauthorized = Some(new.unauthorized.saturating_sub(old.unauthorized) as f64 / answered as f64);
            }
        }
        let last = self.0.back();
        seen.drain_rate = new.moved.zip(last).and_then(|(moved, last)| {
            let moved = moved.saturating_sub(last.moved?);
            Some(moved as f64 / now.duration_since(last.at).as_secs_f64().max(0.001))
        });
        self.0.push_back(new);
    }
}
