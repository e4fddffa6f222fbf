//! Role: sends queued appends to the stream, one flush in flight.
//!
//! Owns the retry of a flush. Invariants: an entry is resent only where that cannot store it twice (the store refused
//! it, or dedupe is on) and only before its deadline; an entry whose deadline passed before it was sent is dropped;
//! after `stop` the queue is emptied before the task ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{AppendError, Moment, Receipt};
use crate::metrics::Metrics;
use crate::stream::{Appended, Destination, NewEntry, StreamError, Writer};

/// Pause before the first resend; doubles up to [`LONGEST_PAUSE`], so that a store that comes back is noticed soon.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// One queued append.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: NewEntry,
    pub(super) queued: Instant,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Receipt, AppendError>>,
}

/// What a writer task works with.
pub(super) struct Deps {
    pub(super) jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    pub(super) writer: Box<dyn Writer>,
    pub(super) flush_entries: usize,
    pub(super) dedupe: bool,
    pub(super) metrics: Metrics,
    pub(super) accepted: Moment,
}

/// Runs until the queue is closed (by `stop`) and empty.
pub(super) async fn run(mut deps: Deps, stop: CancellationToken) {
    let mut jobs = Vec::with_capacity(deps.flush_entries);
    let mut failing = false;
    while gather(&deps.jobs, &mut jobs, deps.flush_entries, &stop).await {
        deps.flush(Flush::take(&mut jobs), &mut failing).await;
    }
}

/// Waits for the first job and takes all that are there by then; false once there will be none any more.
async fn gather(
    queue: &Mutex<mpsc::Receiver<Job>>,
    jobs: &mut Vec<Job>,
    limit: usize,
    stop: &CancellationToken,
) -> bool {
    // The lock goes from writer to writer: one waits for jobs, the others wait for the lock.
    let mut queue = queue.lock().await;
    tokio::select! {
        biased;
        () = stop.cancelled() => queue.close(),
        taken = queue.recv_many(jobs, limit) => return taken > 0,
    }
    queue.recv_many(jobs, limit).await > 0
}

impl Deps {
    async fn flush(&mut self, mut flush: Flush, failing: &mut bool) {
        let mut pause = FIRST_PAUSE;
        loop {
            flush.drop_expired(Instant::now());
            if flush.entries.is_empty() {
                return;
            }
            #[allow(clippy::cast_precision_loss, reason = "a flush is far smaller than 2^52 entries")]
            self.metrics.flush_entries.observe(flush.entries.len() as f64);
            match self.writer.append(&flush.entries).await {
                Ok(outcomes) => {
                    if std::mem::take(failing) {
                        tracing::info!("the stream takes appends again");
                    }
                    return self.settle(flush, outcomes);
                }
                Err(error) => {
                    if !std::mem::replace(failing, true) {
                        tracing::warn!(%error, entries = flush.entries.len(), "a flush failed");
                    }
                    if let Some(error) = self.give_up(&error) {
                        return flush.answer_all(&error);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What to answer where the flush is not to be sent again.
    fn give_up(&self, error: &StreamError) -> Option<AppendError> {
        if matches!(error, StreamError::Full(_)) {
            return Some(AppendError::Full);
        }
        let resend = self.dedupe || error.is_refused();
        (!resend).then(|| AppendError::Unavailable(error.to_string()))
    }

    fn settle(&self, flush: Flush, outcomes: Vec<Appended>) {
        // An outcome that is missing drops its sender, which its request reads as "not confirmed".
        for ((entry, waiting), outcome) in flush.entries.iter().zip(flush.waiting).zip(outcomes) {
            if matches!(outcome, Appended::Accepted(_)) && entry.destination == Destination::Stream {
                self.accepted.mark();
            }
            self.metrics
                .append_seconds
                .observe(waiting.queued.elapsed().as_secs_f64());
            // Nobody listens where the client hung up or the deadline passed: the entry is stored all the same.
            let _ = waiting.answer.send(receipt(outcome));
        }
    }
}

fn receipt(outcome: Appended) -> Result<Receipt, AppendError> {
    match outcome {
        Appended::Accepted(id) => Ok(Receipt::Accepted(id)),
        Appended::Duplicate(id) => Ok(Receipt::Duplicate(id)),
        Appended::Conflict(id) => Ok(Receipt::Conflict(id)),
        Appended::Full => Err(AppendError::Full),
        Appended::Refused(reason) => Err(AppendError::Unavailable(reason)),
    }
}

/// The entries of one flush, and beside them, in the same order, who waits for them.
struct Flush {
    entries: Vec<NewEntry>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    queued: Instant,
    deadline: Instant,
    answer: oneshot::Sender<Result<Receipt, AppendError>>,
}

impl Flush {
    fn take(jobs: &mut Vec<Job>) -> Self {
        let (entries, waiting) = jobs
            .drain(..)
            .map(|job| {
                let waiting = Waiting {
                    queued: job.queued,
                    deadline: job.deadline,
                    answer: job.answer,
                };
                (job.entry, waiting)
            })
            .unzip();
        Self { entries, waiting }
    }

    fn drop_expired(&mut self, now: Instant) {
        if self.waiting.iter().all(|waiting| waiting.deadline > now) {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let entries = std::mem::take(&mut self.entries);
        let kept = entries.into_iter().zip(waiting);
        (self.entries, self.waiting) = kept.filter(|(_, waiting)| waiting.deadline > now).unzip();
    }

    fn answer_all(self, error: &AppendError) {
        for waiting in self.waiting {
            let _ = waiting.answer.send(Err(error.clone()));
        }
    }
}
