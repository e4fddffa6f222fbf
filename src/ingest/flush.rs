//! What a writer sends at once: entries, and beside them who waits for each.
//!
//! Owns the size of a flush and the answers to its waiters. Invariant: entries and waiters stay side by side, in order.

use std::time::Instant;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{AppendError, MemoryPermit, Receipt, SharedPermit};
use crate::stream::{Destination, NewEntry};

/// Bytes after which a flush takes no further entry: what Redis reads and one connection sends at once.
pub(super) const FLUSH_BYTES: usize = 4 * 1024 * 1024;

/// One queued append.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: NewEntry,
    pub(super) waiting: PendingAppend,
}

/// Who waits for an append, and what it holds until then.
#[derive(Debug)]
pub(super) struct PendingAppend {
    pub(super) queued: Instant,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Receipt, AppendError>>,
    /// Of the budget: its body's, and the entry's own.
    pub(super) _body_permit: SharedPermit,
    pub(super) _entry_permit: MemoryPermit,
}

/// The entries of one flush, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Flush {
    pub(super) entries: Vec<NewEntry>,
    pub(super) waiting: Vec<PendingAppend>,
}

impl Flush {
    /// Waits for the first job and takes all that are there by then, within the bounds of one flush; empty once there
    /// will be none any more.
    pub(super) async fn gather(queue: &Mutex<mpsc::Receiver<Job>>, limit: usize, stop: &CancellationToken) -> Self {
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
        let mut flush = Self::default();
        let mut bytes = 0;
        let mut next = first;
        while let Some(job) = next {
            bytes += job.entry.fields.bytes();
            flush.push(job.entry, job.waiting);
            let room = flush.entries.len() < limit && bytes < FLUSH_BYTES;
            next = if room { queue.try_recv().ok() } else { None };
        }
        flush
    }

    pub(super) fn push(&mut self, entry: NewEntry, waiting: PendingAppend) {
        self.entries.push(entry);
        self.waiting.push(waiting);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the one was queued that waits longest.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.queued).min()
    }

    /// A flush of letters only says nothing of the stream: the dead letters have their own cap and may have their own rights.
    pub(super) fn goes_to_the_stream(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.destination == Destination::Stream)
    }

    /// Drops those whose deadline is over: they are answered already.
    pub(super) fn drop_expired(&mut self, now: Instant) {
        if self.waiting.iter().all(|waiting| waiting.deadline > now) {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let entries = std::mem::take(&mut self.entries);
        let kept = entries.into_iter().zip(waiting);
        (self.entries, self.waiting) = kept.filter(|(_, waiting)| waiting.deadline > now).unzip();
    }

    pub(super) fn answer_all(self, error: &AppendError) {
        for waiting in self.waiting {
            waiting.answer(Err(error.clone()));
        }
    }
}

impl PendingAppend {
    /// Nobody listens where the client hung up or the deadline passed: the entry is stored all the same.
    pub(super) fn answer(self, answer: Result<Receipt, AppendError>) {
        let _ = self.answer.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
            waiting: PendingAppend {
                queued: Instant::now(),
                deadline: Instant::now(),
                answer: oneshot::channel().0,
                _body_permit: Arc::new(Admission::new(0, 0, Gauge::default()).open(true)),
                _entry_permit: Admission::new(0, 0, Gauge::default()).open(true),
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
            flushes.push(Flush::gather(&jobs, 5, &stop).await.entries.len());
        }
        assert_eq!(flushes, [5, 4, 3, 1]);
        stop.cancel();
        assert!(Flush::gather(&jobs, 5, &stop).await.is_empty());
    }
}
