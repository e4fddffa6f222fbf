//! The lease renewer: resets the idle time of entries in flight for as long as they are worked on.
//!
//! Invariants: it comes round well before the claim time. An entry that another consumer claimed,
//! because this process had stalled, is released and not counted against. An entry that the stream
//! lost stays in flight, since it is the last copy. Where this process did not stall, nobody could
//! claim anything: entries that are not ours were taken off the group by a foreign command, and
//! stay in flight too.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::consumer::Consumer;
use super::outage_log::{OutageLog, sleep_or_stop};
use crate::stream::{Refreshed, StreamError, StreamId};

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const REFRESHED_AT_ONCE: usize = 1000;

/// Refreshes what all consumers of this process have in flight until `drained` fires.
pub(super) async fn run(consumers: Vec<Arc<Consumer>>, drained: CancellationToken) {
    let mut outage = OutageLog::of("refreshing entries in flight");
    let claim_idle = consumers.iter().map(|consumer| consumer.config.claim_idle).min();
    let claim_idle = claim_idle.unwrap_or_default();
    let pause = (claim_idle / 4).max(SHORTEST_PAUSE);
    // Entries read since then are younger still.
    let mut fresh_since = Instant::now();
    loop {
        let began = Instant::now();
        let mut failed = None;
        for consumer in &consumers {
            consumer.ack_owed().await;
            if let Err(error) = refresh(consumer, fresh_since, claim_idle).await {
                failed = Some(error);
            }
        }
        match failed {
            Some(error) => drop(outage.failed(&error)),
            None => {
                outage.over();
                fresh_since = began;
            }
        }
        if !sleep_or_stop(pause, &drained).await {
            join_all(consumers.iter().map(|consumer| consumer.ack_owed())).await;
            return;
        }
    }
}

async fn refresh(consumer: &Consumer, fresh_since: Instant, claim_idle: Duration) -> Result<(), StreamError> {
    let in_flight = Vec::from_iter(consumer.in_flight.ids());
    for ids in in_flight.chunks(REFRESHED_AT_ONCE) {
        let refreshed = consumer.stream.refresh(&consumer.name, ids).await?;
        settle(consumer, ids, refreshed, fresh_since.elapsed() < claim_idle);
    }
    Ok(())
}

/// Reports lost entries, and releases those of another consumer.
fn settle(consumer: &Consumer, in_flight: &[StreamId], refreshed: Refreshed, is_fresh: bool) {
    let Refreshed { held, gone } = refreshed;
    if let Some(first) = gone.first() {
        consumer.metrics.entries_lost.inc_by(gone.len() as u64);
        let count = gone.len();
        error!(count, %first, "entries in flight are gone from the stream: they are loaded, but other readers lost them");
    }
    let ours = HashSet::<_>::from_iter(held.into_iter().chain(gone));
    // What was settled while the stream was answering is released already.
    let is_lost = |id: &StreamId| !ours.contains(id) && consumer.in_flight.contains(*id);
    let lost = Vec::from_iter(in_flight.iter().copied().filter(is_lost));
    if !lost.is_empty() && !is_fresh {
        let count = lost.len();
        warn!(
            count,
            consumer = consumer.name,
            "entries in flight are another consumer's now"
        );
        consumer.in_flight.release(&lost);
    }
}
