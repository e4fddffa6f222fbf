//! The sampler: takes a sample each time that the health collector has read the stream.
//!
//! Accepted events come from the stream's report; rates and latencies of loads are those of the
//! nodes, of the last 10 s, added up. Invariant: it calls no store, but to keep the
//! figures of a minute that has ended.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::history::{LiveHistory, LiveSnapshot, ProcessInfo, Sample};
use super::minutes::{MINUTE, MinuteSums};
use crate::health::HealthReport;
use crate::health::collector::Health;
use crate::nodes::{Latency, Loading, Node, Nodes};
use crate::stream::{Stream, StreamReport};

/// Bound on keeping a minute: samples wait for it.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Sampler {
    pub(super) history: watch::Sender<LiveHistory>,
    pub(super) node: ProcessInfo,
    pub(super) stream: Arc<dyn Stream>,
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
        let mut minutes = MinuteSums::default();
        // The collector ends with this role.
        while snapshots.changed().await.is_ok() {
            let look = snapshots.borrow_and_update().clone();
            let rate = accepted.per_second(look.at, look.stream.as_deref());
            let (_, report) = self.health.report();
            let nodes = self.nodes.current();
            let nodes_seen = nodes.as_deref().unwrap_or_default();
            let latency = Latency::sum(loading(nodes_seen).filter_map(|loading| loading.latency.as_ref()));
            let sample = sample(&report, rate, nodes_seen, &latency);
            let ended = minutes.add(&sample, &latency);
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
            if let Some(minute) = ended {
                self.keep(&minute).await;
            }
        }
    }

    async fn keep(&self, minute: &Sample) {
        // Numbers: this cannot fail.
        let record = serde_json::to_string(minute).unwrap_or_default();
        let keeping = self.stream.keep_minute(minute.at / MINUTE, &record);
        match tokio::time::timeout(PATIENCE, keeping).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a minute is missing in the history"),
            Err(_) => tracing::debug!("a minute is missing in the history: no answer"),
        }
    }
}

/// Both figures of a backlog are needed: half of one is no backlog.
fn sample(report: &HealthReport, accepted_per_second: Option<f64>, nodes: &[Node], latency: &Latency) -> Sample {
    Sample {
        at: unix_millis(),
        accepted_per_second,
        loaded_per_second: sum(loading(nodes).map(|loading| loading.loaded_per_second)),
        backlog: report.lag.zip(report.pending_count).map(|(lag, pending)| lag + pending),
        latency_p50_ms: latency.p50_ms,
        latency_p95_ms: latency.quantile_ms(0.95),
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

/// The count of entries ever added, in one report.
#[derive(Debug, Clone, Copy)]
struct Count {
    at: Instant,
    entries: u64,
    /// How often the store was known to have lost something.
    losses: u64,
}

/// Follows the count of entries ever added, by any producer.
#[derive(Debug, Default)]
struct AppendRate(Option<Count>);

impl AppendRate {
    /// Entries a second since the report before. `None` at the first report, and once after the
    /// stream lost entries or began anew. Without a report nothing changes: the next one covers all
    /// of the time.
    fn per_second(&mut self, at: Instant, stream: Option<&StreamReport>) -> Option<f64> {
        let stream = stream?;
        let new = stream.entries_added.map(|entries| Count {
            at,
            entries,
            losses: stream.lost.times,
        });
        let old = std::mem::replace(&mut self.0, new);
        new.zip(old).and_then(|(new, old)| new.per_second_since(old))
    }
}

impl Count {
    #[allow(clippy::cast_precision_loss, reason = "entries between two looks are far below 2^52")]
    fn per_second_since(self, old: Self) -> Option<f64> {
        let time = self.at.checked_duration_since(old.at)?.as_secs_f64();
        let grown = self.entries.checked_sub(old.entries)?;
        (time > 0.0 && self.losses == old.losses).then(|| grown as f64 / time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::{Intake, NodeRecord, Role, SpoolFigures};
    use crate::stream::Lost;

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
        for nodes in [&[][..], &[nobody][..]] {
            let unknown = sample(&HealthReport::default(), None, nodes, &Latency::default());
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
        assert_eq!(sample(&report, Some(7.5), &[], &Latency::default()).backlog, Some(7));
        let half = HealthReport { lag: None, ..report };
        assert_eq!(sample(&half, None, &[], &Latency::default()).backlog, None);
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
        let latency = Latency::sum(loading(&nodes).filter_map(|loading| loading.latency.as_ref()));
        let sample = sample(&HealthReport::default(), None, &nodes, &latency);
        assert_eq!((sample.loaded_per_second, sample.spool_depth), (Some(5.0), Some(11)));
        let single = Latency::of_counts([(40, 20)]);
        assert_eq!(
            (sample.latency_p50_ms, sample.latency_p99_ms),
            (single.p50_ms, single.p99_ms)
        );
    }

    fn stream(entries: Option<u64>, losses: u64) -> StreamReport {
        StreamReport {
            entries_added: entries,
            lost: Lost {
                times: losses,
                ..Lost::default()
            },
            ..StreamReport::default()
        }
    }

    #[test]
    fn a_rate_is_of_two_looks_at_one_stream() {
        let start = Instant::now();
        let mut accepted = AppendRate::default();
        for (millis, seen, rate) in [
            (0, Some((Some(1000), 0)), None),
            (1000, Some((Some(1000), 0)), Some(0.0)),
            (1500, Some((Some(1050), 0)), Some(100.0)),
            // No answer, then one for the whole time.
            (2500, None, None),
            (3500, Some((Some(1250), 0)), Some(100.0)),
            // The stream came back empty, and goes on.
            (4500, Some((Some(3), 0)), None),
            (5500, Some((Some(5), 0)), Some(2.0)),
            // It came back with more than it had.
            (6500, Some((Some(400), 1)), None),
            (7500, Some((Some(401), 1)), Some(1.0)),
            // There is none, then there is one.
            (8500, Some((None, 1)), None),
            (9500, Some((Some(9), 1)), None),
            (10_500, Some((Some(9), 1)), Some(0.0)),
            // Two looks at one time.
            (10_500, Some((Some(12), 1)), None),
        ] {
            let seen = seen.map(|(entries, losses)| stream(entries, losses));
            let at = start + Duration::from_millis(millis);
            assert_eq!(accepted.per_second(at, seen.as_ref()), rate, "at {millis} ms");
        }
    }
}
