//! An outage of something that a role depends on: how long to wait before the next try, and what to
//! log.
//!
//! Invariant: an outage of hours makes a handful of log lines, and its end is always logged.

use std::fmt::Display;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::{grown, spread};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The failures of one dependency as one role sees them.
#[derive(Debug)]
pub(crate) struct OutageLog {
    what: &'static str,
    began: Option<Instant>,
    said: Option<Instant>,
    failures: u32,
}

impl OutageLog {
    /// `what` fails in that case: "loading", "acking".
    pub(crate) fn of(what: &'static str) -> Self {
        Self {
            what,
            began: None,
            said: None,
            failures: 0,
        }
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes a failure; returns how long to wait before the next try: 100 ms growing to 5 s.
    pub(crate) fn failed(&mut self, error: &(impl Display + ?Sized)) -> Duration {
        self.began.get_or_insert_with(Instant::now);
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.said = Some(Instant::now());
            warn!(%error, failures = self.failures + 1, "{} fails; trying again until it works", self.what);
        }
        let delay = grown(FIRST_DELAY, self.failures, LONGEST_DELAY);
        self.failures = self.failures.saturating_add(1);
        spread(delay, rand::random())
    }

    /// Notes a success.
    pub(crate) fn over(&mut self) {
        self.failures = 0;
        self.said = None;
        if let Some(began) = self.began.take() {
            info!(seconds = began.elapsed().as_secs_f64(), "{} works again", self.what);
        }
    }
}

/// Sleeps; returns false at once when `stop` fires.
pub(super) async fn sleep_or_stop(delay: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(delay) => true,
    }
}
