//! The reclaimer: takes over entries that other consumers left pending, and its consumer's own in
//! partitions that this does not read.
//!
//! Invariants: it claims only with a place in the channel and memory for a page, and only while the
//! handler is ready and the group not paused: during an outage a claim would only move entries and
//! raise their delivery counts. It runs in the first consumer of a process.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::backoff::spread;
use super::consumer::{Consumer, InFlightPage};
use super::outage_log::{OutageLog, sleep_or_stop};
use super::pause::GroupPause;
use crate::stream::{StreamError, StreamId};

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Reclaims until `stop` fires.
pub(super) async fn run(
    consumer: Arc<Consumer>,
    pages: mpsc::Sender<InFlightPage>,
    pause: Arc<GroupPause>,
    stop: CancellationToken,
) {
    let interval = (consumer.config.claim_idle / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    let mut outages = Vec::new();
    // Whether entries of its own may be pending there: of a run with other readers, or of a claim
    // whose answer was lost. No claim of stale entries finds them.
    let mut may_own = Vec::new();
    while sleep_or_stop(spread(interval, rand::random()), &stop).await {
        match stop.run_until_cancelled(consumer.handler.ready()).await {
            None => return,
            Some(Err(_)) => continue,
            Some(Ok(())) => {}
        }
        let partitions = usize::from(consumer.stream.readable());
        outages.resize_with(partitions, || OutageLog::of("reclaiming"));
        may_own.resize(partitions, true);
        for ((partition, outage), may_own) in (0..).zip(&mut outages).zip(&mut may_own) {
            match stop
                .run_until_cancelled(pass(&consumer, &pages, &pause, (partition, *may_own)))
                .await
            {
                None => return,
                Some(Ok(())) => {
                    *may_own = false;
                    outage.over();
                }
                Some(Err(error)) => {
                    *may_own = true;
                    outage.failed(&error);
                }
            }
        }
    }
}

/// Claims all stale entries of a partition once, its own first where there may be some. Dropping
/// the future is safe: what was claimed is then pending with this consumer.
async fn pass(
    consumer: &Consumer,
    pages: &mpsc::Sender<InFlightPage>,
    pause: &GroupPause,
    (partition, may_own): (u16, bool),
) -> Result<(), StreamError> {
    let first = StreamId::MIN.with_part(partition);
    let (mut start, mut own) = (Some(first), may_own);
    while let Some(from) = start {
        let Ok(permit) = pages.reserve().await else {
            return Ok(());
        };
        let memory = consumer.reserve_page().await;
        if pause.is_on() {
            return Ok(());
        }
        let page;
        if own {
            (page, start) = consumer.claim_own(from, memory).await?;
            if start.is_none() {
                (own, start) = (false, Some(first));
            }
        } else {
            (page, start) = consumer.claim_stale(from, memory).await?;
            if !page.entries.is_empty() {
                consumer.metrics.reclaimed.inc_by(page.entries.len() as u64);
                info!(
                    count = page.entries.len(),
                    consumer = consumer.name,
                    "took over entries that others left pending"
                );
            }
        }
        if !page.entries.is_empty() {
            permit.send(page);
        }
    }
    Ok(())
}
