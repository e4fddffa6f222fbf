//! Figures of the spool and of the outage that fills it.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All zero where there is no spool, but for `retry_budget_used`, which needs none.
#[derive(Debug, Clone, Default)]
pub struct SpoolMetrics {
    /// 1 while the breaker is open: appends go straight to the spool.
    pub breaker_open: Gauge,
    /// Entries in the spool.
    pub entries: Gauge,
    /// Bytes of them.
    pub bytes: Gauge,
    /// Age of the oldest, seconds; 0 where there is none.
    pub oldest_seconds: Gauge,
    /// Entries that were spooled.
    pub stored: Counter,
    /// Entries that were moved on from the spool.
    pub drained: Counter,
    /// Share of the time that Shopify goes on retrying which the present outage has used, 0 to 1.
    pub retry_budget_used: Gauge<f64, AtomicU64>,
}

impl SpoolMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "breaker_open",
            "1 while appends go straight to the spool",
            self.breaker_open.clone(),
        );
        r.register("spool_entries", "Entries in the spool", self.entries.clone());
        r.register("spool_bytes", "Bytes of entries in the spool", self.bytes.clone());
        r.register(
            "spool_oldest_seconds",
            "Age of the oldest entry in the spool",
            self.oldest_seconds.clone(),
        );
        r.register("spool_stored", "Entries that were spooled", self.stored.clone());
        r.register("spool_drained", "Entries moved on from the spool", self.drained.clone());
        r.register(
            "retry_budget_used",
            "Share of Shopify's four hours of retries that the present outage has used",
            self.retry_budget_used.clone(),
        );
    }
}
