//! Whether the stream and its readers are well: figures, thresholds, one report.
//!
//! Owns the report (public contract: `GET /health`, `status --json`) and how figures are judged. Judging is pure;
//! [`observe`] alone asks the stream for figures. Must not know HTTP. A slow reader is a warning here and never decides
//! whether this process may take webhooks: that is [`crate::ingest::AppendStats`]'s, see `collector`.

mod checks;
pub mod collector;
mod dead_letters;
mod debounce;
mod gauges;
mod probe;
mod spool;
mod workers;

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use self::dead_letters::{NewDeadLetters, recent_ages};
pub use self::debounce::Debounce;
pub use self::probe::WarehouseProbe;

use crate::config::{Config, HealthConfig};
use crate::nodes::{self, Node, WarehouseState};
use crate::stream::{Stream, StreamError, StreamReport};

/// How well one thing is; worse is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    #[default]
    Healthy,
    /// An operator should look, in working hours.
    Warning,
    /// An operator must act now.
    Critical,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Stable name.
    pub name: Cow<'static, str>,
    /// How it is.
    pub status: Status,
    /// What was found, as a sentence.
    pub detail: String,
    /// Whether that could be found out at all. What is not known is a warning at least, and at once.
    #[serde(default = "yes")]
    pub known: bool,
    /// For how long the status has lasted by the evidence itself, whenever this process began to look.
    #[serde(skip)]
    pub lasted: Duration,
}

fn yes() -> bool {
    true
}

impl Check {
    fn new(name: &'static str, status: Status, detail: String) -> Self {
        Self {
            name: name.into(),
            status,
            detail,
            known: true,
            lasted: Duration::ZERO,
        }
    }

    /// What it looks at is not known.
    fn unknown(name: &'static str, why: String) -> Self {
        Self {
            known: false,
            ..Self::new(name, Status::Warning, why)
        }
    }

    fn lasting(self, lasted: Duration) -> Self {
        Self { lasted, ..self }
    }
}

/// The health of the stream and its readers at one moment. Figures are null where they are not known, never 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in openapi.yaml, field by field")]
pub struct HealthReport {
    pub status: Status,
    pub stream_length: Option<u64>,
    pub pending_count: Option<u64>,
    pub lag: Option<u64>,
    pub consumers: Option<u64>,
    pub idle_consumers: Option<u64>,
    pub last_delivered_id: Option<String>,
    pub oldest_backlog_seconds: Option<f64>,
    pub oldest_pending_seconds: Option<f64>,
    pub last_accepted_seconds: Option<f64>,
    pub seconds_until_full: Option<u64>,
    pub trim_held_by: Option<String>,
    pub dead_letters: Option<u64>,
    pub dead_letters_new: Option<u64>,
    pub oldest_dead_letter_seconds: Option<f64>,
    pub workers: Option<u64>,
    pub spool_depth: Option<u64>,
    pub spool_bytes: Option<u64>,
    pub spool_limit: Option<u64>,
    pub spool_oldest_seconds: Option<f64>,
    pub spool_drained_per_second: Option<f64>,
    pub spool_lost: Option<u64>,
    pub breaker: Option<Cow<'static, str>>,
    pub retry_budget_used: Option<f64>,
    pub checks: Vec<Check>,
}

/// What figures are judged by.
#[derive(Debug, Clone)]
pub struct Thresholds {
    /// The configured levels.
    pub levels: HealthConfig,
    /// Entries of one read; makes the level of pending.
    pub read_count: u64,
    /// Silence after which a consumer that holds entries is idle.
    pub claim_idle: Duration,
    /// Acked entries that are kept on purpose.
    pub retain_acked: u64,
}

impl From<&Config> for Thresholds {
    fn from(config: &Config) -> Self {
        Self {
            levels: config.health.clone(),
            read_count: config.worker.read_count as u64,
            claim_idle: config.worker.claim_idle,
            retain_acked: config.stream.retain_acked,
        }
    }
}

/// Everything that is judged, as it was found at one moment.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// The stream's figures.
    pub stream: StreamReport,
    /// What the server does when its memory is full.
    pub eviction_policy: Option<String>,
    /// Since any process appended to the stream, or this one did.
    pub since_accepted: Option<Duration>,
    /// How far the newest id is ahead of this machine's clock, where that is more than an hour.
    pub ids_ahead: Option<Duration>,
    /// For how long this process has been looking; zero for a single look.
    pub watched: Duration,
    /// Entries a second by which the stream grew lately; `None` where only one look was taken.
    pub growth: Option<f64>,
    /// Entries a second that left the spool lately; `None` where there is none.
    pub drain_rate: Option<f64>,
    /// Whether this process reaches the warehouse it loads into; `None` where it has no workers.
    pub warehouse: Option<WarehouseState>,
    /// Share of requests answered 401 lately, 0 to 1; `None` where there were too few to tell.
    pub unauthorized: Option<f64>,
    /// Dead letters of the last while; `None` where their number is not known.
    pub new_dead_letters: Option<NewDeadLetters>,
    /// The processes on this stream; `None` where they are not known.
    pub nodes: Option<Vec<Node>>,
    /// Id of this process among them.
    pub own_node: Option<String>,
}

/// Clocks of two machines may differ; more than that is somebody's own id.
const FAR_AHEAD: Duration = Duration::from_secs(3600);

/// What this process saw its stores lose since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Confirmed entries.
    pub entries: u64,
    /// Losses whose number of entries is not known, or only bounded by what is counted in `entries`.
    pub unknown: u64,
}

/// Looks at the stream once.
///
/// # Errors
/// The stream did not answer.
pub async fn observe(stream: &dyn Stream) -> Result<Observation, StreamError> {
    let (report, server) = tokio::try_join!(stream.report(), stream.inspect())?;
    let (since_accepted, ids_ahead) = age_of_newest(&report);
    Ok(Observation {
        since_accepted,
        ids_ahead,
        eviction_policy: server.eviction_policy,
        stream: report,
        ..Observation::default()
    })
}

/// What is wrong with the stream's newest id, for `check` and the start to say.
#[must_use]
pub fn ids_warning(report: &StreamReport) -> Option<String> {
    let (_, ids_ahead) = age_of_newest(report);
    checks::ids_problem(report.last_id, ids_ahead).map(|(_, problem)| format!("stream ids: {problem}"))
}

/// Looks once, as a process that is no node and has watched nothing: at the stream, its nodes and what became dead letters
/// lately.
///
/// # Errors
/// The stream did not answer.
pub async fn observe_once(stream: &dyn Stream, thresholds: &Thresholds) -> Result<Observation, StreamError> {
    let ages = recent_ages(stream, &thresholds.levels.dead_letters);
    let (seen, nodes, ages) = tokio::join!(observe(stream), nodes::read(stream), ages);
    let new = |ages: Vec<Duration>| NewDeadLetters {
        count: ages.len() as u64,
        share: None,
    };
    Ok(Observation {
        nodes: nodes.ok(),
        new_dead_letters: ages.ok().map(new),
        ..seen?
    })
}

impl HealthReport {
    /// Judges what was found.
    #[must_use]
    pub fn judge(observation: &Observation, thresholds: &Thresholds) -> Self {
        let stream = &observation.stream;
        let ours = stream.groups.iter().find(|group| group.ours);
        let mut report = Self {
            stream_length: Some(stream.length),
            pending_count: ours.map(|group| group.pending),
            lag: ours.and_then(|group| group.lag),
            consumers: Some(stream.consumers.len() as u64),
            idle_consumers: Some(idle_consumers(stream, thresholds.claim_idle)),
            last_delivered_id: ours.map(|group| group.last_delivered.to_string()),
            oldest_backlog_seconds: stream.oldest_backlog.map(seconds),
            oldest_pending_seconds: stream.oldest_pending.map(seconds),
            last_accepted_seconds: observation.since_accepted.map(seconds),
            seconds_until_full: seconds_until_full(observation, thresholds),
            trim_held_by: trim_held_by(stream, thresholds.retain_acked),
            dead_letters: Some(stream.dead_letters),
            dead_letters_new: dead_letters::new_letters(observation),
            oldest_dead_letter_seconds: stream.oldest_dead_letter.map(seconds),
            workers: workers::live(observation),
            spool_drained_per_second: observation.drain_rate,
            ..Self::default()
        };
        report.checks = checks::all(&report, observation, thresholds);
        report.status = worst(&report.checks);
        report
    }

    /// What is known without the stream: whether the warehouse is reached, by a process that loads into one.
    fn of_warehouse(observation: &Observation, thresholds: &Thresholds) -> Self {
        let limit = thresholds.levels.warehouse_critical;
        let judged = |_| workers::warehouse(observation, limit, OffsetDateTime::now_utc());
        let checks = Vec::from_iter(observation.warehouse.as_ref().map(judged));
        Self {
            status: worst(&checks),
            checks,
            ..Self::default()
        }
    }

    /// Puts in, and counts in, what the stores lost. That is said at once and until the process ends: what is lost comes
    /// back only where it is sent again.
    #[must_use]
    pub fn with_losses(mut self, losses: Losses) -> Self {
        let check = checks::losses(losses);
        self.status = self.status.max(check.status);
        self.checks.push(check);
        self
    }

    /// The report where the last look failed, and why. It says nothing of writes: the stream may take them all the same.
    #[must_use]
    pub fn without_figures(why: impl fmt::Display) -> Self {
        Self::default().with_unknown_figures(why)
    }

    /// Puts first, and counts in, that the last look failed, and why.
    fn with_unknown_figures(mut self, why: impl fmt::Display) -> Self {
        let check = Check::unknown("figures", format!("not known at the last look: {why}"));
        self.status = self.status.max(check.status);
        self.checks.insert(0, check);
        self
    }

    /// Puts first, and counts in, why the stream takes no writes right now (`None`: it takes them). That is critical, but
    /// where events are spooled meanwhile.
    #[must_use]
    pub fn with_refusal(mut self, refusal: Option<String>, spooled: bool) -> Self {
        let check = match refusal {
            None => Check::new("stream", Status::Healthy, "it takes writes".to_owned()),
            Some(why) => {
                let status = if spooled { Status::Warning } else { Status::Critical };
                Check::new("stream", status, format!("it takes no writes: {why}"))
            }
        };
        self.status = self.status.max(check.status);
        self.checks.insert(0, check);
        self
    }
}

fn worst(checks: &[Check]) -> Status {
    checks.iter().map(|check| check.status).max().unwrap_or_default()
}

/// Seconds, to the millisecond.
#[allow(clippy::cast_precision_loss, reason = "an age in milliseconds is far below 2^52")]
fn seconds(age: Duration) -> f64 {
    age.as_millis() as f64 / 1000.0
}

/// Age of the newest entry, else how far its id is ahead of the clock: then it tells no age.
fn age_of_newest(report: &StreamReport) -> (Option<Duration>, Option<Duration>) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
    let Some((now, newest)) = now.zip(report.last_id) else {
        return (None, None);
    };
    let appended = Duration::from_millis(newest.ms);
    match appended.checked_sub(now).filter(|ahead| *ahead > FAR_AHEAD) {
        Some(ahead) => (None, Some(ahead)),
        None => (Some(now.saturating_sub(appended)), None),
    }
}

/// Before Redis 7.2 a quiet consumer's idle time grows too: only one that holds entries is idle.
fn idle_consumers(stream: &StreamReport, claim_idle: Duration) -> u64 {
    let idle = |consumer: &&crate::stream::ConsumerReport| consumer.pending > 0 && consumer.idle > claim_idle;
    stream.consumers.iter().filter(idle).count() as u64
}

/// The group that is furthest behind, where what it has not acked is more than is kept on purpose.
fn trim_held_by(stream: &StreamReport, retain_acked: u64) -> Option<String> {
    stream
        .groups
        .iter()
        .filter(|group| group.pending.saturating_add(group.lag.unwrap_or(stream.length)) > retain_acked)
        .min_by_key(|group| group.needs_from)
        .map(|group| group.name.clone())
}

/// Below `retain_acked` growth ends by itself: the trimmer has not begun yet.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate; a float cast saturates"
)]
fn seconds_until_full(observation: &Observation, thresholds: &Thresholds) -> Option<u64> {
    let stream = &observation.stream;
    let growth = observation.growth.filter(|growth| *growth > 0.0)?;
    if stream.length <= thresholds.retain_acked {
        return None;
    }
    let room = stream.maxlen.saturating_sub(stream.length);
    Some((room as f64 / growth) as u64)
}
