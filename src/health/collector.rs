//! Role: keeps the health report, and the proof that the stream takes writes, fresh.
//!
//! Owns the cache behind `/health`: probes read it and never load the stream. Two things are kept
//! apart: whether this process can durably accept ([`Health::can_accept`], which decides the status
//! code), and how the stream and its readers are (the report). Invariant: the stream is asked at
//! most once a second for the report, and at most twice a second, only where no append proved it,
//! whether it takes writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::api_versions::ApiVersions;
use super::debounce::Debounce;
use super::gauges;
use super::observation::{Observation, Thresholds, observe, patiently};
use super::partitions::Refusals;
use super::probe::WarehouseProbe;
use super::recent_dead_letters::{NewDeadLetters, Recent, recent_ages};
use super::recent_samples::{RecentSamples, Traffic};
use super::report::{HealthReport, Losses};
use super::spool::{QUIET, RetryBudget};
use super::status_log::StatusLog;
use crate::capture::CaptureStatus;
use crate::config::Levels;
use crate::ingest::{AppendStats, AtomicInstant, SpoolFallback};
use crate::metrics::{Metrics, Outcome};
use crate::nodes::Nodes;
use crate::shutdown::Roles;
use crate::stream::{Stream, StreamReport};

const REPORT_EVERY: Duration = Duration::from_secs(1);
const CONFIRM_EVERY: Duration = Duration::from_millis(500);
/// How old the proof may be: a second, and one [`CONFIRM_EVERY`] for a busy machine.
const FRESH: Duration = Duration::from_millis(1500);
/// How long a failed append counts where none was tried since: a node that is not ready gets no
/// requests.
const DISTRUST: Duration = Duration::from_secs(5);
/// How long somebody who asks for the next snapshot waits for it: for its turn, and for the stream.
const NEXT_SNAPSHOT: Duration = Duration::from_millis(2500);

/// The stream at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    began: Instant,
    /// When it answered, or was given up.
    pub at: Instant,
    /// What it told; `None` where it did not answer.
    pub stream: Option<Arc<StreamReport>>,
    report: HealthReport,
}

/// What is known of the health right now; a cheap clone.
#[derive(Debug, Clone)]
pub struct Health {
    snapshot: watch::Receiver<Snapshot>,
    confirmed: AtomicInstant,
    /// Why partitions refused the last write, where they did.
    refusals: Arc<ArcSwap<Refusals>>,
    partitions: u16,
    append_stats: AppendStats,
    fallback: Option<SpoolFallback>,
    traffic: Arc<Traffic>,
    pub(super) versions: ApiVersions,
    budget: RetryBudget,
    capture: Option<CaptureStatus>,
    capture_wal: Levels,
}

/// What the report is made from.
pub struct Sources {
    /// Asked once a second.
    pub stream: Arc<dyn Stream>,
    /// Written to by the part that loads into it; `None` in a process without workers.
    pub warehouse: Option<WarehouseProbe>,
    /// The processes on the stream.
    pub nodes: Nodes,
    /// The capture of this process.
    pub capture: Option<CaptureStatus>,
}

impl Health {
    /// Starts the collector among `roles`. `append_stats` is the appender's, and so is the
    /// `fallback`.
    #[must_use]
    pub fn start(
        sources: Sources,
        thresholds: Thresholds,
        append_stats: AppendStats,
        fallback: Option<SpoolFallback>,
        metrics: Metrics,
        roles: &Roles,
    ) -> Self {
        let (publish, snapshot) = watch::channel(Snapshot {
            began: Instant::now(),
            at: Instant::now(),
            stream: None,
            report: HealthReport::without_figures("there was none yet"),
        });
        let health = Self {
            snapshot,
            confirmed: AtomicInstant::never(),
            refusals: Arc::default(),
            partitions: sources.stream.partitions(),
            append_stats,
            fallback,
            traffic: Arc::default(),
            versions: ApiVersions::new(&metrics),
            budget: RetryBudget::unused(),
            capture: sources.capture.clone(),
            capture_wal: thresholds.levels.capture_wal,
        };
        let Sources {
            stream,
            warehouse,
            nodes,
            ..
        } = sources;
        let collector = Collector {
            stream,
            warehouse,
            nodes,
            thresholds,
            metrics,
            health: health.clone(),
            publish,
        };
        gauges::of_report(&collector.metrics.health, &health.report().1);
        roles.spawn("health", collector.run(roles.stop_token()));
        health
    }

    /// Follows the looks at the stream, about one a second: who wants the stream's figures need not
    /// ask it too.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// The last report, and whether this process can durably accept. The report says that too, as
    /// of the same moment, so that a status code and the body beside it agree.
    #[must_use]
    pub fn report(&self) -> (bool, HealthReport) {
        let (takes_writes, can_spool) = (self.stream_takes_writes(), self.can_spool());
        let refusals = self.refusals.load();
        let writes = match refusals.values().next() {
            _ if takes_writes => Some(Ok(())),
            Some(why) => Some(Err(why.clone())),
            None if self.confirmed.elapsed().is_none() => None,
            None => Some(Err("none was confirmed lately, or appends fail: see the log".to_owned())),
        };
        let report = self.snapshot.borrow().report.clone();
        let mut report = report.with_writes(writes, can_spool);
        report.retry_budget_used = Some(self.budget.used());
        if let Some(fallback) = &self.fallback {
            report = report.with_spool(&fallback.spool.report(), fallback.breaker.is_open());
        }
        self.versions.add_to(&mut report);
        if let Some(capture) = &self.capture {
            report = report.with_capture(capture.report(), self.capture_wal);
        }
        let breaker = self.fallback.as_ref().map(|fallback| &fallback.breaker);
        report = report.with_partitions(&refusals, breaker);
        (takes_writes || can_spool, report)
    }

    /// As [`Self::report`], of a snapshot that begins after this call: within about a second, since
    /// nobody makes one begin sooner. Of the last one, where none ends in time.
    pub async fn next_report(&self) -> (bool, HealthReport) {
        let asked = Instant::now();
        let mut snapshot = self.snapshots();
        let _ = tokio::time::timeout(NEXT_SNAPSHOT, snapshot.wait_for(|snapshot| snapshot.began > asked)).await;
        self.report()
    }

    /// Whether this process can durably accept: in the stream, or in the spool.
    #[must_use]
    pub fn can_accept(&self) -> bool {
        self.stream_takes_writes() || self.can_spool()
    }

    fn can_spool(&self) -> bool {
        let takes_writes = |fallback: &SpoolFallback| fallback.spool.report().takes_writes;
        self.fallback.as_ref().is_some_and(takes_writes)
    }

    /// Whether the stream took a write within the last second: an append of this process, or a
    /// write of the collector's, which proves less: the store may take it and refuse appends. So a
    /// failed append outweighs it for a while, but beside other partitions, which may take theirs.
    fn stream_takes_writes(&self) -> bool {
        let proven = is_within(self.append_stats.last_accepted(), FRESH) || is_within(&self.confirmed, FRESH);
        proven && (self.partitions > 1 || !self.append_stats.are_failing(DISTRUST))
    }

    /// Since this process last took an event, into the stream or the spool.
    fn since_accepted(&self) -> Option<Duration> {
        let spooled = self
            .fallback
            .as_ref()
            .and_then(|fallback| fallback.spool.last_stored().elapsed());
        self.append_stats
            .last_accepted()
            .elapsed()
            .into_iter()
            .chain(spooled)
            .min()
    }

    /// Counts one answer to a webhook, for what an outage has used of Shopify's retries.
    pub fn delivered(&self, outcome: Outcome) {
        self.budget.answered(outcome);
    }

    /// Counts one answer of the public listener's doors, for the share of 401s.
    pub fn answered(&self, unauthorized: bool) {
        self.traffic.count(unauthorized);
    }
}

fn is_within(instant: &AtomicInstant, limit: Duration) -> bool {
    instant.elapsed().is_some_and(|elapsed| elapsed < limit)
}

struct Collector {
    stream: Arc<dyn Stream>,
    warehouse: Option<WarehouseProbe>,
    nodes: Nodes,
    thresholds: Thresholds,
    metrics: Metrics,
    health: Health,
    publish: watch::Sender<Snapshot>,
}

impl Collector {
    async fn run(self, stop: CancellationToken) {
        let both = async { tokio::join!(self.confirm(), self.collect()) };
        stop.run_until_cancelled(both).await;
    }

    async fn confirm(&self) {
        let mut ticks = tokio::time::interval(CONFIRM_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let count = self.health.partitions;
            // An append proves its own partition only.
            if count == 1 && is_within(self.health.append_stats.last_accepted(), CONFIRM_EVERY) {
                continue;
            }
            let asked = (0..count).map(|partition| patiently(self.stream.confirm_writable(partition)));
            let answers = (0..count).zip(join_all(asked).await);
            let refusals: Refusals = answers
                .filter_map(|(partition, answer)| Some((partition, answer.err()?)))
                .collect();
            if refusals.len() < usize::from(count) {
                self.health.confirmed.mark();
            }
            for (partition, error) in &refusals {
                tracing::debug!(error, partition, "the stream takes no writes");
            }
            let is_refused = !refusals.is_empty();
            self.health.refusals.store(Arc::new(refusals));
            if let Some(fallback) = self.health.fallback.as_ref().filter(|_| is_refused) {
                fallback.spool.probe().await;
            }
        }
    }

    async fn collect(&self) {
        let mut ticks = tokio::time::interval(REPORT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut debounce = Debounce::new(self.thresholds.levels.after);
        let (mut samples, mut log) = (RecentSamples::default(), StatusLog::default());
        let mut recent = Recent::new(self.thresholds.levels.dead_letters.window);
        let started = Instant::now();
        loop {
            ticks.tick().await;
            let began = Instant::now();
            if self.health.can_accept() {
                self.health.budget.can_accept(QUIET);
            }
            self.metrics.spool.retry_budget_used.set(self.health.budget.used());
            let observed = patiently(observe(&*self.stream)).await;
            let at = Instant::now();
            let warehouse = self.warehouse.as_ref().map(WarehouseProbe::state);
            let seen = observed.as_ref().ok().map(|seen| &seen.stream);
            let refusals = self.health.refusals.load_full();
            gauges::of_stream(&self.metrics, seen, (self.health.partitions, &refusals));
            let (stream, report) = match observed {
                Ok(mut seen) => {
                    seen.watched = started.elapsed();
                    seen.warehouse = warehouse;
                    seen.nodes = self.nodes.current();
                    seen.own_node = self.nodes.own_id();
                    seen.since_accepted = seen
                        .since_accepted
                        .into_iter()
                        .chain(self.health.since_accepted())
                        .min();
                    let moved = self
                        .health
                        .fallback
                        .as_ref()
                        .map(|fallback| fallback.spool.report().moved);
                    samples.look(&mut seen, &self.health.traffic, moved, at);
                    seen.new_dead_letters = self.new_dead_letters(&mut recent, &seen.stream, at).await;
                    let mut report = HealthReport::judge(&seen, &self.thresholds);
                    debounce.settle(&mut report, at);
                    (Some(Arc::new(seen.stream)), report)
                }
                Err(error) => {
                    let seen = Observation {
                        warehouse,
                        ..Observation::default()
                    };
                    let mut known = HealthReport::of_warehouse(&seen, &self.thresholds);
                    debounce.settle(&mut known, at);
                    (None, known.with_unknown_figures(error))
                }
            };
            let report = report.with_losses(Losses {
                entries: self.metrics.entries_lost.get(),
                unknown: self.metrics.losses_unknown.get(),
            });
            self.publish.send_replace(Snapshot {
                began,
                at,
                stream,
                report,
            });
            let (_, report) = self.health.report();
            gauges::of_report(&self.metrics.health, &report);
            log.note(&report);
        }
    }

    /// How many dead letters came lately. Those that came before the first snapshot are asked for
    /// once, when it is taken.
    async fn new_dead_letters(
        &self,
        recent: &mut Recent,
        stream: &StreamReport,
        at: Instant,
    ) -> Option<NewDeadLetters> {
        if recent.is_new() {
            let levels = &self.thresholds.levels.dead_letters;
            match patiently(recent_ages(&*self.stream, levels)).await {
                Ok(ages) => recent.begin(ages, at),
                Err(error) => tracing::debug!(error, "the stream does not tell of its dead letters"),
            }
        }
        recent.look(stream, at)
    }
}
