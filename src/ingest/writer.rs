//! The writer task: sends queued appends to the stream, one flush in flight, and to the spool what
//! the stream does not take.
//!
//! Owns the retry of a flush and the choice between stream and spool. What the stream has not
//! confirmed within `ORDERSTREAM_SPOOL_AFTER` after it was queued is spooled, and the breaker
//! opens for its partition; a stream that refuses everything opens it at once. Invariants: an entry
//! is resent only where that cannot store it twice (the store refused it, or dedupe is on), and only
//! before its deadline; an entry whose deadline passed before it was sent is dropped; after `stop`
//! the queue is emptied before the task ends.
//!
//! A flush that is given up may have been stored. With dedupe the stream then knows the spooled
//! copy; with `DEDUPE_BY=off` the stream holds it twice, and the warehouse's unique event id
//! absorbs that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::append_stats::AppendStats;
use super::breaker::SpoolFallback;
use super::flush::{Flush, PendingAppend, QueuedAppend};
use super::receipt::{AppendError, Receipt};
use crate::metrics::Metrics;
use crate::stream::{Appended, Destination, NewEntry, StreamError, Writer};

/// The stream gets at least so long, also for what waited in the queue before.
const LEAST_TRY: Duration = Duration::from_millis(100);

/// Pause before the first resend; doubles up to [`LONGEST_PAUSE`], so that a store that comes back
/// is noticed soon.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// A writer that has nothing more to append for so long settles.
const SETTLE_AFTER: Duration = Duration::from_millis(20);
/// Bound on that: an append that comes meanwhile waits for it.
const SETTLE_LIMIT: Duration = Duration::from_millis(250);

/// An append whose call failed, and why.
type FailedAppend = (PendingAppend, Arc<StreamError>);

/// What a writer task works with.
pub(super) struct Deps {
    pub(super) queue: Arc<Mutex<mpsc::Receiver<QueuedAppend>>>,
    pub(super) writer: Box<dyn Writer>,
    /// `None`: there is no spool.
    pub(super) fallback: Option<SpoolFallback>,
    /// How long an append may wait for the stream before it is spooled. The spool's write is
    /// bounded too, so that the answer is there within three seconds.
    pub(super) spool_after: Duration,
    pub(super) flush_entries: usize,
    pub(super) dedupe: bool,
    pub(super) metrics: Metrics,
    pub(super) append_stats: AppendStats,
}

/// Runs until the queue is closed (by `stop`) and empty.
pub(super) async fn run(mut deps: Deps, stop: CancellationToken) {
    let mut is_failing = false;
    loop {
        let gather = || Flush::gather(&deps.queue, deps.flush_entries, &stop);
        let flush = match tokio::time::timeout(SETTLE_AFTER, gather()).await {
            Ok(flush) => flush,
            Err(_) => {
                let _ = tokio::time::timeout(SETTLE_LIMIT, deps.writer.settle()).await;
                gather().await
            }
        };
        if flush.is_empty() {
            let _ = tokio::time::timeout(SETTLE_LIMIT, deps.writer.settle()).await;
            return;
        }
        deps.store(flush, &mut is_failing).await;
    }
}

impl Deps {
    /// Stores a flush in the stream, or what is left of it in the spool.
    async fn store(&mut self, flush: Flush<PendingAppend>, is_failing: &mut bool) {
        let (mut spooled, mut sent) = (Flush::empty(), Flush::empty());
        for (entry, pending) in flush.into_pairs() {
            let goes_to_spool = self.fallback.as_ref().is_some_and(|fallback| {
                let partition = self.writer.partition_of(&entry);
                partition.is_some_and(|partition| fallback.breaker.is_open_for(partition))
            });
            if goes_to_spool { &mut spooled } else { &mut sent }.push(entry, pending);
        }
        if !sent.is_empty() {
            self.send(sent, &mut spooled, is_failing).await;
        }
        spooled.drop_expired(Instant::now());
        if let Some(fallback) = self.fallback.as_ref().filter(|_| !spooled.is_empty()) {
            let answers = fallback.spool.store(&spooled.entries).await;
            for (pending, answer) in spooled.beside.into_iter().zip(answers) {
                self.answer(pending, answer);
            }
        }
    }

    /// Sends until the stream confirms, and answers what it took. What it does not take is added to
    /// what is `spooled`, or answered where there is no spool.
    async fn send(
        &mut self,
        mut flush: Flush<PendingAppend>,
        spooled: &mut Flush<PendingAppend>,
        is_failing: &mut bool,
    ) {
        let mut pause = FIRST_PAUSE;
        loop {
            flush.drop_expired(Instant::now());
            let Some(oldest) = flush.oldest() else { return };
            #[allow(clippy::cast_precision_loss, reason = "a flush is far smaller than 2^52 entries")]
            self.metrics.flush_entries.observe(flush.entries.len() as f64);
            let limit = (oldest + self.spool_after).max(Instant::now() + LEAST_TRY);
            let sent = match &self.fallback {
                None => Ok(self.writer.append_with_more(&flush.entries).await),
                Some(_) => tokio::time::timeout_at(limit.into(), self.writer.append_with_more(&flush.entries)).await,
            };
            let Ok(outcomes) = sent else {
                self.give_up(flush, spooled);
                return;
            };
            let failed = self.settle(flush, outcomes, spooled);
            let Some(error) = failed.beside.first().map(|(_, error)| Arc::clone(error)) else {
                if std::mem::take(is_failing) && self.fallback.is_none() {
                    tracing::info!("the stream takes appends again");
                }
                return;
            };
            if self.fallback.is_none() && !std::mem::replace(is_failing, true) {
                tracing::warn!(%error, entries = failed.entries.len(), "a flush failed");
            }
            let is_last = Instant::now() + pause >= limit;
            flush = self.to_resend(failed, spooled, is_last);
            if flush.is_empty() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Nothing was confirmed in time: all goes to the spool.
    fn give_up(&self, flush: Flush<PendingAppend>, spooled: &mut Flush<PendingAppend>) {
        if flush.goes_to_the_stream() {
            self.append_stats.fail();
        }
        let late = format!("no confirmation within {:?}", self.spool_after);
        for (entry, pending) in flush.into_pairs() {
            self.open_breaker(&entry, &late);
            spooled.push(entry, pending);
        }
    }

    /// Of entries whose call failed: those to be sent again. The others go to the spool, or are
    /// answered where there is none.
    fn to_resend(
        &self,
        failed: Flush<FailedAppend>,
        spooled: &mut Flush<PendingAppend>,
        is_last: bool,
    ) -> Flush<PendingAppend> {
        let mut again = Flush::empty();
        // A refusal of dead letters alone says nothing about the stream.
        let goes_to_the_stream = failed.goes_to_the_stream();
        for (entry, (pending, error)) in failed.into_pairs() {
            let is_refused = error.is_refused();
            let may_resend = self.dedupe || is_refused;
            if self.fallback.is_some() {
                if may_resend && !is_refused && !is_last {
                    again.push(entry, pending);
                    continue;
                }
                if goes_to_the_stream || !is_refused {
                    self.open_breaker(&entry, &error.to_string());
                }
                spooled.push(entry, pending);
            } else if matches!(*error, StreamError::Full(_)) || !may_resend {
                pending.answer(Err(AppendError::from(&*error)));
            } else {
                again.push(entry, pending);
            }
        }
        again
    }

    fn open_breaker(&self, entry: &NewEntry, cause: &str) {
        if let Some((fallback, partition)) = self.fallback.as_ref().zip(self.writer.partition_of(entry)) {
            fallback.breaker.open(partition, cause);
        }
    }

    /// Answers what the stream took, and everything where there is no spool; what it refused is
    /// `spooled`. Returns what failed.
    fn settle(
        &self,
        flush: Flush<PendingAppend>,
        outcomes: Vec<Appended>,
        spooled: &mut Flush<PendingAppend>,
    ) -> Flush<FailedAppend> {
        let mut failed = Flush::empty();
        let mut is_taken = false;
        // An outcome that is missing drops its sender, which its request reads as "not confirmed".
        for ((entry, pending), outcome) in flush.into_pairs().zip(outcomes) {
            let to_stream = entry.destination == Destination::Stream;
            is_taken |= to_stream && matches!(outcome, Appended::Accepted(_));
            if let Appended::Failed(error) = outcome {
                failed.push(entry, (pending, error));
                continue;
            }
            let answer = Receipt::of_stream(outcome);
            match (&self.fallback, &answer) {
                (Some(_), Err(error)) => {
                    if *error == AppendError::Full && to_stream {
                        self.open_breaker(&entry, "the stream is at its cap");
                    }
                    spooled.push(entry, pending);
                }
                _ => self.answer(pending, answer),
            }
        }
        if is_taken {
            self.append_stats.succeed();
        } else if failed.goes_to_the_stream() {
            self.append_stats.fail();
        }
        failed
    }

    fn answer(&self, pending: PendingAppend, answer: Result<Receipt, AppendError>) {
        let seconds = pending.queued.elapsed().as_secs_f64();
        self.metrics.append_seconds.observe(seconds);
        pending.answer(answer);
    }
}
