//! Role: moves the spool into the stream as soon as that takes events again, and closes the breaker then.
//!
//! Owns what was read from the spool and is not settled there. Invariants: an entry leaves the spool only after the
//! stream (or the dead letters) confirmed it, so that a crash anywhere repeats an append, which dedupe absorbs; an entry
//! that is refused for reasons of its own holds up no other, and ends in the dead letters with the reason; what is refused
//! for the stream's reasons (memory, rights, its cap) stays in the spool until the stream takes it, the large entries that
//! find no memory aside, so that small ones go on. An entry spooled for longer than the dedupe window, whose first append was stored after all, comes to stand in the stream twice:
//! the warehouse's unique event id absorbs that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::drain_batch::{DrainBatch, batches};
use super::retry_queue::RetryQueue;
use super::spool_level::SpoolLevel;
use super::{SpoolFallback, quarantine};
use crate::stream::codec::REUSED_ID;
use crate::stream::{Appended, Delivered, Destination, Reader, Stream, StreamError, StreamId, Writer};

/// Entries of one flush at most; its bytes are bounded too (`drain_batch.rs`).
const FLUSH_ENTRIES: usize = 1000;
/// Entries of one claim.
const CLAIM: usize = 500;
/// Refusals of one entry before the dead letters: half a minute.
const MOST_REFUSALS: u32 = 6;
/// Pause between two tries of a stream that is away; doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Bound on the question whether the stream takes writes.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// A stream that answers slower than that is drained to, and nothing else: new events would soon be given up again, after
/// `ORDERSTREAM_SPOOL_AFTER`.
const PROMPT: Duration = Duration::from_millis(250);

/// What became of entries that left the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Drained {
    /// New to the stream, or to the dead letters where that was their place.
    pub accepted: u64,
    /// There already: their first append was stored after all, or they came again meanwhile.
    pub duplicate: u64,
    /// In the dead letters, since their id was used for another body.
    pub quarantined: u64,
    /// In the dead letters, since the stream refuses them.
    pub dead_lettered: u64,
}

/// The one reader of the spool.
pub struct Drainer {
    fallback: SpoolFallback,
    stream: Arc<dyn Stream>,
    writer: Box<dyn Writer>,
    reader: Box<dyn Reader>,
    /// Where the entries begin that an earlier process had in hand.
    unclaimed: Option<StreamId>,
    /// Nothing was found since it was last looked for.
    searched: bool,
    hand: VecDeque<DrainBatch>,
    /// In the stream, and not yet out of the spool.
    confirmed: Vec<StreamId>,
    retry_queue: RetryQueue,
    drained: Drained,
    level: SpoolLevel,
    fails: bool,
}

impl Drainer {
    /// From that spool into that stream.
    #[must_use]
    pub fn new(fallback: SpoolFallback, stream: Arc<dyn Stream>) -> Self {
        Self {
            writer: stream.writer(),
            reader: fallback.spool.reader(),
            stream,
            fallback,
            unclaimed: Some(StreamId::MIN),
            searched: false,
            hand: VecDeque::new(),
            confirmed: Vec::new(),
            retry_queue: RetryQueue::default(),
            drained: Drained::default(),
            level: SpoolLevel::default(),
            fails: false,
        }
    }

    /// Drains until `stop` fires, and then once more for as long as the stream takes it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            self.look();
            if !self.has_work() {
                // Whatever comes first: it is looked again.
                let _ = stop.run_until_cancelled(self.work()).await;
                continue;
            }
            let moved = self.step().await;
            self.say(moved.as_ref().err());
            if moved == Ok(true) {
                pause = FIRST_PAUSE;
                continue;
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if let Err(cause) = self.empty(false).await {
            tracing::debug!(cause, "the spool cannot be emptied now");
        }
        self.look();
    }

    /// Moves everything that can be moved now. `patient`: also waits for those that are refused, which end in the dead
    /// letters if those take them.
    ///
    /// # Errors
    /// The stream or the spool failed; why.
    pub async fn empty(&mut self, patient: bool) -> Result<(), String> {
        loop {
            if self.round().await? {
                continue;
            }
            match self.retry_queue.next_below(MOST_REFUSALS) {
                Some(due) if patient => tokio::time::sleep_until(due.into()).await,
                None if self.misses_some() => return Err("some are there and cannot be read".to_owned()),
                _ => return Ok(()),
            }
        }
    }

    /// What came of it so far.
    #[must_use]
    pub fn drained(&self) -> Drained {
        self.drained
    }

    fn look(&mut self) {
        self.fallback.spool.export();
        self.level.look(&self.fallback.spool.report(), Instant::now());
    }

    fn say(&mut self, cause: Option<&String>) {
        match cause {
            Some(cause) if !std::mem::replace(&mut self.fails, true) => {
                tracing::warn!(cause, "the spool cannot be drained; trying again until it can");
            }
            None if std::mem::take(&mut self.fails) => tracing::info!("the spool can be drained again"),
            _ => {}
        }
    }

    fn has_work(&self) -> bool {
        self.fallback.breaker.is_open()
            || self.unclaimed.is_some()
            || !self.hand.is_empty()
            || !self.confirmed.is_empty()
            || self.misses_some()
            || self.retry_queue.next().is_some_and(|due| due <= Instant::now())
    }

    /// Whether the spool holds entries that are neither in hand nor left.
    fn misses_some(&self) -> bool {
        self.fallback.spool.report().depth > self.retry_queue.len() as u64
    }

    /// Waits until there may be something to do.
    async fn work(&mut self) {
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

    /// One flush; with the breaker open only after the stream said that it takes writes, and as the proof of that.
    async fn step(&mut self) -> Result<bool, String> {
        if !self.fallback.breaker.is_open() {
            return self.round().await;
        }
        let asked = Instant::now();
        match tokio::time::timeout(PROBE_LIMIT, self.stream.confirm_writable()).await {
            Ok(answer) => answer.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no answer from the stream within {PROBE_LIMIT:?}")),
        }
        let is_prompt = asked.elapsed() < PROMPT;
        let moved = self.round().await?;
        if is_prompt {
            self.fallback.breaker.close();
        }
        Ok(moved)
    }

    /// Moves one batch; answers false where there is none.
    async fn round(&mut self) -> Result<bool, String> {
        if self.hand.is_empty() {
            self.settle().await?;
            self.take().await?;
        }
        let Some(batch) = self.hand.pop_front() else {
            if self.unclaimed.is_none() && self.misses_some() && !std::mem::replace(&mut self.searched, true) {
                // Its file was damaged and replaced: what was handed out from it is to be claimed again.
                self.unclaimed = Some(StreamId::MIN);
            }
            return Ok(self.unclaimed.is_some());
        };
        self.searched = false;
        let (appended, moved_on) = self.append(&batch).await;
        match appended {
            Ok(outcomes) => self.judge(batch, outcomes).await?,
            // The dead letters have a key and rights of their own; without them, their entries hold up nothing that has its
            // place in the stream.
            Err(error @ (StreamError::Denied(_) | StreamError::UnusableKey(_))) if !batch.goes_to_the_stream() => {
                if !batch.ids.iter().any(|id| self.retry_queue.waits_for_room(*id)) {
                    tracing::warn!(%error, "dead letters stay in the spool for now");
                }
                let now = Instant::now();
                for id in batch.ids {
                    self.retry_queue.lacks_room(id, now);
                }
            }
            Err(error) => {
                self.hand.push_front(batch);
                return Err(error.to_string());
            }
        }
        moved_on.map(|()| true)
    }

    /// Appends a batch. While the stream takes it, the one before leaves the spool and the next is read, in one commit.
    async fn append(&mut self, batch: &DrainBatch) -> (Result<Vec<Appended>, StreamError>, Result<(), String>) {
        let is_due = self.retry_queue.next().is_some_and(|due| due <= Instant::now());
        let reads_on = self.hand.is_empty() && self.unclaimed.is_none() && !is_due;
        let Self { writer, reader, .. } = self;
        let next = async {
            if reads_on {
                reader
                    .read(FLUSH_ENTRIES, Duration::ZERO, &CancellationToken::new())
                    .await
            } else {
                Ok(Vec::new())
            }
        };
        let settling = self.fallback.spool.settle(&self.confirmed);
        let (appended, settled, next) = tokio::join!(writer.append(&batch.entries), settling, next);
        let settled = settled.map(|()| self.confirmed.clear());
        let read = next.map(|page| self.hand.extend(batches(page)));
        (appended, settled.and(read).map_err(|error| error.to_string()))
    }

    async fn settle(&mut self) -> Result<(), String> {
        if !self.confirmed.is_empty() {
            let settled = self.fallback.spool.settle(&self.confirmed).await;
            settled.map_err(|error| error.to_string())?;
            self.confirmed.clear();
        }
        Ok(())
    }

    /// Takes the next entries in hand: what an earlier process had, then what is due again, then what is new.
    async fn take(&mut self) -> Result<(), String> {
        let now = Instant::now();
        let error = |error: StreamError| error.to_string();
        if let Some(start) = self.unclaimed {
            let claimed = self.fallback.spool.claim(start, CLAIM).await.map_err(error)?;
            self.unclaimed = claimed.next;
            let mut entries = claimed.entries;
            entries.retain(|one| !self.retry_queue.holds(one.entry.id));
            self.hand.extend(batches(entries));
            if self.unclaimed.is_some() || !self.hand.is_empty() {
                return Ok(());
            }
        }
        let page = if let Some(first) = self.retry_queue.due_for_room(now) {
            self.claim(first, CLAIM).await?
        } else if let Some(id) = self.retry_queue.due(now) {
            self.claim(id, 1).await?
        } else {
            let now = CancellationToken::new();
            let read = self.reader.read(FLUSH_ENTRIES, Duration::ZERO, &now).await;
            read.map_err(error)?
        };
        self.hand.extend(batches(page));
        Ok(())
    }

    /// Takes entries that were left: this one, and with it others that wait for room as it does.
    async fn claim(&mut self, first: StreamId, count: usize) -> Result<Vec<Delivered>, String> {
        let claimed = self.fallback.spool.claim(first, count).await;
        let mut claimed = claimed.map_err(|error| error.to_string())?;
        let entries = &mut claimed.entries;
        entries.retain(|one| one.entry.id == first || self.retry_queue.waits_for_room(one.entry.id));
        if entries.first().is_none_or(|one| one.entry.id != first) {
            self.retry_queue.forget(first);
        }
        Ok(claimed.entries)
    }

    async fn judge(&mut self, batch: DrainBatch, outcomes: Vec<Appended>) -> Result<(), String> {
        let now = Instant::now();
        let (mut kept, mut letters) = (DrainBatch::default(), DrainBatch::default());
        let mut cause = None;
        for ((id, entry), outcome) in batch.ids.into_iter().zip(batch.entries).zip(outcomes) {
            match outcome {
                Appended::Accepted(_) => {
                    self.drained.accepted += 1;
                    self.confirm(id);
                }
                Appended::Duplicate(_) => {
                    self.drained.duplicate += 1;
                    self.confirm(id);
                }
                Appended::Conflict(_) => letters.push(id, quarantine::of_entry(entry, REUSED_ID, 0)),
                Appended::Full if entry.destination == Destination::Stream => {
                    cause = Some("the stream is at its cap".to_owned());
                    kept.push(id, entry);
                }
                Appended::Unavailable(reason) if entry.destination == Destination::Stream => {
                    cause = Some(reason);
                    kept.push(id, entry);
                }
                Appended::Full | Appended::Unavailable(_) => self.retry_queue.lacks_room(id, now),
                Appended::TooLarge(reason) => {
                    if self.retry_queue.refuse(id, now) == 1 {
                        tracing::warn!(
                            reason,
                            "a spooled entry finds no memory in the stream; it is tried again"
                        );
                    }
                }
                Appended::Refused(reason) => {
                    let times = self.retry_queue.refuse(id, now);
                    tracing::warn!(reason, times, "a spooled entry is refused by the stream");
                    if times >= MOST_REFUSALS && entry.destination == Destination::Stream {
                        letters.push(id, quarantine::of_entry(entry, &reason, times));
                    }
                }
            }
        }
        self.bury(letters).await;
        let Some(cause) = cause else { return Ok(()) };
        self.hand.push_front(kept);
        self.fallback.breaker.open(&cause);
        Err(cause)
    }

    /// Writes dead letters; those that cannot be written now are left.
    async fn bury(&mut self, letters: DrainBatch) {
        if letters.ids.is_empty() {
            return;
        }
        let now = Instant::now();
        let written = self.writer.append(&letters.entries).await;
        let written = written.unwrap_or_else(|error| {
            tracing::debug!(%error, "letters of spooled entries cannot be written now");
            vec![Appended::Refused(error.to_string()); letters.ids.len()]
        });
        for ((id, letter), outcome) in letters.ids.into_iter().zip(letters.entries).zip(written) {
            match outcome {
                Appended::Accepted(_) | Appended::Duplicate(_) | Appended::Conflict(_) => {
                    let text = |name| letter.fields.get(name).and_then(|text| std::str::from_utf8(text).ok());
                    let (event_id, reason) = (text("event_id"), text("error"));
                    tracing::warn!(event_id, reason, "a spooled entry went to the dead letters");
                    if reason == Some(REUSED_ID) {
                        self.drained.quarantined += 1;
                    } else {
                        self.drained.dead_lettered += 1;
                    }
                    self.confirm(id);
                }
                Appended::Full | Appended::Unavailable(_) => self.retry_queue.lacks_room(id, now),
                Appended::Refused(_) | Appended::TooLarge(_) => self.retry_queue.keep(id, now),
            }
        }
    }

    fn confirm(&mut self, id: StreamId) {
        self.retry_queue.forget(id);
        self.confirmed.push(id);
    }
}
