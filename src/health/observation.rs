//! What is judged: the figures of one moment, and what they are judged by.

use std::time::{Duration, SystemTime};

use super::recent_dead_letters::{NewDeadLetters, recent_ages};
use crate::config::{Config, HealthConfig};
use crate::nodes::{self, Node, WarehouseState};
use crate::stream::{Stream, StreamError, StreamReport};

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
    /// Address of the server, without credentials.
    pub server: String,
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
    /// Since when an operator has paused our group, RFC 3339.
    pub paused_since: Option<String>,
}

/// Clocks of two machines may differ; more than that is somebody's own id.
const FAR_AHEAD: Duration = Duration::from_secs(3600);

/// Bound on one question to the stream.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bounded here too, so that the report tells of a stream that hangs before the call gives up.
pub(super) async fn patiently<T>(asking: impl Future<Output = Result<T, StreamError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer from the stream within {PATIENCE:?}")),
    }
}

/// Looks at the stream once.
///
/// # Errors
/// The stream did not answer.
pub async fn observe(stream: &dyn Stream) -> Result<Observation, StreamError> {
    // Where it may not be asked for, workers go on as well.
    let paused = async { Ok(stream.paused_since().await.unwrap_or_default()) };
    let (report, server, paused_since) = tokio::try_join!(stream.report(), stream.inspect(), paused)?;
    let (since_accepted, ids_ahead) = age_of_newest(&report);
    Ok(Observation {
        since_accepted,
        ids_ahead,
        server: server.address,
        eviction_policy: server.eviction_policy,
        stream: report,
        paused_since,
        ..Observation::default()
    })
}

/// Looks once, as a process that is no node and has watched nothing: at the stream, its nodes and
/// what became dead letters lately.
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

/// Age of the newest entry, else how far its id is ahead of the clock: then it tells no age.
pub(super) fn age_of_newest(report: &StreamReport) -> (Option<Duration>, Option<Duration>) {
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
