//! Opening the file, sound or not.
//!
//! Owns what becomes of a damaged file: it is set aside with its log, what can be read of it moves to a new one, and what
//! is lost is counted by the tally. Invariants: nothing is thrown away; whatever fails on the way leaves the damaged
//! file where it was, to be tried again; what is moved is owed to our group as it was before.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::clock;
use super::error::FileError;
use super::salvage::{self, Salvaged};
use super::schema;
use super::stats::CommitStats;
use super::tally::{Tally, beside};

/// Owner of what was pending in a file that was set aside; whoever claims stale entries gets them.
const SALVAGED: &str = "(salvaged)";

/// What the name of a file ends with that is being made.
const NEW: &str = ".new";

const FOLD: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
const COMMIT: &str = "SELECT number FROM commits";
const NUMBER: &str = "UPDATE commits SET number = MAX(number, ?1) + 1";
const LAST_ID: &str = "UPDATE logs SET last_id = MAX(last_id, ?1)";
const LOG: &str = "UPDATE logs SET last_id = ?2, added = ?3, length = ?3, bytes = ?4 WHERE log = ?1";
/// What was lost is to be taken when it is sent again; what was trimmed may come twice then, which the warehouse absorbs.
const FORGET_KEYS: &str = "DELETE FROM dedupe
    WHERE id NOT IN (SELECT id FROM entries) AND id NOT IN (SELECT id FROM dead_letters)";
const GROUP: &str = "INSERT INTO consumer_groups (id, name, last_delivered, read, pending)
    SELECT 1, ?1, ?2, (SELECT added FROM logs WHERE log = 0) - COUNT(*), 0 FROM entries WHERE id > ?2";
const OTHER_GROUP: &str =
    "INSERT OR IGNORE INTO consumer_groups (name, last_delivered, read, pending) VALUES (?1, 0, 0, 0)";
const MEMBER: &str = "INSERT INTO consumers (id, group_id, name, seen) VALUES (1, 1, ?1, 0)";
const PENDING: &str = "INSERT INTO pending (group_id, id, consumer, delivered_at, deliveries)
    SELECT 1, id, 1, 0, 1 FROM entries WHERE id = ?1";
const COUNT_PENDING: &str = "UPDATE consumer_groups SET pending = (SELECT COUNT(*) FROM pending) WHERE id = 1";

/// An open file, and what was lost with the one before it.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Entries that are owed but not there.
    pub(super) lost: u64,
}

/// Opens the file; a damaged one is replaced, as is one that is known to be by `is_damaged`.
pub(super) fn open(path: &Path, group: &str, tally: Option<&Tally>, is_damaged: bool) -> Result<Opened, FileError> {
    let fresh = beside(path, NEW);
    if !exists(path)? && exists(&fresh)? {
        // The process ended between the names that a replacement changes. The log of the damaged file, where it is still
        // there, would be taken for that of the new one.
        set_aside(path)?;
        fs::rename(&fresh, path).map_err(io(path))?;
    }
    let damage = if is_damaged {
        "found while it was in use".to_owned()
    } else {
        let opened = schema::connect(path).and_then(|connection| {
            check(&connection, group, tally)?;
            compare(connection, path, tally)
        });
        match opened {
            Err(fault) if fault.is_damage() => fault.to_string(),
            opened => return opened,
        }
    };
    replace(path, group, tally, &damage)?;
    compare(schema::connect(path)?, path, tally)
}

/// A file that is as old as its tally holds what that says; else a row of our group, or of the figures, is damaged.
fn check(connection: &Connection, group: &str, tally: Option<&Tally>) -> Result<(), FileError> {
    let figures = CommitStats::read(connection, group)?;
    match tally.filter(|tally| tally.commit == figures.commit) {
        Some(tally) if Tally::read(connection, group, &figures, None)? != *tally => Err(FileError::CommitStats),
        _ => Ok(()),
    }
}

/// A file that is older than its tally is a new one, was put in the place of another, or has lost commits that had been
/// confirmed: what is owed and not there is lost.
fn compare(connection: Connection, path: &Path, tally: Option<&Tally>) -> Result<Opened, FileError> {
    let commit = commit(&connection)?;
    let Some(tally) = tally.filter(|tally| tally.commit > commit) else {
        return Ok(Opened { connection, lost: 0 });
    };
    let lost = tally.missing(&connection)?;
    connection.execute(LAST_ID, [tally.last_id])?;
    // From here on the tally is the older one: last, so that what is cut short before is done again.
    connection.execute(NUMBER, [tally.commit])?;
    tracing::error!(
        file = %path.display(), lost,
        "the file is older than what was confirmed from it: entries that are owed and not in it are lost"
    );
    Ok(Opened { connection, lost })
}

/// Number of the file's last commit.
pub(super) fn commit(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(COMMIT, [], |row| row.get(0))
}

/// Puts a new file in the place of a damaged one. Its commit number is 0, so that it is compared with the tally.
fn replace(path: &Path, group: &str, tally: Option<&Tally>, damage: &str) -> Result<(), FileError> {
    tracing::error!(file = %path.display(), damage, "the file is damaged: what can be read of it moves to a new one");
    let fresh = beside(path, NEW);
    for suffix in ["", "-wal", "-shm"] {
        remove(&beside(&fresh, suffix))?;
    }
    let mut connection = schema::connect(&fresh)?;
    let salvaged = salvage::move_rows(path, &mut connection)?;
    restore(&mut connection, group, tally, &salvaged)?;
    // The file must be whole by itself. Closing it folds its log into it too, but says nothing where that fails.
    connection.query_row(FOLD, [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)?;
    let aside = set_aside(path)?;
    fs::rename(&fresh, path).map_err(io(path))?;
    tracing::error!(
        file = %path.display(), set_aside = %aside.display(),
        salvaged = salvaged.entries.rows, letters_salvaged = salvaged.letters.rows,
        "a damaged file was set aside{}",
        if tally.is_some() { "" } else { "; what it lost cannot be told, since its tally is gone too" }
    );
    Ok(())
}

/// CommitStats and groups of a new file. Without a tally our group is created at 0, as others are: they get everything again.
fn restore(
    connection: &mut Connection,
    group: &str,
    tally: Option<&Tally>,
    salvaged: &Salvaged,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for (log, rows) in [(0, &salvaged.entries), (1, &salvaged.letters)] {
        transaction.execute(LOG, [log, rows.last_id, rows.rows, rows.bytes])?;
    }
    transaction.execute(FORGET_KEYS, [])?;
    if let Some(tally) = tally {
        transaction.execute(GROUP, params![group, tally.last_delivered])?;
        transaction.execute(MEMBER, [SALVAGED])?;
        for id in &*tally.pending {
            transaction.execute(PENDING, [id])?;
        }
        transaction.execute(COUNT_PENDING, [])?;
    }
    for group in &salvaged.groups {
        transaction.execute(OTHER_GROUP, [group])?;
    }
    transaction.commit()
}

/// Gives a damaged file and its log, or what is there of them, another name.
fn set_aside(path: &Path) -> Result<PathBuf, FileError> {
    let mut at = clock::wall() / 1000;
    let aside = loop {
        let aside = beside(path, &format!(".damaged-{at}"));
        if !aside.exists() {
            break aside;
        }
        at += 1;
    };
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (beside(path, suffix), beside(&aside, suffix));
        if from.exists() {
            fs::rename(&from, to).map_err(io(&from))?;
        }
    }
    Ok(aside)
}

/// Whether there is a file; an error where that cannot be told.
pub(super) fn exists(path: &Path) -> Result<bool, FileError> {
    path.try_exists().map_err(io(path))
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let file = path.to_owned();
    move |source| FileError::Io { file, source }
}
