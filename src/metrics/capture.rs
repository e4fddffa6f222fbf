//! Metrics of the capture of a database.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Registration;

/// The only label of a metric: its name and one of few values.
type OneLabel = [(&'static str, &'static str); 1];

/// Why changes were lost, or may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "`texts` says what each is")]
pub enum GapReason {
    CheckpointBehind,
    CheckpointMissing,
    SlotMissing,
    SlotLost,
    Timeline,
    Publication,
    Truncate,
    Definition,
}

impl GapReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::CheckpointBehind,
        Self::CheckpointMissing,
        Self::SlotMissing,
        Self::SlotLost,
        Self::Timeline,
        Self::Publication,
        Self::Truncate,
        Self::Definition,
    ];

    /// Its name in metrics, and what happened, as a clause.
    #[must_use]
    pub fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::CheckpointBehind => (
                "checkpoint_behind",
                "the slot is ahead of the checkpoint: the stream lost its newest entries, or the slot was advanced or made anew",
            ),
            Self::CheckpointMissing => (
                "checkpoint_missing",
                "the slot is there and its checkpoint is not: the stream was emptied",
            ),
            Self::SlotMissing => ("slot_missing", "the replication slot is gone"),
            Self::SlotLost => (
                "slot_lost",
                "the server no longer has the WAL that the slot needs (max_slot_wal_keep_size), or invalidated it",
            ),
            Self::Timeline => (
                "timeline",
                "the server went back to before the checkpoint: a failover to a standby that lagged, or a restore",
            ),
            Self::Publication => (
                "publication",
                "the publication held other tables or operations for a while",
            ),
            Self::Truncate => ("truncate", "a captured table was truncated"),
            Self::Definition => (
                "definition",
                "a captured table lacked a column or its replica identity for a while, so that changes did not tell their orders",
            ),
        }
    }
}

/// Figures of the capture of a database.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the help text of each describes it")]
pub struct CaptureMetrics {
    pub state: Family<OneLabel, Gauge>,
    pub changes: Family<OneLabel, Counter>,
    pub events: Family<OneLabel, Counter>,
    pub filtered: Counter,
    pub quarantined: Counter,
    pub gaps: Family<OneLabel, Counter>,
    pub reads_invisible: Counter,
    pub read_seconds: Histogram,
    pub lag_seconds: Gauge<f64, AtomicU64>,
    pub retained_bytes: Gauge,
    pub safe_bytes: Gauge,
    pub canary_seconds: Gauge<f64, AtomicU64>,
    pub walk_orders: Counter,
    pub reconnects: Counter,
}

impl CaptureMetrics {
    #[rustfmt::skip]
    pub(super) fn new(r: &mut Registration) -> Self {
        let metrics = Self {
            state: r.add("capture_state", "1 for what the capture does: connecting, standby, streaming, walking, waiting or stopped"),
            changes: r.add("capture_changes", "Messages of the source, by kind: insert, update, delete, truncate or message"),
            events: r.add("capture_events", "Captured events that were stored, by type"),
            filtered: r.add("capture_filtered", "Changed orders that the query leaves out"),
            quarantined: r.add("capture_quarantined", "Captured orders that became dead letters"),
            gaps: r.add("capture_gaps", "Times that changes were lost, by reason"),
            reads_invisible: r.add("capture_reads_invisible", "Reads that came before their transaction was visible, and were repeated"),
            read_seconds: r.latency("capture_read_seconds", "Time of a read of changed orders"),
            lag_seconds: r.add("capture_lag_seconds", "Age of the oldest commit in hand that is not stored yet"),
            retained_bytes: r.unknown("capture_retained_bytes", "WAL that the slot retains; -1 unknown"),
            safe_bytes: r.unknown("capture_safe_bytes", "WAL that may still be written before the slot is lost; -1 unknown or without a bound"),
            canary_seconds: r.add("capture_canary_seconds", "Since a message through the WAL last came back"),
            walk_orders: r.add("capture_walk_orders", "Orders read by a snapshot or resync"),
            reconnects: r.add("capture_reconnects", "Connections to the source that ended"),
        };
        // At 0 from the start: a series that begins with its first gap hides that from `increase`.
        for reason in GapReason::ALL {
            drop(metrics.gaps.get_or_create(&[("reason", reason.texts().0)]));
        }
        metrics
    }
}
