//! The check `capture`, and the figures of this process' capture. Pure.

use super::report::{Check, HealthReport, Status};
use crate::capture::{CaptureReport, CaptureState};

impl HealthReport {
    /// Adds figures and check of this process' capture.
    #[must_use]
    pub fn with_capture(mut self, report: CaptureReport) -> Self {
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
        let check = Check::new("capture", status, detail);
        self.status = self.status.max(check.status);
        self.checks.push(check);
        self.capture = Some(report);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_status() {
        for (state, status) in [
            (CaptureState::Streaming, Status::Healthy),
            (CaptureState::Standby, Status::Healthy),
            (CaptureState::Waiting, Status::Warning),
            (CaptureState::Connecting, Status::Warning),
            (CaptureState::Stopped, Status::Critical),
        ] {
            let report = CaptureReport {
                state,
                problem: Some("GRANT".to_owned()),
                ..CaptureReport::default()
            };
            let health = HealthReport::default().with_capture(report);
            assert_eq!(health.status, status);
            assert_eq!(
                health.checks[0].detail.contains("GRANT"),
                state == CaptureState::Stopped
            );
            assert_eq!(health.capture.unwrap().state, state);
        }
    }
}
