//! The thread that writes: calls that come in while it commits share the next commit.
//!
//! Owns the writing connection, and replaces a damaged file. Invariants: a call is answered after its transaction has
//! reached the disk, or failed as a whole; what is wrong with one call does not touch its neighbours (each has a
//! savepoint); one transaction is bounded in calls and in bytes; a loss is counted and logged before the damaged file
//! gets its other name.

use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::clock::{self, Clock};
use super::damage::Loss;
use super::error::{self, EmbeddedError};
use super::schema;
use super::stats::{CommitStats, Stats};
use super::writer_handle::{Job, Session, WriterHandle};
use crate::metrics::Metrics;
use crate::sqlite::{self, Cause, Count, LogBound, cause};
use crate::stream::{StreamError, StreamId};

/// Calls that wait; beyond them callers wait to get in.
const QUEUE: usize = 1024;
/// Calls of one transaction.
const MOST_CALLS: usize = 256;
/// Bytes of one transaction.
const MOST_BYTES: usize = 16 << 20;

/// How long a file is left alone that could not be used, at first and at most: what stands in the way mostly stays for a
/// while.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(15);

/// Free pages are given back to the system in steps of so many, once they are more than that and more than are in use.
const PAGES_GIVEN_BACK: i64 = 1024;
const GIVE_BACK: &str = "PRAGMA incremental_vacuum(1024)";
const KEEP_IDS_RISING: &str = "UPDATE logs SET last_id = MAX(last_id, ?1)";

/// The thread's own.
struct WriterThread {
    path: PathBuf,
    /// Our group.
    group: String,
    /// `None` while the file cannot be opened.
    connection: Option<Connection>,
    /// What makes this process the file's writer; let go after the connection is closed.
    lock: Option<File>,
    /// From an opening that was needed to the next commit.
    rest: Option<Rest>,
    /// What was found, where the file is damaged and has not been set aside yet.
    damage: Option<Damage>,
    /// The newest id of a file that was set aside.
    newest: i64,
    clock: Clock,
    log: LogBound,
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

/// What was found.
#[derive(Clone)]
struct Damage {
    what: String,
    /// Nothing in the file tells how much is lost.
    is_beyond_count: bool,
}

impl Damage {
    fn of(error: &EmbeddedError) -> Self {
        Self {
            what: error.to_string(),
            is_beyond_count: error.is_beyond_count(),
        }
    }
}

/// What a transaction leaves behind.
struct Change {
    stats: CommitStats,
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
pub(super) fn start(path: &Path, group: &str, metrics: Metrics) -> Result<Started, EmbeddedError> {
    let (stats, receiver) = watch::channel(Stats::default());
    let mut writer = WriterThread {
        path: path.to_owned(),
        group: group.to_owned(),
        connection: None,
        lock: None,
        rest: None,
        damage: None,
        newest: 0,
        clock: Clock::start(),
        log: LogBound::new(path, schema::BUSY),
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
    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), EmbeddedError> {
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
        self.log.enforce(connection);
        self.rest = None;
        if let Some(change) = change {
            self.count_damaged(&change.damaged);
            self.stats.send_modify(|stats| *stats = stats.after(&change.stats));
        }
        Ok(())
    }

    /// Entries that were handed out and found damaged, each by its checksum.
    fn count_damaged(&self, damaged: &[StreamId]) {
        if let Some(first) = damaged.first() {
            tracing::error!(
                count = damaged.len(), %first, file = %self.path.display(),
                "entries were damaged on disk (their checksum does not match): they are lost"
            );
            self.count(Count::Exactly(damaged.len() as u64));
        }
    }

    /// Answers what the commit is going to leave behind, unless nothing was changed.
    fn run_all(&mut self, connection: &Connection, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<Option<Change>> {
        let session = Session {
            connection,
            now: self.clock.now(),
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
                job.fail(error::stream_error(&self.path, &error));
                session.execute("ROLLBACK TO call", [])?;
            }
            session.execute("RELEASE call", [])?;
        }
        if connection.total_changes() == changes {
            return Ok(None);
        }
        session.execute("UPDATE commits SET number = number + 1", [])?;
        Ok(Some(Change {
            stats: CommitStats::read(connection, &self.group)?,
            damaged: session.damaged.take(),
        }))
    }

    /// Opens the file again, or does not yet, the longer the more often it was of no use.
    fn reopen(&mut self, why: &str) -> Result<Connection, EmbeddedError> {
        let now = Instant::now();
        let length = match &self.rest {
            Some(rest) if now < rest.until => {
                return Err(EmbeddedError::Resting {
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

    fn put_off(&mut self, error: &EmbeddedError, length: Duration) {
        tracing::error!(why = %error, rest = ?length, file = %self.path.display(), "the file cannot be used for now");
        self.rest = Some(Rest::new(length, error.to_string()));
    }

    /// Opens the file. A damaged one is set aside, and a new one begun.
    fn open(&mut self) -> Result<Connection, EmbeddedError> {
        if self.damage.is_none() {
            match self.try_open() {
                Err(error) if error.is_damage() => self.damage = Some(Damage::of(&error)),
                opened => return opened,
            }
        }
        if let Some(damage) = self.damage.clone() {
            self.set_aside(&damage)?;
            self.damage = None;
        }
        self.try_open()
    }

    fn try_open(&mut self) -> Result<Connection, EmbeddedError> {
        self.own()?;
        let opened = schema::open(&self.path, !self.stats.borrow().is_known())?;
        let connection = opened.connection;
        let commit = self.take_up(&connection);
        let commit = commit.map_err(|error| EmbeddedError::from(error).beyond_count(opened.log_was_cut))?;
        if opened.log_was_cut {
            tracing::error!(
                file = %self.path.display(), lost = %Count::Unknown,
                "the write-ahead log has lost its end: the newest commits that were confirmed are lost"
            );
            self.count(Count::Unknown);
        }
        self.stats.send_modify(|stats| {
            *stats = stats.after(&commit);
            stats.file += 1;
        });
        Ok(connection)
    }

    /// Makes this process the file's writer. The lock of the same file is kept: to close it would end SQLite's locks, which
    /// the connection that only reads may have.
    fn own(&mut self) -> Result<(), EmbeddedError> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let held = self.lock.as_ref().and_then(|lock| lock.metadata().ok());
        let there = std::fs::metadata(&self.path).ok();
        if held.is_none() || held.map(identity) != there.map(identity) {
            self.lock = None;
            self.lock = Some(sqlite::lock(&self.path)?);
        }
        Ok(())
    }

    fn take_up(&self, connection: &Connection) -> rusqlite::Result<CommitStats> {
        connection.execute(KEEP_IDS_RISING, [self.newest])?;
        self.clock.advance(latest_reading(connection)?);
        CommitStats::read(connection, &self.group)
    }

    /// Gives a damaged file another name. What was in it is known exactly where it was open before.
    fn set_aside(&mut self, damage: &Damage) -> Result<(), EmbeddedError> {
        let known = {
            let stats = self.stats.borrow();
            stats.is_known().then(|| Loss {
                count: Count::Exactly(stats.backlog + stats.dead_letters),
                newest: stats.newest,
            })
        };
        let mut loss = match known {
            Some(loss) => loss,
            None => Loss::read(&self.path, &self.group)?,
        };
        if damage.is_beyond_count {
            loss.count = Count::Unknown;
        }
        tracing::error!(
            file = %self.path.display(), damage = damage.what, lost = %loss.count,
            "the file is damaged: it is set aside and a new one is begun; entries that were not loaded yet, and dead \
             letters, are lost from here"
        );
        let aside = sqlite::set_aside(&self.path)?;
        tracing::error!(
            file = %self.path.display(), set_aside = %aside.display(),
            "a damaged file was set aside: `sqlite3 FILE .recover` shows what it holds (OPERATIONS.md)"
        );
        self.newest = self.newest.max(loss.newest);
        self.count(loss.count);
        // What it held is counted once, should the next file be damaged before it was opened.
        self.stats
            .send_modify(|stats| (stats.backlog, stats.dead_letters) = (0, 0));
        Ok(())
    }

    fn count(&self, lost: Count) {
        let (entries, is_unknown) = (lost.entries(), lost.is_unknown());
        self.metrics.entries_lost.inc_by(entries);
        self.metrics.losses_unknown.inc_by(is_unknown.into());
        self.stats.send_modify(|stats| {
            stats.lost += entries;
            stats.losses_unknown += u64::from(is_unknown);
        });
    }

    /// Does what can be done about a failed transaction, so that the next one may succeed.
    fn mend(&mut self, error: &EmbeddedError) {
        if error.is_damage() {
            self.damage = Some(Damage::of(error));
            self.connection = None;
            self.connection = self.reopen(&error.to_string()).ok();
        } else if let Some(connection) = &self.connection {
            let moved = sqlite::checkpoint(connection);
            tracing::debug!(%error, ?moved, "a transaction failed");
        }
    }

    /// Gives free pages back to the system. Not needed to go on: what is really wrong shows in the next call.
    fn give_back(&mut self) {
        let Some(connection) = &self.connection else { return };
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
