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

use super::calls::{Calls, Job, Session};
use super::clock::{self, Clock};
use super::fault::{self, Fault};
use super::recovery;
use super::space::{self, Space};
use super::standing::{Figures, Standing};
use super::tally::{Tally, TallyFiles};
use crate::metrics::Metrics;
use crate::stream::{StreamError, StreamId};

/// Calls that wait; beyond them callers wait to get in.
const QUEUE: usize = 1024;
/// Calls of one transaction.
const MOST_CALLS: usize = 256;
/// Bytes of one transaction.
const MOST_BYTES: usize = 16 << 20;

/// How long a file is left alone that could not be used, at first and at most: to replace it is much work, and what
/// stands in the way of that mostly stays for a while.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(15);

/// The thread's own.
struct Committer {
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
    space: Space,
    standing: watch::Sender<Standing>,
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
    figures: Figures,
    tally: Tally,
    damaged: Vec<StreamId>,
}

/// What the thread is known by.
pub(super) struct Started {
    pub(super) calls: Calls,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) clock: Clock,
}

/// Opens the file and starts the thread. Where the disk does not let it for now, calls are refused until it does: a full
/// disk must not keep a process from starting that could take events elsewhere, or wait.
pub(super) fn start(path: &Path, group: &str, metrics: Metrics) -> Result<Started, Fault> {
    let (tallies, tally) = TallyFiles::open(path)?;
    let (standing, receiver) = watch::channel(Standing::default());
    let mut committer = Committer {
        path: path.to_owned(),
        group: group.to_owned(),
        connection: None,
        rest: None,
        is_damaged: false,
        clock: Clock::start(),
        // Another group's says nothing of what ours is owed.
        tally: tally.filter(|tally| tally.is_of(group)),
        tallies,
        space: Space::new(path),
        standing,
        metrics,
    };
    match committer.open() {
        Ok(connection) => committer.connection = Some(connection),
        Err(fault) if matches!(fault.stream_error(path), StreamError::Refused { .. }) => {
            committer.put_off(&fault, SHORTEST_REST)
        }
        Err(fault) => return Err(fault),
    }
    let clock = committer.clock.clone();
    let (sender, queue) = mpsc::channel(QUEUE);
    let thread = std::thread::Builder::new().name("embedded stream".to_owned());
    thread.spawn(move || committer.run(queue)).map_err(|source| Fault::Io {
        file: path.to_owned(),
        source,
    })?;
    Ok(Started {
        calls: Calls {
            queue: sender,
            path: path.into(),
        },
        standing: receiver,
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

impl Committer {
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
        if let Some(fault) = &failed {
            self.mend(fault);
        }
        for job in jobs {
            job.answer(failed.as_ref().map(|fault| fault.stream_error(&self.path)));
        }
    }

    /// One transaction. An error is that of all jobs: nothing of it happened.
    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Fault> {
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
        self.space.bound_log(connection);
        self.rest = None;
        if let Some(change) = change {
            self.tallies.write(&change.tally);
            self.tally = Some(change.tally);
            self.count_damaged(&change.damaged);
            self.standing.send_modify(|standing| {
                *standing = standing.after(&change.figures);
                standing.lost += change.damaged.len() as u64;
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
                if connection.is_autocommit() || fault::is_damage(&error) {
                    return Err(error);
                }
                job.fail(fault::stream_error(&self.path, &error));
                session.execute("ROLLBACK TO call", [])?;
            }
            session.execute("RELEASE call", [])?;
        }
        if connection.total_changes() == changes {
            return Ok(None);
        }
        session.execute("UPDATE commits SET number = number + 1", [])?;
        let figures = Figures::read(connection, &self.group)?;
        let before = self.tally.as_ref().filter(|_| !session.replayed.get());
        let tally = Tally::read(connection, &self.group, &figures, before)?;
        Ok(Some(Change {
            figures,
            tally,
            damaged: session.damaged.take(),
        }))
    }

    /// Opens the file again, or does not yet, the longer the more often it was of no use.
    fn reopen(&mut self, why: &str) -> Result<Connection, Fault> {
        let now = Instant::now();
        let length = match &self.rest {
            Some(rest) if now < rest.until => {
                return Err(Fault::Resting {
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
            Err(fault) => self.put_off(fault, length),
        }
        opened
    }

    fn put_off(&mut self, fault: &Fault, length: Duration) {
        tracing::error!(why = %fault, rest = ?length, file = %self.path.display(), "the file cannot be used for now");
        self.rest = Some(Rest::new(length, fault.to_string()));
    }

    /// Opens the file; a damaged one is replaced.
    fn open(&mut self) -> Result<Connection, Fault> {
        match self.try_open() {
            Err(fault) if fault.is_damage() && !self.is_damaged => {
                self.is_damaged = true;
                self.try_open()
            }
            opened => opened,
        }
    }

    fn try_open(&mut self) -> Result<Connection, Fault> {
        let opened = recovery::open(&self.path, &self.group, self.tally.as_ref(), self.is_damaged)?;
        self.is_damaged = false;
        self.metrics.entries_lost.inc_by(opened.lost);
        self.clock.advance(latest_reading(&opened.connection)?);
        let figures = Figures::read(&opened.connection, &self.group)?;
        let tally = Tally::read(&opened.connection, &self.group, &figures, None)?;
        // Both, so that neither is of the file before.
        self.tallies.write(&tally);
        self.tallies.write(&tally);
        self.tally = Some(tally);
        self.standing.send_modify(|standing| {
            *standing = standing.after(&figures);
            standing.lost += opened.lost;
            standing.file += 1;
        });
        Ok(opened.connection)
    }

    /// Does what can be done about a failed transaction, so that the next one may succeed.
    fn mend(&mut self, fault: &Fault) {
        if fault.is_damage() {
            self.is_damaged = true;
            self.connection = None;
            self.connection = self.reopen(&fault.to_string()).ok();
        } else if let Some(connection) = &self.connection {
            let folded = space::fold(connection);
            tracing::debug!(%fault, ?folded, "a transaction failed");
        }
    }

    /// Gives free pages back to the system.
    fn give_back(&mut self) {
        let Some(connection) = &self.connection else { return };
        // Not needed to go on; what is really wrong shows in the next call.
        if let Err(error) = space::give_back(connection) {
            tracing::debug!(%error, "free pages cannot be given back");
        }
    }
}
