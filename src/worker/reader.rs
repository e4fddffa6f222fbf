//! The reader: fetches pages of a partition's entries for one consumer's processor.
//!
//! Invariants: it reads only with a place in the channel and memory for the page. The consumer's
//! own pending entries come first at the start, after every error (a lost reply leaves entries
//! pending) and once per claim time. An entry in flight is not fetched again.
//!
//! A read of new entries asks for twice as many as the last one brought. Where events come in
//! bursts, a load of few then gives the cores that PostgreSQL shares with the intake back soon; a
//! backlog is read in full pages from the fifth read on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::consumer::{Consumer, InFlightPage};
use super::memory::Reservation;
use super::outage_log::{OutageLog, sleep_or_stop};
use super::pause::GroupPause;
use crate::stream::{Reader, StreamError, StreamId};

/// Entries that a read asks for after one that brought few.
const SHORTEST_READ: usize = 32;

/// Least time between two passes over the own pending entries.
const SHORTEST_SWEEP: Duration = Duration::from_secs(1);

/// Reads that partition until `stop` fires; it is the nth reader of its consumer.
pub(super) async fn run(
    consumer: Arc<Consumer>,
    (nth, partition): (usize, u16),
    pages: mpsc::Sender<InFlightPage>,
    pause: Arc<GroupPause>,
    stop: CancellationToken,
) {
    let mut source = Source {
        reader: consumer.stream.reader(&consumer.name, partition),
        sweep: Sweep::due_now(partition),
        at_most: SHORTEST_READ,
    };
    let mut outage = OutageLog::of("reading");
    let Some(liveness) = consumer.reading.get(nth) else {
        return;
    };
    loop {
        liveness.idle();
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = pages.reserve() => permit,
        };
        let Ok(permit) = permit else { return };
        let Some(memory) = stop.run_until_cancelled(consumer.reserve_page()).await else {
            return;
        };
        let Some(running) = pause.running(&stop).await else {
            return;
        };
        liveness.beat();
        match source.next(&consumer, memory, &running).await {
            Ok(page) => {
                outage.over();
                if !page.entries.is_empty() {
                    permit.send(page);
                }
            }
            Err(error) => {
                source.sweep = Sweep::due_now(partition);
                drop(permit);
                if !sleep_or_stop(outage.failed(&error), &stop).await {
                    return;
                }
            }
        }
    }
}

/// Where the next page comes from.
struct Source {
    reader: Box<dyn Reader>,
    sweep: Sweep,
    /// New entries that the next read asks for at most.
    at_most: usize,
}

impl Source {
    /// A page of own pending entries during a sweep, else of new ones.
    async fn next(
        &mut self,
        consumer: &Consumer,
        memory: Reservation,
        stop: &CancellationToken,
    ) -> Result<InFlightPage, StreamError> {
        if let Some(start) = self.sweep.page() {
            let (page, next) = consumer.claim_own(start, memory).await?;
            self.sweep.move_on(next, consumer.config.claim_idle.max(SHORTEST_SWEEP));
            return Ok(page);
        }
        let page = consumer.read(self.reader.as_mut(), self.at_most, memory, stop).await?;
        self.at_most = SHORTEST_READ.max(2 * page.entries.len());
        Ok(page)
    }
}

/// Progress of the pass over the own pending entries of a partition.
struct Sweep {
    first: StreamId,
    /// Where its next page starts, once that time has come.
    next: (StreamId, Instant),
}

impl Sweep {
    fn due_now(partition: u16) -> Self {
        let first = StreamId::MIN.with_part(partition);
        Self {
            first,
            next: (first, Instant::now()),
        }
    }

    fn page(&self) -> Option<StreamId> {
        let (start, due) = self.next;
        (due <= Instant::now()).then_some(start)
    }

    fn move_on(&mut self, next: Option<StreamId>, pause: Duration) {
        let now = Instant::now();
        self.next = next.map_or((self.first, now + pause), |next| (next, now));
    }
}
