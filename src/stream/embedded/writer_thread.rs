//! The thread that writes: calls that come in while it commits share the next commit.
//!
//! Invariants: a call is answered after its transaction has reached the disk, in a file that its name led to at that time,
//! or failed as a whole; what is wrong with one call does not touch its neighbours (each has a savepoint); one transaction
//! is bounded in calls and in bytes.

use std::cell::RefCell;
use std::path::Path;

use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::clock::{self, SteadyClock};
use super::error::{self, EmbeddedError};
use super::stats::{CommitStats, Stats};
use super::writer_file::WriterFile;
use super::writer_handle::{Job, Session, WriterHandle};
use crate::metrics::Metrics;
use crate::sqlite::{self, Cause, cause};
use crate::stream::StreamId;

/// Calls that wait; beyond them callers wait to get in.
const QUEUE: usize = 1024;
/// Calls of one transaction.
const MOST_CALLS: usize = 256;
/// Bytes of one transaction.
const MOST_BYTES: usize = 16 << 20;

/// Free pages are given back to the system in steps of so many, once they are more than that and more than are in use.
const PAGES_GIVEN_BACK: i64 = 1024;
const GIVE_BACK: &str = "PRAGMA incremental_vacuum(1024)";

/// What a transaction leaves behind.
struct Change {
    stats: CommitStats,
    damaged: Vec<StreamId>,
}

/// What the thread is known by.
pub(super) struct Started {
    pub(super) writer: WriterHandle,
    pub(super) stats: watch::Receiver<Stats>,
    pub(super) clock: SteadyClock,
}

/// Opens the file and starts the thread. Where the disk does not let it for now, calls are refused until it does: a full
/// disk must not keep a process from starting that could take events elsewhere, or wait.
pub(super) fn start(path: &Path, group: &str, metrics: Metrics) -> Result<Started, EmbeddedError> {
    let (stats, receiver) = watch::channel(Stats::default());
    let file = WriterFile::start(path, group, stats, metrics)?;
    let clock = file.clock.clone();
    let (sender, queue) = mpsc::channel(QUEUE);
    let thread = std::thread::Builder::new().name("embedded stream".to_owned());
    let mut writer = WriterThread { file };
    thread.spawn(move || writer.run(queue)).map_err(sqlite::io(path))?;
    Ok(Started {
        writer: WriterHandle {
            queue: sender,
            path: path.into(),
        },
        stats: receiver,
        clock,
    })
}

/// The thread's own.
struct WriterThread {
    file: WriterFile,
}

impl WriterThread {
    fn run(&mut self, mut queue: mpsc::Receiver<Box<dyn Job>>) {
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
        self.file.end();
    }

    fn commit(&mut self, jobs: Vec<Box<dyn Job>>) {
        let (refused, mut jobs): (Vec<_>, Vec<_>) = match self.file.refuses() {
            true => jobs.into_iter().partition(|job| job.stores()),
            false => (Vec::new(), jobs),
        };
        for job in refused {
            job.answer(self.file.refusal());
        }
        if jobs.is_empty() {
            return;
        }
        let failed = self.transact(&mut jobs).err();
        if let Some(error) = &failed {
            self.file.mend(error);
        }
        // Behind the commit, so that what is confirmed was in a file that can be found.
        self.file.watch();
        for job in jobs {
            let failed = failed.as_ref().map(|error| error.stream_error(&self.file.path));
            let unfindable = || self.file.unfindable().filter(|_| job.stores());
            let error = failed.or_else(unfindable);
            job.answer(error);
        }
    }

    /// One transaction. An error is that of all jobs: nothing of it happened.
    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), EmbeddedError> {
        let connection = self.file.take()?;
        let ran = connection.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
            let change = self.run_all(&connection, jobs)?;
            connection.execute_batch("COMMIT")?;
            Ok(change)
        });
        if ran.is_err() && !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        self.file.put(connection, ran.is_ok());
        if let Some(change) = ran? {
            self.file.committed(&change.stats, &change.damaged);
        }
        Ok(())
    }

    /// Answers what the commit is going to leave behind, unless nothing was changed.
    fn run_all(&mut self, connection: &Connection, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<Option<Change>> {
        let session = Session {
            connection,
            now: self.file.clock.now(),
            wall: clock::wall(),
            damaged: RefCell::default(),
        };
        let changes = connection.total_changes();
        for job in jobs {
            session.execute("SAVEPOINT call", [])?;
            if let Err(error) = job.run(&session) {
                // Where SQLite itself rolled back, or the file is broken, the neighbours' work is gone too.
                if connection.is_autocommit() || cause(&error) == Cause::Damaged {
                    return Err(error);
                }
                job.fail(error::stream_error(&self.file.path, &error));
                session.execute("ROLLBACK TO call", [])?;
            }
            session.execute("RELEASE call", [])?;
        }
        if connection.total_changes() == changes {
            return Ok(None);
        }
        session.execute("UPDATE commits SET number = number + 1", [])?;
        Ok(Some(Change {
            stats: CommitStats::read(connection, &self.file.group)?,
            damaged: session.damaged.take(),
        }))
    }

    /// Gives free pages back to the system. Not needed to go on: what is really wrong shows in the next call.
    fn give_back(&mut self) {
        let Some(connection) = &self.file.connection else {
            return;
        };
        if let Err(error) = give_back(connection) {
            tracing::debug!(%error, "free pages cannot be given back");
        }
    }
}

/// Gives free pages back, a few at a time. The file shrinks when its log is moved into it.
fn give_back(connection: &Connection) -> rusqlite::Result<()> {
    let pages = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (free, all) = (pages("freelist_count")?, pages("page_count")?);
    if free > PAGES_GIVEN_BACK && 2 * free > all {
        let mut step = connection.prepare_cached(GIVE_BACK)?;
        let mut pages = step.query([])?;
        while pages.next()?.is_some() {}
        drop(pages);
        sqlite::checkpoint(connection)?;
    }
    Ok(())
}
