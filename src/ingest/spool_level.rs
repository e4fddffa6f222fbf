//! Logs how full the spool is. The clock is passed in.

use std::time::Instant;

use super::spool::SpoolReport;

/// Percent of the limit at which a warning is logged.
const LEVELS: [u64; 2] = [50, 90];

/// One period in which the spool holds entries, from the first to the last.
#[derive(Debug, Default)]
pub(super) struct SpoolLevel {
    period: Option<Period>,
}

#[derive(Debug)]
struct Period {
    began: Instant,
    /// Entries that were moved on before.
    moved: u64,
    /// The highest level that was logged.
    logged: u64,
}

impl SpoolLevel {
    /// Logs once when the spool passes a level, and when it is empty again.
    pub(super) fn log(&mut self, report: &SpoolReport, now: Instant) {
        if report.depth == 0 {
            if let Some(period) = self.period.take() {
                let events = report.moved.saturating_sub(period.moved);
                let seconds = now.saturating_duration_since(period.began).as_secs_f64();
                tracing::info!(events, seconds, "the spool is empty again");
            }
            return;
        }
        let period = self.period.get_or_insert(Period {
            began: now,
            moved: report.moved,
            logged: 0,
        });
        let percent = report.bytes.saturating_mul(100) / report.limit.max(1);
        let level = LEVELS.into_iter().rfind(|level| percent >= *level).unwrap_or(0);
        if level > period.logged {
            period.logged = level;
            let (bytes, limit, events) = (report.bytes, report.limit, report.depth);
            tracing::warn!(events, bytes, limit, "the spool is filled to {percent} %");
        }
    }
}
