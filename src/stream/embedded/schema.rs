//! The tables of the file, and its version.
//!
//! Invariant: a file that is another program's, or of a newer release, is left as it is.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::sqlite::{self, FileError, LeftLog, Options};

/// `user_version` of the file. A release that changes a table adds a step to [`open`] and
/// increments this.
const VERSION: i64 = 2;
/// `application_id` of the file: "ordr".
const APPLICATION: i64 = 0x6F72_6472;

/// Longest wait for another program's lock on the file.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// The essay in `mod.rs` describes them.
const TABLES: &str = "
CREATE TABLE logs (
    log INTEGER PRIMARY KEY, last_id INTEGER NOT NULL, added INTEGER NOT NULL,
    length INTEGER NOT NULL, bytes INTEGER NOT NULL
) STRICT;
INSERT INTO logs VALUES (0, 0, 0, 0, 0), (1, 0, 0, 0, 0);
CREATE TABLE commits (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, probes INTEGER NOT NULL) STRICT;
INSERT INTO commits VALUES (1, 0, 0);
CREATE TABLE entries (id INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, fields BLOB NOT NULL) STRICT;
CREATE TABLE dead_letters (id INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, fields BLOB NOT NULL) STRICT;
CREATE TABLE dedupe (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, digest BLOB NOT NULL, remembered_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX dedupe_key ON dedupe (key);
CREATE TABLE consumer_groups (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last_delivered INTEGER NOT NULL, read INTEGER NOT NULL,
    pending INTEGER NOT NULL
) STRICT;
CREATE TABLE consumers (
    id INTEGER PRIMARY KEY, group_id INTEGER NOT NULL, name TEXT NOT NULL, seen INTEGER NOT NULL, UNIQUE (group_id, name)
) STRICT;
CREATE TABLE pending (
    group_id INTEGER NOT NULL, id INTEGER NOT NULL, consumer INTEGER NOT NULL, delivered_at INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, PRIMARY KEY (group_id, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE attempts (
    group_name TEXT NOT NULL, id INTEGER NOT NULL, failed INTEGER NOT NULL, unfinished INTEGER NOT NULL,
    PRIMARY KEY (group_name, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (id INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, fields BLOB NOT NULL) STRICT;
";

/// Numbers of shops by domain. Made when it is first needed: files of older releases lack it, and those
/// releases leave it alone.
pub(super) const SHOPS: &str = "
CREATE TABLE IF NOT EXISTS shops (domain TEXT PRIMARY KEY, number TEXT NOT NULL) STRICT, WITHOUT ROWID";
/// Since when groups are paused; likewise made when it is first needed.
pub(super) const PAUSED: &str = "
CREATE TABLE IF NOT EXISTS paused (group_name TEXT PRIMARY KEY, since TEXT NOT NULL) STRICT, WITHOUT ROWID";
/// Records of minutes by their place in a day; likewise.
pub(super) const MINUTES: &str =
    "CREATE TABLE IF NOT EXISTS minutes (place INTEGER PRIMARY KEY, record TEXT NOT NULL) STRICT";
/// Tables that version 2 added.
const TABLES_2: &str = "
CREATE TABLE checkpoints (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, record TEXT NOT NULL, request TEXT NOT NULL
) STRICT;
";

/// How the file is opened.
const OPTIONS: Options = Options {
    busy: BUSY,
    new_file: "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;",
    connection: "PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -16384;",
};

/// The connection that writes; creates the file, and the tables of an empty one.
pub(super) fn open(path: &Path, left: &mut LeftLog) -> Result<Connection, FileError> {
    let mut version = 0;
    let mut connection = sqlite::open(path, &OPTIONS, left, |connection| {
        version = recognize(connection)?;
        Ok(())
    })?;
    if version < VERSION {
        let transaction = connection.transaction()?;
        if version == 0 {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
        }
        transaction.execute_batch(TABLES_2)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// The version of the file, 0 where it is new; if not, it is one that this release can use.
pub(super) fn recognize(connection: &Connection) -> Result<i64, FileError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = tables == 0;
    if !is_new && application != APPLICATION {
        let what = "the file is another program's database: choose another data folder";
        return Err(FileError::Foreign(what.to_owned()));
    }
    if version > VERSION {
        return Err(FileError::Foreign(format!(
            "the file is of a newer release (schema {version}): run that release, or choose another data folder"
        )));
    }
    if !is_new {
        check_tables(connection, version)?;
    }
    Ok(if is_new { 0 } else { version })
}

/// Compares the definitions of the tables with ours. `sqlite_schema` can be damaged as any other
/// table, and the errors that follow from that would look like mistakes of this program.
fn check_tables(connection: &Connection, version: i64) -> Result<(), FileError> {
    const TABLE: &str = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL";
    const IS_THERE: &str = "SELECT 1 FROM sqlite_schema WHERE type = ?1 AND name = ?2 AND sql = ?3";
    let model = Connection::open_in_memory()?;
    model.execute_batch(TABLES)?;
    if version >= 2 {
        model.execute_batch(TABLES_2)?;
    }
    let mut tables = model.prepare(TABLE)?;
    let mut tables = tables.query([])?;
    let mut is_there = connection.prepare(IS_THERE)?;
    while let Some(row) = tables.next()? {
        let table: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        if !is_there.exists(table)? {
            return Err(FileError::Damaged(
                "the definitions of its tables are damaged".to_owned(),
            ));
        }
    }
    Ok(())
}
