//! The check `spool`, and the share of Shopify's retries that an outage has used. Pure but for the
//! metric.

use std::fmt;
use std::time::Duration;

use super::report::{Check, HealthReport, Status, seconds};
use crate::ingest::{AtomicInstant, SpoolReport};
use crate::metrics::Outcome;

/// How long Shopify retries a delivery: "retried a total of 8 times over 4 hours using an
/// exponential backoff schedule"
/// (<https://shopify.dev/changelog/updates-to-webhook-retry-mechanism>, in effect since
/// 2024-09-10). After that the delivery is lost, and a subscription that goes on failing is
/// removed.
const RETRIES_LAST: Duration = Duration::from_secs(4 * 3600);

/// An outage is over this long after the last refusal on a node that can accept, though no webhook
/// came to show it: the sender may have found another node, or have nothing to send.
pub(super) const QUIET: Duration = Duration::from_secs(15 * 60);

const NAME: &str = "spool";
/// Percent of its limit above which a spool is nearly full.
const NEARLY_FULL: u64 = 90;

impl HealthReport {
    /// Adds the check of a spool that no process has open: what it holds stays there.
    #[must_use]
    pub fn with_orphaned_spool(self, spool: &SpoolReport) -> Self {
        let (status, detail) = if spool.depth > 0 {
            let held = format!("it holds {} events, and no process moves them", spool.depth);
            let remedy = "start one on this data folder, or run `orderstream drain`";
            (Status::Warning, format!("{held}: {remedy}"))
        } else {
            (Status::Healthy, "empty, and open in no process".to_owned())
        };
        self.with_figures(spool).with_check(Check::new(NAME, status, detail))
    }

    /// Adds the check of a spool whose state could not be read, and why.
    #[must_use]
    pub fn with_unknown_spool(self, why: impl fmt::Display) -> Self {
        self.with_check(Check::unknown(NAME, format!("its state is unknown: {why}")))
    }

    /// Adds the check of this process' spool, as of now.
    #[must_use]
    pub fn with_spool(mut self, spool: &SpoolReport, breaker_is_open: bool) -> Self {
        self.breaker = Some(if breaker_is_open { "open" } else { "closed" }.into());
        let percent = spool.bytes.saturating_mul(100) / spool.limit.max(1);
        let (status, detail) = if spool.is_removed {
            let why = "it takes no writes: its file was removed or replaced while it is in use; put it back, or save what it \
                       holds and restart (see the log, and OPERATIONS.md)";
            (Status::Critical, why.to_owned())
        } else if !spool.takes_writes {
            let why = "it takes no writes: it is full, or its disk is; see the log";
            (Status::Critical, why.to_owned())
        } else if percent >= NEARLY_FULL {
            (Status::Critical, format!("it is filled to {percent} % of its limit"))
        } else if spool.depth > 0 || breaker_is_open {
            let way = if breaker_is_open { "to it" } else { "to the stream" };
            let detail = format!("it holds {} events; new ones go {way}", spool.depth);
            (Status::Warning, detail)
        } else if spool.lost != Some(0) {
            let lost = spool
                .lost
                .map_or_else(|| "an unknown number of".to_owned(), |lost| lost.to_string());
            let detail = format!("{lost} events were lost to damage of its file; see the log");
            (Status::Warning, detail)
        } else {
            (Status::Healthy, "empty".to_owned())
        };
        self.with_figures(spool).with_check(Check::new(NAME, status, detail))
    }

    fn with_figures(self, spool: &SpoolReport) -> Self {
        Self {
            spool_depth: Some(spool.depth),
            spool_bytes: Some(spool.bytes),
            spool_limit: Some(spool.limit),
            spool_oldest_seconds: spool.oldest.map(seconds),
            spool_lost: spool.lost,
            ..self
        }
    }

    fn with_check(mut self, check: Check) -> Self {
        self.add(self.checks.len(), check);
        self
    }
}

/// Since when every webhook is refused; a cheap clone.
#[derive(Debug, Clone)]
pub(super) struct RetryBudget {
    /// The first refusal of the present outage.
    first: AtomicInstant,
    /// The last one ever.
    last: AtomicInstant,
}

impl RetryBudget {
    pub(super) fn unused() -> Self {
        Self {
            first: AtomicInstant::never(),
            last: AtomicInstant::never(),
        }
    }

    /// Notes the outcome of a webhook.
    pub(super) fn answered(&self, outcome: Outcome) {
        match outcome {
            Outcome::Unavailable | Outcome::Shed => {
                self.last.mark();
                if self.first.elapsed().is_none() {
                    self.first.mark();
                }
            }
            Outcome::Accepted | Outcome::Duplicate | Outcome::Spooled | Outcome::Quarantined => self.first.forget(),
            Outcome::Invalid | Outcome::Unauthorized | Outcome::TooLarge | Outcome::Timeout | Outcome::Rejected => {}
        }
    }

    /// Notes that this node can accept: the outage is over where nothing was refused for `quiet`.
    pub(super) fn can_accept(&self, quiet: Duration) {
        if self.last.elapsed().is_some_and(|since| since >= quiet) {
            self.first.forget();
        }
    }

    /// Share of [`RETRIES_LAST`] that the present outage has used, 0 to 1; 0 without an outage.
    pub(super) fn used(&self) -> f64 {
        let lasts = self.first.elapsed().unwrap_or_default();
        (lasts.as_secs_f64() / RETRIES_LAST.as_secs_f64()).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(change: impl FnOnce(&mut SpoolReport), breaker_is_open: bool) -> Status {
        let mut spool = SpoolReport {
            depth: 0,
            bytes: 0,
            limit: 1000,
            oldest: None,
            takes_writes: true,
            is_removed: false,
            moved: 0,
            lost: Some(0),
        };
        change(&mut spool);
        HealthReport::default().with_spool(&spool, breaker_is_open).status
    }

    #[test]
    fn holding_something_warns_and_nearly_full_is_critical() {
        assert_eq!(judged(|_| {}, false), Status::Healthy);
        assert_eq!(judged(|_| {}, true), Status::Warning);
        assert_eq!(judged(|spool| spool.depth = 1, false), Status::Warning);
        let filled = |bytes| judged(|spool| (spool.depth, spool.bytes) = (1, bytes), true);
        assert_eq!(filled(899), Status::Warning);
        assert_eq!(filled(900), Status::Critical);
        assert_eq!(judged(|spool| spool.takes_writes = false, false), Status::Critical);
        assert_eq!(
            judged(|spool| spool.lost = None, false),
            Status::Warning,
            "not known is not none"
        );
    }

    #[test]
    fn the_budget_is_used_from_the_first_refusal_to_the_next_success() {
        let budget = RetryBudget::unused();
        budget.answered(Outcome::Unauthorized);
        assert!(budget.first.elapsed().is_none());
        budget.answered(Outcome::Unavailable);
        budget.answered(Outcome::Shed);
        assert!(budget.first.elapsed().is_some());
        budget.answered(Outcome::Spooled);
        assert!(budget.first.elapsed().is_none());
        assert!(budget.used() < f64::EPSILON);
    }

    #[test]
    fn an_outage_ends_in_silence_too_on_a_node_that_can_accept() {
        let budget = RetryBudget::unused();
        budget.can_accept(Duration::ZERO);
        budget.answered(Outcome::Shed);
        budget.can_accept(QUIET);
        assert!(budget.first.elapsed().is_some(), "it was refused just now");
        budget.can_accept(Duration::ZERO);
        assert!(budget.first.elapsed().is_none());
        budget.answered(Outcome::Shed);
        assert!(budget.first.elapsed().is_some(), "another outage");
    }
}
