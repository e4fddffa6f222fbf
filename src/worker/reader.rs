//! The reader: brings one consumer's entries to its processor.
//!
//! Invariants: it asks for work only when there is a place for it; the consumer's own pending entries come first at the
//! start, after every error (a lost reply leaves entries pending) and once per claim time (nothing of ours is ever
//! forgotten); what is in hand is never brought twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::consumer::Consumer;
use super::outage_log::{OutageLog, sleep_or_stop};
use crate::stream::{Delivered, Reader, StreamError, StreamId};

/// Own pending entries are not looked through more often than this.
const SHORTEST_SWEEP: Duration = Duration::from_secs(1);

/// Reads until `stop` fires.
pub(super) async fn run(consumer: Arc<Consumer>, batches: mpsc::Sender<Vec<Delivered>>, stop: CancellationToken) {
    let mut reader = consumer.stream.reader(&consumer.name);
    let mut outage = OutageLog::of("reading");
    let mut sweep = Sweep::due_now();
    loop {
        consumer.reading.idle();
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = batches.reserve() => permit,
        };
        let Ok(permit) = permit else { return };
        consumer.reading.beat();
        match next(&consumer, reader.as_mut(), &mut sweep, &stop).await {
            Ok(entries) => {
                outage.over();
                if !entries.is_empty() {
                    permit.send(entries);
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

/// A page of own pending entries while a sweep is under way, else new ones.
async fn next(
    consumer: &Consumer,
    reader: &mut dyn Reader,
    sweep: &mut Sweep,
    stop: &CancellationToken,
) -> Result<Vec<Delivered>, StreamError> {
    if let Some(start) = sweep.page() {
        let page = consumer.claim_own(start).await?;
        sweep.move_on(page.next, consumer.config.claim_idle.max(SHORTEST_SWEEP));
        return Ok(page.entries);
    }
    let new = reader.read(consumer.page_size.get(), consumer.config.block, stop).await;
    consumer.page_size.learn(new.as_ref().map(Vec::len));
    Ok(consumer.take_new(new?))
}

/// Where the look through the own pending entries stands.
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
