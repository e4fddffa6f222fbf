//! The loss monitor: logs and counts confirmed entries that the store lost, as after FLUSHALL or a
//! failover to a replica that lagged, and entries that a foreign command took off our group.
//!
//! No call fails for such a loss; the stream notices it. Invariant: a loss is logged once, with how
//! many events may be missing from the warehouse, and counted.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::outage_log::{OutageLog, sleep_or_stop};
use crate::metrics::Metrics;
use crate::stream::{Lost, Stream, StreamError};

const PAUSE: Duration = Duration::from_secs(1);

/// Runs until `stop` fires.
pub async fn run(stream: Arc<dyn Stream>, metrics: Metrics, stop: CancellationToken) {
    let mut outage = OutageLog::of("watching the stream");
    let mut known = Lost::default();
    while sleep_or_stop(PAUSE, &stop).await {
        let report = match stream.report().await {
            Ok(report) => report,
            Err(error) => {
                outage.failed(&error);
                continue;
            }
        };
        if let Err(error) = restore(&*stream, &metrics).await {
            outage.failed(&error);
            continue;
        }
        outage.over();
        if report.lost.times > known.times {
            let may_be_missing = report.lost.entries - known.entries;
            let dead_letters_missing = report.lost.dead_letters - known.dead_letters;
            metrics.entries_lost.inc_by(may_be_missing + dead_letters_missing);
            error!(
                may_be_missing,
                dead_letters_missing,
                is_at = report.last_id.map(|id| id.to_string()),
                "the stream lost entries that it had confirmed (emptied, or failed over?): of those, what was not yet \
                 loaded is missing unless its sender sends it again"
            );
        }
        known = report.lost;
    }
}

async fn restore(stream: &dyn Stream, metrics: &Metrics) -> Result<(), StreamError> {
    for restored in stream.restore().await? {
        metrics.entries_restored.inc_by(restored.entries);
        warn!(
            cause = restored.cause,
            entries = restored.entries,
            "a foreign command took entries off the group: they are pending again, and are loaded as after a replay"
        );
    }
    Ok(())
}
