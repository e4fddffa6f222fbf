//! [`EmbeddedStream`]: the seam [`Stream`] over the writing thread and the read connection.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::append::{self, EmbeddedWriter};
use super::checkpointed::EmbeddedCheckpointedWriter;
use super::claim::{self, ClaimFilter};
use super::clock::millis;
use super::error::EmbeddedError;
use super::group::{self, Group};
use super::logs::{Caps, Session};
use super::reads::{self, ReadConnection};
use super::row::{PackedFields, row_of};
use super::schema::SHOPS;
use super::stats::{self, Stats};
use super::trim::{self, Retention};
use super::writer::WriterHandle;
use crate::config::StreamConfig;
use crate::metrics::Metrics;
use crate::stream::{
    AttemptStep, Attempts, CheckpointedWriter, Claim, Claimed, DeadLetter, Delivered, Entry, Page, Range, Reader,
    Refreshed, ServerReport, Stream, StreamError, StreamId, StreamReport, Trimmed, Writer, codec,
};

/// Entries of one page of a claim; bounds how long appends wait for it.
const CLAIM_PAGE: usize = 500;
/// Longest sleep of a reader before it shows again that it is active.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// A stream in a file. A cheap clone.
#[derive(Clone)]
pub struct EmbeddedStream {
    pub(super) file: Arc<OpenStream>,
    pub(super) config: Arc<StreamConfig>,
    /// Where the trimmer's walk behind an old pending entry continues. One trim at a time.
    trim_cursor: Arc<tokio::sync::Mutex<i64>>,
}

/// What all clones share.
pub(super) struct OpenStream {
    pub(super) writer: WriterHandle,
    read_connection: ReadConnection,
    /// When each consumer, by group and name, last asked for entries, by the steady clock: too
    /// often to be stored.
    asked: Mutex<HashMap<(String, String), i64>>,
    /// Heartbeats of nodes, and when each came.
    pub(super) nodes: Mutex<HashMap<String, (String, Instant)>>,
    /// Most bytes of both logs.
    limit: Option<u64>,
}

impl OpenStream {
    fn note_asked(&self, group: &str, consumer: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert((group.to_owned(), consumer.to_owned()), self.writer.clock.now());
    }

    /// How long ago a consumer asked that was seen at `seen` by the file.
    fn idle(&self, group: &str, consumer: &str, seen: i64) -> Duration {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = asked.get(&(group.to_owned(), consumer.to_owned())).copied();
        self.writer.clock.since(asked.unwrap_or_default().max(seen))
    }
}

impl EmbeddedStream {
    /// Opens the file, or creates it. `limit` bounds the bytes of what is stored: above it an
    /// append returns [`Appended::Full`](crate::stream::Appended::Full). The file is somewhat
    /// larger than that, by what SQLite adds and by its write-ahead log. Blocks the thread while it
    /// reads. A disk that is full or failing is waited for: until then calls are refused.
    ///
    /// # Errors
    /// [`StreamError::Unusable`]: another process has it, a newer release wrote it, or it is
    /// another program's; [`StreamError::Denied`]: this process has no right to open it.
    pub fn open(path: &Path, config: &StreamConfig, limit: Option<u64>, metrics: Metrics) -> Result<Self, StreamError> {
        let writer = WriterHandle::start(path, &config.group, metrics).map_err(|error| error.stream_error(path))?;
        let file = OpenStream {
            read_connection: ReadConnection::new(writer.clone()),
            writer,
            asked: Mutex::default(),
            nodes: Mutex::default(),
            limit,
        };
        Ok(Self {
            file: Arc::new(file),
            config: Arc::new(config.clone()),
            trim_cursor: Arc::default(),
        })
    }

    /// The same file with another configuration: another group, other caps.
    #[must_use]
    pub fn with(&self, config: &StreamConfig) -> Self {
        Self {
            file: Arc::clone(&self.file),
            config: Arc::new(config.clone()),
            trim_cursor: Arc::default(),
        }
    }

    /// Closes the file, after the calls that are under way: SQLite then moves its log into it.
    /// Later calls fail.
    pub async fn close(&self) {
        self.file.read_connection.close();
        self.file.writer.close().await;
    }

    /// Its figures after the last commit; costs nothing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.file.writer.stats.borrow().clone()
    }

    /// Whether [`open`](Self::open) would accept the file as it is. Blocks the thread while it
    /// reads all of it.
    ///
    /// # Errors
    /// What is wrong with it, and what will become of it.
    pub fn check_file(path: &Path) -> Result<(), StreamError> {
        reads::check_file(path)
    }

    /// Passes the entries of the file to `visit`, newest first and in one snapshot, until it breaks
    /// off. The file may be open in this process, in another, or in none. Blocks the thread while
    /// it reads.
    ///
    /// # Errors
    /// The file cannot be read, or is not one that this release knows.
    pub fn scan_file(path: &Path, visit: impl FnMut(Entry) -> ControlFlow<()>) -> Result<(), StreamError> {
        reads::scan_file(path, visit).map_err(|error: EmbeddedError| error.stream_error(path))
    }

    fn caps(&self) -> Caps {
        Caps {
            entries: [self.config.maxlen, self.config.dead_letters_maxlen],
            bytes: self.file.limit,
        }
    }

    /// Runs `act` with the name of our group, in a transaction of the writing thread.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Session<'_>, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        let config = Arc::clone(&self.config);
        self.file.writer.call(move |session| act(session, &config.group)).await
    }

    /// Runs `read` with the name of our group, in one snapshot of the read connection.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        let config = Arc::clone(&self.config);
        let read = move |connection: &Connection| read(connection, &config.group);
        self.file.read_connection.run(read).await
    }

    /// Removes members of our group without pending entries that satisfy `is_silent`, which gets
    /// name and idle time.
    pub(super) async fn remove_consumers(
        &self,
        is_silent: impl Fn(&str, Duration) -> bool + Send + 'static,
    ) -> Result<Vec<String>, StreamError> {
        let file = Arc::clone(&self.file);
        let remove = move |session: &Session<'_>, group: &str| {
            group::remove_silent(session, group, |name, seen| {
                is_silent(name, file.idle(group, name, seen))
            })
        };
        let removed = self.write(remove).await?;
        let mut asked = self.file.asked.lock().unwrap_or_else(PoisonError::into_inner);
        for consumer in &removed {
            asked.remove(&(self.config.group.clone(), consumer.clone()));
        }
        Ok(removed)
    }
}

#[async_trait]
impl Stream for EmbeddedStream {
    fn writer(&self) -> Box<dyn Writer> {
        EmbeddedWriter::boxed(&self.file.writer, self.caps(), self.config.dedupe_window)
    }

    fn plain_writer(&self) -> Box<dyn Writer> {
        EmbeddedWriter::boxed(&self.file.writer, self.caps(), None)
    }

    fn checkpointed(&self, source: &str) -> Box<dyn CheckpointedWriter> {
        Box::new(EmbeddedCheckpointedWriter {
            writer: self.file.writer.clone(),
            caps: self.caps(),
            source: source.to_owned(),
        })
    }

    fn reader(&self, consumer: &str, _partition: u16) -> Box<dyn Reader> {
        Box::new(EmbeddedReader {
            stream: self.clone(),
            consumer: consumer.to_owned(),
        })
    }

    async fn ensure_group(&self) -> Result<bool, StreamError> {
        self.write(|session, group| {
            let is_missing = Group::find(session.connection, group)?.is_none();
            if is_missing {
                Group::create(session, group)?;
            }
            Ok(is_missing)
        })
        .await
    }

    async fn claim(
        &self,
        consumer: &str,
        which: Claim<'_>,
        start: StreamId,
        count: usize,
    ) -> Result<Claimed, StreamError> {
        let filter = match which {
            Claim::Own(in_hand) => ClaimFilter::Own(in_hand.to_vec()),
            Claim::Stale(idle) => ClaimFilter::Stale(millis(idle)),
        };
        let (consumer, count) = (consumer.to_owned(), count.clamp(1, CLAIM_PAGE));
        self.file.note_asked(&self.config.group, &consumer);
        self.write(move |session, group| claim::claim(session, group, &consumer, &filter, start, count))
            .await
    }

    async fn refresh(&self, consumer: &str, ids: &[StreamId]) -> Result<Refreshed, StreamError> {
        let (consumer, ids) = (consumer.to_owned(), ids.to_vec());
        self.file.note_asked(&self.config.group, &consumer);
        self.write(move |session, group| group::refresh(session, group, &consumer, &ids))
            .await
    }

    async fn ack(&self, ids: &[StreamId], tried: &[StreamId]) -> Result<u64, StreamError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let (ids, tried) = (ids.to_vec(), tried.to_vec());
        self.write(move |session, group| group::ack(session, group, &ids, &tried))
            .await
    }

    async fn record(&self, id: StreamId, step: AttemptStep) -> Result<Attempts, StreamError> {
        let row = row_of(id).unwrap_or_default();
        self.write(move |session, group| group::record(session, group, row, step))
            .await
    }

    async fn dead_letter(&self, dead: &DeadLetter) -> Result<bool, StreamError> {
        let fields = PackedFields::new(&codec::dead_letter_of(dead, &self.config.name));
        let (id, caps, config) = (dead.entry.id, self.caps(), Arc::clone(&self.config));
        let write = move |session: &Session<'_>| append::dead_letter(session, &config.group, id, &fields, caps);
        self.file.writer.store(dead.entry.fields.bytes(), write).await
    }

    async fn trim(&self, _partition: u16) -> Result<Trimmed, StreamError> {
        let mut cursor = self.trim_cursor.lock().await;
        let from = *cursor;
        let retention = Retention {
            acked: self.config.retain_acked,
            cap: self.config.maxlen,
            keys: self.config.dedupe_window != Some(Duration::MAX),
        };
        let (trimmed, next) = self
            .write(move |session, group| trim::trim(session, group, retention, from))
            .await?;
        *cursor = next;
        Ok(trimmed)
    }

    async fn remove_silent_consumers(&self, silent: Duration) -> Result<Vec<String>, StreamError> {
        self.remove_consumers(move |_, idle| idle >= silent).await
    }

    async fn range(&self, range: Range) -> Result<Page, StreamError> {
        self.read(move |connection, _| reads::range(connection, range)).await
    }

    async fn bind_shop(&self, domain: &str, number: &str) -> Result<String, StreamError> {
        let (domain, number) = (domain.to_owned(), number.to_owned());
        self.write(move |session, _| {
            session.execute(SHOPS, [])?;
            session.execute(
                "INSERT INTO shops VALUES (?1, ?2) ON CONFLICT (domain) DO NOTHING",
                [&domain, &number],
            )?;
            let mut bound = session
                .connection
                .prepare_cached("SELECT number FROM shops WHERE domain = ?1")?;
            bound.query_row([&domain], |row| row.get(0))
        })
        .await
    }

    async fn report(&self) -> Result<StreamReport, StreamError> {
        let file = Arc::clone(&self.file);
        let report = self.read(move |connection, group| {
            stats::report(connection, group, |consumer, seen| file.idle(group, consumer, seen))
        });
        Ok(StreamReport {
            maxlen: self.config.maxlen,
            dead_letters_maxlen: self.config.dead_letters_maxlen,
            ..report.await?
        })
    }

    async fn confirm_writable(&self, _partition: u16) -> Result<(), StreamError> {
        // The row holds no more than a count of probes: it is created again where it is missing.
        const PROBE: &str = "INSERT INTO commits VALUES (1, 0, 1) ON CONFLICT (one) DO UPDATE SET probes = probes + 1";
        self.file.writer.store(0, |session| session.execute(PROBE, [])).await?;
        let stats = self.stats();
        if stats.length >= self.config.maxlen {
            return Err(StreamError::Full(self.config.maxlen));
        }
        match self.file.limit {
            Some(limit) if stats.bytes >= limit => Err(StreamError::Refused {
                code: "FULL".to_owned(),
                message: format!("{} holds its limit of {limit} bytes", self.file.writer.path.display()),
            }),
            _ => Ok(()),
        }
    }

    async fn inspect(&self) -> Result<ServerReport, StreamError> {
        Ok(ServerReport {
            product: format!("embedded (SQLite {})", rusqlite::version()),
            address: self.file.writer.path.display().to_string(),
            eviction_policy: Some("noeviction".to_owned()),
            memory_limit: Some(0),
            fsync: Some("always".to_owned()),
            warnings: Vec::new(),
        })
    }
}

/// Reads as one consumer; sleeps until a commit brings entries.
struct EmbeddedReader {
    stream: EmbeddedStream,
    consumer: String,
}

#[async_trait]
impl Reader for EmbeddedReader {
    async fn read(
        &mut self,
        count: usize,
        block: Duration,
        cancel: &CancellationToken,
    ) -> Result<Vec<Delivered>, StreamError> {
        /// What changes when there is something new to read.
        fn newest(stats: &Stats) -> (u64, i64) {
            (stats.file, stats.last_id)
        }
        let deadline = tokio::time::Instant::now() + block;
        let mut stats = self.stream.file.writer.stats.clone();
        while !cancel.is_cancelled() {
            // Before the read, so that what is appended meanwhile wakes.
            let seen = newest(&stats.borrow_and_update());
            let consumer = self.consumer.clone();
            self.stream.file.note_asked(&self.stream.config.group, &consumer);
            // Awaited also when `cancel` fires: entries that are delivered must reach the caller.
            let read = self
                .stream
                .write(move |session, group| group::read(session, group, &consumer, count));
            let Some(delivered) = read.await? else {
                return Ok(Vec::new());
            };
            let now = tokio::time::Instant::now();
            if !delivered.is_empty() || now >= deadline {
                return Ok(delivered);
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep_until(deadline.min(now + LONGEST_SLEEP)) => {}
                arrived = stats.wait_for(|stats| newest(stats) != seen) => drop(arrived),
            }
        }
        Ok(Vec::new())
    }
}
