//! Opening a file: with its settings, and with checks of what is in it.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::{ErrorCause, FileError, cause, io};
use super::paths::beside;
use super::wal::{LeftLog, LogIndex};
use crate::folder;

/// Largest file, bytes, that is checked at each opening (about a second). In a larger one damage
/// shows when it is read.
const CHECKED_BYTES: i64 = 256 << 20;

/// Bytes below which SQLite takes a file for a new one.
const SMALLEST: u64 = 512;

/// How often, and after which pause, a lock is tried: that of a process which was just killed is
/// released within moments.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How long a lock on a damaged file is waited for.
const DAMAGED_BUSY: Duration = Duration::from_secs(5);

/// Settings of every writing connection. `fullfsync` is what macOS needs to reach the disk;
/// `journal_size_limit` truncates an unusually long log; `secure_delete` overwrites what is deleted,
/// where its page is written anyway.
const WRITING: &str = "
PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = FAST;
";

/// Sets whether all that is deleted from now on is overwritten, at the cost of writing freed pages,
/// too; else what [`WRITING`] says holds.
pub(crate) fn overwrite_deleted(connection: &Connection, all: bool) -> rusqlite::Result<()> {
    let pragma = match all {
        true => "PRAGMA secure_delete = ON",
        false => "PRAGMA secure_delete = FAST",
    };
    connection.query_row(pragma, [], |_| Ok(()))
}

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

/// Opens a file for writing, or creates it readable by its user alone. `recognize` checks whether
/// the file is ours, before anything is written. `left` is what a killed process left: one value
/// for all attempts of this process on the file.
///
/// # Errors
/// [`FileError::is_damage`] tells whether the file is to be set aside.
pub(crate) fn open(
    path: &Path,
    options: &Options,
    left: &mut LeftLog,
    recognize: impl FnOnce(&Connection) -> Result<(), FileError>,
) -> Result<Connection, FileError> {
    left.look(path);
    let is_new = is_new(path, left)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = connect(path, flags, options.busy)?;
    connection.set_prepared_statement_cache_capacity(64);
    compare_log(&connection, path, left)?;
    let ready = recognize(&connection).and_then(|()| prepare(&connection, options, is_new, left.is_cut()));
    if let Err(error) = ready {
        // The log is kept as it is, for those who look into the file later.
        let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        return Err(error.beyond_count(left.is_cut()));
    }
    Ok(connection)
}

/// Whether the file is new; creates it where it is missing.
fn is_new(path: &Path, left: &LeftLog) -> Result<bool, FileError> {
    let exists = path.try_exists().map_err(io(path))?;
    let is_new = !exists || std::fs::metadata(path).map_err(io(path))?.len() < SMALLEST;
    let has_log = std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    if is_new && (has_log || left.has_pages()) {
        // SQLite would delete the log.
        let what = "a process that was killed left its log or the index of its log, and the file is missing or empty";
        return Err(FileError::Lost(what.to_owned()));
    }
    // Only then: to close a file that SQLite has open would end its locks.
    if !exists {
        folder::open_file(path).map_err(io(path))?;
    }
    Ok(is_new)
}

fn connect(path: &Path, flags: OpenFlags, busy: Duration) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(busy)?;
    connection.execute_batch("PRAGMA cell_size_check = ON")?;
    Ok(connection)
}

fn prepare(connection: &Connection, options: &Options, is_new: bool, log_was_cut: bool) -> Result<(), FileError> {
    if is_new {
        connection.execute_batch(options.new_file)?;
    }
    // A query, since it returns the mode that is in force.
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(FileError::NoWal(mode));
    }
    connection.execute_batch(WRITING)?;
    connection.execute_batch(options.connection)?;
    check(connection, log_was_cut)
}

/// Makes this process the one that writes to the file, as long as the value lives; the file is
/// created where it is missing, readable by its user alone. Blocks the thread for a second at most.
///
/// The value must outlive every connection: the system ends SQLite's locks of a file when any
/// descriptor of it is closed. SQLite's own locks do not see this one.
///
/// # Errors
/// Another process has the file.
#[allow(clippy::disallowed_methods, reason = "opening a file blocks its thread and says so")]
pub(crate) fn lock(path: &Path) -> Result<File, FileError> {
    let file = folder::open_file(path).map_err(io(path))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(io(path)(error)),
        }
    }
    Err(FileError::Owned)
}

/// A connection that only reads; never holds up the writer.
pub(crate) fn open_read_only(path: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, busy)?;
    connection.execute_batch("PRAGMA query_only = ON")?;
    Ok(connection)
}

/// A connection that reads what can be read of a damaged file and changes nothing.
/// `writable_schema` lets a file be read that is shorter than its header says.
pub(crate) fn open_damaged(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, DAMAGED_BUSY)?;
    connection.execute_batch("PRAGMA writable_schema = ON")?;
    Ok(connection)
}

/// Checks a file without changing it, nor what a killed process left beside it, by which the next
/// one sees what is lost.
///
/// # Errors
/// As [`open`]; a log that has lost its end counts as damage here.
pub(crate) fn inspect(path: &Path, busy: Duration) -> Result<Connection, FileError> {
    if let Some(index) = LogIndex::of(path).filter(LogIndex::is_needed) {
        let mut left = LeftLog::Index(index);
        // With an index of its own in memory. It is closed before anything is written.
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA query_only = ON;")?;
        match compare_log(&connection, path, &mut left) {
            // Another program reads the file, so its index is in use and was rebuilt.
            Err(FileError::Sql(error)) if cause(&error) == ErrorCause::Busy => {}
            compared => compared?,
        }
        if left.is_cut() {
            return Err(FileError::Damaged("its write-ahead log has lost commits".to_owned()));
        }
    }
    let connection = open_read_only(path, busy)?;
    check(&connection, false)?;
    Ok(connection)
}

/// Compares the log with the index that a killed process left of it, by the connection's first
/// read.
fn compare_log(connection: &Connection, path: &Path, left: &mut LeftLog) -> Result<(), FileError> {
    let frames = || match number(connection, "PRAGMA wal_checkpoint(NOOP)", 1) {
        Err(error) if cause(&error) == ErrorCause::Damaged => Ok(0),
        frames => frames.map(|frames| u32::try_from(frames).unwrap_or_default()),
    };
    let read = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |_| Ok(()));
    match read.map_err(FileError::from) {
        Err(error) if !error.is_damage() => Err(error),
        read => {
            left.compare(frames()?, path);
            read.map_err(|error| error.beyond_count(left.is_cut()))
        }
    }
}

/// Lets SQLite check the pages of a file, unless it is large. All of it is checked where the log
/// was cut: what is left of the log may be older than the file, and hide its newer pages.
fn check(connection: &Connection, log_was_cut: bool) -> Result<(), FileError> {
    let bytes = number(connection, "PRAGMA page_count", 0)? * number(connection, "PRAGMA page_size", 0)?;
    let check = match (log_was_cut, bytes <= CHECKED_BYTES) {
        (true, _) => "PRAGMA integrity_check(1)",
        (false, true) => "PRAGMA quick_check(1)",
        (false, false) => return Ok(()),
    };
    let found: String = connection.query_row(check, [], |row| row.get(0))?;
    // The first line names the database.
    match found.lines().last().unwrap_or_default() {
        "ok" => Ok(()),
        found => Err(FileError::Damaged(found.to_owned())),
    }
}

fn number(connection: &Connection, pragma: &str, column: usize) -> rusqlite::Result<i64> {
    connection.query_row(pragma, [], |row| row.get(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        busy: Duration::from_secs(1),
        new_file: "",
        connection: "",
    };

    #[test]
    fn a_lost_log_is_remembered_over_an_attempt_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let [live, path] = ["live.db", "left.db"].map(|name| folder.path().join(name));
        let killed = open(&live, &OPTIONS, &mut LeftLog::default(), |_| Ok(())).unwrap();
        killed.execute_batch("CREATE TABLE numbers (number)").unwrap();
        for suffix in ["", "-shm"] {
            std::fs::copy(beside(&live, suffix), beside(&path, suffix)).unwrap();
        }

        let mut left = LeftLog::default();
        let failed = open(&path, &OPTIONS, &mut left, |_| Err(FileError::Owned));
        assert!(matches!(failed, Err(FileError::Owned)));
        open(&path, &OPTIONS, &mut left, |_| Ok(())).unwrap();
        assert!(left.take_cut());
        assert!(!left.take_cut(), "it is told once");
    }
}
