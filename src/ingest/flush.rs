//! A flush: the entries that one call appends, and beside each what its outcome concerns.
//!
//! The writers' flushes have a waiting request beside each entry, the drainer's a place in the
//! spool. Owns the size of a flush and the answers to waiting requests. Invariant: entries and what
//! is beside them stay in one order.

use std::time::Instant;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::admission::{MemoryPermit, SharedPermit};
use super::receipt::{AppendError, Receipt};
use crate::stream::{Destination, NewEntry};

/// Bytes after which a flush takes no further entry: what Redis reads and one connection sends at
/// once.
pub(super) const FLUSH_BYTES: usize = 4 * 1024 * 1024;

/// The entries of one flush, and what is beside each.
#[derive(Debug)]
pub(super) struct Flush<T> {
    pub(super) entries: Vec<NewEntry>,
    pub(super) beside: Vec<T>,
}

impl<T> Flush<T> {
    pub(super) const fn empty() -> Self {
        Self {
            entries: Vec::new(),
            beside: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, entry: NewEntry, beside: T) {
        self.entries.push(entry);
        self.beside.push(beside);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether its outcome concerns the stream: dead letters have a cap, and may have rights, of
    /// their own.
    pub(super) fn goes_to_the_stream(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.destination == Destination::Stream)
    }

    pub(super) fn into_pairs(self) -> impl Iterator<Item = (NewEntry, T)> {
        self.entries.into_iter().zip(self.beside)
    }
}

/// One queued append.
#[derive(Debug)]
pub(super) struct QueuedAppend {
    pub(super) entry: NewEntry,
    pub(super) pending: PendingAppend,
}

/// The request that waits for an append, and the memory permits that the append holds until then.
#[derive(Debug)]
pub(super) struct PendingAppend {
    pub(super) queued: Instant,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Receipt, AppendError>>,
    pub(super) _body_permit: SharedPermit,
    pub(super) _entry_permit: MemoryPermit,
}

impl PendingAppend {
    /// The receiver is gone where the client hung up or the deadline passed: the entry is stored
    /// nevertheless.
    pub(super) fn answer(self, answer: Result<Receipt, AppendError>) {
        let _ = self.answer.send(answer);
    }
}

impl Flush<PendingAppend> {
    /// Waits for the first append and takes all that are queued by then, within the bounds of one
    /// flush; empty once the queue is closed and empty.
    pub(super) async fn gather(
        queue: &Mutex<mpsc::Receiver<QueuedAppend>>,
        limit: usize,
        stop: &CancellationToken,
    ) -> Self {
        // The lock goes from writer to writer: one waits for appends, the others wait for the lock.
        let mut queue = queue.lock().await;
        let first = tokio::select! {
            biased;
            () = stop.cancelled() => {
                queue.close();
                queue.recv().await
            }
            first = queue.recv() => first,
        };
        let mut flush = Self::empty();
        let mut bytes = 0;
        let mut next = first;
        while let Some(QueuedAppend { entry, pending }) = next {
            bytes += entry.fields.bytes();
            flush.push(entry, pending);
            let has_room = flush.entries.len() < limit && bytes < FLUSH_BYTES;
            next = if has_room { queue.try_recv().ok() } else { None };
        }
        flush
    }

    /// When the append was queued that waits longest.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.beside.iter().map(|pending| pending.queued).min()
    }

    /// Drops appends whose deadline is over: their requests are answered already.
    pub(super) fn drop_expired(&mut self, now: Instant) {
        if self.beside.iter().all(|pending| pending.deadline > now) {
            return;
        }
        let pairs = std::mem::replace(self, Self::empty()).into_pairs();
        (self.entries, self.beside) = pairs.filter(|(_, pending)| pending.deadline > now).unzip();
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

    fn queued(bytes: usize) -> QueuedAppend {
        let mut fields = Fields::default();
        fields.push("payload", Bytes::from(vec![b'x'; bytes]));
        let permit = || Admission::new(0, 0, Gauge::default()).open(true);
        QueuedAppend {
            entry: NewEntry {
                destination: Destination::Stream,
                dedupe_key: String::new(),
                digest: [0; 16],
                spread: 0,
                fields,
            },
            pending: PendingAppend {
                queued: Instant::now(),
                deadline: Instant::now(),
                answer: oneshot::channel().0,
                _body_permit: Arc::new(permit()),
                _entry_permit: permit(),
            },
        }
    }

    #[tokio::test]
    async fn a_flush_is_bounded_in_entries_and_bytes() {
        let (sender, queue) = mpsc::channel(100);
        let queue = Mutex::new(queue);
        for bytes in [[1; 5].as_slice(), &[FLUSH_BYTES / 4; 6], &[2 * FLUSH_BYTES, 1]].concat() {
            sender.send(queued(bytes)).await.unwrap();
        }
        let stop = CancellationToken::new();
        let mut flushes = Vec::new();
        for _ in 0..4 {
            flushes.push(Flush::gather(&queue, 5, &stop).await.entries.len());
        }
        assert_eq!(flushes, [5, 4, 3, 1]);
        stop.cancel();
        assert!(Flush::gather(&queue, 5, &stop).await.is_empty());
    }
}
