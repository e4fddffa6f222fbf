//! The writer task: sends queued appends to the stream, one flush in flight, and to the spool what
//! the stream does not take.
//!
//! Owns the retry of a flush and the choice between stream and spool. What the stream has not
//! confirmed within `ORDERSTREAM_SPOOL_AFTER` after it was queued is spooled, and the breaker
//! opens; a stream that refuses everything opens it at once. Invariants: an entry is resent only
//! where that cannot store it twice (the store refused it, or dedupe is on), and only before its
//! deadline; an entry whose deadline passed before it was sent is dropped; after `stop` the queue
//! is emptied before the task ends.
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
use crate::stream::{Appended, Destination, StreamError, Writer};

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
    async fn store(&mut self, mut flush: Flush<PendingAppend>, is_failing: &mut bool) {
        if !self
            .fallback
            .as_ref()
            .is_some_and(|fallback| fallback.breaker.is_open())
        {
            flush = self.send(flush, is_failing).await;
        }
        flush.drop_expired(Instant::now());
        if let Some(fallback) = self.fallback.as_ref().filter(|_| !flush.is_empty()) {
            let answers = fallback.spool.store(&flush.entries).await;
            for (pending, answer) in flush.beside.into_iter().zip(answers) {
                self.answer(pending, answer);
            }
        }
    }

    /// Sends until the stream confirms, and answers what it took. What is left is for the spool;
    /// nothing is left where there is none.
    async fn send(&mut self, mut flush: Flush<PendingAppend>, is_failing: &mut bool) -> Flush<PendingAppend> {
        let mut pause = FIRST_PAUSE;
        loop {
            flush.drop_expired(Instant::now());
            let Some(oldest) = flush.oldest() else { return flush };
            #[allow(clippy::cast_precision_loss, reason = "a flush is far smaller than 2^52 entries")]
            self.metrics.flush_entries.observe(flush.entries.len() as f64);
            let limit = (oldest + self.spool_after).max(Instant::now() + LEAST_TRY);
            let sent = match &self.fallback {
                None => Ok(self.writer.append_with_more(&flush.entries).await),
                Some(_) => tokio::time::timeout_at(limit.into(), self.writer.append_with_more(&flush.entries)).await,
            };
            let error = match sent {
                Ok(Ok(outcomes)) => {
                    if std::mem::take(is_failing) && self.fallback.is_none() {
                        tracing::info!("the stream takes appends again");
                    }
                    return self.settle(flush, outcomes);
                }
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            if flush.goes_to_the_stream() {
                self.append_stats.fail();
            }
            let may_resend = error.as_ref().is_some_and(|error| self.dedupe || error.is_refused());
            if let Some(fallback) = &self.fallback {
                let is_refused = error.as_ref().is_some_and(StreamError::is_refused);
                if is_refused || !may_resend || Instant::now() + pause >= limit {
                    if flush.goes_to_the_stream() || !is_refused {
                        let late = || format!("no confirmation within {:?}", self.spool_after);
                        fallback
                            .breaker
                            .open(&error.map_or_else(late, |error| error.to_string()));
                    }
                    return flush;
                }
            } else if let Some(error) = error {
                if !std::mem::replace(is_failing, true) {
                    tracing::warn!(%error, entries = flush.entries.len(), "a flush failed");
                }
                if matches!(error, StreamError::Full(_)) || !may_resend {
                    flush.answer_all(&AppendError::from(&error));
                    return Flush::empty();
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Answers what the stream took, and everything where there is no spool. What is left is for
    /// the spool.
    fn settle(&self, flush: Flush<PendingAppend>, outcomes: Vec<Appended>) -> Flush<PendingAppend> {
        let mut left = Flush::empty();
        let mut is_taken = false;
        // An outcome that is missing drops its sender, which its request reads as "not confirmed".
        for ((entry, pending), outcome) in flush.into_pairs().zip(outcomes) {
            let to_stream = entry.destination == Destination::Stream;
            is_taken |= to_stream && matches!(outcome, Appended::Accepted(_));
            let answer = Receipt::of_stream(outcome);
            match (&self.fallback, &answer) {
                (Some(fallback), Err(error)) => {
                    if *error == AppendError::Full && to_stream {
                        fallback.breaker.open("the stream is at its cap");
                    }
                    left.push(entry, pending);
                }
                _ => self.answer(pending, answer),
            }
        }
        if is_taken {
            self.append_stats.succeed();
        }
        left
    }

    fn answer(&self, pending: PendingAppend, answer: Result<Receipt, AppendError>) {
        let seconds = pending.queued.elapsed().as_secs_f64();
        self.metrics.append_seconds.observe(seconds);
        pending.answer(answer);
    }
}
