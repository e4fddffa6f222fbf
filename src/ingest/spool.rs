//! The spool: events on this machine's disk while the stream does not take them.
//!
//! `spool.db` is an embedded stream with one reader, the drainer. Must not decide when to spool
//! (`writer.rs`) or when to move on (`drainer.rs`). Invariants: a receipt comes after the fsync; at
//! its limit (bytes) the spool takes nothing, and evicts nothing; a dedupe key is known for as long
//! as its entry is in the spool, so that the stream alone decides on what was moved on.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::append_stats::AtomicInstant;
use super::receipt::{AppendError, Receipt};
use super::spool_entry::encode;
use crate::config::StreamConfig;
use crate::metrics::Metrics;
use crate::stream::embedded::{EmbeddedStream, Stats};
use crate::stream::{Appended, Claim, Claimed, NewEntry, Reader, Stream as _, StreamError, StreamId};

/// The group, and its one member.
const DRAINER: &str = "drainer";
/// Bound on one write: with `ORDERSTREAM_SPOOL_AFTER` before it, still within the three seconds
/// that Shopify is promised. A write that takes longer may still be stored, and dedupe absorbs that
/// it is sent again.
const WRITE_LIMIT: Duration = Duration::from_millis(1700);

/// The spool; a cheap clone.
#[derive(Clone)]
pub struct Spool {
    stream: EmbeddedStream,
    shared: Arc<SharedSpool>,
}

struct SharedSpool {
    /// Bytes of what is stored.
    limit: u64,
    /// The last write was taken.
    takes_writes: AtomicBool,
    /// Something was stored.
    arrival: Notify,
    stored: AtomicInstant,
    /// Entries that were moved on, since the start.
    moved: AtomicU64,
    /// Entries that were read and then found damaged, likewise.
    lost: AtomicU64,
    metrics: Metrics,
}

/// The state of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolReport {
    /// Entries that are not yet in the stream.
    pub depth: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Most bytes that it takes.
    pub limit: u64,
    /// Age of the oldest.
    pub oldest: Option<Duration>,
    /// Whether it has room and took its last write.
    pub takes_writes: bool,
    /// Whether its file was removed or replaced while it is open.
    pub is_removed: bool,
    /// Entries that were moved on, since the start.
    pub moved: u64,
    /// Entries that were lost to damage, likewise; `None` where their number is not known.
    pub lost: Option<u64>,
}

impl Spool {
    /// Opens the file, or makes it. `limit` bounds the bytes that it holds. `dedupe` is the
    /// stream's: off, an entry that comes twice is stored twice here too. Blocks the thread while
    /// it reads.
    ///
    /// # Errors
    /// As [`EmbeddedStream::open`].
    pub fn open(path: &Path, limit: u64, dedupe: bool, metrics: Metrics) -> Result<Self, StreamError> {
        let config = StreamConfig {
            name: "spool".to_owned(),
            group: DRAINER.to_owned(),
            dead_letters: String::new(),
            partitions: None,
            maxlen: u64::MAX,
            retain_acked: 0,
            dead_letters_maxlen: 0,
            dedupe_window: dedupe.then_some(Duration::MAX),
        };
        let spool = Self {
            stream: EmbeddedStream::open(path, &config, Some(limit), metrics.clone())?,
            shared: Arc::new(SharedSpool {
                limit,
                takes_writes: AtomicBool::new(true),
                arrival: Notify::new(),
                stored: AtomicInstant::never(),
                moved: AtomicU64::new(0),
                lost: AtomicU64::new(0),
                metrics,
            }),
        };
        spool.export();
        Ok(spool)
    }

    /// Closes the file; later calls fail.
    pub async fn close(&self) {
        self.stream.close().await;
    }

    /// Its present state, from memory.
    #[must_use]
    pub fn report(&self) -> SpoolReport {
        let stats = self.stream.stats();
        let (is_known, is_removed) = (stats.is_known(), stats.is_moved());
        let Stats {
            bytes,
            backlog,
            lost,
            losses_unknown,
            ..
        } = stats;
        let limit = self.shared.limit;
        SpoolReport {
            depth: backlog,
            bytes,
            limit,
            oldest: stats.oldest(),
            // A last 64th does not count: a large body might not fit in.
            takes_writes: is_known
                && !is_removed
                && self.shared.takes_writes.load(Ordering::Relaxed)
                && bytes < limit - limit / 64,
            is_removed,
            moved: self.shared.moved.load(Ordering::Relaxed),
            lost: (losses_unknown == 0).then_some(lost + self.shared.lost.load(Ordering::Relaxed)),
        }
    }

    /// Writes to the disk, to learn whether it takes writes.
    pub async fn probe(&self) {
        let written = tokio::time::timeout(WRITE_LIMIT, self.stream.confirm_writable(0)).await;
        self.note_write(matches!(written, Ok(Ok(()))));
    }

    /// When it last took an entry.
    #[must_use]
    pub fn last_stored(&self) -> &AtomicInstant {
        &self.shared.stored
    }

    /// Stores the entries and answers each, in order, once they are on the disk.
    pub(super) async fn store(&self, entries: &[NewEntry]) -> Vec<Result<Receipt, AppendError>> {
        let encoded: Vec<_> = entries.iter().map(encode).collect();
        let mut writer = self.stream.writer();
        let unavailable = |why: String| vec![Err(AppendError::Unavailable(why)); entries.len()];
        let answers = match tokio::time::timeout(WRITE_LIMIT, writer.append(&encoded)).await {
            Ok(outcomes) => {
                if let Some(Appended::Failed(error)) = outcomes.first() {
                    tracing::debug!(%error, "the spool does not take a write");
                }
                outcomes.into_iter().map(Receipt::of_spool).collect()
            }
            Err(_) => unavailable(format!("the spool did not confirm within {WRITE_LIMIT:?}")),
        };
        self.note_write(answers.iter().all(Result::is_ok));
        let stored = answers.iter().filter(|answer| **answer == Ok(Receipt::Spooled)).count();
        if stored > 0 {
            self.shared.stored.mark();
            self.shared.metrics.spool.stored.inc_by(stored as u64);
            self.shared.arrival.notify_one();
            self.export();
        }
        answers
    }

    pub(super) fn reader(&self) -> Box<dyn Reader> {
        self.stream.reader(DRAINER, 0)
    }

    /// Waits until something is stored; returns at once where that happened since the last call.
    pub(super) async fn arrival(&self) {
        self.shared.arrival.notified().await;
    }

    /// Entries that were read and not settled, from `start` on.
    pub(super) async fn claim(&self, start: StreamId, count: usize) -> Result<Claimed, StreamError> {
        let claimed = self.stream.claim(DRAINER, Claim::Own(&[]), start, count).await?;
        if let Some(first) = claimed.deleted.first() {
            let count = claimed.deleted.len() as u64;
            self.shared.lost.fetch_add(count, Ordering::Relaxed);
            self.shared.metrics.entries_lost.inc_by(count);
            tracing::error!(count, %first, "entries of the spool were damaged on disk: they are lost");
        }
        Ok(claimed)
    }

    /// Removes entries that are in the stream now.
    pub(super) async fn settle(&self, ids: &[StreamId]) -> Result<(), StreamError> {
        // Asked for together, they are done in this order and in one commit.
        let (settled, mut trimmed) = tokio::join!(self.stream.ack(ids, &[]), self.stream.trim(0));
        let settled = settled?;
        self.shared.moved.fetch_add(settled, Ordering::Relaxed);
        self.shared.metrics.spool.drained.inc_by(settled);
        while trimmed
            .as_ref()
            .is_ok_and(|trimmed| trimmed.prefix + trimmed.pinned > 0)
        {
            trimmed = self.stream.trim(0).await;
        }
        trimmed?;
        self.export();
        Ok(())
    }

    fn note_write(&self, taken: bool) {
        let took = self.shared.takes_writes.swap(taken, Ordering::Relaxed);
        if took && !taken {
            tracing::error!("the spool takes no writes; events that the stream does not take either are answered 503");
        } else if taken && !took {
            tracing::info!("the spool takes writes again");
        }
    }

    /// Sets the gauges of `/metrics`.
    pub(super) fn export(&self) {
        let report = self.report();
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let metrics = &self.shared.metrics.spool;
        metrics.entries.set(gauge(report.depth));
        metrics.bytes.set(gauge(report.bytes));
        metrics
            .oldest_seconds
            .set(gauge(report.oldest.unwrap_or_default().as_secs()));
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spool").field(&self.report()).finish()
    }
}
