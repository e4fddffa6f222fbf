//! The spool: events on this machine's disk while the stream does not take them.
//!
//! Owns what stands in `spool.db`: whole entries with where they belong, in an embedded stream with one reader, the
//! drainer. Must not decide when to spool (`writer.rs`) or when to move on (`drainer.rs`). Invariants: a receipt comes
//! after the fsync; above its limit the spool takes nothing, and evicts nothing; a key is known for as long as its entry
//! is here, so that what was moved on is judged by the stream alone.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::{AppendError, AtomicInstant, Receipt};
use crate::config::StreamConfig;
use crate::metrics::Metrics;
use crate::stream::embedded::{EmbeddedStream, Stats};
use crate::stream::{
    Appended, Claim, Claimed, Destination, Entry, Fields, NewEntry, Reader, Stream as _, StreamError, StreamId, Writer,
};

/// The group, and its one member.
const DRAINER: &str = "drainer";
/// Bound on one write: with `ORDERSTREAM_SPOOL_AFTER` before it, still within the three seconds that
/// Shopify is promised. What comes later is on the disk all the same, and dedupe absorbs that it is sent again.
const WRITE_LIMIT: Duration = Duration::from_millis(1700);

/// Fields that stand before an entry's own.
const DESTINATION: &str = "spool:destination";
const KEY: &str = "spool:key";
const DIGEST: &str = "spool:digest";

/// The spool; a cheap clone.
#[derive(Clone)]
pub struct Spool {
    stream: EmbeddedStream,
    shared: Arc<Shared>,
}

struct Shared {
    /// Bytes of what is stored.
    limit: u64,
    /// The last write was taken.
    takes_writes: AtomicBool,
    /// Something new is here.
    arrival: Notify,
    stored: AtomicInstant,
    /// Entries that were moved on, since the start.
    moved: AtomicU64,
    /// Entries that were read and then found damaged, likewise.
    lost: AtomicU64,
    metrics: Metrics,
}

/// What the spool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolReport {
    /// Entries that are not yet in the stream.
    pub depth: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// At most so many.
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
    /// Opens the file, or makes it. `limit` bounds the bytes that it holds. `dedupe` is the stream's: off, an entry that
    /// comes twice is stored twice here too. Blocks the thread while it reads.
    ///
    /// # Errors
    /// As [`EmbeddedStream::open`].
    pub fn open(path: &Path, limit: u64, dedupe: bool, metrics: Metrics) -> Result<Self, StreamError> {
        let config = StreamConfig {
            name: "spool".to_owned(),
            group: DRAINER.to_owned(),
            dead_letters: String::new(),
            maxlen: u64::MAX,
            retain_acked: 0,
            dead_letters_maxlen: 0,
            dedupe_window: dedupe.then_some(Duration::MAX),
        };
        let spool = Self {
            stream: EmbeddedStream::open(path, &config, Some(limit), metrics.clone())?,
            shared: Arc::new(Shared {
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

    /// What it holds; costs nothing.
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

    /// Writes to the disk, to see whether it takes that.
    pub async fn probe(&self) {
        let written = tokio::time::timeout(WRITE_LIMIT, self.stream.confirm_writable()).await;
        self.note(matches!(written, Ok(Ok(()))));
    }

    /// When it last took an entry.
    #[must_use]
    pub fn last_stored(&self) -> &AtomicInstant {
        &self.shared.stored
    }

    pub(super) fn writer(&self) -> SpoolWriter {
        SpoolWriter {
            writer: self.stream.writer(),
            spool: self.clone(),
        }
    }

    pub(super) fn reader(&self) -> Box<dyn Reader> {
        self.stream.reader(DRAINER)
    }

    /// Waits until something was stored; at once where that was since the last call.
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
        let (settled, mut trimmed) = tokio::join!(self.stream.ack(ids, &[]), self.stream.trim());
        let settled = settled?;
        self.shared.moved.fetch_add(settled, Ordering::Relaxed);
        self.shared.metrics.spool.drained.inc_by(settled);
        while trimmed
            .as_ref()
            .is_ok_and(|trimmed| trimmed.prefix + trimmed.pinned > 0)
        {
            trimmed = self.stream.trim().await;
        }
        trimmed?;
        self.export();
        Ok(())
    }

    fn note(&self, taken: bool) {
        let took = self.shared.takes_writes.swap(taken, Ordering::Relaxed);
        if took && !taken {
            tracing::error!("the spool takes no writes: what the stream does not take either is answered 503");
        } else if taken && !took {
            tracing::info!("the spool takes writes again");
        }
    }

    /// Shows what it holds at `/metrics`.
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

/// Stores entries, for one task.
pub(super) struct SpoolWriter {
    spool: Spool,
    writer: Box<dyn Writer>,
}

impl SpoolWriter {
    /// Stores the entries and answers each, in order, once they are on the disk.
    pub(super) async fn store(&mut self, entries: &[NewEntry]) -> Vec<Result<Receipt, AppendError>> {
        let wrapped: Vec<_> = entries.iter().map(wrap).collect();
        let unavailable = |why: String| vec![Err(AppendError::Unavailable(why)); entries.len()];
        let answers = match tokio::time::timeout(WRITE_LIMIT, self.writer.append(&wrapped)).await {
            Ok(Ok(outcomes)) => outcomes.into_iter().map(receipt).collect(),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the spool does not take a write");
                unavailable(error.to_string())
            }
            Err(_) => unavailable(format!("the spool did not confirm within {WRITE_LIMIT:?}")),
        };
        self.spool.note(answers.iter().all(Result::is_ok));
        let stored = answers.iter().filter(|answer| **answer == Ok(Receipt::Spooled)).count();
        if stored > 0 {
            self.spool.shared.stored.mark();
            self.spool.shared.metrics.spool.stored.inc_by(stored as u64);
            self.spool.shared.arrival.notify_one();
            self.spool.export();
        }
        answers
    }
}

fn receipt(outcome: Appended) -> Result<Receipt, AppendError> {
    match outcome {
        Appended::Accepted(_) => Ok(Receipt::Spooled),
        Appended::Duplicate(_) => Ok(Receipt::Duplicate(None)),
        Appended::Conflict(_) => Ok(Receipt::Conflict),
        Appended::Full => Err(AppendError::SpoolFull),
        Appended::Refused(reason) | Appended::TooLarge(reason) | Appended::Unavailable(reason) => {
            Err(AppendError::Unavailable(reason))
        }
    }
}

/// An entry with where it belongs.
fn wrap(entry: &NewEntry) -> NewEntry {
    let destination = match entry.destination {
        Destination::Stream => "stream",
        Destination::DeadLetters => "dead_letters",
    };
    let mut fields = Fields(Vec::with_capacity(3 + entry.fields.0.len()));
    fields.push(DESTINATION, destination);
    fields.push(KEY, Bytes::copy_from_slice(entry.dedupe_key.as_bytes()));
    fields.push(DIGEST, Bytes::copy_from_slice(&entry.digest));
    fields.0.extend(entry.fields.0.iter().cloned());
    NewEntry {
        destination: Destination::Stream,
        dedupe_key: format!("{destination}:{}", entry.dedupe_key),
        digest: entry.digest,
        fields,
    }
}

/// The entry as it was given to the spool; the fields as they are where it is none of this release's.
pub(super) fn unwrapped(entry: Entry) -> (StreamId, Result<NewEntry, Fields>) {
    let Entry { id, fields } = entry;
    let found = (|| {
        let [(first, destination), (second, key), (third, digest), own @ ..] = fields.0.as_slice() else {
            return None;
        };
        let destination = match &destination[..] {
            b"stream" => Destination::Stream,
            b"dead_letters" => Destination::DeadLetters,
            _ => return None,
        };
        let names_are_ours = first == DESTINATION && second == KEY && third == DIGEST;
        Some(NewEntry {
            destination,
            dedupe_key: String::from_utf8(key.to_vec()).ok().filter(|_| names_are_ours)?,
            digest: digest[..].try_into().ok()?,
            fields: Fields(own.to_vec()),
        })
    })();
    (id, found.ok_or(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: StreamId = StreamId { ms: 7, seq: 1 };

    #[test]
    fn an_entry_comes_out_as_it_went_in() {
        for destination in [Destination::Stream, Destination::DeadLetters] {
            let mut fields = Fields::default();
            fields.push("event_id", "e-1");
            fields.push("raw", vec![0xFF, 0, b'\n']);
            fields.push("event_id", "twice");
            let entry = NewEntry {
                destination,
                dedupe_key: "key: ü".to_owned(),
                digest: *b"sixteen bytes ..",
                fields,
            };
            let (id, found) = unwrapped(Entry {
                id: ID,
                fields: wrap(&entry).fields,
            });
            let found = found.unwrap();
            assert_eq!(id, ID);
            assert_eq!(found.destination, destination);
            assert_eq!(found.dedupe_key, entry.dedupe_key);
            assert_eq!(found.digest, entry.digest);
            assert_eq!(found.fields, entry.fields);
        }
    }

    #[test]
    fn what_is_not_ours_keeps_its_fields() {
        let mut fields = Fields::default();
        fields.push("event_id", "e-1");
        let entry = Entry {
            id: ID,
            fields: fields.clone(),
        };
        assert_eq!(unwrapped(entry).1.unwrap_err(), fields);
    }
}
