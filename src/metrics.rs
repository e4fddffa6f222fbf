//! The figures this process exports at `/metrics` (Prometheus / OpenMetrics text).
//!
//! Owns every metric and its name. Label values come from the closed enums here, never from a shop, an id or a raw
//! topic. A leaf: everyone may count; what is read back is for this node's record (`nodes.rs`) alone.

mod delays;
mod health;
mod spool;

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub use self::delays::{DELAY_BUCKETS, DelayCounts, Delays, upper_bound};
pub use self::health::{CheckLabels, HealthMetrics};
pub use self::spool::SpoolMetrics;

/// Of a figure of the stream: it is not known.
pub const UNKNOWN: i64 = -1;

/// What became of a request, or of one item of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the answer of the same name")]
pub enum Outcome {
    Accepted,
    Duplicate,
    Spooled,
    Quarantined,
    Invalid,
    Unauthorized,
    TooLarge,
    Timeout,
    Unavailable,
    Shed,
    Rejected,
}

impl Outcome {
    /// All of them, in order of declaration.
    pub const ALL: [Self; 11] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Spooled,
        Self::Quarantined,
        Self::Invalid,
        Self::Unauthorized,
        Self::TooLarge,
        Self::Timeout,
        Self::Unavailable,
        Self::Shed,
        Self::Rejected,
    ];
}

/// The two ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the route of the same name")]
pub enum Route {
    Webhook,
    Batch,
}

/// Label values in lower case with underscores, as Prometheus' naming guide has them.
macro_rules! label_values {
    ($kind:ty { $($value:ident => $text:literal),+ $(,)? }) => {
        impl $kind {
            /// As label values have it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }

        impl EncodeLabelValue for $kind {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                self.name().encode(encoder)
            }
        }
    };
}

label_values!(Outcome {
    Accepted => "accepted",
    Duplicate => "duplicate",
    Spooled => "spooled",
    Quarantined => "quarantined",
    Invalid => "invalid",
    Unauthorized => "unauthorized",
    TooLarge => "too_large",
    Timeout => "timeout",
    Unavailable => "unavailable",
    Shed => "shed",
    Rejected => "rejected",
});

label_values!(Route { Webhook => "webhook", Batch => "batch" });

label_values!(Service { Stream => "stream", Warehouse => "warehouse" });

/// Labels of `orderstream_requests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct RequestLabels {
    pub route: Route,
    pub outcome: Outcome,
}

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

/// Labels of `orderstream_signatures_verified`: which secret, by its place in the configured list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct SecretLabels {
    pub secret: u32,
}

/// The services this process connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the service of the same name")]
pub enum Service {
    Stream,
    Warehouse,
}

/// Labels of `orderstream_reconnects`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct ServiceLabels {
    pub service: Service,
}

/// All metrics; a cheap clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Answers by route and outcome; a batch counts its items.
    pub requests: Family<RequestLabels, Counter>,
    /// Verified deliveries by secret.
    pub signatures: Family<SecretLabels, Counter>,
    /// Seconds from an append's arrival in the queue to its answer.
    pub append_seconds: Histogram,
    /// Entries a flush.
    pub flush_entries: Histogram,
    /// Flushes that the server took without proving what `ORDERSTREAM_DURABILITY` asks for.
    pub flushes_unproven: Counter,
    /// Events that were new to the warehouse.
    pub events_loaded: Counter,
    /// Events that the warehouse had already.
    pub events_known: Counter,
    /// Seconds from the stream's acceptance to the warehouse's commit.
    pub commit_delay_seconds: Delays,
    /// Seconds one load took.
    pub load_seconds: Histogram,
    /// Attempts that ended with the entry at fault.
    pub attempts_failed: Counter,
    /// Entries that workers sent to the dead letters; what is quarantined at the door counts in `requests`.
    pub dead_letters: Counter,
    /// Pending entries taken over from other consumers.
    pub reclaimed: Counter,
    /// Confirmed entries that the store lost, as this process saw it: each counts for itself.
    pub entries_lost: Counter,
    /// Entries that a foreign command took off the group, made pending again by this process.
    pub entries_restored: Counter,
    /// Losses whose number of entries is not known, or only bounded: they count for more than `entries_lost` says.
    pub losses_unknown: Counter,
    /// Acked entries removed.
    pub entries_trimmed: Counter,
    /// Times a broken connection or a missing group had to be made again.
    pub reconnects: Family<ServiceLabels, Counter>,
    /// Entries in the stream at the last look, or [`UNKNOWN`].
    pub stream_length: Gauge,
    /// Pending in our group at the last look, or [`UNKNOWN`].
    pub pending: Gauge,
    /// Lag of our group at the last look, or [`UNKNOWN`].
    pub lag: Gauge,
    /// Entries in the dead letters at the last look, or [`UNKNOWN`].
    pub dead_letters_length: Gauge,
    /// Open connections on the public listener.
    pub connections: Gauge,
    /// Bytes of bodies in memory.
    pub body_bytes: Gauge,
    /// The health report's.
    pub health: HealthMetrics,
    /// The spool's.
    pub spool: SpoolMetrics,
}

impl Metrics {
    /// A fresh set: nothing is counted, and nothing known of the stream.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self {
            registry: Arc::new(Registry::default()),
            requests: Family::default(),
            signatures: Family::default(),
            append_seconds: latency(),
            flush_entries: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            flushes_unproven: Counter::default(),
            events_loaded: Counter::default(),
            events_known: Counter::default(),
            commit_delay_seconds: Delays::new(latency()),
            load_seconds: latency(),
            attempts_failed: Counter::default(),
            dead_letters: Counter::default(),
            reclaimed: Counter::default(),
            entries_lost: Counter::default(),
            entries_restored: Counter::default(),
            losses_unknown: Counter::default(),
            entries_trimmed: Counter::default(),
            reconnects: Family::default(),
            stream_length: Gauge::default(),
            pending: Gauge::default(),
            lag: Gauge::default(),
            dead_letters_length: Gauge::default(),
            connections: Gauge::default(),
            body_bytes: Gauge::default(),
            health: HealthMetrics::default(),
            spool: SpoolMetrics::default(),
        };
        for gauge in [
            &metrics.stream_length,
            &metrics.pending,
            &metrics.lag,
            &metrics.dead_letters_length,
        ] {
            gauge.set(UNKNOWN);
        }
        let mut registry = Registry::with_prefix("orderstream");
        metrics.register(&mut registry);
        Self {
            registry: Arc::new(registry),
            ..metrics
        }
    }

    fn register(&self, r: &mut Registry) {
        // At 0 from the start: a series that begins with its first event hides that event from `increase`.
        for service in [Service::Stream, Service::Warehouse] {
            drop(self.reconnects.get_or_create(&ServiceLabels { service }));
        }
        r.register(
            "requests",
            "Answers by route and outcome; a batch counts its items",
            self.requests.clone(),
        );
        r.register(
            "signatures_verified",
            "Verified deliveries by secret (index)",
            self.signatures.clone(),
        );
        r.register(
            "append_seconds",
            "From the queue to the stream's confirmation",
            self.append_seconds.clone(),
        );
        r.register("flush_entries", "Entries a flush", self.flush_entries.clone());
        r.register(
            "flushes_unproven",
            "Flushes that the server took without proving what ORDERSTREAM_DURABILITY asks for",
            self.flushes_unproven.clone(),
        );
        r.register(
            "events_loaded",
            "Events that were new to the warehouse",
            self.events_loaded.clone(),
        );
        r.register(
            "events_known",
            "Events that the warehouse had already",
            self.events_known.clone(),
        );
        r.register(
            "commit_delay_seconds",
            "From acceptance to commit",
            self.commit_delay_seconds.exported.clone(),
        );
        r.register("load_seconds", "One load into the warehouse", self.load_seconds.clone());
        r.register(
            "attempts_failed",
            "Attempts with the entry at fault",
            self.attempts_failed.clone(),
        );
        r.register(
            "dead_letters",
            "Entries that workers sent to the dead letters",
            self.dead_letters.clone(),
        );
        r.register(
            "entries_reclaimed",
            "Pending entries taken over",
            self.reclaimed.clone(),
        );
        self.register_losses(r);
        r.register("entries_trimmed", "Acked entries removed", self.entries_trimmed.clone());
        r.register("reconnects", "Broken connections made again", self.reconnects.clone());
        self.register_gauges(r);
        self.health.register(r);
        self.spool.register(r);
    }

    fn register_losses(&self, r: &mut Registry) {
        r.register(
            "entries_lost",
            "Confirmed entries that the store lost, as this process saw it; a sum over processes may overstate it",
            self.entries_lost.clone(),
        );
        r.register(
            "entries_restored",
            "Entries that a foreign command took off the group, made pending again by this process",
            self.entries_restored.clone(),
        );
        r.register(
            "losses_unknown",
            "Losses whose number of entries is not known, or only bounded",
            self.losses_unknown.clone(),
        );
    }

    fn register_gauges(&self, r: &mut Registry) {
        r.register(
            "stream_length",
            "Entries in the stream; -1 unknown",
            self.stream_length.clone(),
        );
        r.register(
            "stream_pending",
            "Read by our group and not acked; -1 unknown",
            self.pending.clone(),
        );
        r.register("stream_lag", "Not yet read by our group; -1 unknown", self.lag.clone());
        r.register(
            "dead_letters_length",
            "Entries in the dead letters; -1 unknown",
            self.dead_letters_length.clone(),
        );
        r.register(
            "connections",
            "Open connections on the public listener",
            self.connections.clone(),
        );
        r.register("body_bytes", "Bytes of bodies in memory", self.body_bytes.clone());
    }

    /// The counters of one route, looked up once: a request then counts without a lock or a hash.
    #[must_use]
    pub fn outcomes(&self, route: Route) -> Outcomes {
        let counter = |outcome| self.requests.get_or_create_owned(&RequestLabels { route, outcome });
        Outcomes(Outcome::ALL.map(counter))
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

/// 0.1 ms to 105 s in powers of two.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 21))
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
