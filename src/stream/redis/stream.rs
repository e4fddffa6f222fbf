//! The stream: what its partitions have in common, and the calls that go to several of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use redis::Pipeline;
use tokio_util::sync::CancellationToken;

use super::checkpointed::RedisCheckpointedWriter;
use super::dead_letters::DeadLetterMonitor;
use super::keys::IDS_A_CALL;
use super::merge::{merged_page, merged_report, part_of};
use super::partition::Partitions;
use super::reservation::Flushes;
use super::server::Server;
use super::writer::RedisWriter;
use super::{dead_letters, inspect, pages};
use crate::config::{RedisConfig, Secret, StreamConfig};
use crate::metrics::Metrics;
use crate::stream::{
    AttemptStep, Attempts, CheckpointedWriter, Claim, Claimed, DeadLetter, Destination, Page, Range, Reader, Refreshed,
    Restored, ServerReport, Stream, StreamError, StreamId, StreamReport, Trimmed, Writer,
};

/// A stream on Redis.
pub struct RedisStream {
    pub(super) server: Arc<Server>,
    pub(super) partitions: Arc<Partitions>,
    flushes: Arc<Flushes>,
    letters: DeadLetterMonitor,
}

impl RedisStream {
    /// Reads the URL and the CA file; connects at the first call.
    ///
    /// # Errors
    /// [`StreamError::Unusable`]: the URL is not one of a Redis server or of sentinels, its scheme is
    /// reserved, or the CA file is unreadable.
    pub fn new(redis: &RedisConfig, stream: &StreamConfig, metrics: Metrics) -> Result<Self, StreamError> {
        let server = Arc::new(Server::new(redis, metrics)?);
        Ok(Self {
            partitions: Arc::new(Partitions::new(&server, stream)),
            server,
            flushes: Flushes::new(),
            letters: DeadLetterMonitor::default(),
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

    /// Asks the sentinels each second where the primary is, until `stop` fires. Without it a server
    /// is left only once something failed on it, which costs what it confirmed meanwhile.
    pub async fn look_out(self: Arc<Self>, stop: CancellationToken) {
        self.server.look_out(stop).await;
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
        let (server, partitions) = (self.server.clone(), self.partitions.clone());
        Box::new(RedisWriter::new(server, partitions, self.flushes.clone()))
    }

    fn plain_writer(&self) -> Box<dyn Writer> {
        let (server, partitions) = (self.server.clone(), self.partitions.clone());
        Box::new(RedisWriter::new(server, partitions, self.flushes.clone()).without_dedupe())
    }

    /// Beside the first partition: where there are several, a capture is refused at start.
    fn checkpointed(&self, source: &str) -> Box<dyn CheckpointedWriter> {
        let keys = self.partitions.at(0).keys.clone();
        Box::new(RedisCheckpointedWriter::new(self.server.clone(), keys, source))
    }

    fn partitions(&self) -> u16 {
        self.partitions.count()
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
        for (partition, ids) in self.partitions.by_partition(ids) {
            match partition.refresh(consumer, &ids).await {
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
        let mut pipeline = Pipeline::new();
        for (partition, ids) in self.partitions.by_partition(ids) {
            for ids in ids.chunks(IDS_A_CALL) {
                let ack = pipeline.cmd("XACK").arg(&partition.keys.stream);
                ack.arg(&partition.keys.group).arg(ids);
            }
        }
        for (partition, tried) in self.partitions.by_partition(tried) {
            for ids in tried.chunks(IDS_A_CALL) {
                pipeline.cmd("HDEL").arg(&partition.keys.attempts).arg(ids).ignore();
            }
        }
        if pipeline.is_empty() {
            return Ok(0);
        }
        let acked: Vec<u64> = self.server.query_all(&pipeline).await?;
        Ok(acked.iter().sum())
    }

    async fn record(&self, id: StreamId, step: AttemptStep) -> Result<Attempts, StreamError> {
        self.partitions.at(id.part).record(id, step).await
    }

    async fn dead_letter(&self, dead_letter: &DeadLetter) -> Result<bool, StreamError> {
        let (server, partitions) = (self.server.clone(), self.partitions.clone());
        let writer = RedisWriter::new(server, partitions, self.flushes.clone());
        let partition = self.partitions.at(dead_letter.entry.id.part);
        dead_letters::write_letter(writer, partition, dead_letter).await
    }

    async fn trim(&self, partition: u16) -> Result<Trimmed, StreamError> {
        self.partitions.at(partition).trim().await
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
        let count = self.partitions.count();
        match range.log {
            Destination::DeadLetters => {
                pages::range(&self.server, &self.partitions.at(0).keys.dead_letters, range).await
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
        let (shops, mut pipeline) = (&self.partitions.at(0).keys.shops, Pipeline::new());
        let note = pipeline.cmd("HSETNX").arg(shops).arg(domain).arg(number);
        note.ignore().cmd("HGET").arg(shops).arg(domain);
        let (bound,): (String,) = self.server.query_all(&pipeline).await?;
        Ok(bound)
    }

    async fn report(&self) -> Result<StreamReport, StreamError> {
        let each = self.partitions.iter();
        let letters = self.letters.figures(&self.server, &self.partitions.at(0).keys).await?;
        let mut failed = None;
        let reports = join_all(each.map(|partition| partition.report(letters))).await;
        let reports = reports
            .into_iter()
            .map(|report| report.map_err(|error| failed = Some(error)).ok());
        let names = self.partitions.iter().map(|partition| partition.keys.stream.clone());
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
        inspect::inspect(&self.server).await
    }
}
