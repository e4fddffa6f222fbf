//! Role: sends queued appends to the stream, one flush in flight.
//!
//! Owns the size and the retry of a flush. Invariants: a flush is bounded in entries and bytes; an entry is resent only
//! where that cannot store it twice (the store refused it, or dedupe is on) and only before its deadline; an entry whose
//! deadline passed before it was sent is dropped; after `stop` the queue is emptied before the task ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{AppendError, Appends, Receipt, Share};
use crate::metrics::Metrics;
use crate::stream::{Appended, Destination, NewEntry, StreamError, Writer};

/// Pause before the first resend; doubles up to [`LONGEST_PAUSE`], so that a store that comes back is noticed soon.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Bytes after which a flush takes no further entry: what Redis reads and one connection sends at once.
const FLUSH_BYTES: usize = 4 * 1024 * 1024;

/// One queued append.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: NewEntry,
    pub(super) waiting: Waiting,
}

/// Who waits for an append, and what it holds until then.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) queued: Instant,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Receipt, AppendError>>,
    pub(super) _share: Share,
}

/// What a writer task works with.
pub(super) struct Deps {
    pub(super) jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    pub(super) writer: Box<dyn Writer>,
    pub(super) flush_entries: usize,
    pub(super) dedupe: bool,
    pub(super) metrics: Metrics,
    pub(super) appends: Appends,
}

/// Runs until the queue is closed (by `stop`) and empty.
pub(super) async fn run(mut deps: Deps, stop: CancellationToken) {
    let mut jobs = Vec::with_capacity(deps.flush_entries);
    let mut failing = false;
    while gather(&deps.jobs, &mut jobs, deps.flush_entries, &stop).await {
        deps.flush(Flush::take(&mut jobs), &mut failing).await;
    }
}

/// Waits for the first job and takes all that are there by then, within the bounds of one flush; false once there will
/// be none any more.
async fn gather(
    queue: &Mutex<mpsc::Receiver<Job>>,
    jobs: &mut Vec<Job>,
    limit: usize,
    stop: &CancellationToken,
) -> bool {
    // The lock goes from writer to writer: one waits for jobs, the others wait for the lock.
    let mut queue = queue.lock().await;
    let first = tokio::select! {
        biased;
        () = stop.cancelled() => {
            queue.close();
            queue.recv().await
        }
        first = queue.recv() => first,
    };
    let mut bytes = 0;
    let mut next = first;
    while let Some(job) = next {
        bytes += job.entry.fields.bytes();
        jobs.push(job);
        let room = jobs.len() < limit && bytes < FLUSH_BYTES;
        next = if room { queue.try_recv().ok() } else { None };
    }
    !jobs.is_empty()
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
                    if flush.goes_to_the_stream() {
                        self.appends.fail();
                    }
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
                self.appends.succeed();
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

impl Flush {
    fn take(jobs: &mut Vec<Job>) -> Self {
        let (entries, waiting) = jobs.drain(..).map(|job| (job.entry, job.waiting)).unzip();
        Self { entries, waiting }
    }

    /// A flush of letters only says nothing of the stream: the dead letters have their own cap and may have their own rights.
    fn goes_to_the_stream(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.destination == Destination::Stream)
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::ingest::Admission;
    use crate::stream::Fields;

    fn job(bytes: usize) -> Job {
        let mut fields = Fields::default();
        fields.push("payload", Bytes::from(vec![b'x'; bytes]));
        Job {
            entry: NewEntry {
                destination: Destination::Stream,
                dedupe_key: String::new(),
                digest: [0; 16],
                fields,
            },
            waiting: Waiting {
                queued: Instant::now(),
                deadline: Instant::now(),
                answer: oneshot::channel().0,
                _share: Arc::new(Admission::new(0, Gauge::default()).open()),
            },
        }
    }

    #[tokio::test]
    async fn a_flush_is_bounded_in_entries_and_bytes() {
        let (queue, jobs) = mpsc::channel(100);
        let jobs = Mutex::new(jobs);
        for bytes in [[1; 5].as_slice(), &[FLUSH_BYTES / 4; 6], &[2 * FLUSH_BYTES, 1]].concat() {
            queue.send(job(bytes)).await.unwrap();
        }
        let stop = CancellationToken::new();
        let mut flushes = Vec::new();
        for _ in 0..4 {
            let mut flush = Vec::new();
            assert!(gather(&jobs, &mut flush, 5, &stop).await);
            flushes.push(flush.len());
        }
        assert_eq!(flushes, [5, 4, 3, 1]);
        stop.cancel();
        assert!(!gather(&jobs, &mut Vec::new(), 5, &stop).await);
    }
}
