//! The trimmer: removes entries that every group has acked, beyond what is to be retained.
//!
//! Runs in every process, with workers or not, since readers of other groups ack too. Which entries
//! may be removed is the stream's decision; this role asks once a second.

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
    let mut outage = OutageLog::of("trimming");
    while sleep_or_stop(PAUSE, &stop).await {
        match stream.trim(0).await {
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
