//! The checks `capture`, `capture_wal` and `capture_query`, and the figures of this process' capture. Pure.

use super::levels::level;
use super::report::{Check, HealthReport, Status};
use crate::capture::{CaptureReport, CaptureState};
use crate::config::Levels;

/// A read of orders that took more seconds warns: changes may come faster than they are read.
const SLOW_READ: f64 = 1.0;
/// Share of the WAL that the server may keep for the slot: less than that left warns, percent.
const SAFE_PERCENT: u64 = 20;

impl HealthReport {
    /// Adds figures and checks of this process' capture.
    #[must_use]
    pub fn with_capture(mut self, report: CaptureReport, wal: Levels) -> Self {
        for check in [state(&report), self::wal(&report, wal), query(&report)] {
            self.add(self.checks.len(), check);
        }
        self.capture = Some(report);
        self
    }
}

fn state(report: &CaptureReport) -> Check {
    let (status, detail) = match report.state {
        CaptureState::Stopped => {
            let problem = report.problem.as_deref().unwrap_or("see the log");
            (Status::Critical, format!("it waits for an operator: {problem}"))
        }
        CaptureState::Connecting => (Status::Warning, "it reaches the source".to_owned()),
        CaptureState::Waiting => (
            Status::Warning,
            "it waits for room in the stream; the source keeps its WAL".to_owned(),
        ),
        CaptureState::Streaming | CaptureState::Walking if report.canary_is_late => {
            let detail = "what was written to the WAL for a test has not come back: the source sends nothing";
            (Status::Critical, detail.to_owned())
        }
        CaptureState::Streaming | CaptureState::Walking if report.problem.is_some() => {
            (Status::Warning, report.problem.clone().unwrap_or_default())
        }
        CaptureState::Standby => (
            Status::Healthy,
            "another process captures, this one takes over".to_owned(),
        ),
        CaptureState::Walking => (
            Status::Healthy,
            "it streams changes, and reads orders beside".to_owned(),
        ),
        CaptureState::Streaming => (Status::Healthy, "it streams changes".to_owned()),
    };
    Check::new("capture", status, detail)
}

/// The WAL that the source keeps for the slot: too much fills its disk, and too little left loses changes.
fn wal(report: &CaptureReport, levels: Levels) -> Check {
    const NAME: &str = "capture_wal";
    let status = report.wal_status.as_deref();
    if status == Some("lost") {
        let detail = "the source removed WAL that the slot needs: changes were lost";
        return Check::new(NAME, Status::Critical, detail);
    }
    let Some(retained) = report.retained_bytes else {
        return Check::unknown(NAME, "not known: the source does not tell");
    };
    let is_little = |safe: u64| safe.saturating_mul(100) < retained.saturating_add(safe).saturating_mul(SAFE_PERCENT);
    let is_near_loss = status == Some("unreserved") || report.safe_bytes.is_some_and(is_little);
    let near_loss = if is_near_loss { Status::Warning } else { Status::Healthy };
    let mut detail = format!("the source keeps {} MiB of WAL for the capture", retained >> 20);
    if let Some(safe) = report.safe_bytes {
        detail.push_str(&format!(
            "; after {} MiB more it removes what the capture needs",
            safe >> 20
        ));
    }
    Check::new(NAME, level(retained, levels).max(near_loss), detail)
}

/// Whether reads of orders are slow.
fn query(report: &CaptureReport) -> Check {
    const NAME: &str = "capture_query";
    let Some(seconds) = report.last_read_seconds else {
        return Check::new(NAME, Status::Healthy, "no order was read yet");
    };
    if seconds > SLOW_READ {
        let detail = format!(
            "the last read of orders took {seconds:.1} s: the query may need an index (`orderstream check capture`)"
        );
        return Check::new(NAME, Status::Warning, detail);
    }
    Check::new(
        NAME,
        Status::Healthy,
        format!("the last read of orders took {seconds:.3} s"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: Levels = Levels {
        warning: 1 << 30,
        critical: 10 << 30,
    };

    #[test]
    fn each_state_has_its_status() {
        for (state, problem, status) in [
            (CaptureState::Streaming, None, Status::Healthy),
            (CaptureState::Streaming, Some("GRANT"), Status::Warning),
            (CaptureState::Standby, None, Status::Healthy),
            (CaptureState::Waiting, None, Status::Warning),
            (CaptureState::Connecting, None, Status::Warning),
            (CaptureState::Stopped, Some("GRANT"), Status::Critical),
        ] {
            let report = CaptureReport {
                state,
                problem: problem.map(ToOwned::to_owned),
                retained_bytes: Some(0),
                ..CaptureReport::default()
            };
            let health = HealthReport::default().with_capture(report, LEVELS);
            assert_eq!(health.status, status);
            assert_eq!(health.checks[0].detail.contains("GRANT"), problem.is_some());
            assert_eq!(health.capture.unwrap().state, state);
        }
    }

    #[test]
    fn wal_is_judged_by_what_is_kept_and_by_what_is_left() {
        use Status::{Critical, Healthy, Warning};
        const GIB: u64 = 1 << 30;
        for (retained, safe, status, expected) in [
            (Some(GIB - 1), None, "reserved", Healthy),
            (Some(GIB), None, "extended", Warning),
            (Some(10 * GIB), None, "extended", Warning),
            (Some(10 * GIB + 1), None, "extended", Critical),
            (Some(800), Some(200), "reserved", Healthy),
            (Some(800), Some(199), "reserved", Warning),
            (Some(800), Some(900), "unreserved", Warning),
            (None, None, "lost", Critical),
        ] {
            let report = CaptureReport {
                retained_bytes: retained,
                safe_bytes: safe,
                wal_status: Some(status.to_owned()),
                ..CaptureReport::default()
            };
            let check = wal(&report, LEVELS);
            assert_eq!(check.status, expected, "{report:?}: {}", check.detail);
        }
        assert!(!wal(&CaptureReport::default(), LEVELS).known);
    }

    #[test]
    fn a_read_of_more_than_a_second_warns() {
        for (seconds, expected) in [(1.0, Status::Healthy), (1.01, Status::Warning)] {
            let report = CaptureReport {
                last_read_seconds: Some(seconds),
                ..CaptureReport::default()
            };
            assert_eq!(query(&report).status, expected);
        }
    }
}
