//! The trimmer: removes entries that every group has acked, beyond what is to be retained.
//!
//! Runs in every process, with workers or not, since readers of other groups ack too. Which entries
//! may be removed is the stream's decision; this role asks once a second, for one partition after the
//! other.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::outage_log::{OutageLog, sleep_or_stop};
use crate::metrics::Metrics;
use crate::stream::Stream;

const PAUSE: Duration = Duration::from_secs(1);

/// Trims until `stop` fires.
pub async fn run(stream: Arc<dyn Stream>, metrics: Metrics, stop: CancellationToken) {
    let mut outages = Vec::from_iter((0..stream.partitions()).map(|_| OutageLog::of("trimming")));
    let pause = PAUSE / u32::from(stream.partitions());
    let mut turn = 0;
    while sleep_or_stop(pause, &stop).await {
        let partition = turn % stream.partitions();
        turn = partition + 1;
        let Some(outage) = outages.get_mut(usize::from(partition)) else {
            continue;
        };
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
