//! The metrics this process exports at `/metrics` (Prometheus / OpenMetrics text).
//!
//! Owns every metric and its name. Label values come from the closed enums of `labels`, never from a shop,
//! an id or a raw topic. A leaf: every module may count; only this node's record (`nodes.rs`) reads
//! counters back.

mod capture;
mod delays;
mod labels;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

pub use self::capture::{CaptureMetrics, GapReason};
pub use self::delays::{DELAY_BUCKETS, DelayCounts, Delays, upper_bound};
pub use self::labels::{
    ApiVersionAge, ApiVersionLabels, CheckLabels, Outcome, PartitionLabels, RedirectKind, RedirectLabels,
    RequestLabels, Route, SecretLabels, Service, ServiceLabels,
};

/// Value of a gauge whose figure is not known.
pub const UNKNOWN: i64 = -1;

/// One route's counters of `orderstream_requests`; a cheap clone.
#[derive(Debug, Clone)]
pub struct Outcomes([Counter; Outcome::ALL.len()]);

impl Outcomes {
    /// Counts one answer.
    pub fn count(&self, outcome: Outcome) {
        self.count_many(outcome, 1);
    }

    /// Counts several answers.
    pub fn count_many(&self, outcome: Outcome, answers: u64) {
        self.0[outcome as usize].inc_by(answers);
    }

    /// Answers of that kind since the start.
    #[must_use]
    pub fn counted(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].get()
    }
}

/// Secrets that are counted apart; the last counter stands for all further ones.
const COUNTED_SECRETS: usize = 8;

/// The counters of `orderstream_signatures_verified`; a cheap clone.
#[derive(Debug, Clone)]
pub struct SignatureCounters([Counter; COUNTED_SECRETS]);

impl SignatureCounters {
    /// Counts one delivery that the secret at this index verified.
    pub fn count(&self, secret: usize) {
        self.0[secret.min(COUNTED_SECRETS - 1)].inc();
    }
}

/// Registers each metric as it is made.
struct Registration(Registry);

impl Registration {
    /// A metric that starts at zero.
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.with(name, help, M::default())
    }

    /// A gauge that starts at [`UNKNOWN`].
    fn unknown(&mut self, name: &str, help: &str) -> Gauge {
        let gauge: Gauge = self.add(name, help);
        gauge.set(UNKNOWN);
        gauge
    }

    /// A histogram of seconds: 0.1 ms to 105 s in powers of two.
    fn latency(&mut self, name: &str, help: &str) -> Histogram {
        self.with(name, help, Histogram::new(exponential_buckets(0.0001, 2.0, 21)))
    }

    fn with<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

/// All metrics; a cheap clone. Each is described by its help text in [`Metrics::new`].
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the help text of each describes it")]
pub struct Metrics {
    pub requests: Family<RequestLabels, Counter>,
    pub signatures: Family<SecretLabels, Counter>,
    pub api_versions: Family<ApiVersionLabels, Counter>,
    pub events_deliveries: Counter,
    pub new_body_members: Counter,
    pub subscription_findings: Gauge,
    pub orders_reconciled: Counter,
    pub append_seconds: Histogram,
    pub flush_entries: Histogram,
    pub flushes_unproven: Counter,
    pub events_loaded: Counter,
    pub events_known: Counter,
    pub commit_delay_seconds: Delays,
    pub load_seconds: Histogram,
    pub attempts_failed: Counter,
    pub dead_letters: Counter,
    pub reclaimed: Counter,
    pub entries_lost: Counter,
    pub entries_restored: Counter,
    pub losses_unknown: Counter,
    pub entries_trimmed: Counter,
    pub reconnects: Family<ServiceLabels, Counter>,
    pub owner_changes: Counter,
    pub redirects: Family<RedirectLabels, Counter>,
    pub stream_length: Gauge,
    pub pending: Gauge,
    pub lag: Gauge,
    pub dead_letters_length: Gauge,
    pub connections: Gauge,
    pub body_bytes: Gauge,
    pub health: HealthMetrics,
    pub partitions: PartitionMetrics,
    pub spool: SpoolMetrics,
    pub capture: CaptureMetrics,
    registry: Arc<Registry>,
}

/// Gauges of the health report, as of the last look at the stream.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the help text of each describes it")]
pub struct HealthMetrics {
    pub backlog_seconds: Gauge,
    pub live_workers: Gauge,
    pub checks: Family<CheckLabels, Gauge>,
}

/// Gauges of each partition, where the stream has several.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the help text of each describes it")]
pub struct PartitionMetrics {
    pub length: Family<PartitionLabels, Gauge>,
    pub pending: Family<PartitionLabels, Gauge>,
    pub lag: Family<PartitionLabels, Gauge>,
    pub writable: Family<PartitionLabels, Gauge>,
    pub away: Gauge,
}

/// Figures of the spool and of the outage that fills it. All are zero where there is no spool,
/// except `retry_budget_used`, which needs none.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the help text of each describes it")]
pub struct SpoolMetrics {
    pub breaker_open: Gauge,
    pub entries: Gauge,
    pub bytes: Gauge,
    pub oldest_seconds: Gauge,
    pub stored: Counter,
    pub drained: Counter,
    /// From 0 to 1.
    pub retry_budget_used: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// A fresh set: nothing is counted, and nothing is known of the stream.
    #[must_use]
    #[rustfmt::skip]
    pub fn new() -> Self {
        let mut r = Registration(Registry::with_prefix("orderstream"));
        let metrics = Self {
            requests: r.add("requests", "Answers by route and outcome; a batch counts its items"),
            signatures: r.add("signatures_verified", "Verified deliveries by secret (index)"),
            api_versions: r.add("api_versions", "Verified webhooks by the age of their version of Shopify's API"),
            events_deliveries: r.add("events_deliveries", "Quarantined deliveries of Shopify's Events, which are no webhooks"),
            new_body_members: r.add("new_body_members", "Members of webhook bodies that are new and not read"),
            subscription_findings: r.unknown("subscription_findings",
                "Webhook subscriptions that are missing or wrong, over all shops with access to the Admin API; -1 unknown"),
            orders_reconciled: r.add("orders_reconciled",
                "Orders that the warehouse lacked, or had in an older state, for which this process appended an event"),
            append_seconds: r.latency("append_seconds", "From the queue to the stream's confirmation"),
            flush_entries: r.with("flush_entries", "Entries a flush", Histogram::new(exponential_buckets(1.0, 2.0, 10))),
            flushes_unproven: r.add("flushes_unproven",
                "Flushes that the server took without proving what ORDERSTREAM_DURABILITY asks for"),
            events_loaded: r.add("events_loaded", "Events that were new to the warehouse"),
            events_known: r.add("events_known", "Events that the warehouse had already"),
            commit_delay_seconds: Delays::new(r.latency("commit_delay_seconds", "From acceptance to commit")),
            load_seconds: r.latency("load_seconds", "One load into the warehouse"),
            attempts_failed: r.add("attempts_failed", "Attempts with the entry at fault"),
            dead_letters: r.add("dead_letters", "Entries that workers sent to the dead letters"),
            reclaimed: r.add("entries_reclaimed", "Pending entries taken over"),
            entries_lost: r.add("entries_lost",
                "Confirmed entries that the store lost, as this process saw it; a sum over processes may overstate it"),
            entries_restored: r.add("entries_restored",
                "Entries that a foreign command took off the group, made pending again by this process"),
            losses_unknown: r.add("losses_unknown",
                "Losses whose number of entries is not known, or only bounded"),
            entries_trimmed: r.add("entries_trimmed", "Acked entries removed"),
            reconnects: r.add("reconnects", "Broken connections made again"),
            owner_changes: r.add("owner_changes",
                "Times that sentinels named another primary, or another node of the cluster owned a partition"),
            redirects: r.add("redirects", "Commands that a node of the cluster refused for another's sake"),
            stream_length: r.unknown("stream_length", "Entries in the stream; -1 unknown"),
            pending: r.unknown("stream_pending", "Read by our group and not acked; -1 unknown"),
            lag: r.unknown("stream_lag", "Not yet read by our group; -1 unknown"),
            dead_letters_length: r.unknown("dead_letters_length", "Entries in the dead letters; -1 unknown"),
            connections: r.add("connections", "Open connections on the public listener"),
            body_bytes: r.add("body_bytes", "Bytes of bodies in memory"),
            health: HealthMetrics {
                backlog_seconds: r.unknown("backlog_oldest_seconds",
                    "Age of the oldest entry that is unread or pending in our group; -1 unknown"),
                live_workers: r.unknown("live_workers", "Workers with a heartbeat, on any node; -1 unknown"),
                checks: r.add("health_check",
                    "Checks of the health report: 0 healthy, 1 warning, 2 critical; -1 not made"),
            },
            partitions: PartitionMetrics {
                length: r.add("partition_length", "Entries in a partition, where there are several; -1 unknown"),
                pending: r.add("partition_pending", "Read of it by our group and not acked; -1 unknown"),
                lag: r.add("partition_lag", "Not yet read of it by our group; -1 unknown"),
                writable: r.add("partition_writable", "1 where it takes writes"),
                away: r.add("partitions_away", "Partitions that take no writes"),
            },
            spool: SpoolMetrics {
                breaker_open: r.add("breaker_open", "1 while appends go straight to the spool"),
                entries: r.add("spool_entries", "Entries in the spool"),
                bytes: r.add("spool_bytes", "Bytes of entries in the spool"),
                oldest_seconds: r.add("spool_oldest_seconds", "Age of the oldest entry in the spool"),
                stored: r.add("spool_stored", "Entries that were spooled"),
                drained: r.add("spool_drained", "Entries moved on from the spool"),
                retry_budget_used: r.add("retry_budget_used",
                    "Share of Shopify's four hours of retries that the present outage has used"),
            },
            capture: CaptureMetrics::new(&mut r),
            registry: Arc::new(r.0),
        };
        // At 0 from the start: a series that begins with its first event hides that event from
        // `increase`.
        for service in [Service::Stream, Service::Warehouse] {
            drop(metrics.reconnects.get_or_create(&ServiceLabels { service }));
        }
        metrics
    }

    /// The counters of one route, looked up once: a request then counts without a lock or a hash.
    #[must_use]
    pub fn outcomes(&self, route: Route) -> Outcomes {
        let counter = |outcome| self.requests.get_or_create_owned(&RequestLabels { route, outcome });
        Outcomes(Outcome::ALL.map(counter))
    }

    /// The counters of verified signatures, looked up once.
    #[must_use]
    pub fn signature_counters(&self) -> SignatureCounters {
        let mut secret = 0..;
        SignatureCounters(std::array::from_fn(|_| {
            let secret = secret.next().unwrap_or_default();
            self.signatures.get_or_create_owned(&SecretLabels { secret })
        }))
    }

    /// The exposition text.
    ///
    /// # Errors
    /// Never in practice: writing into a `String` cannot fail.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_lower_case() {
        let metrics = Metrics::new();
        metrics.outcomes(Route::Webhook).count(Outcome::TooLarge);
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"orderstream_requests_total{route="webhook",outcome="too_large"} 1"#),
            "{text}"
        );
    }
}
