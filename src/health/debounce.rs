//! Debounce: a status must last before it is reported, so that a burst is no warning. Pure; the
//! clock is handed in.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::report::{Check, HealthReport, Status, worst};

/// Since when each check has been at least that bad. An improvement is reported at once, and so is
/// what is not known.
#[derive(Debug)]
pub struct Debounce {
    after: Duration,
    since: HashMap<(Cow<'static, str>, Status), Instant>,
}

impl Debounce {
    /// A state is reported once it has lasted for `after`.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self {
            after,
            since: HashMap::new(),
        }
    }

    /// Lowers each check of a report taken at `now` to the worst status that has lasted, and the
    /// overall status too.
    pub fn settle(&mut self, report: &mut HealthReport, now: Instant) {
        for check in &mut report.checks {
            check.status = self.lasting(check, now);
        }
        report.status = worst(&report.checks);
    }

    fn lasting(&mut self, check: &Check, now: Instant) -> Status {
        let mut lasting = Status::Healthy;
        for status in [Status::Warning, Status::Critical] {
            if check.status < status {
                self.since.remove(&(check.name.clone(), status));
                continue;
            }
            let since = *self.since.entry((check.name.clone(), status)).or_insert(now);
            // A worse status comes after the better one: what lasted so long was at least that bad.
            let lasted = now.saturating_duration_since(since).max(check.lasted);
            if lasted >= self.after || !check.known {
                lasting = status;
            }
        }
        lasting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_must_last_and_better_counts_at_once() {
        use Status::{Critical, Healthy, Warning};
        let start = Instant::now();
        let mut debounce = Debounce::new(Duration::from_secs(30));
        let table = [
            (0, Warning, Healthy),
            (29, Warning, Healthy),
            (30, Warning, Warning),
            (31, Critical, Warning),
            (60, Critical, Warning),
            (61, Critical, Critical),
            (62, Warning, Warning),
            (63, Critical, Warning),
            (64, Healthy, Healthy),
            (65, Warning, Healthy),
        ];
        for (second, found, reported) in table {
            let mut report = HealthReport {
                checks: vec![Check::new("lag", found, String::new())],
                ..HealthReport::default()
            };
            debounce.settle(&mut report, start + Duration::from_secs(second));
            assert_eq!(report.status, reported, "at {second} s");
        }
    }

    #[test]
    fn what_is_known_to_have_lasted_or_not_known_at_all_is_reported_at_once() {
        let settled = |check: Check| {
            let mut report = HealthReport {
                checks: vec![check],
                ..HealthReport::default()
            };
            Debounce::new(Duration::from_secs(30)).settle(&mut report, Instant::now());
            report.status
        };
        let critical = |seconds| Check::new("workers", Status::Critical, String::new()).lasting(seconds);
        assert_eq!(settled(critical(Duration::from_secs(29))), Status::Healthy);
        assert_eq!(settled(critical(Duration::from_secs(30))), Status::Critical);
        assert_eq!(settled(Check::unknown("workers", String::new())), Status::Warning);
    }
}
