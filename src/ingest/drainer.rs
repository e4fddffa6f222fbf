//! The drainer: moves the spool into the stream as soon as that takes events again, and then closes
//! the breaker.
//!
//! Invariants:
//! - An entry leaves the spool only after the stream (or the dead letters) confirmed it. A crash
//!   therefore repeats an append, which dedupe absorbs, or the warehouse's unique event id after
//!   the dedupe window.
//! - An entry that is refused for reasons of its own delays no other; it becomes a dead letter with
//!   the reason.
//! - What is refused for the stream's reasons (memory, rights, its cap) stays in the spool until
//!   the stream takes it. Large entries that find no memory are set aside meanwhile, so that small
//!   ones go on; and so are the entries of a partition that is away while others take theirs.

mod outcomes;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::breaker::SpoolFallback;
use super::drained::{DrainError, Drained};
use super::flush::Flush;
use super::probes::{PartitionProbes, ProbeAnswer};
use super::retry_queue::SpoolRetryQueue;
use super::spool_entry::flushes;
use super::spool_level::SpoolLevel;
use crate::stream::{Appended, Delivered, Reader, Stream, StreamError, StreamId, Writer};

/// Most entries of one page, and so of one flush; the bytes of a flush are bounded too
/// (`flush.rs`).
const PAGE: usize = 1000;
/// Most entries of one claim.
const CLAIM: usize = 500;
/// Refusals of one entry before it becomes a dead letter: half a minute.
const MOST_REFUSALS: u32 = 6;
/// Pause between two tries of a stream that is away; doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The one reader of the spool.
pub struct Drainer {
    fallback: SpoolFallback,
    writer: Box<dyn Writer>,
    reader: Box<dyn Reader>,
    /// Where the entries begin that an earlier process had read and not settled.
    unclaimed: Option<StreamId>,
    /// The spool was claimed from its start and nothing was found since.
    is_searched: bool,
    /// Read, and not yet in the stream.
    in_flight: VecDeque<Flush<StreamId>>,
    /// In the stream, and not yet out of the spool.
    confirmed: Vec<StreamId>,
    retry_queue: SpoolRetryQueue,
    drained: Drained,
    level: SpoolLevel,
    is_failing: bool,
    probes: PartitionProbes,
}

impl Drainer {
    /// Drains the spool of `fallback` into `stream`.
    #[must_use]
    pub fn new(fallback: SpoolFallback, stream: Arc<dyn Stream>) -> Self {
        Self {
            writer: stream.writer(),
            reader: fallback.spool.reader(),
            fallback,
            unclaimed: Some(StreamId::MIN),
            is_searched: false,
            in_flight: VecDeque::new(),
            confirmed: Vec::new(),
            retry_queue: SpoolRetryQueue::default(),
            drained: Drained::default(),
            level: SpoolLevel::default(),
            is_failing: false,
            probes: PartitionProbes::new(Arc::clone(&stream)),
        }
    }

    /// Drains until `stop` fires, and then once more for as long as the stream takes it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            self.report();
            if !self.has_work() {
                let _ = stop.run_until_cancelled(self.wait_for_work()).await;
                continue;
            }
            let moved = self.step().await;
            self.log_failure(moved.as_ref().err());
            if matches!(moved, Ok(true)) {
                pause = FIRST_PAUSE;
                continue;
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if let Err(cause) = self.empty(false).await {
            tracing::debug!(%cause, "the spool cannot be emptied now");
        }
        self.report();
    }

    /// Moves everything that can be moved now. With `patient` it also waits for refused entries,
    /// which become dead letters if the dead letters take them.
    ///
    /// # Errors
    /// The stream or the spool failed.
    pub async fn empty(&mut self, patient: bool) -> Result<(), DrainError> {
        loop {
            if self.round().await? {
                continue;
            }
            match self.retry_queue.next_below(MOST_REFUSALS) {
                Some(due) if patient => tokio::time::sleep_until(due.into()).await,
                None if self.has_unread() => return Err(DrainError::Unreadable),
                _ => {
                    return self.retry_queue.partition_away().map_or(Ok(()), |partition| {
                        Err(DrainError::Unavailable(format!(
                            "partition {partition} takes no events"
                        )))
                    });
                }
            }
        }
    }

    /// The counts so far.
    #[must_use]
    pub fn drained(&self) -> Drained {
        self.drained
    }

    fn report(&mut self) {
        self.fallback.spool.export();
        self.level.log(&self.fallback.spool.report(), Instant::now());
    }

    fn log_failure(&mut self, cause: Option<&DrainError>) {
        match cause {
            Some(cause) if !std::mem::replace(&mut self.is_failing, true) => {
                tracing::warn!(%cause, "the spool cannot be drained; trying again until it can");
            }
            None if std::mem::take(&mut self.is_failing) => tracing::info!("the spool can be drained again"),
            _ => {}
        }
    }

    fn has_work(&self) -> bool {
        self.fallback.breaker.is_open()
            || self.unclaimed.is_some()
            || !self.in_flight.is_empty()
            || !self.confirmed.is_empty()
            || self.has_unread()
            || self.is_retry_due()
    }

    fn is_retry_due(&self) -> bool {
        self.retry_queue.next().is_some_and(|due| due <= Instant::now())
    }

    /// Whether the spool holds entries that are neither in flight nor in the retry queue.
    fn has_unread(&self) -> bool {
        self.fallback.spool.report().depth > self.retry_queue.len() as u64
    }

    /// Waits until there may be work.
    async fn wait_for_work(&mut self) {
        let next = self.retry_queue.next();
        let due = async {
            match next {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.fallback.breaker.opened() => {}
            () = self.fallback.spool.arrival() => {}
            () = due => {}
        }
    }

    /// Moves one flush. Partitions for which the breaker is open are probed first, and the flush
    /// proves that they take events. Where others take theirs, it does not wait for the answers.
    async fn step(&mut self) -> Result<bool, DrainError> {
        let open = self.fallback.breaker.open_partitions();
        if open.is_empty() {
            return self.round().await;
        }
        let (mut prompt, mut failed) = (Vec::new(), None);
        let mut is_any_there = !self.probes.are_all(open.len());
        for ProbeAnswer { partition, answer } in self.probes.ask(open).await {
            match answer {
                Ok(is_prompt) => {
                    is_any_there = true;
                    self.retry_queue.bring_back(partition, Instant::now());
                    prompt.extend(Some(partition).filter(|_| is_prompt));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if !is_any_there => return Err(error),
            // A flush that holds entries of one that is away would prove nothing.
            Some(_) => self.close_breaker(prompt.drain(..)),
            None => {}
        }
        let moved = self.round().await?;
        self.close_breaker(prompt.into_iter());
        Ok(moved)
    }

    /// But not for those that took no entry since they answered.
    fn close_breaker(&mut self, partitions: impl Iterator<Item = u16>) {
        for partition in partitions {
            if self.probes.is_reachable(partition) {
                self.probes.forget(partition);
                self.retry_queue.bring_back(partition, Instant::now());
                self.fallback.breaker.close(partition);
            }
        }
    }

    /// Moves one flush; answers false where there is none.
    async fn round(&mut self) -> Result<bool, DrainError> {
        if self.in_flight.is_empty() {
            if !self.confirmed.is_empty() {
                self.fallback.spool.settle(&self.confirmed).await?;
                self.confirmed.clear();
            }
            self.read().await?;
        }
        let Some(flush) = self.in_flight.pop_front() else {
            if self.unclaimed.is_none() && self.has_unread() && !std::mem::replace(&mut self.is_searched, true) {
                // Its file was damaged and replaced: what was handed out from it is to be claimed
                // again.
                self.unclaimed = Some(StreamId::MIN);
            }
            return Ok(self.unclaimed.is_some());
        };
        self.is_searched = false;
        let flush = self.without_away(flush);
        let (outcomes, moved_on) = self.append(&flush).await;
        self.apply(flush, outcomes).await?;
        moved_on?;
        Ok(true)
    }

    /// Appends a flush. Meanwhile the one before leaves the spool and the next is read, in one
    /// commit.
    async fn append(&mut self, flush: &Flush<StreamId>) -> (Vec<Appended>, Result<(), StreamError>) {
        let reads_on = self.in_flight.is_empty() && self.unclaimed.is_none() && !self.is_retry_due();
        let Self { writer, reader, .. } = self;
        let next = async {
            if reads_on {
                read_page(&mut **reader).await
            } else {
                Ok(Vec::new())
            }
        };
        let settling = self.fallback.spool.settle(&self.confirmed);
        let (appended, settled, next) = tokio::join!(writer.append(&flush.entries), settling, next);
        let settled = settled.map(|()| self.confirmed.clear());
        let read = next.map(|page| self.in_flight.extend(flushes(page)));
        (appended, settled.and(read))
    }

    /// Reads the next entries: first what an earlier process left, then what is to be retried, then
    /// what is new.
    async fn read(&mut self) -> Result<(), StreamError> {
        let now = Instant::now();
        if let Some(start) = self.unclaimed {
            let claimed = self.fallback.spool.claim(start, CLAIM).await?;
            self.unclaimed = claimed.next;
            let mut entries = claimed.entries;
            entries.retain(|one| !self.retry_queue.holds(one.entry.id));
            self.in_flight.extend(flushes(entries));
            if self.unclaimed.is_some() || !self.in_flight.is_empty() {
                return Ok(());
            }
        }
        let page = if let Some(first) = self.retry_queue.due_back() {
            let page = self.claim(first, CLAIM, SpoolRetryQueue::is_due_back).await?;
            for one in &page {
                self.retry_queue.forget(one.entry.id);
            }
            page
        } else if let Some(first) = self.retry_queue.due_for_room(now) {
            self.claim(first, CLAIM, SpoolRetryQueue::waits_for_room).await?
        } else if let Some(id) = self.retry_queue.due(now) {
            self.claim(id, 1, SpoolRetryQueue::waits_for_room).await?
        } else {
            read_page(&mut *self.reader).await?
        };
        self.in_flight.extend(flushes(page));
        Ok(())
    }

    /// Claims an entry of the retry queue, and after it others that wait for the same.
    async fn claim(
        &mut self,
        first: StreamId,
        count: usize,
        waits_too: fn(&SpoolRetryQueue, StreamId) -> bool,
    ) -> Result<Vec<Delivered>, StreamError> {
        let mut entries = self.fallback.spool.claim(first, count).await?.entries;
        entries.retain(|one| one.entry.id == first || waits_too(&self.retry_queue, one.entry.id));
        if entries.first().is_none_or(|one| one.entry.id != first) {
            self.retry_queue.forget(first);
        }
        Ok(entries)
    }
}

/// What is there now, without waiting.
async fn read_page(reader: &mut dyn Reader) -> Result<Vec<Delivered>, StreamError> {
    reader.read(PAGE, Duration::ZERO, &CancellationToken::new()).await
}
