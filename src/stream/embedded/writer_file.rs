//! The file as the thread that writes has it: opened, replaced when it is damaged, and watched.
//!
//! Owns the writing connection and the lock that makes this process the file's writer. Invariants: a loss is logged before
//! the damaged file gets its other name, and counted once; what fails for a reason that passes is tried again, with
//! growing pauses; a file whose name leads elsewhere takes nothing that must be found again.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;

use super::clock::SteadyClock;
use super::error::EmbeddedError;
use super::loss::FileLoss;
use super::schema;
use super::stats::{CommitStats, Stats};
use crate::metrics::Metrics;
use crate::sqlite::{self, Count, LogBound, Moved, OpenFile};
use crate::stream::{StreamError, StreamId};

/// How long a file is left alone that could not be used, at first and at most: what stands in the way mostly stays for a
/// while.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(15);

const KEEP_IDS_RISING: &str = "UPDATE logs SET last_id = MAX(last_id, ?1)";

/// The file, open or not.
pub(super) struct WriterFile {
    pub(super) path: PathBuf,
    /// Our group.
    pub(super) group: String,
    /// `None` while the file cannot be opened.
    pub(super) connection: Option<Connection>,
    /// What makes this process the file's writer; let go after the connection is closed.
    lock: Option<File>,
    /// What is open.
    files: Option<OpenFile>,
    /// How its name does not lead to it.
    moved: Option<Moved>,
    /// From an opening that was needed to the next commit.
    rest: Option<Rest>,
    /// What was found, where the file is damaged and has not been set aside yet.
    damage: Option<Damage>,
    /// The newest id of a file that was set aside.
    newest: i64,
    pub(super) clock: SteadyClock,
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

impl WriterFile {
    /// Opens the file. Where the disk does not let it for now, it is tried again later.
    pub(super) fn start(
        path: &Path,
        group: &str,
        stats: watch::Sender<Stats>,
        metrics: Metrics,
    ) -> Result<Self, EmbeddedError> {
        let mut file = Self {
            path: path.to_owned(),
            group: group.to_owned(),
            connection: None,
            lock: None,
            files: None,
            moved: None,
            rest: None,
            damage: None,
            newest: 0,
            clock: SteadyClock::start(),
            log: LogBound::new(path, schema::BUSY),
            stats,
            metrics,
        };
        match file.open() {
            Ok(connection) => file.connection = Some(connection),
            Err(error) if matches!(error.stream_error(path), StreamError::Refused { .. }) => {
                file.put_off(&error, SHORTEST_REST);
            }
            Err(error) => return Err(error),
        }
        Ok(file)
    }

    /// The connection, for one transaction.
    pub(super) fn take(&mut self) -> Result<Connection, EmbeddedError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.reopen("it is closed"),
        }
    }

    /// Gives the connection back, after a commit or not.
    pub(super) fn put(&mut self, connection: Connection, has_committed: bool) {
        if has_committed {
            self.log.enforce(&connection);
            self.rest = None;
        }
        self.connection = Some(connection);
    }

    /// Notes what a commit left behind, and the entries that were found damaged, each by its checksum.
    pub(super) fn committed(&self, commit: &CommitStats, damaged: &[StreamId]) {
        self.count_damaged(damaged);
        self.stats.send_modify(|stats| *stats = stats.after(commit));
    }

    /// Whether what must be found again is refused.
    pub(super) fn refuses(&mut self) -> bool {
        if self.moved.is_some() {
            self.watch();
        }
        self.moved.is_some()
    }

    /// The answer to a call that is refused.
    pub(super) fn refusal(&self) -> Option<StreamError> {
        let error = self.moved.map(EmbeddedError::Moved);
        error.map(|error| error.stream_error(&self.path))
    }

    /// The answer to a call that was committed to a file which has no name any more: it comes to life again where the file
    /// is put back.
    pub(super) fn unfindable(&self) -> Option<StreamError> {
        self.moved.map(|moved| StreamError::Unreachable {
            server: self.path.display().to_string(),
            message: EmbeddedError::Moved(moved).to_string(),
        })
    }

    /// Says what goes with a file that has no name any more.
    pub(super) fn end(&self) {
        if let Some(moved) = self.moved {
            tracing::error!(
                file = %self.path.display(), entries = self.held(),
                "orderstream stops, and {moved}: what it holds is lost, unless it was saved"
            );
        }
    }

    /// Entries and dead letters that are in the file.
    fn held(&self) -> u64 {
        let stats = self.stats.borrow();
        stats.backlog + stats.dead_letters
    }

    /// Sees whether the names still lead to the files that are open.
    pub(super) fn watch(&mut self) {
        let found = self.files.as_ref().and_then(OpenFile::moved);
        match found {
            Some(moved) if found != self.moved => tracing::error!(
                file = %self.path.display(), entries = self.held(), pid = std::process::id(),
                "{}; until orderstream ends, `/proc/PID/fd` leads to it", EmbeddedError::Moved(moved)
            ),
            None if self.moved.is_some() => {
                tracing::info!(file = %self.path.display(), "the file is where it was opened: it is used again");
            }
            Some(_) | None => {}
        }
        self.moved = found;
        if found == Some(Moved::LogRemoved) {
            self.save_log();
        }
        self.stats
            .send_if_modified(|stats| std::mem::replace(&mut stats.moved, self.moved) != self.moved);
    }

    /// Moves what is in a log without a name into the file, and opens that anew, with another log. Tried again with the
    /// next call as long as somebody reads.
    fn save_log(&mut self) {
        let Some(connection) = &self.connection else { return };
        if !matches!(sqlite::empty_log(connection, schema::BUSY), Ok(true)) {
            return;
        }
        self.connection = None;
        match self.open() {
            Ok(connection) => {
                self.connection = Some(connection);
                self.moved = None;
                tracing::info!(file = %self.path.display(), "what was in the removed log is in the file: nothing is lost");
            }
            Err(error) => self.put_off(&error, SHORTEST_REST),
        }
    }

    fn count_damaged(&self, damaged: &[StreamId]) {
        if let Some(first) = damaged.first() {
            tracing::error!(
                count = damaged.len(), %first, file = %self.path.display(),
                "entries were damaged on disk (their checksum does not match): they are lost"
            );
            self.count(Count::Exactly(damaged.len() as u64));
        }
    }

    /// Opens the file again, or does not yet, the longer the more often it was of no use.
    fn reopen(&mut self, why: &str) -> Result<Connection, EmbeddedError> {
        if let Some(moved @ (Moved::Removed | Moved::Replaced)) = self.moved {
            return Err(EmbeddedError::Moved(moved));
        }
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
        self.files = Some(OpenFile::at(&self.path).map_err(sqlite::io(&self.path))?);
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
            stats.is_known().then(|| FileLoss {
                count: Count::Exactly(stats.backlog + stats.dead_letters),
                newest: stats.newest,
            })
        };
        let mut loss = match known {
            Some(loss) => loss,
            None => FileLoss::read(&self.path, &self.group)?,
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
    pub(super) fn mend(&mut self, error: &EmbeddedError) {
        if error.is_damage() {
            self.damage = Some(Damage::of(error));
            self.connection = None;
            self.connection = self.reopen(&error.to_string()).ok();
        } else if let Some(connection) = &self.connection {
            let moved = sqlite::checkpoint(connection);
            tracing::debug!(%error, ?moved, "a transaction failed");
        }
    }
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
