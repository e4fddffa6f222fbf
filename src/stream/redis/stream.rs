//! The stream: what its partitions have in common, and the calls that go to several of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use redis::{Pipeline, Value, from_redis_value};
use secrecy::ExposeSecret;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::checkpointed::RedisCheckpointedWriter;
use super::dead_letters::DeadLetterMonitor;
use super::keys::IDS_A_CALL;
use super::merge::{merged_page, merged_report, part_of};
use super::node::PROMPT;
use super::partition::{Partition, Partitions};
use super::reservation::Flushes;
use super::server::{Server, Servers};
use super::url::RedisUrl;
use super::writer::RedisWriter;
use super::{dead_letters, inspect, pages};
use crate::config::{RedisConfig, Secret, StreamConfig};
use crate::metrics::Metrics;
use crate::stream::{
    AttemptStep, Attempts, CheckpointedWriter, Claim, Claimed, DeadLetter, Destination, NewEntry, Page, Range, Reader,
    Refreshed, Restored, ServerReport, Stream, StreamError, StreamId, StreamReport, Trimmed, Writer,
};

/// A stream on Redis.
pub struct RedisStream {
    pub(super) partitions: Arc<Partitions>,
    flushes: Arc<Flushes>,
    letters: DeadLetterMonitor,
}

impl RedisStream {
    /// Reads the URL and the CA file; connects at the first call.
    ///
    /// # Errors
    /// [`StreamError::Unusable`]: the URL is not one of a Redis server, of sentinels or of a cluster,
    /// or the CA file is unreadable.
    pub fn new(redis: &RedisConfig, stream: &StreamConfig, metrics: Metrics) -> Result<Self, StreamError> {
        let url = RedisUrl::parse(redis.url.expose_secret(), redis.ca_file.as_deref())?;
        let mut stream = stream.clone();
        if matches!(url, RedisUrl::Cluster(_)) {
            // Side keys need the hash tag of their log there.
            stream.partitions.get_or_insert(1);
        }
        let servers = Servers::new(redis, url, Partitions::slots(&stream), metrics)?;
        Ok(Self {
            partitions: Arc::new(Partitions::new(servers, &stream)),
            flushes: Flushes::new(),
            letters: DeadLetterMonitor::default(),
        })
    }

    /// As [`Self::new`], and asks how many partitions other processes of this stream have: those are
    /// read, too. Where none is configured here and others have some, this process has one, whose keys
    /// have hash tags like theirs. Nothing is learned where the server does not answer.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub async fn open(redis: &RedisConfig, stream: &StreamConfig, metrics: Metrics) -> Result<Self, StreamError> {
        let mut tagged = stream.clone();
        let is_given = tagged.partitions.replace(stream.partitions.unwrap_or(1)).is_some();
        let opened = Self::new(redis, &tagged, metrics.clone())?;
        let is_shared = opened.noted_counts(false).await.is_ok_and(|counts| counts > 0);
        if is_given || is_shared || opened.is_distributed() {
            return Ok(opened);
        }
        Self::new(redis, stream, metrics)
    }

    /// The most partitions that processes of this stream have noted, 0 where none did; they are read
    /// from now on. With `is_noted` this process notes its own first.
    async fn noted_counts(&self, is_noted: bool) -> Result<u16, StreamError> {
        let first = self.partitions.at(0);
        // Without tags there is one partition, and processes that have more see it as their first.
        if !first.keys.is_tagged {
            return Ok(0);
        }
        let mut pipeline = Pipeline::new();
        if is_noted {
            let since = OffsetDateTime::now_utc().unix_timestamp();
            let note = pipeline.cmd("HSETNX").arg(&first.keys.layout);
            note.arg(self.partitions.count()).arg(since);
        }
        pipeline.cmd("HGETALL").arg(&first.keys.layout);
        let mut answers: Vec<Value> = first.server.query_all(pipeline).await?;
        let counts: HashMap<String, Value> = answers
            .pop()
            .and_then(|all| from_redis_value(all).ok())
            .unwrap_or_default();
        let most = counts.keys().filter_map(|count| count.parse().ok()).max();
        let most = most.unwrap_or_default();
        self.partitions.grow(most);
        Ok(most)
    }

    /// Makes ready to use another URL (or the same with a new password): once the answer is called,
    /// from the next call to the stream on, for writers and readers too.
    ///
    /// # Errors
    /// As [`RedisStream::new`].
    pub fn prepare<'a>(&'a self, url: &Secret) -> Result<impl FnOnce() + use<'a>, StreamError> {
        self.partitions.servers.prepare(url)
    }

    /// Asks sentinels or cluster where the primaries are, until `stop` fires. Without it a server is
    /// left only once something failed on it, which costs what it confirmed meanwhile.
    pub async fn look_out(self: Arc<Self>, stop: CancellationToken) {
        self.partitions.servers.look_out(stop).await;
    }

    /// Bounded where there are several servers, so that one that hangs leaves the others' answers in
    /// time.
    async fn promptly<T>(
        &self,
        server: &Server,
        answer: impl Future<Output = Result<T, StreamError>>,
    ) -> Result<T, StreamError> {
        let limit = if self.partitions.servers.is_cluster() {
            PROMPT
        } else {
            Duration::MAX
        };
        let answered = tokio::time::timeout(limit, answer).await;
        answered.unwrap_or_else(|_| {
            Err(StreamError::Timeout {
                server: server.address(),
                after: limit,
            })
        })
    }

    /// Removes consumers that were silent for that long and have nothing pending: of these, or of
    /// all where none is named.
    pub(super) async fn remove_consumers(
        &self,
        silent: Duration,
        names: &[String],
    ) -> Result<Vec<String>, StreamError> {
        let each = self.partitions.iter();
        let removed = try_join_all(each.map(|partition| partition.remove_consumers(silent, names))).await?;
        let mut removed = removed.concat();
        removed.sort();
        removed.dedup();
        Ok(removed)
    }
}

#[async_trait]
impl Stream for RedisStream {
    fn writer(&self) -> Box<dyn Writer> {
        Box::new(RedisWriter::new(self.partitions.clone(), self.flushes.clone()))
    }

    fn plain_writer(&self) -> Box<dyn Writer> {
        Box::new(RedisWriter::new(self.partitions.clone(), self.flushes.clone()).without_dedupe())
    }

    /// Beside the first partition: where there are several, a capture is refused at start.
    fn checkpointed(&self, source: &str) -> Box<dyn CheckpointedWriter> {
        let letters = RedisWriter::new(self.partitions.clone(), self.flushes.clone());
        Box::new(RedisCheckpointedWriter::new(&self.partitions, letters, source))
    }

    fn partitions(&self) -> u16 {
        self.partitions.count()
    }

    fn lane(&self, entry: &NewEntry) -> usize {
        self.partitions.servers.lane(self.partitions.log_of(entry).partition())
    }

    fn readable(&self) -> u16 {
        self.partitions.readable()
    }

    async fn learn_layout(&self, is_noted: bool) -> Result<(), StreamError> {
        self.noted_counts(is_noted).await.map(|_| ())
    }

    fn is_distributed(&self) -> bool {
        self.partitions.servers.is_cluster()
    }

    fn partition_named(&self, log: &str) -> u16 {
        let found = self.partitions.iter().find(|partition| partition.keys.stream == log);
        found.map_or(0, |partition| partition.keys.partition)
    }

    fn reader(&self, consumer: &str, partition: u16) -> Box<dyn Reader> {
        Box::new(self.partitions.at(partition).reader(consumer))
    }

    async fn ensure_group(&self) -> Result<bool, StreamError> {
        let each = self.partitions.iter();
        let created = try_join_all(each.map(|partition| partition.ensure_group())).await?;
        Ok(created.contains(&true))
    }

    async fn claim(
        &self,
        consumer: &str,
        which: Claim<'_>,
        start: StreamId,
        count: usize,
    ) -> Result<Claimed, StreamError> {
        let partition = self.partitions.at(start.part);
        partition.claim(consumer, which, start, count).await
    }

    async fn refresh(&self, consumer: &str, ids: &[StreamId]) -> Result<Refreshed, StreamError> {
        let mut refreshed = Refreshed::default();
        let (mut is_any, mut failed) = (ids.is_empty(), None);
        let parts = self.partitions.by_partition(ids).into_iter();
        let answers = parts.map(|(partition, ids)| async move {
            let refreshed = partition.refresh(consumer, &ids).await;
            (refreshed, ids)
        });
        for (answer, ids) in join_all(answers).await {
            match answer {
                Ok(Refreshed { held, gone }) => {
                    is_any = true;
                    refreshed.held.extend(held);
                    refreshed.gone.extend(gone);
                }
                // The others' must not become stale for that.
                Err(error) => {
                    failed = Some(error);
                    refreshed.held.extend(ids);
                }
            }
        }
        failed.filter(|_| !is_any).map_or(Ok(refreshed), Err)
    }

    async fn ack(&self, ids: &[StreamId], tried: &[StreamId]) -> Result<u64, StreamError> {
        let parts = self.partitions.by_partition(ids);
        // What goes to one server goes in one round trip.
        let together = if self.partitions.servers.is_cluster() {
            1
        } else {
            parts.len().max(1)
        };
        let answers = join_all(parts.chunks(together).map(|parts| ack_of(parts, tried))).await;
        answers.into_iter().sum()
    }

    async fn record(&self, id: StreamId, step: AttemptStep) -> Result<Attempts, StreamError> {
        self.partitions.at(id.part).record(id, step).await
    }

    async fn dead_letter(&self, dead_letter: &DeadLetter) -> Result<bool, StreamError> {
        let writer = RedisWriter::new(self.partitions.clone(), self.flushes.clone());
        let partition = self.partitions.at(dead_letter.entry.id.part);
        dead_letters::write_letter(writer, partition, &self.partitions.letters, dead_letter).await
    }

    async fn trim(&self, partition: u16) -> Result<Trimmed, StreamError> {
        self.partitions.at(partition).trim(&self.partitions.letters).await
    }

    async fn remove_silent_consumers(&self, silent: Duration) -> Result<Vec<String>, StreamError> {
        self.remove_consumers(silent, &[]).await
    }

    async fn restore(&self) -> Result<Vec<Restored>, StreamError> {
        let each = self.partitions.iter();
        let (mut restored, mut failed) = (Vec::new(), None);
        for answer in join_all(each.map(|partition| partition.restore())).await {
            match answer {
                Ok(some) => restored.extend(some),
                Err(error) => failed = Some(error),
            }
        }
        failed.filter(|_| restored.is_empty()).map_or(Ok(restored), Err)
    }

    async fn range(&self, range: Range) -> Result<Page, StreamError> {
        let count = self.partitions.readable();
        match range.log {
            Destination::DeadLetters => {
                pages::range(
                    &self.partitions.letters,
                    &self.partitions.at(0).keys.dead_letters,
                    range,
                )
                .await
            }
            Destination::Stream if count == 1 => self.partitions.at(0).range(range).await,
            Destination::Stream => {
                let each = self.partitions.iter();
                let parts =
                    each.filter_map(|partition| Some((partition, part_of(range, partition.keys.partition, count)?)));
                let pages = try_join_all(parts.map(|(partition, range)| partition.range(range))).await?;
                Ok(merged_page(range, pages))
            }
        }
    }

    async fn bind_shop(&self, domain: &str, number: &str) -> Result<String, StreamError> {
        let (first, mut pipeline) = (self.partitions.at(0), Pipeline::new());
        let shops = &first.keys.shops;
        pipeline.cmd("HSETNX").arg(shops).arg(domain).arg(number);
        pipeline.cmd("HGET").arg(shops).arg(domain);
        let (_, bound): (u8, String) = first.server.query_all(pipeline).await?;
        Ok(bound)
    }

    async fn report(&self) -> Result<StreamReport, StreamError> {
        let each = self.partitions.iter();
        let first = self.partitions.at(0);
        let letters = self.letters.figures(&self.partitions.letters, &first.keys);
        let letters = match self.promptly(&self.partitions.letters, letters).await {
            Ok(letters) => letters,
            Err(error) => match self.letters.known().await {
                Some(known) if self.is_distributed() => known,
                _ => return Err(error),
            },
        };
        let mut failed = None;
        let reports = each.map(|partition| self.promptly(&partition.server, partition.report(letters)));
        let reports = join_all(reports).await;
        let reports = reports
            .into_iter()
            .map(|report| report.map_err(|error| failed = Some(error)).ok());
        let each = self.partitions.iter();
        let names = each.map(|partition| (partition.keys.stream.clone(), partition.server.address()));
        let mut merged = merged_report(names.zip(reports))
            .ok_or_else(|| failed.unwrap_or_else(|| StreamError::Unusable("it has no partition".to_owned())))?;
        merged.lost.times += letters.lost.times;
        merged.lost.dead_letters += letters.lost.dead_letters;
        Ok(merged)
    }

    async fn confirm_writable(&self, partition: u16) -> Result<(), StreamError> {
        self.partitions.at(partition).confirm_writable().await
    }

    async fn inspect(&self) -> Result<ServerReport, StreamError> {
        inspect::inspect(&self.partitions).await
    }
}

/// Acks those ids, of partitions that are on one server. `tried` may name others too.
async fn ack_of(parts: &[(&Partition, Vec<StreamId>)], tried: &[StreamId]) -> Result<u64, StreamError> {
    let Some((first, _)) = parts.first() else { return Ok(0) };
    let (mut pipeline, mut acks) = (Pipeline::new(), 0);
    for (partition, ids) in parts {
        for ids in ids.chunks(IDS_A_CALL) {
            let ack = pipeline.cmd("XACK").arg(&partition.keys.stream);
            ack.arg(&partition.keys.group).arg(ids);
            acks += 1;
        }
    }
    for (partition, _) in parts {
        let own = tried.iter().filter(|id| id.part == partition.keys.partition);
        for ids in Vec::from_iter(own).chunks(IDS_A_CALL) {
            pipeline.cmd("HDEL").arg(&partition.keys.attempts).arg(ids);
        }
    }
    let answers: Vec<u64> = first.server.query_all(pipeline).await?;
    Ok(answers.iter().take(acks).sum())
}
