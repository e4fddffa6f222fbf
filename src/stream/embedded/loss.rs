//! What is lost with a damaged file.
//!
//! Owns how it is counted: the entries that our group has not acked, and all dead letters. The counts stand in two rows
//! (`logs`, `consumer_groups`), which mostly outlive damage elsewhere. Where they do not, what is left of the tables
//! bounds the number from above; where nothing can be read, it is unknown and called so.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::clock;
use super::row::row_at;
use crate::sqlite::{Cause, Count, cause, open_damaged};

const LOGS: &str = "SELECT length, added, last_id FROM logs ORDER BY log";
const GROUP: &str = "SELECT read, pending FROM consumer_groups WHERE name = ?1";
const ROWS: &str = "SELECT (SELECT COUNT(*) FROM entries) + (SELECT COUNT(*) FROM dead_letters)";
/// How far a clock may have been ahead when an id was given, milliseconds: what says more is damaged.
const LARGEST_LEAD: u64 = 86_400_000;

/// What is lost, and what the next file needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileLoss {
    pub(super) count: Count,
    /// The newest id of either log, 0 where it is not known: no id is given twice.
    pub(super) newest: i64,
}

impl FileLoss {
    const UNKNOWN: Self = Self {
        count: Count::Unknown,
        newest: 0,
    };

    /// What a damaged file still tells.
    ///
    /// # Errors
    /// It cannot be read for now, which says nothing of the file.
    pub(super) fn read(path: &Path, group: &str) -> rusqlite::Result<Self> {
        let connection = match open_damaged(path) {
            Ok(connection) => connection,
            // There may be a log without a file.
            Err(_) if !path.exists() => return Ok(Self::UNKNOWN),
            Err(error) => return Err(error),
        };
        let counted = match told(&connection, group) {
            Err(error) if is_damage(&error) => bounded(&connection).map(|count| Self { count, ..Self::UNKNOWN }),
            told => told,
        };
        match counted {
            Err(error) if is_damage(&error) => Ok(Self::UNKNOWN),
            counted => counted,
        }
    }
}

/// Tables that are not found are damaged too.
fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(cause(error), Cause::Damaged | Cause::Statement)
}

/// What the rows say that have the counts.
fn told(connection: &Connection, group: &str) -> rusqlite::Result<FileLoss> {
    let mut query = connection.prepare(LOGS)?;
    let logs = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let logs: Vec<(i64, i64, i64)> = logs.collect::<Result<_, _>>()?;
    let &[(length, added, last_id), (dead_letters, _, last_letter)] = logs.as_slice() else {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    };
    let group = connection.query_row(GROUP, [group], |row| Ok((row.get(0)?, row.get(1)?)));
    // A group that never was there has read nothing.
    let (read, pending): (i64, i64) = group.optional()?.unwrap_or((added - length, 0));
    let unread = added - read;
    let is_sound = length >= 0 && dead_letters >= 0 && unread >= 0 && pending >= 0 && unread + pending <= length;
    let latest = row_at(clock::wall().saturating_add(LARGEST_LEAD));
    let newest = last_id.max(last_letter);
    Ok(FileLoss {
        count: if is_sound {
            Count::Exactly((unread + pending + dead_letters).unsigned_abs())
        } else {
            bounded(connection)?
        },
        newest: if newest <= latest { newest } else { 0 },
    })
}

/// All that is there, acked or not.
fn bounded(connection: &Connection) -> rusqlite::Result<Count> {
    let rows: i64 = connection.query_row(ROWS, [], |row| row.get(0))?;
    Ok(Count::AtMost(rows.unsigned_abs()))
}
