//! Log lines for checks whose status changed.
//!
//! Invariants: a status is logged once, however long it lasts. What is not known is not logged: a
//! process knows nothing at its start, and whoever cannot be asked is in the log of who asked.

use std::borrow::Cow;
use std::collections::HashMap;

use tracing::{error, info, warn};

use super::report::{HealthReport, Status};

/// The status of each check that was logged last.
#[derive(Debug, Default)]
pub(super) struct StatusLog(HashMap<Cow<'static, str>, Status>);

impl StatusLog {
    /// Logs what has changed since the report before.
    pub(super) fn note(&mut self, report: &HealthReport) {
        // One that comes again is logged again: some exist only while something is wrong.
        self.0
            .retain(|name, _| report.checks.iter().any(|check| check.name == *name));
        for check in report.checks.iter().filter(|check| check.known) {
            let before = self.0.insert(check.name.clone(), check.status).unwrap_or_default();
            let (name, detail) = (&check.name, &check.detail);
            match check.status {
                status if status == before => {}
                Status::Critical => error!(check = %name, "health is critical: {detail}"),
                Status::Warning if before < Status::Warning => warn!(check = %name, "health warns: {detail}"),
                Status::Warning => warn!(check = %name, "health is no longer critical: {detail}"),
                Status::Healthy => info!(check = %name, "healthy again: {detail}"),
            }
        }
    }
}
