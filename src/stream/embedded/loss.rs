//! What is lost with a damaged file: the entries that our group has not acked, and all dead
//! letters.
//!
//! Their number is in two rows (of `logs` and `consumer_groups`), which mostly outlive damage
//! elsewhere. Where they do not, what is left of the tables is a bound; where nothing can be read,
//! the number is unknown.

use std::path::Path;

use rusqlite::Connection;

use super::clock;
use super::group::Group;
use super::logs::LogCounters;
use super::row::row_at;
use crate::sqlite::{ErrorCause, LossCount, cause, open_damaged};

const ROWS: &str = "SELECT (SELECT COUNT(*) FROM entries) + (SELECT COUNT(*) FROM dead_letters)";
/// How far a clock may have been ahead when an id was given, milliseconds: an id beyond that is
/// damaged.
const LARGEST_LEAD: u64 = 86_400_000;

/// What is lost, and what the next file needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileLoss {
    pub(super) count: LossCount,
    /// The newest row id of either log, 0 where it is not known: no id is given twice.
    pub(super) newest: i64,
}

impl FileLoss {
    /// What can be read in a damaged file.
    ///
    /// # Errors
    /// It cannot be read for now, which says nothing of the file.
    pub(super) fn read(path: &Path, group: &str) -> rusqlite::Result<Self> {
        let unknown = Self {
            count: LossCount::Unknown,
            newest: 0,
        };
        let connection = match open_damaged(path) {
            Ok(connection) => connection,
            // There may be a log without a file.
            Err(_) if !path.exists() => return Ok(unknown),
            Err(error) => return Err(error),
        };
        let counted = match counted(&connection, group) {
            Err(error) if is_damage(&error) => bound(&connection).map(|count| Self { count, ..unknown }),
            counted => counted,
        };
        match counted {
            Err(error) if is_damage(&error) => Ok(unknown),
            counted => counted,
        }
    }
}

/// Tables that are not found are damaged too.
fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(cause(error), ErrorCause::Damaged | ErrorCause::Statement)
}

/// The number by the counters.
fn counted(connection: &Connection, group: &str) -> rusqlite::Result<FileLoss> {
    let [stream, dead_letters] = LogCounters::read(connection)?;
    // A missing group has read nothing.
    let group = Group::find(connection, group)?;
    let (unread, pending) = group.map_or((stream.length, 0), |group| group.backlog(&stream));
    let is_sound = [stream.length, dead_letters.length, unread, pending]
        .iter()
        .all(|count| *count >= 0)
        && unread + pending <= stream.length;
    let latest = row_at(clock::wall().saturating_add(LARGEST_LEAD));
    let newest = stream.last_id.max(dead_letters.last_id);
    Ok(FileLoss {
        count: if is_sound {
            LossCount::Exactly((unread + pending + dead_letters.length).unsigned_abs())
        } else {
            bound(connection)?
        },
        newest: if newest <= latest { newest } else { 0 },
    })
}

/// All rows, acked or not.
fn bound(connection: &Connection) -> rusqlite::Result<LossCount> {
    let rows: i64 = connection.query_row(ROWS, [], |row| row.get(0))?;
    Ok(LossCount::AtMost(rows.unsigned_abs()))
}
