//! The keeper: keeps what is in hand from looking stale, for as long as it is being worked on.
//!
//! Invariants: it comes round well before the claim time; what another consumer took over (this process had stalled)
//! is dropped from the hand and counts for nothing any more.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::consumer::Consumer;
use super::outage::{Outage, rest};
use crate::stream::{StreamError, StreamId};

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const REFRESHED_AT_ONCE: usize = 1000;

/// Refreshes what all consumers of this process hold until `drained` fires.
pub(super) async fn run(consumers: Vec<Arc<Consumer>>, drained: CancellationToken) {
    let mut outage = Outage::of("refreshing entries in hand");
    loop {
        for consumer in &consumers {
            match refresh(consumer).await {
                Ok(()) => outage.over(),
                Err(error) => {
                    outage.failed(&error);
                }
            }
        }
        let claim_idle = consumers.iter().map(|consumer| consumer.config.claim_idle).min();
        let pause = (claim_idle.unwrap_or_default() / 4).max(SHORTEST_PAUSE);
        if !rest(pause, &drained).await {
            return;
        }
    }
}

async fn refresh(consumer: &Consumer) -> Result<(), StreamError> {
    let ids: Vec<StreamId> = consumer.held.ids().into_iter().collect();
    for ids in ids.chunks(REFRESHED_AT_ONCE) {
        let still_ours = consumer.stream.refresh(&consumer.name, ids).await?;
        let still_ours = std::collections::HashSet::<_>::from_iter(still_ours);
        // What was settled while the stream was answering is neither ours nor lost.
        let lost: Vec<StreamId> = ids
            .iter()
            .copied()
            .filter(|id| !still_ours.contains(id) && consumer.held.contains(*id))
            .collect();
        if !lost.is_empty() {
            warn!(
                count = lost.len(),
                consumer = consumer.name,
                "entries in hand are another consumer's now, or gone from the stream"
            );
            consumer.held.release(&lost);
        }
    }
    Ok(())
}
