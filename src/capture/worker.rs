//! The worker: from messages to stored events, batch by batch. `upkeep.rs` is what it does between
//! batches.
//!
//! Invariants: one batch is read and stored at a time; live changes go before a walk; the position
//! of a stored batch covers its changes and no others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::appender::{CheckpointAppender, FILL_LIVE, Refusal};
use super::changes::{Changes, Touch};
use super::convert::{ConvertedBatch, FoldedTouches, ReadContext, ReadResult, Wanted};
use super::pgoutput::{CommitRecord, PgoutputMessage, Unreadable};
use super::plan::Plan;
use super::receiver::Incoming;
use super::record::{Record, Walk};
use super::source::{self, Catalog, OrderReader, SourceSession};
use super::standing::TimelineHistory;
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
    pub(super) plan: Arc<Plan>,
    pub(super) catalog: Catalog,
    pub(super) config: &'a CaptureConfig,
    pub(super) status: &'a CaptureStatus,
    pub(super) stream: &'a dyn Stream,
    pub(super) history: TimelineHistory,
    pub(super) reader: OrderReader,
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
                        Some(message) => self.take(message)?,
                        // The receiver says why it ended.
                        None => std::future::pending().await,
                    },
                    () = tokio::time::sleep_until(self.due().into()) => {}
                }
            }
            self.drain(incoming).await?;
            if !self.changes.pending.is_empty() {
                self.store_changes(stop).await?;
            }
            self.upkeep().await?;
            self.confirm();
        }
        Ok(())
    }

    /// Takes what has come, up to a batch.
    async fn drain(&mut self, incoming: &mut mpsc::Receiver<Incoming>) -> Result<(), End> {
        loop {
            let mut taken = 0;
            while self.changes.pending.len() < self.config.batch {
                let Ok(message) = incoming.try_recv() else { break };
                self.take(message)?;
                taken += 1;
            }
            if taken == 0 {
                return Ok(());
            }
            // The receiver runs in the same task.
            tokio::task::yield_now().await;
        }
    }

    fn take(&mut self, incoming: Incoming) -> Result<(), End> {
        match incoming {
            Incoming::Message(bytes) => {
                let message = PgoutputMessage::parse(bytes)?;
                if let Some(kind) = message.kind() {
                    self.status.metrics.changes.get_or_create(&[("kind", kind)]).inc();
                }
                if matches!(&message, PgoutputMessage::Emitted { is_transactional: false, prefix, .. } if prefix == source::CANARY)
                {
                    self.status.update(|figures| {
                        figures.canary = Some(Instant::now());
                        figures.canary_awaited = None;
                    });
                }
                self.changes.take(message)?;
            }
            Incoming::SentUpTo(wal_end) => self.changes.note_idle(wal_end),
        }
        Ok(())
    }

    /// When something is to be done without a message.
    fn due(&self) -> Instant {
        let usual = self.looked + LOOK_EVERY;
        match self.appender.record.walk {
            Some(_) => usual.min(self.next_page),
            None => usual,
        }
    }

    pub(super) async fn store(&mut self, entries: &[NewEntry], mut record: Record, fill: u8) -> Result<bool, End> {
        let position = record.position;
        record.timeline = self
            .history
            .timeline_of(position.commit.max(position.lsn.saturating_sub(1)));
        self.status.storing(self.oldest());
        match self.appender.append(entries, record, fill).await {
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
                self.catalog.estimate
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
            report.source.clone_from(&self.plan.source);
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

    /// Reads and stores a batch from the front of what is pending; tries a smaller one where it is
    /// too large.
    async fn store_changes(&mut self, stop: &CancellationToken) -> Result<(), End> {
        let mut cut = self.changes.pending.len().min(self.config.batch);
        self.status.storing(self.oldest());
        loop {
            let (batch, record, gap) = self.read_changes(cut).await?;
            if batch.bytes() > MOST_BYTES && cut > 1 {
                cut /= 2;
                continue;
            }
            if self.store(&batch.entries, record, FILL_LIVE).await? {
                self.changes.pending.drain(..cut);
                self.count(&batch);
                self.tell_gap(gap).await;
                self.note_state();
                return Ok(());
            }
            if cut > 1 && batch.entries.len() > 1 {
                cut /= 2;
            } else if stop.run_until_cancelled(tokio::time::sleep(FULL_PAUSE)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// What the first touches come to, and the record to be stored with it.
    async fn read_changes(&mut self, cut: usize) -> Result<(ConvertedBatch, Record, Option<GapReason>), End> {
        let touches = Vec::from_iter(self.changes.pending.range(..cut).cloned());
        let next = self.changes.pending.get(cut).map(|next| next.before);
        let mut folded = FoldedTouches::of(&touches);
        let commits = commits(&touches);
        self.resolve(&mut folded, &commits).await?;
        let answer = self.read(&folded.orders, &commits).await?;
        let newest = commits.iter().map(|commit| commit.time).max().unwrap_or_default();
        let mut record = Record {
            position: next.unwrap_or_else(|| self.changes.position()),
            clock: self.appender.record.clock.max(newest),
            triggered: answer.now.max(self.appender.record.triggered + 1),
            ..self.appender.record.clone()
        };
        let gap = folded.lost;
        self.heal(&mut record, gap);
        let batch = self.convert(&folded.orders, &touches, &answer, record.triggered, None);
        Ok((batch, record, gap))
    }

    async fn resolve(&mut self, folded: &mut FoldedTouches, commits: &[CommitRecord]) -> Result<(), End> {
        for (watch, values) in std::mem::take(&mut folded.watched) {
            let sql = self.plan.watches.get(watch).and_then(|watch| watch.orders.as_ref());
            let kind = self.catalog.watches.get(watch).copied().unwrap_or_default();
            let (Some(sql), Some(newest)) = (sql, values.values().max_by_key(|commit| commit.lsn)) else {
                continue;
            };
            let asked = Vec::from_iter(values.keys().map(|value| &**value));
            let keys = self.reader.resolve(&sql.0, kind, &asked, commits).await?;
            folded.add(keys, *newest);
        }
        Ok(())
    }

    pub(super) async fn read(&mut self, orders: &[Wanted], commits: &[CommitRecord]) -> Result<ReadResult, End> {
        let keys = Vec::from_iter(orders.iter().map(|order| &*order.key));
        let record = &self.appender.record;
        self.reader.floor = record.position.lsn.saturating_sub(1);
        let began = Instant::now();
        let answer = self.reader.read(&keys, commits, record.clock).await?;
        if !keys.is_empty() {
            let took = began.elapsed().as_secs_f64();
            self.status.metrics.read_seconds.observe(took);
            self.status
                .update(|figures| figures.report.last_read_seconds = Some(took));
        }
        self.status.metrics.reads_invisible.inc_by(answer.invisible);
        Ok(answer)
    }

    pub(super) fn convert(
        &self,
        orders: &[Wanted],
        touches: &[Touch],
        answer: &ReadResult,
        triggered: i64,
        walk: Option<&str>,
    ) -> ConvertedBatch {
        let read = ReadContext {
            plan: &self.plan,
            system: &self.appender.record.system,
            history: &self.history,
            clock: self.appender.record.clock,
            triggered,
            walk,
            answer,
        };
        let of_orders = orders.iter().map(|wanted| read.order(wanted));
        of_orders
            .chain(touches.iter().filter_map(|touch| read.direct(touch)))
            .collect()
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

    fn heals(&self) -> bool {
        self.config.resyncs_on_gap && self.plan.orders.is_some()
    }

    /// Begins the walk that heals a gap.
    pub(super) fn heal(&self, record: &mut Record, gap: Option<GapReason>) {
        let Some(reason) = gap else { return };
        record.gaps += 1;
        if self.heals() {
            record.plan.clone_from(&self.plan.digest);
            record.walk = Some(Walk::new(reason.texts().0));
        }
    }

    /// Tells of a gap, once its record is stored: in the log, in metrics, and in the audit log.
    pub(super) async fn tell_gap(&mut self, gap: Option<GapReason>) {
        let Some(reason) = gap else { return };
        let (name, what) = reason.texts();
        let follows = if self.heals() {
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

/// The transactions of these touches, each once.
fn commits(touches: &[Touch]) -> Vec<CommitRecord> {
    // In order of commits.
    let mut commits = Vec::from_iter(touches.iter().map(|touch| touch.commit));
    commits.dedup_by_key(|commit| commit.lsn);
    commits
}
