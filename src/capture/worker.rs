//! The worker: from messages to stored events, batch by batch. While one is stored the next is read
//! (`batch.rs`), and messages are taken for the one after. `upkeep.rs` is what it does between
//! batches.
//!
//! Invariants: batches are stored in the order in which they were read; live changes go before a
//! walk; the position of a stored batch covers its changes and no others.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::{OptionFuture, join};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::appender::{CheckpointAppender, FILL_LIVE, Refusal};
use super::batch::{BatchReader, PendingTouches, ReadBatch};
use super::changes::Changes;
use super::convert::ConvertedBatch;
use super::pgoutput::{PgoutputMessage, Unreadable};
use super::receiver::Incoming;
use super::record::{Record, Walk};
use super::source::{self, SourceSession};
use super::status::{CaptureState, CaptureStatus, WalkProgress};
use super::tables::ChangeError;
use crate::config::CaptureConfig;
use crate::metrics::GapReason;
use crate::postgres::{SourceError, Target};
use crate::stream::{Destination, Fields, NewEntry, Stream, StreamError};

/// Bytes of the entries of one append.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// How often requests of operators are looked for.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause while the stream has no room.
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(500);

/// Why a connection's work ended.
#[derive(Debug)]
pub(super) enum End {
    Source(SourceError),
    Stream(StreamError),
    /// Another process took over.
    Fenced,
}

impl From<SourceError> for End {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl From<Unreadable> for End {
    fn from(error: Unreadable) -> Self {
        Self::Source(SourceError::Misconfigured(error.to_string()))
    }
}

impl From<ChangeError> for End {
    fn from(error: ChangeError) -> Self {
        Self::Source(SourceError::Misconfigured(error.to_string()))
    }
}

pub(super) struct Worker<'a> {
    pub(super) batches: BatchReader<'a>,
    pub(super) config: &'a CaptureConfig,
    pub(super) status: &'a CaptureStatus,
    pub(super) stream: &'a dyn Stream,
    pub(super) changes: Changes,
    pub(super) appender: CheckpointAppender,
    /// What the server may forget.
    pub(super) confirmed: watch::Sender<u64>,
    pub(super) looked: Instant,
    /// Keys of the partial walk.
    pub(super) asked: Vec<String>,
    /// For questions about the slot, and the canary.
    pub(super) session: SourceSession,
    /// The source's servers.
    pub(super) target: Target,
    pub(super) probed: Option<Instant>,
    pub(super) canary_sent: Option<Instant>,
    pub(super) next_page: Instant,
    pub(super) page_size: usize,
}

impl Worker<'_> {
    /// Works until it is stopped. What was received and not stored is sent again at the next start.
    pub(super) async fn run(
        &mut self,
        incoming: &mut mpsc::Receiver<Incoming>,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        self.note_state();
        while !stop.is_cancelled() {
            if self.changes.pending.is_empty() {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    message = incoming.recv() => match message {
                        Some(message) => take(&mut self.changes, self.status, message)?,
                        // The receiver says why it ended.
                        None => std::future::pending().await,
                    },
                    () = tokio::time::sleep_until(self.due().into()) => {}
                }
            }
            self.drain(incoming).await?;
            if !self.changes.pending.is_empty() {
                self.store_changes(incoming, stop).await?;
            }
            self.upkeep().await?;
            self.confirm();
        }
        Ok(())
    }

    /// Takes what has come, up to a batch.
    async fn drain(&mut self, incoming: &mut mpsc::Receiver<Incoming>) -> Result<(), End> {
        loop {
            let room = self.config.batch.saturating_sub(self.changes.pending.len());
            if take_waiting(&mut self.changes, self.status, incoming, room)? == 0 {
                return Ok(());
            }
            // The receiver runs in the same task.
            tokio::task::yield_now().await;
        }
    }

    /// When something is to be done without a message.
    fn due(&self) -> Instant {
        let usual = self.looked + LOOK_EVERY;
        match self.appender.record.walk {
            Some(_) => usual.min(self.next_page),
            None => usual,
        }
    }

    pub(super) async fn store(&mut self, entries: &[NewEntry], record: Record, fill: u8) -> Result<bool, End> {
        self.status.storing(self.oldest());
        let stored = self
            .appender
            .append(entries, self.batches.with_timeline(&record), fill)
            .await;
        self.is_stored(stored)
    }

    /// Whether there was room.
    fn is_stored(&self, stored: Result<(), Refusal>) -> Result<bool, End> {
        match stored {
            Ok(()) => Ok(true),
            Err(Refusal::Full(log)) => {
                self.wait_for_room(log);
                Ok(false)
            }
            Err(Refusal::Fenced) => Err(End::Fenced),
        }
    }

    fn wait_for_room(&self, log: Destination) {
        if self.status.report().state != CaptureState::Waiting {
            let what = match log {
                Destination::Stream => "the stream is near its cap: capture waits, and the source keeps its WAL",
                Destination::DeadLetters => "the dead letters are at their cap: capture waits until some are resolved",
            };
            warn!("{what}");
            self.status.is(CaptureState::Waiting);
        }
    }

    pub(super) fn note_state(&self) {
        let record = &self.appender.record;
        let progress = |walk: &Walk| WalkProgress {
            reason: walk.reason.clone(),
            done: walk.done,
            estimate: if walk.is_partial {
                Some(self.asked.len() as u64)
            } else {
                self.batches.catalog.estimate
            },
        };
        self.status.update(|figures| {
            figures.oldest = self.oldest();
            let report = &mut figures.report;
            report.state = match record.walk {
                Some(_) => CaptureState::Walking,
                None => CaptureState::Streaming,
            };
            report.problem = None;
            report.gaps = record.gaps;
            report.walk = record.walk.as_ref().map(progress);
            report.source.clone_from(&self.batches.plan.source);
        });
    }

    /// Time of the oldest commit that is not stored yet, Unix microseconds.
    fn oldest(&self) -> Option<i64> {
        self.changes.pending.front().map(|touch| touch.commit.time)
    }

    fn confirm(&mut self) {
        if let Some(position) = self.appender.confirmable() {
            self.confirmed.send_if_modified(|known| {
                let is_newer = position > *known;
                *known = position.max(*known);
                is_newer
            });
        }
    }

    /// Reads and stores what is pending; tries a smaller batch where one is too large. Ends once nothing
    /// is left, or something else is due.
    async fn store_changes(
        &mut self,
        incoming: &mut mpsc::Receiver<Incoming>,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let mut most = self.config.batch;
        let mut ready = None;
        self.status.storing(self.oldest());
        loop {
            let batch = match ready.take() {
                Some(batch) => batch,
                None => self.read_first(most, incoming).await?,
            };
            if batch.converted.bytes() > MOST_BYTES && batch.touches > 1 {
                most = batch.touches / 2;
                continue;
            }
            let (is_stored, next) = self.store_and_read(&batch, incoming, stop).await?;
            if is_stored {
                self.changes.pending.drain(..batch.touches);
                self.count(&batch.converted);
                self.tell_gap(batch.gap).await;
                self.note_state();
                self.confirm();
                most = self.config.batch;
                ready = next?;
                if ready.is_none() {
                    return Ok(());
                }
                continue;
            }
            next?;
            if batch.touches > 1 && batch.converted.entries.len() > 1 {
                // What was read after it is read again, so that versions follow the order of reads.
                most = batch.touches / 2;
            } else if stop.run_until_cancelled(tokio::time::sleep(FULL_PAUSE)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Reads the batch at the front, of so many touches at most.
    async fn read_first(&mut self, most: usize, incoming: &mut mpsc::Receiver<Incoming>) -> Result<ReadBatch, End> {
        let touches = PendingTouches::of(&self.changes, 0, most);
        let read = self.batches.read(touches, &self.appender.record);
        let pending = 2 * self.config.batch;
        let (read, taken) = while_taking(&mut self.changes, self.status, incoming, pending, read).await;
        taken.and(read)
    }

    /// Stores a batch, and reads the next one meanwhile where there is one and nothing else is due;
    /// answers whether there was room, and the next batch.
    async fn store_and_read(
        &mut self,
        batch: &ReadBatch,
        incoming: &mut mpsc::Receiver<Incoming>,
        stop: &CancellationToken,
    ) -> Result<(bool, Result<Option<ReadBatch>, End>), End> {
        let is_next = batch.touches < self.changes.pending.len() && Instant::now() < self.due() && !stop.is_cancelled();
        let touches = is_next.then(|| PendingTouches::of(&self.changes, batch.touches, self.config.batch));
        let record = self.batches.with_timeline(&batch.record);
        let read = OptionFuture::from(touches.map(|touches| self.batches.read(touches, &batch.record)));
        let store = self.appender.append(&batch.converted.entries, record, FILL_LIVE);
        let pending = batch.touches + 2 * self.config.batch;
        let both = while_taking(&mut self.changes, self.status, incoming, pending, join(store, read));
        let ((stored, next), taken) = both.await;
        Ok((self.is_stored(stored)?, taken.and(next.transpose())))
    }

    pub(super) fn count(&self, batch: &ConvertedBatch) {
        let dead_letters = self.status.count(batch);
        if dead_letters > 0 {
            warn!(
                count = dead_letters,
                "captured orders became dead letters; `orderstream dead-letters list` says why"
            );
        }
    }

    /// Tells of a gap, once its record is stored: in the log, in metrics, and in the audit log.
    pub(super) async fn tell_gap(&mut self, gap: Option<GapReason>) {
        let Some(reason) = gap else { return };
        let (name, what) = reason.texts();
        let follows = if self.batches.heals() {
            "all orders are read again; of orders that were deleted meanwhile nothing is known"
        } else {
            "run `orderstream capture resync`"
        };
        error!(reason = name, "changes were lost: {what}; {follows}");
        self.status.gap(reason, self.appender.record.gaps);
        let mut note = Fields::default();
        note.push("at", OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default());
        for (field, value) in [
            ("by", "capture"),
            ("action", "capture gap"),
            ("what", name),
            ("done", "0"),
            ("kept", "0"),
        ] {
            note.push(field, value);
        }
        if let Err(error) = self.stream.note(&note).await {
            warn!(%error, "the audit log cannot be written; the line before is the record");
        }
    }
}

/// Takes one message.
fn take(changes: &mut Changes, status: &CaptureStatus, incoming: Incoming) -> Result<(), End> {
    match incoming {
        Incoming::Message(bytes) => {
            let message = PgoutputMessage::parse(bytes)?;
            if let Some(kind) = message.kind() {
                status.metrics.changes.get_or_create(&[("kind", kind)]).inc();
            }
            if matches!(&message, PgoutputMessage::Emitted { is_transactional: false, prefix, .. } if prefix == source::CANARY)
            {
                status.update(|figures| {
                    figures.canary = Some(Instant::now());
                    figures.canary_awaited = None;
                });
            }
            changes.take(message)?;
        }
        Incoming::SentUpTo(wal_end) => changes.note_idle(wal_end),
    }
    Ok(())
}

/// Takes what has come, until so many more touches are pending; answers how many messages it took.
fn take_waiting(
    changes: &mut Changes,
    status: &CaptureStatus,
    incoming: &mut mpsc::Receiver<Incoming>,
    room: usize,
) -> Result<usize, End> {
    let most = changes.pending.len() + room;
    let mut taken = 0;
    while changes.pending.len() < most {
        let Ok(message) = incoming.try_recv() else { break };
        take(changes, status, message)?;
        taken += 1;
    }
    Ok(taken)
}

/// Awaits `work`, and takes messages meanwhile, until `most` touches are pending. Where one cannot
/// be taken, `work` is finished all the same.
async fn while_taking<T>(
    changes: &mut Changes,
    status: &CaptureStatus,
    incoming: &mut mpsc::Receiver<Incoming>,
    most: usize,
    work: impl Future<Output = T>,
) -> (T, Result<(), End>) {
    let mut work = pin!(work);
    loop {
        let message = tokio::select! {
            biased;
            done = &mut work => return (done, Ok(())),
            message = incoming.recv(), if changes.pending.len() < most => message,
        };
        let taken = match message {
            Some(message) => take(changes, status, message).and_then(|()| {
                let room = most.saturating_sub(changes.pending.len());
                take_waiting(changes, status, incoming, room).map(drop)
            }),
            // The receiver says why it ended.
            None => return (work.await, Ok(())),
        };
        if taken.is_err() {
            return (work.await, taken);
        }
    }
}
