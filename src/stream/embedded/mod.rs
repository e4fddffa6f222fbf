//! The stream in a file: SQLite in the data folder, the only place in `stream/` with SQL.
//!
//! Owns the file, its tables and the thread that writes. Must not know what an entry means. Invariants: what is
//! confirmed has reached the disk; appends that come in together share that (`writer_thread.rs`); readers sleep until
//! something is appended, they do not poll; a damaged entry or file is noticed, counted and said, never delivered wrong.
//!
//! One process has the file open for writing. Others may read it, with `sqlite3` for one, while it runs.

mod admin;
mod append;
mod claim;
mod clock;
mod dead_letters;
mod error;
mod group;
mod loss;
mod nodes;
mod range;
mod read_connection;
mod read_only;
mod reader;
mod report;
mod row;
mod schema;
mod stats;
mod trim;
mod writer_file;
mod writer_handle;
mod writer_thread;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

pub use self::stats::Stats;

use self::append::{EmbeddedWriter, Limits};
use self::claim::Which;
use self::clock::{SteadyClock, millis};
use self::error::EmbeddedError;
use self::read_connection::ReadConnection;
use self::reader::EmbeddedReader;
use self::row::{Packed, row_of};
use self::writer_handle::WriterHandle;
use self::writer_thread::Started;
use crate::config::StreamConfig;
use crate::metrics::{Metrics, Service, ServiceLabels};
use crate::stream::{
    Attempts, Claim, Claimed, DeadLetter, Page, Range, Reader, Refreshed, ServerReport, Step, Stream, StreamError,
    StreamId, StreamReport, Trimmed, Writer,
};

/// Entries of one page of a claim; bounds how long it holds up appends.
const CLAIM_PAGE: usize = 500;
/// About what a small change writes, in bytes.
const SMALL: usize = 256;

/// A stream in a file. A cheap clone.
#[derive(Clone)]
pub struct EmbeddedStream {
    file: Arc<File>,
    config: Arc<StreamConfig>,
    /// Where the trimmer's walk behind an old pending entry goes on. One trim at a time.
    trim_cursor: Arc<tokio::sync::Mutex<i64>>,
}

/// The open file.
struct File {
    path: PathBuf,
    writer: WriterHandle,
    read_connection: ReadConnection,
    stats: watch::Receiver<Stats>,
    clock: SteadyClock,
    /// When each consumer, by group and name, last asked: too often to write it down.
    asked: Mutex<HashMap<(String, String), u64>>,
    /// Records of processes: this one's.
    nodes: nodes::Records,
    limit: Option<u64>,
    metrics: Metrics,
}

impl EmbeddedStream {
    /// Opens the file, or makes it. `limit` bounds the bytes of what is stored: above it an append answers
    /// [`Appended::Full`](crate::stream::Appended::Full). The file is somewhat larger than that, by what SQLite adds and
    /// by its write-ahead log. Blocks the thread while it reads. A disk that is full or failing is waited for: until then
    /// calls are refused.
    ///
    /// # Errors
    /// [`StreamError::Unusable`]: another process has it, a newer release wrote it, or it is another program's;
    /// [`StreamError::Denied`]: this one may not open it.
    pub fn open(path: &Path, config: &StreamConfig, limit: Option<u64>, metrics: Metrics) -> Result<Self, StreamError> {
        Self::try_open(path, config, limit, metrics).map_err(|error| error.stream_error(path))
    }

    fn try_open(
        path: &Path,
        config: &StreamConfig,
        limit: Option<u64>,
        metrics: Metrics,
    ) -> Result<Self, EmbeddedError> {
        let Started { writer, stats, clock } = writer_thread::start(path, &config.group, metrics.clone())?;
        let file = File {
            path: path.to_owned(),
            read_connection: ReadConnection::new(path.to_owned(), writer.clone(), stats.clone()),
            writer,
            stats,
            clock,
            asked: Mutex::default(),
            nodes: nodes::Records::default(),
            limit,
            metrics,
        };
        Ok(Self {
            file: Arc::new(file),
            config: Arc::new(config.clone()),
            trim_cursor: Arc::default(),
        })
    }

    /// The same file, seen through another configuration: another group, other caps.
    #[must_use]
    pub fn with(&self, config: &StreamConfig) -> Self {
        Self {
            file: Arc::clone(&self.file),
            config: Arc::new(config.clone()),
            trim_cursor: Arc::default(),
        }
    }

    /// Where it stands since its last commit; costs nothing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.file.stats.borrow().clone()
    }

    fn limits(&self) -> Limits {
        Limits {
            maxlen: self.config.maxlen,
            dead_letters_maxlen: self.config.dead_letters_maxlen,
            bytes: self.file.limit,
            dedupe_window: self.config.dedupe_window,
        }
    }

    fn group(&self) -> String {
        self.config.group.clone()
    }
}

impl File {
    /// Notes that a consumer is there.
    fn asks(&self, group: &str, consumer: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert((group.to_owned(), consumer.to_owned()), self.clock.now());
    }

    /// How long ago a consumer asked that the file says was seen at `seen`.
    fn idle(&self, group: &str, consumer: &str, seen: u64) -> Duration {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = asked.get(&(group.to_owned(), consumer.to_owned())).copied();
        self.clock.since(asked.unwrap_or_default().max(seen))
    }

    fn forget(&self, group: &str, consumer: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.remove(&(group.to_owned(), consumer.to_owned()));
    }

    /// Says that a group had to be made again; the first one of an empty file is no loss.
    fn group_was_missing(&self, group: &str) {
        if self.stats.borrow().length == 0 {
            tracing::info!(group, "the consumer group is created");
            return;
        }
        tracing::warn!(group, "the consumer group was missing: created at 0");
        let stream = ServiceLabels {
            service: Service::Stream,
        };
        self.metrics.reconnects.get_or_create(&stream).inc();
    }
}

#[async_trait]
impl Stream for EmbeddedStream {
    fn writer(&self) -> Box<dyn Writer> {
        Box::new(EmbeddedWriter {
            writer: self.file.writer.clone(),
            limits: self.limits(),
        })
    }

    fn reader(&self, consumer: &str) -> Box<dyn Reader> {
        Box::new(EmbeddedReader {
            file: Arc::clone(&self.file),
            group: self.group(),
            consumer: consumer.to_owned(),
            stats: self.file.stats.clone(),
        })
    }

    async fn ensure_group(&self) -> Result<bool, StreamError> {
        let group = self.group();
        let created = self
            .file
            .writer
            .call(SMALL, move |session| group::ensure(session, &group))
            .await?;
        if created {
            tracing::warn!(
                group = self.config.group,
                "the consumer group was missing: created at 0"
            );
        }
        Ok(created)
    }

    async fn claim(
        &self,
        consumer: &str,
        which: Claim<'_>,
        start: StreamId,
        count: usize,
    ) -> Result<Claimed, StreamError> {
        let which = match which {
            Claim::Own(in_hand) => Which::Own(in_hand.to_vec()),
            Claim::Stale(idle) => Which::Stale(millis(idle)),
        };
        let (group, consumer, count) = (self.group(), consumer.to_owned(), count.clamp(1, CLAIM_PAGE));
        self.file.asks(&group, &consumer);
        let (claimed, created) = self
            .file
            .writer
            .call(SMALL * count, move |session| {
                let created = group::ensure(session, &group)?;
                Ok((claim::claim(session, &group, &consumer, &which, start, count)?, created))
            })
            .await?;
        if created {
            self.file.group_was_missing(&self.config.group);
        }
        Ok(claimed)
    }

    async fn refresh(&self, consumer: &str, ids: &[StreamId]) -> Result<Refreshed, StreamError> {
        let (group, consumer, ids) = (self.group(), consumer.to_owned(), ids.to_vec());
        self.file.asks(&group, &consumer);
        let (refreshed, created) = self
            .file
            .writer
            .call(SMALL, move |session| group::refresh(session, &group, &consumer, &ids))
            .await?;
        if created {
            self.file.group_was_missing(&self.config.group);
        }
        Ok(refreshed)
    }

    async fn ack(&self, ids: &[StreamId], tried: &[StreamId]) -> Result<u64, StreamError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let (group, ids, tried) = (self.group(), ids.to_vec(), tried.to_vec());
        self.file
            .writer
            .call(SMALL, move |session| group::ack(session, &group, &ids, &tried))
            .await
    }

    async fn record(&self, id: StreamId, step: Step) -> Result<Attempts, StreamError> {
        let group = self.group();
        let row = row_of(id).unwrap_or_default();
        self.file
            .writer
            .call(SMALL, move |session| group::record(session, &group, row, step))
            .await
    }

    async fn dead_letter(&self, letter: &DeadLetter) -> Result<bool, StreamError> {
        let packed = Packed::new(&dead_letters::fields(letter, &self.config.name));
        let (group, id, limits) = (self.group(), letter.entry.id, self.limits());
        self.file
            .writer
            .store(packed.blob.len(), move |session| {
                dead_letters::write(session, &group, id, &packed, limits)
            })
            .await
    }

    async fn trim(&self) -> Result<Trimmed, StreamError> {
        let mut cursor = self.trim_cursor.lock().await;
        let (group, from) = (self.group(), *cursor);
        let keep = trim::Keep {
            acked: self.config.retain_acked,
            cap: self.config.maxlen,
            keys: self.config.dedupe_window != Some(Duration::MAX),
        };
        let (trimmed, next) = self
            .file
            .writer
            .call(SMALL, move |session| trim::trim(session, &group, keep, from))
            .await?;
        *cursor = next;
        Ok(trimmed)
    }

    async fn remove_silent_consumers(&self, silent: Duration) -> Result<Vec<String>, StreamError> {
        let (file, group) = (Arc::clone(&self.file), self.group());
        let is_silent = {
            let group = group.clone();
            move |consumer: &str, seen| file.idle(&group, consumer, seen) >= silent
        };
        let removed = self
            .file
            .writer
            .call(SMALL, move |session| group::remove_silent(session, &group, is_silent))
            .await?;
        for consumer in &removed {
            self.file.forget(&self.config.group, consumer);
        }
        Ok(removed)
    }

    async fn range(&self, range: Range) -> Result<Page, StreamError> {
        let look = move |connection: &_| range::range(connection, range);
        self.file.read_connection.run(look).await
    }

    async fn report(&self) -> Result<StreamReport, StreamError> {
        let (file, group) = (Arc::clone(&self.file), self.group());
        let look = move |connection: &_| {
            let idle = |consumer: &str, seen| file.idle(&group, consumer, seen);
            report::report(connection, &group, idle)
        };
        Ok(StreamReport {
            maxlen: self.config.maxlen,
            dead_letters_maxlen: self.config.dead_letters_maxlen,
            ..self.file.read_connection.run(look).await?
        })
    }

    async fn confirm_writable(&self) -> Result<(), StreamError> {
        // No more than a probe is lost with the row: it is made again where it is missing.
        const PROBE: &str = "INSERT INTO commits VALUES (1, 0, 1) ON CONFLICT (one) DO UPDATE SET probes = probes + 1";
        self.file
            .writer
            .store(SMALL, |session| session.execute(PROBE, []))
            .await?;
        let stats = self.stats();
        if stats.length >= self.config.maxlen {
            return Err(StreamError::Full(self.config.maxlen));
        }
        match self.file.limit {
            Some(limit) if stats.bytes >= limit => Err(StreamError::Refused {
                code: "FULL".to_owned(),
                message: format!("{} holds its limit of {limit} bytes", self.file.path.display()),
            }),
            _ => Ok(()),
        }
    }

    async fn inspect(&self) -> Result<ServerReport, StreamError> {
        Ok(ServerReport {
            product: format!("embedded (SQLite {})", rusqlite::version()),
            address: self.file.path.display().to_string(),
            eviction_policy: Some("noeviction".to_owned()),
            memory_limit: Some(0),
            fsync: Some("always".to_owned()),
            warnings: Vec::new(),
        })
    }
}
