//! Role: takes a sample at each look of the health collector's.
//!
//! Owns how often the warehouse is asked: every five seconds, every two while somebody watches, never twice at once. A
//! warehouse that does not answer costs its figures only. Invariant: the stream is not asked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rate::Accepted;
use super::{Live, Now, Sample};
use crate::health::HealthReport;
use crate::health::collector::Health;
use crate::operations::Consumers;
use crate::warehouse::Warehouse;
use crate::warehouse::loads::Loads;

/// From one question to the warehouse to the next, and while somebody watches.
const ASK_EVERY: Duration = Duration::from_secs(5);
const ASK_OFTEN: Duration = Duration::from_secs(2);
/// The span that rates and quantiles of loads are over: the longer pause, so that no load falls between.
const LATELY: Duration = ASK_EVERY;
/// Rows of that span that are looked at: about ten milliseconds' work.
const MOST_ROWS: usize = 10_000;

pub(super) struct Sampler {
    live: Live,
    health: Health,
    warehouse: Option<Arc<dyn Warehouse>>,
    /// The warehouse's last answer; `None` where it had none.
    loads: watch::Sender<Option<Loads>>,
}

impl Sampler {
    pub(super) fn new(live: Live, health: Health, warehouse: Option<Arc<dyn Warehouse>>) -> Self {
        Self {
            live,
            health,
            warehouse,
            loads: watch::Sender::default(),
        }
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let both = async { tokio::join!(self.follow_stream(), self.follow_warehouse()) };
        stop.run_until_cancelled(both).await;
        stop.cancelled().await;
    }

    async fn follow_stream(&self) {
        let mut looks = self.health.looks();
        let mut accepted = Accepted::default();
        // The collector ends with this role.
        while looks.changed().await.is_ok() {
            let look = looks.borrow_and_update().clone();
            let rate = accepted.per_second(look.at, look.stream.as_deref());
            let (_, report) = self.health.report();
            let sample = sample(&report, rate, *self.loads.borrow());
            let readers = look.stream.as_deref().map(Consumers::from);
            let (groups, consumers) = readers.map(|readers| (readers.groups, readers.consumers)).unzip();
            let now = Now {
                sample,
                report,
                groups,
                consumers,
                node: self.live.node,
            };
            self.live.record.send_modify(|record| record.add(now));
        }
    }

    async fn follow_warehouse(&self) {
        let Some(warehouse) = &self.warehouse else {
            return;
        };
        loop {
            let asked = Instant::now();
            let answer = warehouse.loads(LATELY, MOST_ROWS).await;
            if let Err(error) = &answer {
                tracing::debug!(%error, "the warehouse does not tell what was loaded");
            }
            self.loads.send_replace(answer.ok());
            let pause = if self.live.is_watched() { ASK_OFTEN } else { ASK_EVERY };
            // A slow answer must not make the pause longer than what the next one tells of.
            tokio::time::sleep_until(asked + pause).await;
        }
    }
}

/// Both figures of a backlog are needed: half of one is no backlog.
fn sample(report: &HealthReport, accepted_per_second: Option<f64>, loads: Option<Loads>) -> Sample {
    let latency = loads.and_then(|loads| loads.latency);
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    Sample {
        at: unix_millis(),
        accepted_per_second,
        loaded_per_second: loads.map(|loads| loads.per_second()),
        backlog: report.lag.zip(report.pending_count).map(|(lag, pending)| lag + pending),
        latency_p50_ms: latency.map(|latency| millis(latency.p50)),
        latency_p99_ms: latency.map(|latency| millis(latency.p99)),
        oldest_pending_seconds: report.oldest_pending_seconds,
        dead_letters: report.dead_letters,
        spool_depth: report.spool_depth,
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warehouse::loads::Latency;

    #[test]
    fn what_is_not_known_is_null() {
        let unknown = sample(&HealthReport::default(), None, None);
        assert_eq!(
            unknown,
            Sample {
                at: unknown.at,
                ..Sample::default()
            }
        );

        let report = HealthReport {
            lag: Some(3),
            pending_count: Some(4),
            ..HealthReport::default()
        };
        let loads = Loads {
            rows: 10,
            within: Duration::from_secs(5),
            latency: Some(Latency {
                p50: Duration::from_millis(20),
                p99: Duration::from_millis(30),
            }),
        };
        let known = sample(&report, Some(7.5), Some(loads));
        let rates = (known.accepted_per_second, known.loaded_per_second);
        assert_eq!(rates, (Some(7.5), Some(2.0)));
        assert_eq!(known.backlog, Some(7));
        assert_eq!((known.latency_p50_ms, known.latency_p99_ms), (Some(20.0), Some(30.0)));

        let half = HealthReport { lag: None, ..report };
        assert_eq!(sample(&half, None, None).backlog, None);
    }
}
