//! The reader of further partitions: those that processes with more of them write to, or wrote to
//! before their number was made smaller. They have no readers here that wait.
//!
//! Invariants: as the reader's. It runs in the first consumer of a process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::consumer::{Consumer, InFlightPage};
use super::outage_log::{OutageLog, sleep_or_stop};
use super::pause::GroupPause;
use crate::stream::{StreamError, StreamId};

const INTERVAL: Duration = Duration::from_secs(5);
/// For one that had nothing the last time.
const EMPTY_INTERVAL: Duration = Duration::from_secs(60);

/// Reads them until `stop` fires.
pub(super) async fn run(
    consumer: Arc<Consumer>,
    pages: mpsc::Sender<InFlightPage>,
    pause: Arc<GroupPause>,
    stop: CancellationToken,
) {
    let mut outage = OutageLog::of("reading further partitions");
    let mut due: BTreeMap<u16, Instant> = BTreeMap::new();
    while sleep_or_stop(INTERVAL, &stop).await {
        for partition in consumer.stream.partitions()..consumer.stream.readable() {
            if due.get(&partition).is_some_and(|due| *due > Instant::now()) {
                continue;
            }
            match stop
                .run_until_cancelled(empty(&consumer, partition, &pages, &pause, &stop))
                .await
            {
                None => return,
                Some(Ok(count)) => {
                    outage.over();
                    let interval = if count > 0 { Duration::ZERO } else { EMPTY_INTERVAL };
                    due.insert(partition, Instant::now() + interval);
                }
                Some(Err(error)) => {
                    outage.failed(&error);
                }
            }
        }
    }
}

/// Reads all that is there; answers how many entries that were.
async fn empty(
    consumer: &Consumer,
    partition: u16,
    pages: &mpsc::Sender<InFlightPage>,
    pause: &GroupPause,
    stop: &CancellationToken,
) -> Result<usize, StreamError> {
    let mut count = 0;
    // A read whose answer was lost leaves entries pending, which no claim of stale ones finds.
    let mut own = Some(StreamId::MIN.with_part(partition));
    loop {
        let Ok(permit) = pages.reserve().await else {
            return Ok(count);
        };
        let memory = consumer.reserve_page().await;
        if pause.is_on() {
            return Ok(count);
        }
        let (page, is_last);
        match own {
            Some(start) => {
                is_last = false;
                (page, own) = consumer.claim_own(start, memory).await?;
            }
            None => {
                page = consumer.read_further(partition, memory, stop).await?;
                is_last = page.entries.is_empty();
            }
        }
        if is_last {
            return Ok(count);
        }
        if !page.entries.is_empty() {
            count += page.entries.len();
            permit.send(page);
        }
    }
}
