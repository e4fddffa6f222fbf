//! Role: keeps the health report and the proof that the stream takes writes fresh.
//!
//! Owns the cache behind `/health`: probes read it and never load the stream. Two things are kept apart: whether this
//! process can durably accept ([`Health::can_accept`], which decides the status code) and how the stream and its
//! readers are (the report). Invariant: the stream is asked at most once a second for the report, and at most twice a
//! second, only where no append proved it, whether it takes writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{HealthReport, Observation, Sustained, Thresholds, observe};
use crate::ingest::{Appends, Moment};
use crate::metrics::Metrics;
use crate::shutdown::Roles;
use crate::stream::{Stream, StreamError};

const REPORT_EVERY: Duration = Duration::from_secs(1);
const CONFIRM_EVERY: Duration = Duration::from_millis(500);
/// How old the proof may be: a second, and one [`CONFIRM_EVERY`] for a busy machine.
const FRESH: Duration = Duration::from_millis(1500);
/// How long a failed append counts where none is tried since: nobody sends any more to a node that is not ready.
const DISTRUST: Duration = Duration::from_secs(5);
/// Bound on one question to the stream.
const PATIENCE: Duration = Duration::from_secs(3);
/// What "lately" means for growth and the share of 401s.
const LATELY: Duration = Duration::from_secs(60);
/// Time and requests below which growth and share say nothing.
const LEAST_TIME: Duration = Duration::from_secs(10);
const LEAST_REQUESTS: u64 = 20;

/// What is known of the health right now; a cheap clone.
#[derive(Debug, Clone)]
pub struct Health {
    report: watch::Receiver<HealthReport>,
    confirmed: Moment,
    /// What the last question for a write was answered with, where it was no.
    refusal: Arc<ArcSwapOption<String>>,
    appends: Appends,
    traffic: Arc<Traffic>,
}

/// Requests of the public listener.
#[derive(Debug, Default)]
struct Traffic {
    answered: AtomicU64,
    unauthorized: AtomicU64,
}

impl Health {
    /// Starts the collector among `roles`. `appends` is the appender's.
    #[must_use]
    pub fn start(
        stream: Arc<dyn Stream>,
        thresholds: Thresholds,
        appends: Appends,
        metrics: Metrics,
        roles: &Roles,
    ) -> Self {
        let (publish, report) = watch::channel(HealthReport::without_figures("there was none yet"));
        let health = Self {
            report,
            confirmed: Moment::never(),
            refusal: Arc::default(),
            appends,
            traffic: Arc::default(),
        };
        let collector = Collector {
            stream,
            thresholds,
            metrics,
            health: health.clone(),
            publish,
        };
        roles.spawn("health", collector.run(roles.stop_token()));
        health
    }

    /// The last report, and whether this process can durably accept. The report says that too, as of the same moment, so
    /// that a status code and the body beside it agree.
    #[must_use]
    pub fn report(&self) -> (bool, HealthReport) {
        let can_accept = self.can_accept();
        let refusal = || match &*self.refusal.load() {
            Some(why) => why.to_string(),
            None => "none was confirmed lately, or appends fail: see the log".to_owned(),
        };
        let report = self.report.borrow().clone();
        (can_accept, report.with_refusal((!can_accept).then(refusal)))
    }

    /// Whether the stream took a write within the last second: an append of this process, or a write of the collector's,
    /// which proves less: the store may take it and refuse appends. So a failed append outweighs it for a while.
    #[must_use]
    pub fn can_accept(&self) -> bool {
        let proven = is_within(self.appends.last_accepted(), FRESH) || is_within(&self.confirmed, FRESH);
        proven && !self.appends.are_failing(DISTRUST)
    }

    /// Counts one answer of the public listener's doors, for the share of 401s.
    pub fn answered(&self, unauthorized: bool) {
        self.traffic.answered.fetch_add(1, Ordering::Relaxed);
        if unauthorized {
            self.traffic.unauthorized.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn is_within(moment: &Moment, limit: Duration) -> bool {
    moment.elapsed().is_some_and(|elapsed| elapsed < limit)
}

struct Collector {
    stream: Arc<dyn Stream>,
    thresholds: Thresholds,
    metrics: Metrics,
    health: Health,
    publish: watch::Sender<HealthReport>,
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
            if is_within(self.health.appends.last_accepted(), CONFIRM_EVERY) {
                continue;
            }
            match patiently(self.stream.confirm_writable()).await {
                Ok(()) => {
                    self.health.confirmed.mark();
                    self.health.refusal.store(None);
                }
                Err(error) => {
                    tracing::debug!(error, "the stream takes no writes");
                    self.health.refusal.store(Some(Arc::new(error)));
                }
            }
        }
    }

    async fn collect(&self) {
        let mut ticks = tokio::time::interval(REPORT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sustained = Sustained::new(self.thresholds.levels.after);
        let mut lately = Lately::default();
        let began = Instant::now();
        loop {
            ticks.tick().await;
            let report = match patiently(observe(&*self.stream)).await {
                Ok(mut seen) => {
                    seen.watched = began.elapsed();
                    lately.look(&mut seen, &self.health, Instant::now());
                    self.export(&seen);
                    let mut report = HealthReport::judge(&seen, &self.thresholds);
                    sustained.settle(&mut report, Instant::now());
                    report
                }
                Err(error) => HealthReport::without_figures(error),
            };
            self.publish.send_replace(report);
        }
    }

    fn export(&self, seen: &Observation) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let stream = &seen.stream;
        self.metrics.stream_length.set(gauge(stream.length));
        self.metrics.dead_letters_length.set(gauge(stream.dead_letters));
        if let Some(group) = stream.groups.iter().find(|group| group.ours) {
            self.metrics.pending.set(gauge(group.pending));
            self.metrics.lag.set(group.lag.map_or(-1, gauge));
        }
    }
}

/// Bounded here too, so that the report tells of a stream that hangs before the call gives up.
async fn patiently<T>(asking: impl Future<Output = Result<T, StreamError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer from the stream within {PATIENCE:?}")),
    }
}

/// One look, kept for a minute.
struct Sample {
    at: Instant,
    length: u64,
    answered: u64,
    unauthorized: u64,
}

/// The looks of the last minute, oldest first; at most one a second.
#[derive(Default)]
struct Lately(VecDeque<Sample>);

impl Lately {
    /// Adds this look and tells what changed since the oldest one.
    #[allow(clippy::cast_precision_loss, reason = "counts of one minute are far below 2^52")]
    fn look(&mut self, seen: &mut Observation, health: &Health, now: Instant) {
        let own = health.appends.last_accepted().elapsed();
        seen.since_accepted = seen.since_accepted.into_iter().chain(own).min();
        let new = Sample {
            at: now,
            length: seen.stream.length,
            answered: health.traffic.answered.load(Ordering::Relaxed),
            unauthorized: health.traffic.unauthorized.load(Ordering::Relaxed),
        };
        while self.0.front().is_some_and(|old| now.duration_since(old.at) > LATELY) {
            self.0.pop_front();
        }
        if let Some(old) = self.0.front() {
            let time = now.duration_since(old.at);
            if time >= LEAST_TIME {
                seen.growth = Some((new.length as f64 - old.length as f64) / time.as_secs_f64());
            }
            let answered = new.answered.saturating_sub(old.answered);
            if answered >= LEAST_REQUESTS {
                seen.unauthorized = Some(new.unauthorized.saturating_sub(old.unauthorized) as f64 / answered as f64);
            }
        }
        self.0.push_back(new);
    }
}
