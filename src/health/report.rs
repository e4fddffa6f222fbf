//! The report: figures, checks and the overall status, as `GET /health` and `status --json` show
//! it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::partitions::PartitionHealth;
use crate::capture::CaptureReport;

/// How well one thing is; worse is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    #[default]
    Healthy,
    /// An operator should look, in working hours.
    Warning,
    /// An operator must act now.
    Critical,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Stable name.
    pub name: Cow<'static, str>,
    /// How it is.
    pub status: Status,
    /// What was found, as a sentence.
    pub detail: String,
    /// Whether that could be found out at all. What is not known is a warning at least, and at
    /// once.
    #[serde(default = "yes")]
    pub known: bool,
    /// For how long the status has lasted by the evidence itself, whenever this process began to
    /// look.
    #[serde(skip)]
    pub lasted: Duration,
}

fn yes() -> bool {
    true
}

impl Check {
    pub(super) fn new(name: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status,
            detail: detail.into(),
            known: true,
            lasted: Duration::ZERO,
        }
    }

    /// What it looks at is not known.
    pub(super) fn unknown(name: &'static str, why: impl Into<String>) -> Self {
        Self {
            known: false,
            ..Self::new(name, Status::Warning, why)
        }
    }

    pub(super) fn lasting(self, lasted: Duration) -> Self {
        Self { lasted, ..self }
    }
}

/// The health of the stream and its readers at one moment. Figures are null where they are not
/// known, never 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in openapi.yaml, field by field")]
pub struct HealthReport {
    pub status: Status,
    pub stream_length: Option<u64>,
    pub pending_count: Option<u64>,
    pub lag: Option<u64>,
    pub consumers: Option<u64>,
    pub idle_consumers: Option<u64>,
    pub last_delivered_id: Option<String>,
    pub oldest_backlog_seconds: Option<f64>,
    pub oldest_pending_seconds: Option<f64>,
    pub last_accepted_seconds: Option<f64>,
    pub seconds_until_full: Option<u64>,
    pub trim_held_by: Option<String>,
    pub dead_letters: Option<u64>,
    pub dead_letters_new: Option<u64>,
    pub oldest_dead_letter_seconds: Option<f64>,
    pub workers: Option<u64>,
    pub paused_since: Option<String>,
    pub spool_depth: Option<u64>,
    pub spool_bytes: Option<u64>,
    pub spool_limit: Option<u64>,
    pub spool_oldest_seconds: Option<f64>,
    pub spool_drained_per_second: Option<f64>,
    pub spool_lost: Option<u64>,
    pub breaker: Option<Cow<'static, str>>,
    pub retry_budget_used: Option<f64>,
    pub capture: Option<CaptureReport>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionHealth>,
    pub checks: Vec<Check>,
}

/// What this process saw its stores lose since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Confirmed entries.
    pub entries: u64,
    /// Losses whose number of entries is not known, or only bounded by what is counted in
    /// `entries`.
    pub unknown: u64,
}

impl HealthReport {
    /// Puts in, and counts in, what the stores lost. That is said at once and until the process
    /// ends: what is lost comes back only where it is sent again.
    #[must_use]
    pub fn with_losses(mut self, losses: Losses) -> Self {
        self.add(self.checks.len(), self::losses(losses));
        self
    }

    /// The report where the last look failed, and why. It says nothing of writes: the stream may
    /// take them all the same.
    #[must_use]
    pub fn without_figures(why: impl fmt::Display) -> Self {
        Self::default().with_unknown_figures(why)
    }

    /// Puts first, and counts in, that the last look failed, and why.
    pub(super) fn with_unknown_figures(mut self, why: impl fmt::Display) -> Self {
        self.add(0, Check::unknown("figures", format!("the last look failed: {why}")));
        self
    }

    /// Puts first, and counts in, whether the stream takes writes right now, or why not. (`None`: it
    /// was not asked yet.) Where it does not that is critical, but where events are spooled
    /// meanwhile.
    #[must_use]
    pub fn with_writes(mut self, writes: Option<Result<(), String>>, spooled: bool) -> Self {
        let known = writes.is_some();
        let (status, detail) = match writes {
            Some(Ok(())) => (Status::Healthy, "it takes writes".to_owned()),
            Some(Err(why)) => (Status::Critical, format!("it takes no writes: {why}")),
            None => (Status::Critical, "not known: it was not asked yet".to_owned()),
        };
        let status = if spooled { status.min(Status::Warning) } else { status };
        let check = Check::new("stream", status, detail);
        self.add(0, Check { known, ..check });
        self
    }

    /// Puts a check at that place, and counts it in.
    pub(super) fn add(&mut self, place: usize, check: Check) {
        self.status = self.status.max(check.status);
        self.checks.insert(place, check);
    }
}

pub(super) fn worst(checks: &[Check]) -> Status {
    checks.iter().map(|check| check.status).max().unwrap_or_default()
}

/// Seconds, to the millisecond.
#[allow(clippy::cast_precision_loss, reason = "an age in milliseconds is far below 2^52")]
pub(super) fn seconds(age: Duration) -> f64 {
    age.as_millis() as f64 / 1000.0
}

fn losses(Losses { entries, unknown }: Losses) -> Check {
    const NAME: &str = "losses";
    let size = match (entries, unknown) {
        (0, 0) => return Check::new(NAME, Status::Healthy, "nothing was lost since the start"),
        (entries, 0) => format!("{entries} entries"),
        (0, _) => "an unknown number of entries".to_owned(),
        (entries, _) => format!("{entries} entries, and an unknown number"),
    };
    let detail = format!("since the start the stores lost {size} that they had confirmed; see the log");
    Check::new(NAME, Status::Warning, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_nobody_asked_for_are_unknown_and_not_green() {
        let cases = [
            (None, false, Status::Critical),
            (None, true, Status::Warning),
            (Some(Ok(())), false, Status::Healthy),
            (Some(Ok(())), true, Status::Healthy),
            (Some(Err("full".to_owned())), false, Status::Critical),
            (Some(Err("full".to_owned())), true, Status::Warning),
        ];
        for (writes, spooled, status) in cases {
            let known = writes.is_some();
            let report = HealthReport::default().with_writes(writes, spooled);
            let check = &report.checks[0];
            assert_eq!((report.status, check.status, check.known), (status, status, known));
        }
    }

    #[test]
    fn a_loss_of_unknown_size_is_no_loss_of_none() {
        for (entries, unknown, status, text) in [
            (0, 0, Status::Healthy, "nothing was lost"),
            (7, 0, Status::Warning, "lost 7 entries that"),
            (0, 1, Status::Warning, "an unknown number"),
            (7, 1, Status::Warning, "7 entries, and an unknown number"),
        ] {
            let found = losses(Losses { entries, unknown });
            assert_eq!(found.status, status);
            assert!(found.detail.contains(text), "{}", found.detail);
        }
    }
}
