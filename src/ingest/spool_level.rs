//! What the log says of how full the spool is. Pure but for the log; the clock is handed in.

use std::time::Instant;

use super::SpoolReport;

/// Percent of the limit at which it is said.
const LEVELS: [u64; 2] = [50, 90];

/// One time that the spool held something, from its first entry to its last.
#[derive(Debug, Default)]
pub(super) struct SpoolLevel {
    began: Option<Began>,
}

#[derive(Debug)]
struct Began {
    at: Instant,
    /// Entries that were moved on before.
    moved: u64,
    /// The highest level that was said.
    said: u64,
}

impl SpoolLevel {
    /// Says once when it passes a level, and when it is empty again.
    pub(super) fn look(&mut self, report: &SpoolReport, now: Instant) {
        if report.depth == 0 {
            if let Some(began) = self.began.take() {
                let events = report.moved.saturating_sub(began.moved);
                let seconds = now.saturating_duration_since(began.at).as_secs_f64();
                tracing::info!(events, seconds, "the spool is empty again");
            }
            return;
        }
        let began = self.began.get_or_insert(Began {
            at: now,
            moved: report.moved,
            said: 0,
        });
        let percent = report.bytes.saturating_mul(100) / report.limit.max(1);
        let level = LEVELS.into_iter().rfind(|level| percent >= *level).unwrap_or(0);
        if level > began.said {
            began.said = level;
            let (bytes, limit, events) = (report.bytes, report.limit, report.depth);
            tracing::warn!(events, bytes, limit, "the spool is filled to {percent} %");
        }
    }
}
