//! The thread that writes: calls that come in while it commits share the next commit.
//!
//! Owns the writing connection. Invariants: a call is answered after its transaction has reached the disk, or failed as a
//! whole; what is wrong with one call does not touch its neighbours (each has a savepoint); one transaction is bounded in
//! calls and in bytes.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::checkpoint::{self, Checkpointer};
use super::clock::{self, Clock};
use super::error::{self, FileError};
use super::recovery;
use super::stats::{CommitStats, Stats};
use super::tally::{Tally, TallyFiles};
use super::writer_handle::{Job, Session, WriterHandle};
use crate::metrics::Metrics;
use crate::stream::{StreamError, StreamId};

/// WriterHandle that wait; beyond them callers wait to get in.
const QUEUE: usize = 1024;
/// WriterHandle of one transaction.
const MOST_CALLS: usize = 256;
/// Bytes of one transaction.
const MOST_BYTES: usize = 16 << 20;

/// How long a file is left alone that could not be used, at first and at most: to replace it is much work, and what
/// stands in the way of that mostly stays for a while.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(15);

/// The thread's own.
struct WriterThread {
    path: PathBuf,
    /// Our group.
    group: String,
    /// `None` while the file cannot be opened.
    connection: Option<Connection>,
    /// From an opening that was needed to the next commit.
    rest: Option<Rest>,
    /// The file was found to be damaged and is not replaced yet.
    is_damaged: bool,
    clock: Clock,
    tally: Option<Tally>,
    tallies: TallyFiles,
    checkpointer: Checkpointer,
    stats: watch::Sender<Stats>,
    metrics: Metrics,
}

/// Until when the file is left alone, and why.
struct Rest {
    until: Instant,
    length: Duration,
    why: String,
}

impl Rest {
    fn new(length: Duration, why: String) -> Self {
        Self {
            until: Instant::now() + length,
            length,
            why,
        }
    }
}

/// What a transaction leaves behind.
struct Change {
    figures: CommitStats,
    tally: Tally,
    damaged: Vec<StreamId>,
}

/// What the thread is known by.
pub(super) struct Started {
    pub(super) writer: WriterHandle,
    pub(super) stats: watch::Receiver<Stats>,
    pub(super) clock: Clock,
}

/// Opens the file and starts the thread. Where the disk does not let it for now, calls are refused until it does: a full
/// disk must not keep a process from starting that could take events elsewhere, or wait.
pub(super) fn start(path: &Path, group: &str, metrics: Metrics) -> Result<Started, FileError> {
    let (tallies, tally) = TallyFiles::open(path)?;
    let (stats, receiver) = watch::channel(Stats::default());
    let mut writer = WriterThread {
        path: path.to_owned(),
        group: group.to_owned(),
        connection: None,
        rest: None,
        is_damaged: false,
        clock: Clock::start(),
        // Another group's says nothing of what ours is owed.
        tally: tally.filter(|tally| tally.is_of(group)),
        tallies,
        checkpointer: Checkpointer::new(path),
        stats,
        metrics,
    };
    match writer.open() {
        Ok(connection) => writer.connection = Some(connection),
        Err(error) if matches!(error.stream_error(path), StreamError::Refused { .. }) => {
            writer.put_off(&error, SHORTEST_REST)
        }
        Err(error) => return Err(error),
    }
    let clock = writer.clock.clone();
    let (sender, queue) = mpsc::channel(QUEUE);
    let thread = std::thread::Builder::new().name("embedded stream".to_owned());
    thread
        .spawn(move || writer.run(queue))
        .map_err(|source| FileError::Io {
            file: path.to_owned(),
            source,
        })?;
    Ok(Started {
        writer: WriterHandle {
            queue: sender,
            path: path.into(),
        },
        stats: receiver,
        clock,
    })
}

/// The latest time on record, as the clock reads it.
fn latest_reading(connection: &Connection) -> rusqlite::Result<u64> {
    const LATEST: &str = "
    SELECT MAX(
        IFNULL((SELECT MAX(delivered_at) FROM pending), 0), IFNULL((SELECT MAX(seen) FROM consumers), 0),
        IFNULL((SELECT remembered_at FROM dedupe ORDER BY id DESC LIMIT 1), 0)
    )";
    let latest: i64 = connection.query_row(LATEST, [], |row| row.get(0))?;
    Ok(u64::try_from(latest).unwrap_or_default())
}

impl WriterThread {
    fn run(mut self, mut queue: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = first.bytes();
            let mut jobs = vec![first];
            while jobs.len() < MOST_CALLS && bytes < MOST_BYTES {
                let Ok(job) = queue.try_recv() else { break };
                bytes += job.bytes();
                jobs.push(job);
            }
            self.commit(jobs);
            if queue.is_empty() {
                self.give_back();
            }
        }
    }

    fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let failed = self.transact(&mut jobs).err();
        if let Some(error) = &failed {
            self.mend(error);
        }
        for job in jobs {
            job.answer(failed.as_ref().map(|error| error.stream_error(&self.path)));
        }
    }

    /// One transaction. An error is that of all jobs: nothing of it happened.
    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), FileError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reopen("it is closed")?,
        };
        let ran = connection.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
            let change = self.run_all(&connection, jobs)?;
            connection.execute_batch("COMMIT")?;
            Ok(change)
        });
        if ran.is_err() && !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        let connection = self.connection.insert(connection);
        let change = ran?;
        self.checkpointer.bound_log(connection);
        self.rest = None;
        if let Some(change) = change {
            self.tallies.write(&change.tally);
            self.tally = Some(change.tally);
            self.count_damaged(&change.damaged);
            self.stats.send_modify(|stats| {
                *stats = stats.after(&change.figures);
                stats.lost += change.damaged.len() as u64;
            });
        }
        Ok(())
    }

    fn count_damaged(&self, damaged: &[StreamId]) {
        if let Some(first) = damaged.first() {
            self.metrics.entries_lost.inc_by(damaged.len() as u64);
            tracing::error!(
                count = damaged.len(), %first, file = %self.path.display(),
                "entries were damaged on disk (their checksum does not match): they are lost"
            );
        }
    }

    /// Answers what the commit is going to leave behind, unless nothing was changed.
    fn run_all(&mut self, connection: &Connection, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<Option<Change>> {
        let session = Session {
            connection,
            now: self.clock.now(),
            wall: clock::wall(),
            damaged: RefCell::default(),
            replayed: Cell::default(),
        };
        let changes = connection.total_changes();
        for job in jobs {
            session.execute("SAVEPOINT call", [])?;
            if let Err(error) = job.run(&session) {
                // Where SQLite itself rolled back, or the file is broken, the neighbours' work is gone too.
                if connection.is_autocommit() || error::is_damage(&error) {
                    return Err(error);
                }
                job.fail(error::stream_error(&self.path, &error));
                session.execute("ROLLBACK TO call", [])?;
            }
            session.execute("RELEASE call", [])?;
        }
        if connection.total_changes() == changes {
            return Ok(None);
        }
        session.execute("UPDATE commits SET number = number + 1", [])?;
        let figures = CommitStats::read(connection, &self.group)?;
        let before = self.tally.as_ref().filter(|_| !session.replayed.get());
        let tally = Tally::read(connection, &self.group, &figures, before)?;
        Ok(Some(Change {
            figures,
            tally,
            damaged: session.damaged.take(),
        }))
    }

    /// Opens the file again, or does not yet, the longer the more often it was of no use.
    fn reopen(&mut self, why: &str) -> Result<Connection, FileError> {
        let now = Instant::now();
        let length = match &self.rest {
            Some(rest) if now < rest.until => {
                return Err(FileError::Resting {
                    why: rest.why.clone(),
                    within: rest.length,
                });
            }
            Some(rest) => LONGEST_REST.min(2 * rest.length),
            None => SHORTEST_REST,
        };
        let opened = self.open();
        match &opened {
            Ok(_) => self.rest = Some(Rest::new(length, why.to_owned())),
            Err(error) => self.put_off(error, length),
        }
        opened
    }

    fn put_off(&mut self, error: &FileError, length: Duration) {
        tracing::error!(why = %error, rest = ?length, file = %self.path.display(), "the file cannot be used for now");
        self.rest = Some(Rest::new(length, error.to_string()));
    }

    /// Opens the file; a damaged one is replaced.
    fn open(&mut self) -> Result<Connection, FileError> {
        match self.try_open() {
            Err(error) if error.is_damage() && !self.is_damaged => {
                self.is_damaged = true;
                self.try_open()
            }
            opened => opened,
        }
    }

    fn try_open(&mut self) -> Result<Connection, FileError> {
        let opened = recovery::open(&self.path, &self.group, self.tally.as_ref(), self.is_damaged)?;
        self.is_damaged = false;
        self.metrics.entries_lost.inc_by(opened.lost);
        self.clock.advance(latest_reading(&opened.connection)?);
        let figures = CommitStats::read(&opened.connection, &self.group)?;
        let tally = Tally::read(&opened.connection, &self.group, &figures, None)?;
        // Both, so that neither is of the file before.
        self.tallies.write(&tally);
        self.tallies.write(&tally);
        self.tally = Some(tally);
        self.stats.send_modify(|stats| {
            *stats = stats.after(&figures);
            stats.lost += opened.lost;
            stats.file += 1;
        });
        Ok(opened.connection)
    }

    /// Does what can be done about a failed transaction, so that the next one may succeed.
    fn mend(&mut self, error: &FileError) {
        if error.is_damage() {
            self.is_damaged = true;
            self.connection = None;
            self.connection = self.reopen(&error.to_string()).ok();
        } else if let Some(connection) = &self.connection {
            let folded = checkpoint::fold(connection);
            tracing::debug!(%error, ?folded, "a transaction failed");
        }
    }

    /// Gives free pages back to the system.
    fn give_back(&mut self) {
        let Some(connection) = &self.connection else { return };
        // Not needed to go on; what is really wrong shows in the next call.
        if let Err(error) = checkpoint::give_back(connection) {
            tracing::debug!(%error, "free pages cannot be given back");
        }
    }
}
