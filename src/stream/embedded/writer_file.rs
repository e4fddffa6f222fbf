//! The file as the writing thread has it: opened, replaced when it is damaged, and watched.
//!
//! Owns the writing connection and the lock that makes this process the file's writer. Invariants:
//! a loss is logged before the damaged file is renamed, and counted once; after an error that
//! passes by itself the file is tried again, with growing pauses; a file whose name leads elsewhere
//! stores nothing.

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
use super::stats::Stats;
use crate::metrics::{Metrics, Service, ServiceLabels};
use crate::sqlite::{self, FileError, LeftLog, LogBound, LossCount, Moved, OpenFile};
use crate::stream::{StreamError, StreamId};

/// First and longest pause before a file is tried again that could not be used.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

const KEEP_IDS_RISING: &str = "UPDATE logs SET last_id = MAX(last_id, ?1)";
/// The latest reading of the steady clock on record.
const LATEST_READING: &str = "
SELECT MAX(
    IFNULL((SELECT MAX(delivered_at) FROM pending), 0), IFNULL((SELECT MAX(seen) FROM consumers), 0),
    IFNULL((SELECT remembered_at FROM dedupe ORDER BY id DESC LIMIT 1), 0)
)";

/// The file, open or not.
pub(super) struct WriterFile {
    pub(super) path: PathBuf,
    /// Our group.
    pub(super) group: String,
    /// `None` while the file cannot be opened.
    pub(super) connection: Option<Connection>,
    /// What makes this process the file's writer; released after the connection is closed.
    lock: Option<File>,
    /// The identities of what is open.
    files: Option<OpenFile>,
    /// From a reopening to the next commit.
    pause: Option<Pause>,
    /// The file is damaged and has not been set aside yet.
    damage: Option<FileError>,
    left_log: LeftLog,
    /// The newest row id of a file that was set aside.
    newest: i64,
    pub(super) clock: SteadyClock,
    log: LogBound,
    stats: watch::Sender<Stats>,
    metrics: Metrics,
}

/// Until when the file is not tried, and why.
struct Pause {
    until: Instant,
    length: Duration,
    why: String,
}

/// What a transaction leaves behind.
pub(super) struct Commit {
    pub(super) stats: Stats,
    /// Entries whose checksum did not match.
    pub(super) damaged: Vec<StreamId>,
    /// Groups that were missing.
    pub(super) created_groups: Vec<String>,
}

impl WriterFile {
    /// Opens the file. While the disk is full or failing, it is tried again later.
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
            pause: None,
            damage: None,
            left_log: LeftLog::default(),
            newest: 0,
            clock: SteadyClock::start(),
            log: LogBound::new(path, schema::BUSY),
            stats,
            metrics,
        };
        match file.open() {
            Ok(connection) => file.connection = Some(connection),
            Err(error) if matches!(error.stream_error(path), StreamError::Refused { .. }) => {
                file.put_off(&error, FIRST_PAUSE);
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
            self.pause = None;
        }
        self.connection = Some(connection);
    }

    /// Publishes what a commit left behind.
    pub(super) fn committed(&self, commit: Commit) {
        if let Some(first) = commit.damaged.first() {
            tracing::error!(
                count = commit.damaged.len(), %first, file = %self.path.display(),
                "entries were damaged on disk (their checksum does not match): they are lost"
            );
            self.count_lost(LossCount::Exactly(commit.damaged.len() as u64));
        }
        for group in commit.created_groups {
            if commit.stats.length == 0 {
                tracing::info!(group, "the consumer group is created");
                continue;
            }
            tracing::warn!(group, "the consumer group was missing: created at 0");
            let service = Service::Stream;
            self.metrics.reconnects.get_or_create(&ServiceLabels { service }).inc();
        }
        self.stats.send_modify(|stats| *stats = stats.after(commit.stats));
    }

    /// Logs that the process ends with a file that has no name any more.
    pub(super) fn end(&self) {
        let stats = self.stats.borrow();
        if let Some(moved) = stats.moved {
            tracing::error!(
                file = %self.path.display(), entries = stats.held(),
                "orderstream stops, and {moved}: what it holds is lost, unless it was saved"
            );
        }
    }

    /// How the name does not lead to the open file; checked again where it did not before.
    pub(super) fn still_moved(&mut self) -> Option<Moved> {
        let moved = self.stats.borrow().moved;
        moved.and_then(|_| self.check_moved())
    }

    /// Checks whether the names still lead to the files that are open.
    pub(super) fn check_moved(&mut self) -> Option<Moved> {
        let (before, held) = (self.stats.borrow().moved, self.stats.borrow().held());
        let mut found = self.files.as_ref().and_then(OpenFile::moved);
        match found {
            Some(moved) if found != before => tracing::error!(
                file = %self.path.display(), entries = held, pid = std::process::id(),
                "{}; until orderstream ends, `/proc/PID/fd` leads to it", EmbeddedError::Moved(moved)
            ),
            None if before.is_some() => {
                tracing::info!(file = %self.path.display(), "the file is where it was opened: it is used again");
            }
            Some(_) | None => {}
        }
        if found == Some(Moved::LogRemoved) && self.save_log() {
            found = None;
        }
        self.stats
            .send_if_modified(|stats| std::mem::replace(&mut stats.moved, found) != found);
        found
    }

    /// Moves what is in a log without a name into the file, and opens that anew, with another log.
    /// Returns false where it could not, as while another connection reads; it is tried again with
    /// the next call.
    fn save_log(&mut self) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        if !matches!(sqlite::empty_log(connection, schema::BUSY), Ok(true)) {
            return false;
        }
        self.connection = None;
        match self.open() {
            Ok(connection) => {
                self.connection = Some(connection);
                tracing::info!(file = %self.path.display(), "what was in the removed log is in the file: nothing is lost");
                true
            }
            Err(error) => {
                self.put_off(&error, FIRST_PAUSE);
                false
            }
        }
    }

    /// Does what can be done about a failed transaction, so that the next one may succeed.
    pub(super) fn mend(&mut self, error: &EmbeddedError) {
        if let Some(damage) = damage_of(error) {
            self.damage = Some(damage);
            self.connection = None;
            self.connection = self.reopen(&error.to_string()).ok();
        } else if let Some(connection) = &self.connection {
            let checkpointed = sqlite::checkpoint(connection);
            tracing::debug!(%error, ?checkpointed, "a transaction failed");
        }
    }

    /// Opens the file again, or refuses during a pause, which grows with each opening until a
    /// commit.
    fn reopen(&mut self, why: &str) -> Result<Connection, EmbeddedError> {
        if let Some(moved @ (Moved::Removed | Moved::Replaced)) = self.stats.borrow().moved {
            return Err(EmbeddedError::Moved(moved));
        }
        let length = match &self.pause {
            Some(pause) if Instant::now() < pause.until => {
                return Err(EmbeddedError::Resting {
                    why: pause.why.clone(),
                    within: pause.length,
                });
            }
            Some(pause) => LONGEST_PAUSE.min(2 * pause.length),
            None => FIRST_PAUSE,
        };
        let opened = self.open();
        match &opened {
            Ok(_) => self.pause(length, why.to_owned()),
            Err(error) => self.put_off(error, length),
        }
        opened
    }

    fn put_off(&mut self, error: &EmbeddedError, length: Duration) {
        tracing::error!(why = %error, pause = ?length, file = %self.path.display(), "the file cannot be used for now");
        self.pause(length, error.to_string());
    }

    fn pause(&mut self, length: Duration, why: String) {
        let until = Instant::now() + length;
        self.pause = Some(Pause { until, length, why });
    }

    /// Opens the file. A damaged one is set aside, and a new one begun.
    fn open(&mut self) -> Result<Connection, EmbeddedError> {
        if self.damage.is_none() {
            let opened = self.try_open();
            self.damage = opened.as_ref().err().and_then(damage_of);
            if self.damage.is_none() {
                return opened;
            }
        }
        self.set_aside()?;
        self.try_open()
    }

    fn try_open(&mut self) -> Result<Connection, EmbeddedError> {
        self.lock_file()?;
        let connection = schema::open(&self.path, &mut self.left_log)?;
        let read = || {
            connection.execute(KEEP_IDS_RISING, [self.newest])?;
            self.clock
                .advance(connection.query_row(LATEST_READING, [], |row| row.get(0))?);
            Stats::read(&connection, &self.group)
        };
        let read = read().map_err(|error| FileError::from(error).beyond_count(self.left_log.is_cut()))?;
        self.files = Some(OpenFile::at(&self.path).map_err(sqlite::io(&self.path))?);
        if self.left_log.take_cut() {
            tracing::error!(
                file = %self.path.display(), lost = %LossCount::Unknown,
                "the write-ahead log has lost its end: the newest commits that were confirmed are lost"
            );
            self.count_lost(LossCount::Unknown);
        }
        self.stats.send_modify(|stats| {
            *stats = stats.after(read);
            stats.file += 1;
        });
        Ok(connection)
    }

    /// Makes this process the file's writer. The lock of the same file is kept: to close it would
    /// end SQLite's locks, which the read connection may have.
    fn lock_file(&mut self) -> Result<(), EmbeddedError> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let held = self.lock.as_ref().and_then(|lock| lock.metadata().ok());
        let there = std::fs::metadata(&self.path).ok();
        if held.is_none() || held.map(identity) != there.map(identity) {
            self.lock = None;
            self.lock = Some(sqlite::lock(&self.path)?);
        }
        Ok(())
    }

    /// Renames a damaged file. What was in it is known where it was open before; but what consumers
    /// have of it in hand is mostly not lost.
    fn set_aside(&mut self) -> Result<(), EmbeddedError> {
        let Some(damage) = &self.damage else { return Ok(()) };
        let known = {
            let stats = self.stats.borrow();
            stats.is_known().then(|| FileLoss {
                count: match stats.pending {
                    0 => LossCount::Exactly(stats.held()),
                    _ => LossCount::AtMost(stats.held()),
                },
                newest: stats.newest,
            })
        };
        let mut loss = match known {
            Some(loss) => loss,
            None => FileLoss::read(&self.path, &self.group)?,
        };
        if matches!(damage, FileError::Lost(_)) {
            loss.count = LossCount::Unknown;
        }
        tracing::error!(
            file = %self.path.display(), %damage, lost = %loss.count,
            "the file is damaged: it is set aside and a new one is begun; entries that were not loaded yet, and dead \
             letters, are lost from here"
        );
        let aside = sqlite::set_aside(&self.path)?;
        tracing::error!(
            file = %self.path.display(), set_aside = %aside.display(),
            "a damaged file was set aside: `sqlite3 FILE .recover` shows what it holds (OPERATIONS.md)"
        );
        self.damage = None;
        self.left_log = LeftLog::Whole;
        self.newest = self.newest.max(loss.newest);
        self.count_lost(loss.count);
        // What it held is counted once, should the next file be damaged before it was opened.
        self.stats
            .send_modify(|stats| (stats.backlog, stats.pending, stats.dead_letters) = (0, 0, 0));
        Ok(())
    }

    fn count_lost(&self, lost: LossCount) {
        let (entries, is_unknown) = (lost.entries(), lost.is_unknown());
        self.metrics.entries_lost.inc_by(entries);
        self.metrics.losses_unknown.inc_by(is_unknown.into());
        self.stats.send_modify(|stats| {
            stats.lost += entries;
            stats.losses_unknown += u64::from(is_unknown);
        });
    }
}

/// The damage that an error tells of, if any.
fn damage_of(error: &EmbeddedError) -> Option<FileError> {
    match error {
        EmbeddedError::File(FileError::Lost(what)) => Some(FileError::Lost(what.clone())),
        EmbeddedError::File(error) if error.is_damage() => Some(FileError::Damaged(error.to_string())),
        EmbeddedError::File(_) | EmbeddedError::Moved(_) | EmbeddedError::Resting { .. } => None,
    }
}
