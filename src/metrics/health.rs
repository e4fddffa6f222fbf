//! What the health report says, as gauges.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::UNKNOWN;

/// Labels of `orderstream_health_check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct CheckLabels {
    pub check: &'static str,
}

/// As of the last look at the stream.
#[derive(Debug, Clone)]
pub struct HealthMetrics {
    /// Age of the oldest entry that is unread or pending, seconds; 0 where nothing waits, or [`UNKNOWN`].
    pub backlog_seconds: Gauge,
    /// Workers with a heartbeat, on any node, or [`UNKNOWN`].
    pub live_workers: Gauge,
    /// Each check: 0 healthy, 1 warning, 2 critical, or [`UNKNOWN`] where it was not made.
    pub checks: Family<CheckLabels, Gauge>,
}

impl Default for HealthMetrics {
    fn default() -> Self {
        let metrics = Self {
            backlog_seconds: Gauge::default(),
            live_workers: Gauge::default(),
            checks: Family::default(),
        };
        metrics.backlog_seconds.set(UNKNOWN);
        metrics.live_workers.set(UNKNOWN);
        metrics
    }
}

impl HealthMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "backlog_oldest_seconds",
            "Age of the oldest entry that is unread or pending in our group; -1 unknown",
            self.backlog_seconds.clone(),
        );
        r.register(
            "live_workers",
            "Workers with a heartbeat, on any node; -1 unknown",
            self.live_workers.clone(),
        );
        r.register(
            "health_check",
            "Checks of the health report: 0 healthy, 1 warning, 2 critical; -1 not made",
            self.checks.clone(),
        );
    }
}
