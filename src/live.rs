//! The live view: the figures of the pipeline, second by second, of the last 15 minutes.
//!
//! They come from the stream (entries ever appended) and from the records of all nodes (what each
//! loads), so that any node shows the whole. Must not know HTTP. Invariants: memory is bounded,
//! whatever the number and speed of viewers; a viewer costs the stream no call, since the health
//! collector's are used; what is not known is null, never 0.

mod rate;
mod sampler;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::sampler::Sampler;
use crate::health::HealthReport;
use crate::health::collector::Health;
use crate::nodes::{Node, Nodes};
use crate::shutdown::Roles;
use crate::stream::{ConsumerReport, GroupReport};

/// Milliseconds between two samples, as long as the stream answers at once.
pub const INTERVAL_MS: u64 = 1000;
/// Samples that are kept: 15 minutes.
const KEPT: usize = 900;
/// Viewers at once.
const VIEWERS: usize = 32;

/// The figures of one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "documented in openapi.yaml, field by field")]
pub struct Sample {
    pub at: u64,
    pub accepted_per_second: Option<f64>,
    pub loaded_per_second: Option<f64>,
    pub backlog: Option<u64>,
    pub latency_p50_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
    pub oldest_pending_seconds: Option<f64>,
    pub dead_letters: Option<u64>,
    pub spool_depth: Option<u64>,
}

/// A sample with everything that is shown beside it.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    sample: Sample,
    report: HealthReport,
    groups: Option<Vec<GroupReport>>,
    consumers: Option<Vec<ConsumerReport>>,
    nodes: Option<Vec<Node>>,
    /// Id of this process among them.
    node_id: Option<String>,
    node: Process,
}

/// The process that is asked.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Process {
    /// `run`, `serve` or `work`.
    pub command: &'static str,
    /// Of the program.
    pub version: &'static str,
    /// Since when it runs.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// Whether it loads the warehouse itself.
    pub has_warehouse: bool,
    /// Its stores.
    pub storage: Stores,
}

impl Process {
    /// Whether there may be other processes on the same stream: a file has one.
    #[must_use]
    pub fn has_neighbours(&self) -> bool {
        self.storage.stream != "embedded"
    }
}

/// The stores of a process.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Stores {
    /// `redis` or `embedded`.
    pub stream: &'static str,
    /// `postgres` or `embedded`; `None` in a process that opens none.
    pub warehouse: Option<&'static str>,
}

/// The last minutes, and the last snapshot.
#[derive(Debug, Default)]
struct History {
    samples: VecDeque<Sample>,
    now: Option<Arc<Snapshot>>,
}

impl History {
    fn add(&mut self, now: Snapshot) {
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(now.sample.clone());
        self.now = Some(Arc::new(now));
    }
}

/// The last minutes, and places for viewers; a cheap clone.
#[derive(Debug, Clone)]
pub struct Live {
    history: watch::Sender<History>,
    node: Process,
    places: Arc<Semaphore>,
}

impl Live {
    /// Starts the sampler among `roles`, which are to be those of the collector behind `health`.
    #[must_use]
    pub fn start(health: Health, nodes: Nodes, node: Process, roles: &Roles) -> Self {
        let live = Self {
            history: watch::Sender::default(),
            node,
            places: Arc::new(Semaphore::new(VIEWERS)),
        };
        let sampler = Sampler::new(live.clone(), health, nodes);
        roles.spawn("sampler", sampler.run(roles.stop_token()));
        live
    }

    /// The process that is watched.
    #[must_use]
    pub fn node(&self) -> Process {
        self.node
    }

    /// A place to watch from; `None` where all are taken.
    #[must_use]
    pub fn watch(&self) -> Option<Viewer> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Viewer {
            record: self.history.subscribe(),
            _place: place,
        })
    }
}

/// A viewer. Nothing is queued for it: it skips the snapshots that come while it is busy.
#[derive(Debug)]
pub struct Viewer {
    history: watch::Receiver<History>,
    _place: OwnedSemaphorePermit,
}

impl Viewer {
    /// The samples of the last minutes, oldest first. [`Viewer::next`] goes on after them.
    pub fn history(&mut self) -> Vec<Sample> {
        self.history.borrow_and_update().samples.iter().cloned().collect()
    }

    /// Waits for the next snapshot; `None` when there will be none.
    pub async fn next(&mut self) -> Option<Arc<Snapshot>> {
        self.history.changed().await.ok()?;
        self.history.borrow_and_update().now.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_sample_gives_way() {
        let node = Process {
            command: "run",
            version: "0",
            started_at: OffsetDateTime::UNIX_EPOCH,
            has_warehouse: false,
            storage: Stores {
                stream: "embedded",
                warehouse: None,
            },
        };
        let mut history = History::default();
        for at in 0..=KEPT as u64 {
            history.add(Snapshot {
                sample: Sample {
                    at,
                    ..Sample::default()
                },
                report: HealthReport::default(),
                groups: None,
                consumers: None,
                nodes: None,
                node_id: None,
                node,
            });
        }
        assert_eq!(history.samples.len(), KEPT);
        assert_eq!(history.samples.front().map(|sample| sample.at), Some(1));
        assert_eq!(history.samples.back().map(|sample| sample.at), Some(KEPT as u64));
    }
}
