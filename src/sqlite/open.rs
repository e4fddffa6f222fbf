//! Opening a file: with its settings, and with a check of what is in it.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::damage::beside;
use super::error::{Cause, FileError, cause, io};
use super::log_index::LogIndex;
use crate::folder;

/// Largest file that is checked at each opening, about a second's work. Of a larger one damage shows when it is met.
const CHECKED_BYTES: i64 = 256 << 20;

/// Bytes below which SQLite takes a file for a new one.
const SMALLEST: u64 = 512;

/// A lock of a process that was killed, or of a stream that was just dropped, is let go within moments: so often it is
/// tried, and so long is waited between two tries.
const LOCK_TRIES: u32 = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Settings of every writing connection. `fullfsync` is what macOS needs to reach the disk; `journal_size_limit` gives
/// back what an unusually long log took.
const WRITING: &str = "
PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY;
";
const READING: &str = "PRAGMA cell_size_check = ON; PRAGMA query_only = ON;";

/// What differs from file to file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// How long a lock of another program is waited for.
    pub(crate) busy: Duration,
    /// Settings that a new file keeps.
    pub(crate) new_file: &'static str,
    /// Settings of the connection.
    pub(crate) connection: &'static str,
}

/// A file that is open and was not written to yet.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    options: &'a Options,
    /// To be asked whether the file is ours.
    pub(crate) connection: Connection,
    /// The log has lost commits.
    pub(crate) log_was_cut: bool,
    is_new: bool,
}

/// A connection that writes.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    /// The log has lost its end: commits that were confirmed are gone, nobody knows how many. What is left is sound.
    pub(crate) log_was_cut: bool,
}

impl<'a> Opening<'a> {
    /// Opens a file, or makes it: its user's alone, as what SQLite puts beside it is then. `is_first`: this process has not
    /// had it open, so that what lies beside it is another's.
    ///
    /// # Errors
    /// [`FileError::is_damage`] tells whether it is to be set aside.
    pub(crate) fn begin(path: &Path, options: &'a Options, is_first: bool) -> Result<Self, FileError> {
        let exists = path.try_exists().map_err(io(path))?;
        let is_new = !exists || std::fs::metadata(path).map_err(io(path))?.len() < SMALLEST;
        // Not where this process may have a connection to it: to read the index would end that one's locks.
        let index = is_first.then(|| LogIndex::of(path)).flatten();
        let has_log = std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
        if is_new && (has_log || index.as_ref().is_some_and(LogIndex::is_of_content)) {
            // SQLite would delete the log.
            let what =
                "a process that was killed left its log or the index of its log, and the file is missing or empty";
            return Err(FileError::Lost(what.to_owned()));
        }
        // Only then: to close a file that SQLite has open would end its locks.
        if !exists {
            folder::open_file(path).map_err(io(path))?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(options.busy)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.execute_batch("PRAGMA cell_size_check = ON")?;
        let log_was_cut = is_first && log_was_cut(&connection, path)?;
        Ok(Self {
            options,
            connection,
            log_was_cut,
            is_new,
        })
    }

    /// Makes it ready for writing, and checks it.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(crate) fn finish(self) -> Result<Opened, FileError> {
        let Self {
            connection,
            options,
            log_was_cut,
            ..
        } = self;
        if self.is_new {
            connection.execute_batch(options.new_file)?;
        }
        // A query, since it answers the mode that is in force.
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(FileError::NoWal(mode));
        }
        connection.execute_batch(WRITING)?;
        connection.execute_batch(options.connection)?;
        match check(&connection, log_was_cut) {
            Ok(()) => Ok(Opened {
                connection,
                log_was_cut,
            }),
            Err(error) => {
                // Whoever looks into it later finds all of its log.
                let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
                Err(error)
            }
        }
    }
}

/// Makes this process the one that writes to the file, as long as the value lives; the file is made where there is none,
/// its user's alone. Blocks the thread for a second at most.
///
/// The value must outlive every connection: the system ends SQLite's locks of a file when any descriptor of it is closed.
/// SQLite's own locks do not see this one.
///
/// # Errors
/// Another process has the file.
#[allow(clippy::disallowed_methods, reason = "opening a file blocks its thread and says so")]
pub(crate) fn lock(path: &Path) -> Result<File, FileError> {
    let file = folder::open_file(path).map_err(io(path))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
            Err(TryLockError::Error(error)) => return Err(io(path)(error)),
        }
    }
    Err(FileError::Owned)
}

/// A connection that only reads; never holds up the writer.
pub(crate) fn open_read_only(path: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(busy)?;
    connection.execute_batch(READING)?;
    Ok(connection)
}

/// Looks through a file that is not to be run on, and changes nothing: neither the file, nor what a process that was
/// killed left beside it, by which the next one sees what is lost.
///
/// # Errors
/// As [`Opening`]; a log that has lost its end counts as damage here.
pub(crate) fn inspect(path: &Path, busy: Duration) -> Result<Connection, FileError> {
    if LogIndex::of(path).is_some_and(|index| index.is_needed()) {
        // With an index of its own in memory. It is closed before anything is written.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA query_only = ON;")?;
        match log_was_cut(&connection, path) {
            Ok(false) => {}
            Ok(true) => return Err(FileError::Damaged("its write-ahead log has lost commits".to_owned())),
            // Another program reads it: its index is in use then, and was made anew.
            Err(FileError::Sql(error)) if cause(&error) == Cause::Busy => {}
            Err(error) => return Err(error),
        }
    }
    let connection = open_read_only(path, busy)?;
    check(&connection, false)?;
    Ok(connection)
}

/// Whether the log has lost commits that a process which was killed had made. To be asked of a connection that has not
/// read anything yet: from its first read on it has an index of the log as it is now, and other programs do not take the
/// log away.
fn log_was_cut(connection: &Connection, path: &Path) -> Result<bool, FileError> {
    let index = LogIndex::of(path);
    let read = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |_| Ok(()));
    let Some(index) = index else {
        return Ok(read.map(|()| false)?);
    };
    let found = number(connection, "PRAGMA wal_checkpoint(NOOP)", 1).unwrap_or_default();
    let is_cut = index.exceeds(u32::try_from(found).unwrap_or_default(), path);
    match read {
        Err(error) if is_cut && cause(&error) == Cause::Damaged => Err(FileError::Lost(error.to_string())),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(is_cut),
    }
}

/// Checks a file, unless it is large.
fn check(connection: &Connection, log_was_cut: bool) -> Result<(), FileError> {
    let bytes = number(connection, "PRAGMA page_count", 0)? * number(connection, "PRAGMA page_size", 0)?;
    let how = match (log_was_cut, bytes <= CHECKED_BYTES) {
        // What is left of the log may be older than the file, and hide it.
        (true, _) => "PRAGMA integrity_check(1)",
        (false, true) => "PRAGMA quick_check(1)",
        (false, false) => return Ok(()),
    };
    let found: String = connection.query_row(how, [], |row| row.get(0))?;
    // The first line names the database.
    let found = found.lines().last().unwrap_or_default();
    match (found, log_was_cut) {
        ("ok", _) => Ok(()),
        (_, true) => Err(FileError::Lost(format!(
            "the write-ahead log has lost commits, and what is left is not sound: {found}"
        ))),
        (_, false) => Err(FileError::Damaged(found.to_owned())),
    }
}

fn number(connection: &Connection, pragma: &str, column: usize) -> rusqlite::Result<i64> {
    connection.query_row(pragma, [], |row| row.get(column))
}
