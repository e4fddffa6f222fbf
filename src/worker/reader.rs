//! The reader: fetches pages of entries for one consumer's processor.
//!
//! Invariants: it reads only with a place in the channel and memory for the page. The consumer's
//! own pending entries come first at the start, after every error (a lost reply leaves entries
//! pending) and once per claim time. An entry in flight is not fetched again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::consumer::{Consumer, InFlightPage};
use super::memory::Reservation;
use super::outage_log::{OutageLog, sleep_or_stop};
use crate::stream::{Reader, StreamError, StreamId};

/// Least time between two passes over the own pending entries.
const SHORTEST_SWEEP: Duration = Duration::from_secs(1);

/// Reads until `stop` fires.
pub(super) async fn run(consumer: Arc<Consumer>, pages: mpsc::Sender<InFlightPage>, stop: CancellationToken) {
    let mut reader = consumer.stream.reader(&consumer.name);
    let mut outage = OutageLog::of("reading");
    let mut sweep = Sweep::due_now();
    loop {
        consumer.reading.idle();
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = pages.reserve() => permit,
        };
        let Ok(permit) = permit else { return };
        let Some(memory) = stop.run_until_cancelled(consumer.reserve_page()).await else {
            return;
        };
        consumer.reading.beat();
        match next(&consumer, reader.as_mut(), memory, &mut sweep, &stop).await {
            Ok(page) => {
                outage.over();
                if !page.entries.is_empty() {
                    permit.send(page);
                }
            }
            Err(error) => {
                sweep = Sweep::due_now();
                drop(permit);
                if !sleep_or_stop(outage.failed(&error), &stop).await {
                    return;
                }
            }
        }
    }
}

/// A page of own pending entries during a sweep, else of new ones.
async fn next(
    consumer: &Consumer,
    reader: &mut dyn Reader,
    memory: Reservation,
    sweep: &mut Sweep,
    stop: &CancellationToken,
) -> Result<InFlightPage, StreamError> {
    if let Some(start) = sweep.page() {
        let (page, next) = consumer.claim_own(start, memory).await?;
        sweep.move_on(next, consumer.config.claim_idle.max(SHORTEST_SWEEP));
        return Ok(page);
    }
    consumer.read(reader, memory, stop).await
}

/// Progress of the pass over the own pending entries.
enum Sweep {
    At(StreamId),
    DoneUntil(Instant),
}

impl Sweep {
    fn due_now() -> Self {
        Self::At(StreamId::default())
    }

    fn page(&self) -> Option<StreamId> {
        match self {
            Self::At(start) => Some(*start),
            Self::DoneUntil(due) => (*due <= Instant::now()).then(StreamId::default),
        }
    }

    fn move_on(&mut self, next: Option<StreamId>, pause: Duration) {
        *self = next.map_or_else(|| Self::DoneUntil(Instant::now() + pause), Self::At);
    }
}
