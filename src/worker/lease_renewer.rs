//! The lease renewer: keeps what is in hand from looking stale, for as long as it is being worked on.
//!
//! Invariants: it comes round well before the claim time; what another consumer took over (this process had stalled)
//! is dropped from the hand and counts for nothing any more; what the stream lost stays in hand, since it is the last copy.
//! Where this process has not stalled, nobody could take over anything: what is not ours any more was taken off the group by
//! a foreign command, and stays in hand too.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::consumer::Consumer;
use super::outage_log::{OutageLog, sleep_or_stop};
use crate::stream::{Refreshed, StreamError, StreamId};

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const REFRESHED_AT_ONCE: usize = 1000;

/// Refreshes what all consumers of this process hold until `drained` fires.
pub(super) async fn run(consumers: Vec<Arc<Consumer>>, drained: CancellationToken) {
    let mut outage = OutageLog::of("refreshing entries in hand");
    let claim_idle = consumers.iter().map(|consumer| consumer.config.claim_idle).min();
    let claim_idle = claim_idle.unwrap_or_default();
    let pause = (claim_idle / 4).max(SHORTEST_PAUSE);
    // What was read since is younger still.
    let mut fresh_since = Instant::now();
    loop {
        let began = Instant::now();
        let mut is_whole = true;
        for consumer in &consumers {
            match refresh(consumer, fresh_since, claim_idle).await {
                Ok(()) => outage.over(),
                Err(error) => {
                    is_whole = false;
                    outage.failed(&error);
                }
            }
        }
        if is_whole {
            fresh_since = began;
        }
        if !sleep_or_stop(pause, &drained).await {
            return;
        }
    }
}

async fn refresh(consumer: &Consumer, fresh_since: Instant, claim_idle: Duration) -> Result<(), StreamError> {
    let in_hand = Vec::from_iter(consumer.in_flight.ids());
    for ids in in_hand.chunks(REFRESHED_AT_ONCE) {
        let refreshed = consumer.stream.refresh(&consumer.name, ids).await?;
        settle(consumer, ids, refreshed, fresh_since.elapsed() < claim_idle);
    }
    Ok(())
}

/// Says what is gone, and lets go of what is in other hands now.
fn settle(consumer: &Consumer, in_hand: &[StreamId], refreshed: Refreshed, is_fresh: bool) {
    let Refreshed { held, gone } = refreshed;
    if let Some(first) = gone.first() {
        consumer.metrics.entries_lost.inc_by(gone.len() as u64);
        let count = gone.len();
        error!(count, %first, "entries in hand are gone from the stream: they are loaded, but other readers lost them");
    }
    let ours = HashSet::<_>::from_iter(held.into_iter().chain(gone));
    // What was settled while the stream was answering needs no letting go.
    let is_lost = |id: &StreamId| !ours.contains(id) && consumer.in_flight.contains(*id);
    let lost = Vec::from_iter(in_hand.iter().copied().filter(is_lost));
    if !lost.is_empty() && !is_fresh {
        let count = lost.len();
        warn!(
            count,
            consumer = consumer.name,
            "entries in hand are another consumer's now"
        );
        consumer.in_flight.release(&lost);
    }
}
