//! The trimmer: removes entries that every group has acked, beyond what is to be retained.
//!
//! Runs in every process, with workers or not, since readers of other groups ack too. Which entries
//! may be removed is the stream's decision; this role asks once a second, for one partition after the
//! other. Since it runs everywhere, it also tells how many partitions its process has, and learns how
//! many others have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::outage_log::{OutageLog, sleep_or_stop};
use crate::metrics::Metrics;
use crate::stream::Stream;

/// Interval at which this process tells and learns how many partitions there are.
const LEARN_EVERY: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_secs(1);

/// Trims until `stop` fires.
pub async fn run(stream: Arc<dyn Stream>, metrics: Metrics, stop: CancellationToken) {
    let mut outages: BTreeMap<u16, OutageLog> = BTreeMap::new();
    let mut turn = 0;
    let mut learned: Option<Instant> = None;
    while sleep_or_stop(PAUSE / u32::from(stream.readable()), &stop).await {
        if learned.is_none_or(|at| at.elapsed() >= LEARN_EVERY) && stream.learn_layout(true).await.is_ok() {
            learned = Some(Instant::now());
        }
        let partition = turn % stream.readable();
        turn = partition + 1;
        let outage = outages.entry(partition).or_insert_with(|| OutageLog::of("trimming"));
        match stream.trim(partition).await {
            Ok(trimmed) => {
                outage.over();
                let removed = trimmed.prefix + trimmed.pinned;
                metrics.entries_trimmed.inc_by(removed);
                if removed > 0 {
                    debug!(trimmed.prefix, trimmed.pinned, "removed acked entries");
                }
            }
            Err(error) => {
                outage.failed(&error);
            }
        }
    }
}
