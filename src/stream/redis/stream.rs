//! The seam's calls on Redis, each a command, a pipeline or a script.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Pipeline;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;

use super::checkpointed::RedisCheckpointedWriter;
use super::group::{ensure_group, lacks_group, restore_group};
use super::group_monitor::{GroupMonitor, MARK_LIFETIME};
use super::keys::{IDS_A_CALL, Keys, millis};
use super::loss_detector::LossDetector;
use super::reader::RedisReader;
use super::reservation::{Flushes, ServerClock};
use super::server::Server;
use super::writer::RedisWriter;
use super::{inspect, pages, reply, report, scripts, writable};
use crate::config::{RedisConfig, Secret, StreamConfig};
use crate::metrics::Metrics;
use crate::stream::{
    AttemptStep, Attempts, CheckpointedWriter, Claim, Claimed, DeadLetter, Delivered, Destination, Entry, PAGE_BYTES,
    Page, Range, Reader, Refreshed, Restored, ServerReport, Stream, StreamError, StreamId, StreamReport, Trimmed,
    Writer, codec,
};

/// Entries of one page of a claim; bounds the time its script holds the server.
const CLAIM_PAGE: usize = 500;
/// Fields of an entry that its letter keeps: twice as many arguments would overflow the stack of
/// Lua's unpack.
const DEAD_LETTER_FIELDS: usize = 1900;
/// Entries a trim looks at one by one in one call.
const TRIM_WALK: usize = 256;
/// A record of tries is dropped when nobody has tried anything for so long.
const ATTEMPTS_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// A stream on a Redis server.
pub struct RedisStream {
    pub(super) server: Arc<Server>,
    pub(super) keys: Arc<Keys>,
    loss_detector: Arc<LossDetector>,
    flushes: Arc<Flushes>,
    group_monitor: GroupMonitor,
    letters: report::DeadLetterCache,
    /// Where the trimmer's walk behind an old pending entry goes on. One trim at a time.
    trim_cursor: Mutex<String>,
}

impl RedisStream {
    /// Reads the URL and the CA file; connects at the first call.
    ///
    /// # Errors
    /// [`StreamError::Unusable`]: the URL is not one of a Redis server, its scheme is reserved, or
    /// the CA file is unreadable.
    pub fn new(redis: &RedisConfig, stream: &StreamConfig, metrics: Metrics) -> Result<Self, StreamError> {
        Ok(Self {
            server: Arc::new(Server::new(redis, metrics)?),
            keys: Arc::new(Keys::new(stream)),
            loss_detector: Arc::default(),
            flushes: Flushes::new(),
            group_monitor: GroupMonitor::new(),
            letters: report::DeadLetterCache::default(),
            trim_cursor: Mutex::new("0-0".to_owned()),
        })
    }

    /// Makes ready to use another URL (or the same with a new password): once the answer is called,
    /// from the next call to the stream on, for writers and readers too.
    ///
    /// # Errors
    /// As [`RedisStream::new`].
    pub fn prepare<'a>(&'a self, url: &Secret) -> Result<impl FnOnce() + use<'a>, StreamError> {
        self.server.prepare(url)
    }

    /// Removes consumers that were silent for that long and have nothing pending: of these, or of
    /// all where none is named.
    pub(super) async fn remove_consumers(
        &self,
        silent: Duration,
        names: &[String],
    ) -> Result<Vec<String>, StreamError> {
        let mut script = scripts::REMOVE_SILENT.key(&self.keys.stream);
        script
            .arg(&self.keys.group)
            .arg(millis(silent))
            .arg(&self.keys.marks)
            .arg(millis(MARK_LIFETIME))
            .arg(names);
        match self.server.run(&script).await {
            Err(error) if lacks_group(&error) => Ok(Vec::new()),
            removed => removed,
        }
    }

    /// Removes the ids of entries that are no longer recognized.
    async fn unlink_old_ids(&self) -> Result<(), StreamError> {
        if self.keys.dedupe_window.is_none() {
            return Ok(());
        }
        let now = ServerClock::of(self.server.query(&redis::cmd("TIME")).await?).now();
        let mut pipeline = Pipeline::new();
        for key in self.keys.old_generations(now) {
            pipeline.cmd("UNLINK").arg(key).ignore();
        }
        // A user without that right leaves it to their expiry.
        self.server.query_all(pipeline.ignore_errors()).await
    }

    async fn claim_page(
        &self,
        consumer: &str,
        which: Claim<'_>,
        start: StreamId,
        count: usize,
    ) -> Result<Claimed, StreamError> {
        let (which, in_flight) = match which {
            Claim::Own(in_flight) => ("own".to_owned(), in_flight),
            Claim::Stale(idle) => (idle.as_millis().to_string(), &[][..]),
        };
        let mut script = scripts::CLAIM.key(&self.keys.stream);
        script.key(&self.keys.attempts).arg(&self.keys.group).arg(consumer);
        script
            .arg(which)
            .arg(start)
            .arg(count.clamp(1, CLAIM_PAGE))
            .arg(PAGE_BYTES)
            .arg(Vec::from_iter(in_flight.iter().filter(|id| **id >= start)));
        let (last, entries, deliveries, attempts, deleted): ClaimedPage = self.server.run(&script).await?;
        let records = deliveries.into_iter().zip(attempts);
        let entries = entries
            .into_iter()
            .zip(records)
            .map(|(entry, (deliveries, attempts))| Delivered {
                entry,
                deliveries,
                attempts: reply::attempts(attempts.as_deref()),
            });
        Ok(Claimed {
            entries: entries.collect(),
            deleted,
            next: last.and_then(StreamId::successor),
        })
    }
}

/// Answer of `claim.lua`.
type ClaimedPage = (
    Option<StreamId>,
    Vec<Entry>,
    Vec<u64>,
    Vec<Option<String>>,
    Vec<StreamId>,
);

#[async_trait]
impl Stream for RedisStream {
    fn writer(&self) -> Box<dyn Writer> {
        let (server, keys, loss_detector) = (self.server.clone(), self.keys.clone(), self.loss_detector.clone());
        Box::new(RedisWriter::new(server, keys, loss_detector, self.flushes.clone()))
    }

    fn checkpointed(&self, source: &str) -> Box<dyn CheckpointedWriter> {
        Box::new(RedisCheckpointedWriter::new(
            self.server.clone(),
            self.keys.clone(),
            source,
        ))
    }

    fn reader(&self, consumer: &str, _partition: u16) -> Box<dyn Reader> {
        Box::new(RedisReader::new(self.server.clone(), self.keys.clone(), consumer))
    }

    async fn ensure_group(&self) -> Result<bool, StreamError> {
        ensure_group(&self.server, &self.keys).await
    }

    async fn claim(
        &self,
        consumer: &str,
        which: Claim<'_>,
        start: StreamId,
        count: usize,
    ) -> Result<Claimed, StreamError> {
        match self.claim_page(consumer, which, start, count).await {
            // Without a group nothing is pending.
            Err(error) if lacks_group(&error) => {
                restore_group(&self.server, &self.keys).await?;
                Ok(Claimed::default())
            }
            claimed => claimed,
        }
    }

    async fn refresh(&self, consumer: &str, ids: &[StreamId]) -> Result<Refreshed, StreamError> {
        let mut refreshed = Refreshed::default();
        for ids in ids.chunks(IDS_A_CALL) {
            let mut script = scripts::REFRESH.key(&self.keys.stream);
            script.arg(&self.keys.group).arg(consumer).arg(ids);
            match self.server.run::<(Vec<StreamId>, Vec<StreamId>)>(&script).await {
                Ok((held, gone)) => {
                    refreshed.held.extend(held);
                    refreshed.gone.extend(gone);
                }
                // Without a group nothing can have become another's.
                Err(error) if lacks_group(&error) => {
                    restore_group(&self.server, &self.keys).await?;
                    refreshed.held.extend(ids);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refreshed)
    }

    async fn ack(&self, ids: &[StreamId], tried: &[StreamId]) -> Result<u64, StreamError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut pipeline = Pipeline::new();
        for ids in ids.chunks(IDS_A_CALL) {
            pipeline
                .cmd("XACK")
                .arg(&self.keys.stream)
                .arg(&self.keys.group)
                .arg(ids);
        }
        for ids in tried.chunks(IDS_A_CALL) {
            pipeline.cmd("HDEL").arg(&self.keys.attempts).arg(ids).ignore();
        }
        let acked: Vec<u64> = self.server.query_all(&pipeline).await?;
        Ok(acked.iter().sum())
    }

    async fn record(&self, id: StreamId, step: AttemptStep) -> Result<Attempts, StreamError> {
        let (step, count) = match step {
            AttemptStep::Begin(count) => ("begin", count),
            AttemptStep::Failed(count) => ("failed", count),
            AttemptStep::Spared => ("spared", 0),
        };
        let mut script = scripts::RECORD.key(&self.keys.attempts);
        script.arg(id).arg(step).arg(count).arg(millis(ATTEMPTS_LIFETIME));
        let (failed, unfinished) = self.server.run(&script).await?;
        Ok(Attempts { failed, unfinished })
    }

    async fn dead_letter(&self, letter: &DeadLetter) -> Result<bool, StreamError> {
        let id = letter.entry.id;
        let failed_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let mut script = scripts::DEAD_LETTER.key(&self.keys.stream);
        script.key(&self.keys.dead_letters).key(&self.keys.attempts);
        script.arg(&self.keys.group).arg(id).arg(self.keys.dead_letters_maxlen);
        let mut fields: Vec<_> = letter.entry.fields.0.iter().collect();
        let mut error = Cow::from(&letter.error);
        let left_out = fields.len().saturating_sub(DEAD_LETTER_FIELDS);
        if left_out > 0 {
            fields.sort_by_key(|(name, _)| !codec::FIELDS.contains(&&**name));
            fields.truncate(DEAD_LETTER_FIELDS);
            error = format!("{error} ({left_out} fields of the entry are left out here)").into();
        }
        for (name, value) in fields {
            script.arg(name.as_bytes()).arg(&value[..]);
        }
        for (name, value) in codec::found_by(&letter.entry.fields) {
            script.arg(name).arg(value);
        }
        script.arg("original_stream").arg(&self.keys.stream);
        script.arg("original_id").arg(id);
        script.arg("failed_at").arg(failed_at);
        script.arg("error").arg(&*error);
        script.arg("attempts").arg(letter.attempts);
        script.arg("consumer").arg(&letter.consumer);
        Ok(self.server.run::<u8>(&script).await? == 1)
    }

    async fn trim(&self, _partition: u16) -> Result<Trimmed, StreamError> {
        let mut cursor = self.trim_cursor.lock().await;
        let mut script = scripts::TRIM.key(&self.keys.stream);
        script
            .arg(&self.keys.group)
            .arg(self.keys.retain_acked)
            .arg(self.keys.maxlen)
            .arg(&*cursor)
            .arg(TRIM_WALK);
        let (prefix, pinned, next): (u64, u64, String) = self.server.run(&script).await?;
        *cursor = next;
        self.unlink_old_ids().await?;
        Ok(Trimmed { prefix, pinned })
    }

    async fn remove_silent_consumers(&self, silent: Duration) -> Result<Vec<String>, StreamError> {
        self.remove_consumers(silent, &[]).await
    }

    async fn restore(&self) -> Result<Vec<Restored>, StreamError> {
        self.group_monitor.restore(&self.server, &self.keys).await
    }

    async fn range(&self, range: Range) -> Result<Page, StreamError> {
        let log = match range.log {
            Destination::Stream => &self.keys.stream,
            Destination::DeadLetters => &self.keys.dead_letters,
        };
        pages::range(&self.server, log, range).await
    }

    async fn report(&self) -> Result<StreamReport, StreamError> {
        report::report(&self.server, &self.keys, &self.loss_detector, &self.letters).await
    }

    async fn confirm_writable(&self, _partition: u16) -> Result<(), StreamError> {
        writable::confirm(&self.server, &self.keys).await
    }

    async fn inspect(&self) -> Result<ServerReport, StreamError> {
        inspect::inspect(&self.server).await
    }
}
