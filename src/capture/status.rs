//! What a capture tells of itself: to health, metrics and the log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::convert::ConvertedBatch;
use super::standing::SlotState;
use crate::metrics::{CaptureMetrics, GapReason, Metrics, UNKNOWN};
use crate::stream::Destination;

/// How long what the server told of the slot counts: three of its looks.
const SLOT_FRESH: Duration = Duration::from_secs(180);
/// Values of the label `type`, beside `other`.
const EVENT_TYPES: [&str; 4] = ["order.created", "order.updated", "order.deleted", "order.snapshot"];

/// What a capture does at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureState {
    /// Reaching the source.
    #[default]
    Connecting,
    /// Another process streams; this one takes over when that ends.
    Standby,
    /// Streaming changes.
    Streaming,
    /// Streaming, and reading all orders beside.
    Walking,
    /// Waiting for room in the stream.
    Waiting,
    /// Waiting for an operator: `problem` says for what.
    Stopped,
}

impl CaptureState {
    /// Each with its label in the metric, which is also its name in `/health`.
    const LABELS: [(Self, &'static str); 6] = [
        (Self::Connecting, "connecting"),
        (Self::Standby, "standby"),
        (Self::Streaming, "streaming"),
        (Self::Walking, "walking"),
        (Self::Waiting, "waiting"),
        (Self::Stopped, "stopped"),
    ];
}

/// A capture as `/health` shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in openapi.yaml, field by field")]
pub struct CaptureReport {
    pub source: String,
    pub state: CaptureState,
    pub problem: Option<String>,
    pub lag_seconds: f64,
    pub retained_bytes: Option<u64>,
    pub safe_bytes: Option<u64>,
    pub wal_status: Option<String>,
    pub failover_synced: Option<bool>,
    pub last_read_seconds: Option<f64>,
    pub canary_seconds: Option<f64>,
    pub canary_is_late: bool,
    pub walk: Option<WalkProgress>,
    pub events: u64,
    pub gaps: u64,
}

/// A snapshot or resync under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in openapi.yaml, field by field")]
pub struct WalkProgress {
    pub reason: String,
    pub done: u64,
    pub estimate: Option<u64>,
}

/// What the report is made of, with the times that pass.
#[derive(Debug, Default)]
pub(super) struct CaptureFigures {
    pub(super) report: CaptureReport,
    /// Why the mapping of the file is not in use.
    pub(super) rejected: Option<String>,
    /// Time of the oldest commit that is not stored yet, Unix microseconds.
    pub(super) oldest: Option<i64>,
    /// When the server last told of the slot.
    pub(super) slot_seen: Option<Instant>,
    /// When a message through the WAL last came back.
    pub(super) canary: Option<Instant>,
    /// When one was sent that is yet to come back, and how long that may take.
    pub(super) canary_awaited: Option<(Instant, Duration)>,
}

/// The figures, shared. A cheap clone.
#[derive(Debug, Clone)]
pub struct CaptureStatus {
    figures: Arc<Mutex<CaptureFigures>>,
    pub(super) metrics: CaptureMetrics,
}

impl CaptureStatus {
    /// Nothing is done yet.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            figures: Arc::default(),
            metrics: metrics.capture.clone(),
        }
    }

    /// As they are now; the gauges follow.
    #[must_use]
    pub fn report(&self) -> CaptureReport {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let is_late = |(since, within): (Instant, Duration)| since.elapsed() > within;
        let mut report = CaptureReport {
            lag_seconds: figures.oldest.map_or(0.0, seconds_since),
            canary_seconds: figures.canary.map(|canary| canary.elapsed().as_secs_f64()),
            problem: match (&figures.report.problem, &figures.rejected) {
                (Some(problem), Some(rejected)) => Some(format!("{problem}; {rejected}")),
                (problem, rejected) => problem.clone().or_else(|| rejected.clone()),
            },
            canary_is_late: figures.canary_awaited.is_some_and(is_late),
            ..figures.report.clone()
        };
        if figures.slot_seen.is_none_or(|at| at.elapsed() > SLOT_FRESH) {
            (report.retained_bytes, report.safe_bytes) = (None, None);
            (report.wal_status, report.failover_synced) = (None, None);
        }
        let metrics = &self.metrics;
        for (state, label) in CaptureState::LABELS {
            let gauge = metrics.state.get_or_create(&[("state", label)]);
            gauge.set((state == report.state).into());
        }
        metrics.lag_seconds.set(report.lag_seconds);
        metrics.canary_seconds.set(report.canary_seconds.unwrap_or_default());
        for (gauge, bytes) in [
            (&metrics.retained_bytes, report.retained_bytes),
            (&metrics.safe_bytes, report.safe_bytes),
        ] {
            gauge.set(bytes.map_or(UNKNOWN, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)));
        }
        report
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut CaptureFigures)) {
        change(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes what the server told of the slot, and a standby of its copy.
    pub(super) fn slot(&self, slot: SlotState, is_synced: Option<bool>) {
        self.update(|figures| {
            figures.slot_seen = Some(Instant::now());
            let report = &mut figures.report;
            (report.retained_bytes, report.safe_bytes) = (slot.retained_bytes, slot.safe_bytes);
            report.wal_status = slot.wal_status;
            report.failover_synced = match slot.is_failover {
                Some(false) => Some(false),
                Some(true) | None => is_synced,
            };
        });
    }

    /// Notes that something is to be stored, which may take as long as an outage: `oldest` waits, or
    /// what comes from now on.
    pub(super) fn storing(&self, oldest: Option<i64>) {
        self.update(|figures| figures.oldest = Some(oldest.unwrap_or_else(now)));
    }

    /// Counts a gap.
    pub(super) fn gap(&self, reason: GapReason, ever: u64) {
        self.metrics.gaps.get_or_create(&[("reason", reason.texts().0)]).inc();
        self.update(|figures| figures.report.gaps = ever);
    }

    /// Counts what was stored; answers how many dead letters that were.
    pub(super) fn count(&self, batch: &ConvertedBatch) -> u64 {
        let mut dead_letters = 0;
        for entry in &batch.entries {
            if entry.destination == Destination::DeadLetters {
                dead_letters += 1;
                continue;
            }
            let found = entry.fields.get("event_type");
            let known = EVENT_TYPES
                .iter()
                .find(|name| found.is_some_and(|found| found == name.as_bytes()));
            self.metrics
                .events
                .get_or_create(&[("type", known.unwrap_or(&"other"))])
                .inc();
        }
        self.metrics.filtered.inc_by(batch.filtered);
        self.metrics.quarantined.inc_by(dead_letters);
        self.update(|figures| figures.report.events += batch.entries.len() as u64 - dead_letters);
        dead_letters
    }

    /// Notes that an operator has to mend something; answers whether that is new.
    pub(super) fn stopped(&self, problem: &str) -> bool {
        let mut former = None;
        self.update(|figures| {
            figures.report.state = CaptureState::Stopped;
            former = figures.report.problem.replace(problem.to_owned());
        });
        former.as_deref() != Some(problem)
    }

    /// Notes why the mapping of the file is not in use; answers whether that is new.
    pub(super) fn rejected(&self, why: &str) -> bool {
        let mut former = None;
        self.update(|figures| former = figures.rejected.replace(why.to_owned()));
        former.as_deref() != Some(why)
    }

    /// Notes a state; an operator has nothing to do then.
    pub(super) fn is(&self, state: CaptureState) {
        self.update(|figures| {
            figures.report.state = state;
            figures.report.problem = None;
        });
    }
}

/// The clock, Unix microseconds.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Seconds since a time in Unix microseconds, to the millisecond; never negative.
#[allow(clippy::cast_precision_loss, reason = "milliseconds are far below 2^52")]
fn seconds_since(micros: i64) -> f64 {
    (now().saturating_sub(micros).max(0) / 1000) as f64 / 1000.0
}
