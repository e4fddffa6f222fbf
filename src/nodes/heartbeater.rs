//! Role: the heartbeater keeps this process' record fresh, writes it beside the stream and reads
//! those of the others.
//!
//! Invariants: one call to the store every [`HEARTBEAT_EVERY`], whatever the load; every wait is
//! bounded; at the end the record is removed, and so are consumers with nothing pending. It is
//! stopped last.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::record::{Intake, Loading, NodeRecord};
use super::view::{FORGET_AFTER, HEARTBEAT_EVERY, Node, Nodes};
use super::window::{SampleWindow, Totals};
use crate::stream::{Heartbeat, Stream, StreamError};

/// From one sample of this process' figures to the next.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Bound on one answer of the store.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause after the store denied access.
const DENIED_PAUSE: Duration = Duration::from_secs(60);

/// Figures of this process at one moment, without its rates.
#[derive(Debug)]
pub struct Figures {
    /// Where it takes webhooks.
    pub intake: Option<Intake>,
    /// Where it loads.
    pub loading: Option<Loading>,
    /// Where it captures a database.
    pub capture: Option<Value>,
    /// What rates are made from.
    pub totals: Totals,
}

/// The role.
pub struct Heartbeater {
    /// Where records are kept.
    pub stream: Arc<dyn Stream>,
    /// Where the answers are published.
    pub nodes: Nodes,
    /// The record without figures.
    pub identity: NodeRecord,
    /// Reads the figures.
    pub figures: Box<dyn Fn() -> Figures + Send + Sync>,
}

impl fmt::Debug for Heartbeater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeater")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Heartbeater {
    /// Runs until `stop` fires.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.beat()).await;
        let leaving = self.stream.leave(&self.identity.id, &self.identity.consumers);
        match tokio::time::timeout(PATIENCE, leaving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the record of this process stays until it is stale"),
            Err(_) => tracing::debug!("the record of this process stays until it is stale: no answer"),
        }
    }

    async fn beat(&self) {
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut window = SampleWindow::default();
        let mut ticks_to_wait = 0;
        loop {
            ticks.tick().await;
            let record = self.sample(&mut window);
            self.nodes.set_own(record.clone());
            if ticks_to_wait > 1 {
                ticks_to_wait -= 1;
                continue;
            }
            let pause = match self.write(&record).await {
                Ok(()) => HEARTBEAT_EVERY,
                Err(StreamError::Denied(why)) => {
                    tracing::warn!(
                        why,
                        "nodes are not known: the user of the stream lacks a right (see GUARANTEES.md)"
                    );
                    DENIED_PAUSE
                }
                Err(error) => {
                    tracing::debug!(%error, "a heartbeat failed");
                    SAMPLE_EVERY
                }
            };
            ticks_to_wait = pause.as_secs() / SAMPLE_EVERY.as_secs();
        }
    }

    fn sample(&self, window: &mut SampleWindow) -> NodeRecord {
        let figures = (self.figures)();
        let rates = window.add(Instant::now(), figures.totals);
        NodeRecord {
            intake: figures.intake.map(|intake| Intake {
                accepted_per_second: rates.accepted_per_second,
                unauthorized_per_minute: rates.unauthorized_per_minute,
                ..intake
            }),
            loading: figures.loading.map(|loading| Loading {
                loaded_per_second: rates.loaded_per_second,
                latency: rates.latency,
                ..loading
            }),
            captured_per_second: figures.capture.as_ref().and(rates.captured_per_second),
            capture: figures.capture,
            ..self.identity.clone()
        }
    }

    async fn write(&self, record: &NodeRecord) -> Result<(), StreamError> {
        // Numbers, texts and lists: this cannot fail.
        let text = serde_json::to_string(record).unwrap_or_default();
        let writing = self.stream.heartbeat(&record.id, &text, FORGET_AFTER);
        let silence = || StreamError::Unconfirmed(format!("no answer to a heartbeat within {PATIENCE:?}"));
        let answer = tokio::time::timeout(PATIENCE, writing).await;
        self.nodes.set_all(nodes(answer.unwrap_or_else(|_| Err(silence()))?));
        Ok(())
    }
}

/// The nodes on a stream, for a process that is none itself.
///
/// # Errors
/// The stream did not answer.
pub async fn read(stream: &dyn Stream) -> Result<Vec<Node>, StreamError> {
    Ok(nodes(stream.heartbeats().await?))
}

/// In order of their ids. A record that cannot be read at all is known by its id alone.
fn nodes(heartbeats: Vec<Heartbeat>) -> Vec<Node> {
    let node = |heartbeat: Heartbeat| Node {
        record: NodeRecord {
            id: heartbeat.node,
            ..NodeRecord::read(serde_json::from_str(&heartbeat.record).unwrap_or_default())
        },
        heartbeat_age: heartbeat.age,
    };
    let mut nodes = Vec::from_iter(heartbeats.into_iter().map(node));
    nodes.sort_by(|one, other| one.record.id.cmp(&other.record.id));
    nodes
}
