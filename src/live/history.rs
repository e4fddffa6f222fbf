//! Samples and snapshots of the live view, and the history of the last 15 minutes.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use time::OffsetDateTime;

use crate::health::HealthReport;
use crate::nodes::Node;
use crate::stream::{ConsumerReport, GroupReport};

/// Samples that are kept: 15 minutes.
const KEPT: usize = 900;

/// The figures of one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "documented in openapi.yaml, field by field")]
pub struct Sample {
    pub at: u64,
    pub accepted_per_second: Option<f64>,
    pub loaded_per_second: Option<f64>,
    pub backlog: Option<u64>,
    pub latency_p50_ms: Option<f64>,
    pub latency_p95_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
    pub oldest_pending_seconds: Option<f64>,
    pub dead_letters: Option<u64>,
    pub spool_depth: Option<u64>,
}

/// A sample with everything that is shown beside it.
#[derive(Debug, Serialize)]
pub struct LiveSnapshot {
    pub(super) sample: Sample,
    pub(super) report: HealthReport,
    pub(super) groups: Option<Vec<GroupReport>>,
    pub(super) consumers: Option<Vec<ConsumerReport>>,
    pub(super) nodes: Option<Vec<Node>>,
    /// Id of this process among them.
    pub(super) node_id: Option<String>,
    pub(super) node: ProcessInfo,
}

/// The process that is asked.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ProcessInfo {
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

impl ProcessInfo {
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
pub(super) struct LiveHistory {
    pub(super) samples: VecDeque<Sample>,
    pub(super) now: Option<Arc<LiveSnapshot>>,
}

impl LiveHistory {
    pub(super) fn add(&mut self, now: LiveSnapshot) {
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(now.sample.clone());
        self.now = Some(Arc::new(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_sample_gives_way() {
        let node = ProcessInfo {
            command: "run",
            version: "0",
            started_at: OffsetDateTime::UNIX_EPOCH,
            has_warehouse: false,
            storage: Stores {
                stream: "embedded",
                warehouse: None,
            },
        };
        let mut history = LiveHistory::default();
        for at in 0..=KEPT as u64 {
            history.add(LiveSnapshot {
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
