//! Role: sends queued appends to the stream, one flush in flight; around it, to the spool, what it does not take in time.
//!
//! Owns the retry of a flush and the choice between stream and spool. One rule: what the stream has not confirmed within
//! `ORDERSTREAM_SPOOL_AFTER` after it was queued is spooled, and the breaker opens; a stream that refuses everything
//! opens it at once. Invariants: an entry is resent only where that cannot store it twice (the store refused it, or
//! dedupe is on) and only before its deadline; an entry whose deadline passed before it was sent is dropped; after `stop`
//! the queue is emptied before the task ends.
//!
//! A flush that is given up may have been stored. With dedupe the spooled copy is then known to the stream; with
//! `DEDUPE_BY=off` it is stored there twice, and the warehouse's unique event id absorbs that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::flush::{Flush, Job};
use super::spool::SpoolWriter;
use super::{AppendError, AppendStats, Breaker, Receipt};
use crate::metrics::Metrics;
use crate::stream::{Appended, Destination, StreamError, Writer};

/// The stream gets at least so long, also for what waited in the queue meanwhile.
const LEAST_TRY: Duration = Duration::from_millis(100);

/// Pause before the first resend; doubles up to [`LONGEST_PAUSE`], so that a store that comes back is noticed soon.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// What a writer task works with.
pub(super) struct Deps {
    pub(super) jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    pub(super) writer: Box<dyn Writer>,
    /// `None`: there is no spool.
    pub(super) fallback: Option<TaskFallback>,
    pub(super) flush_entries: usize,
    pub(super) dedupe: bool,
    pub(super) metrics: Metrics,
    pub(super) append_stats: AppendStats,
}

/// The way around the stream, as one task takes it.
pub(super) struct TaskFallback {
    /// How long an append may wait for the stream. The spool's write is bounded too, and so the answer is there within
    /// three seconds whatever hangs.
    pub(super) after: Duration,
    pub(super) breaker: Breaker,
    pub(super) spool: SpoolWriter,
}

/// Runs until the queue is closed (by `stop`) and empty.
pub(super) async fn run(mut deps: Deps, stop: CancellationToken) {
    let mut failing = false;
    loop {
        let flush = Flush::gather(&deps.jobs, deps.flush_entries, &stop).await;
        if flush.is_empty() {
            return;
        }
        deps.flush(flush, &mut failing).await;
    }
}

impl Deps {
    async fn flush(&mut self, mut flush: Flush, failing: &mut bool) {
        let is_open = self
            .fallback
            .as_ref()
            .is_some_and(|fallback| fallback.breaker.is_open());
        if !is_open {
            flush = self.send(flush, failing).await;
        }
        flush.drop_expired(Instant::now());
        if let Some(fallback) = self.fallback.as_mut().filter(|_| !flush.is_empty()) {
            let answers = fallback.spool.store(&flush.entries).await;
            for (waiting, answer) in flush.waiting.into_iter().zip(answers) {
                self.metrics
                    .append_seconds
                    .observe(waiting.queued.elapsed().as_secs_f64());
                waiting.answer(answer);
            }
        }
    }

    /// Sends until the stream confirms, and answers what it took. What is left is for the spool; nothing, where there
    /// is none.
    async fn send(&mut self, mut flush: Flush, failing: &mut bool) -> Flush {
        let mut pause = FIRST_PAUSE;
        loop {
            flush.drop_expired(Instant::now());
            let Some(oldest) = flush.oldest() else { return flush };
            let after = self.fallback.as_ref().map_or(Duration::ZERO, |fallback| fallback.after);
            let limit = (oldest + after).max(Instant::now() + LEAST_TRY);
            #[allow(clippy::cast_precision_loss, reason = "a flush is far smaller than 2^52 entries")]
            self.metrics.flush_entries.observe(flush.entries.len() as f64);
            let sent = match &self.fallback {
                None => Ok(self.writer.append(&flush.entries).await),
                Some(_) => tokio::time::timeout_at(limit.into(), self.writer.append(&flush.entries)).await,
            };
            let error = match sent {
                Ok(Ok(outcomes)) => {
                    if std::mem::take(failing) && self.fallback.is_none() {
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
                        let late = || format!("no confirmation within {after:?}");
                        fallback
                            .breaker
                            .open(&error.map_or_else(late, |error| error.to_string()));
                    }
                    return flush;
                }
            } else if let Some(error) = error {
                if !std::mem::replace(failing, true) {
                    tracing::warn!(%error, entries = flush.entries.len(), "a flush failed");
                }
                if matches!(error, StreamError::Full(_)) || !may_resend {
                    flush.answer_all(&unconfirmed(&error));
                    return Flush::default();
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Answers what the stream took, and everything where there is no spool; what is left is for the spool.
    fn settle(&self, flush: Flush, outcomes: Vec<Appended>) -> Flush {
        let now = Instant::now();
        let mut left = Flush::default();
        let mut is_taken = false;
        // An outcome that is missing drops its sender, which its request reads as "not confirmed".
        for ((entry, waiting), outcome) in flush.entries.into_iter().zip(flush.waiting).zip(outcomes) {
            let to_stream = entry.destination == Destination::Stream;
            is_taken |= to_stream && matches!(outcome, Appended::Accepted(_));
            let answer = receipt(outcome);
            if let (Some(fallback), Err(error)) = (&self.fallback, &answer) {
                if *error == AppendError::Full && to_stream {
                    fallback.breaker.open("the stream is at its cap");
                }
                left.push(entry, waiting);
                continue;
            }
            let took = now.saturating_duration_since(waiting.queued);
            self.metrics.append_seconds.observe(took.as_secs_f64());
            waiting.answer(answer);
        }
        if is_taken {
            self.append_stats.succeed();
        }
        left
    }
}

fn unconfirmed(error: &StreamError) -> AppendError {
    match error {
        StreamError::Full(_) => AppendError::Full,
        StreamError::Unreachable { .. }
        | StreamError::Timeout { .. }
        | StreamError::Refused { .. }
        | StreamError::Denied(_)
        | StreamError::Unconfirmed(_)
        | StreamError::UnusableKey(_)
        | StreamError::Unusable(_) => AppendError::Unavailable(error.to_string()),
    }
}

fn receipt(outcome: Appended) -> Result<Receipt, AppendError> {
    match outcome {
        Appended::Accepted(id) => Ok(Receipt::Accepted(id)),
        Appended::Duplicate(id) => Ok(Receipt::Duplicate(Some(id))),
        Appended::Conflict(_) => Ok(Receipt::Conflict),
        Appended::Full => Err(AppendError::Full),
        Appended::Refused(reason) | Appended::TooLarge(reason) | Appended::Unavailable(reason) => {
            Err(AppendError::Unavailable(reason))
        }
    }
}
