//! The sampler: takes a sample each time that the health collector has read the stream.
//!
//! Accepted events come from the stream's report; rates and latencies of loads are those of the
//! nodes, of the last 10 s, added up. Invariant: it calls neither stream nor warehouse.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::history::{LiveHistory, LiveSnapshot, ProcessInfo, Sample};
use super::rate::AppendRate;
use crate::health::HealthReport;
use crate::health::collector::Health;
use crate::nodes::{Latency, Loading, Node, Nodes};

pub(super) struct Sampler {
    pub(super) history: watch::Sender<LiveHistory>,
    pub(super) node: ProcessInfo,
    pub(super) health: Health,
    pub(super) nodes: Nodes,
}

impl Sampler {
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
        stop.cancelled().await;
    }

    async fn follow(&self) {
        let mut snapshots = self.health.snapshots();
        let mut accepted = AppendRate::default();
        // The collector ends with this role.
        while snapshots.changed().await.is_ok() {
            let look = snapshots.borrow_and_update().clone();
            let rate = accepted.per_second(look.at, look.stream.as_deref());
            let (_, report) = self.health.report();
            let nodes = self.nodes.current();
            let sample = sample(&report, rate, nodes.as_deref());
            let stream_report = look.stream.as_deref();
            let (groups, consumers) = stream_report
                .map(|stream| (stream.groups.clone(), stream.consumers.clone()))
                .unzip();
            let now = LiveSnapshot {
                sample,
                report,
                groups,
                consumers,
                nodes,
                node_id: self.nodes.own_id(),
                node: self.node,
            };
            self.history.send_modify(|history| history.add(now));
        }
    }
}

/// Both figures of a backlog are needed: half of one is no backlog.
fn sample(report: &HealthReport, accepted_per_second: Option<f64>, nodes: Option<&[Node]>) -> Sample {
    let nodes = nodes.unwrap_or_default();
    let latency = Latency::sum(loading(nodes).filter_map(|loading| loading.latency.as_ref()));
    Sample {
        at: unix_millis(),
        accepted_per_second,
        loaded_per_second: sum(loading(nodes).map(|loading| loading.loaded_per_second)),
        backlog: report.lag.zip(report.pending_count).map(|(lag, pending)| lag + pending),
        latency_p50_ms: latency.p50_ms,
        latency_p99_ms: latency.p99_ms,
        oldest_pending_seconds: report.oldest_pending_seconds,
        dead_letters: report.dead_letters,
        spool_depth: spooled(nodes).or(report.spool_depth),
    }
}

/// Of the workers that are there.
fn loading(nodes: &[Node]) -> impl Iterator<Item = &Loading> {
    let live = nodes.iter().filter(|node| node.is_live_worker());
    live.filter_map(|node| node.record.loading.as_ref())
}

/// Of those that tell; unknown where none does.
fn sum(rates: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    rates.flatten().reduce(|sum, rate| sum + rate)
}

/// In the spools of all nodes that are there; `None` where none has one.
fn spooled(nodes: &[Node]) -> Option<u64> {
    let live = nodes.iter().filter(|node| !node.is_stale());
    let spools = live.filter_map(|node| node.record.intake.as_ref()?.spool.as_ref()?.depth);
    spools.reduce(u64::saturating_add)
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since: Duration| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::{Intake, NodeRecord, Role, SpoolFigures};

    fn node(role: Role, age: u64, loaded: Option<f64>, spooled: Option<u64>) -> Node {
        let latency = loaded.map(|_| Latency::of_counts([(40, 10)]));
        Node {
            record: NodeRecord {
                role,
                intake: Some(Intake {
                    spool: spooled.map(|depth| SpoolFigures {
                        depth: Some(depth),
                        ..SpoolFigures::default()
                    }),
                    ..Intake::default()
                }),
                loading: Some(Loading {
                    loaded_per_second: loaded,
                    latency,
                    ..Loading::default()
                }),
                ..NodeRecord::default()
            },
            heartbeat_age: Duration::from_secs(age),
        }
    }

    #[test]
    fn what_is_not_known_is_null() {
        let nobody = node(Role::Serve, 0, None, None);
        for nodes in [None, Some(&[][..]), Some(&[nobody][..])] {
            let unknown = sample(&HealthReport::default(), None, nodes);
            let expected = Sample {
                at: unknown.at,
                ..Sample::default()
            };
            assert_eq!(unknown, expected);
        }

        let report = HealthReport {
            lag: Some(3),
            pending_count: Some(4),
            ..HealthReport::default()
        };
        assert_eq!(sample(&report, Some(7.5), None).backlog, Some(7));
        let half = HealthReport { lag: None, ..report };
        assert_eq!(sample(&half, None, None).backlog, None);
    }

    #[test]
    fn nodes_that_are_there_are_added_up() {
        let nodes = [
            node(Role::Work, 1, Some(2.0), None),
            node(Role::Run, 5, Some(3.0), Some(7)),
            node(Role::Work, 60, Some(100.0), Some(100)),
            node(Role::Work, 1, None, None),
            node(Role::Serve, 1, None, Some(4)),
        ];
        let sample = sample(&HealthReport::default(), None, Some(&nodes));
        assert_eq!((sample.loaded_per_second, sample.spool_depth), (Some(5.0), Some(11)));
        let single = Latency::of_counts([(40, 20)]);
        assert_eq!(
            (sample.latency_p50_ms, sample.latency_p99_ms),
            (single.p50_ms, single.p99_ms)
        );
    }
}
