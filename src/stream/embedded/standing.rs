//! Where the stream stands after a commit, known without asking the file.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::clock;
use super::encoding::id_of;

/// Figures of the last commit, as far as our group is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Entries in the stream.
    pub length: u64,
    /// Bytes of both logs, their keys included.
    pub bytes: u64,
    /// Entries that our group has not acked.
    pub backlog: u64,
    /// Unix time of the oldest of those, milliseconds.
    pub oldest_ms: Option<u64>,
    /// Counts appends and whatever else may give a reader something to read.
    pub(super) arrivals: u64,
    /// Which file it is; counts up when a damaged one was replaced.
    pub(super) file: u64,
}

const LOG: &str = "SELECT added, length, (SELECT SUM(bytes) FROM logs) FROM logs WHERE log = 0";
const GROUP: &str = "SELECT id, last_delivered, read, pending FROM consumer_groups WHERE name = ?1";
const FIRST_PENDING: &str = "SELECT MIN(id) FROM pending WHERE group_id = ?1";
const FIRST_UNREAD: &str = "SELECT MIN(id) FROM entries WHERE id > ?1";

impl Standing {
    /// Age of the oldest entry that our group has not acked.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        self.oldest_ms
            .map(|ms| Duration::from_millis(clock::wall().saturating_sub(ms)))
    }

    /// Reads them; a missing group has acked nothing.
    pub(super) fn read(connection: &Connection, group: &str) -> rusqlite::Result<Self> {
        let (added, length, bytes) = connection
            .prepare_cached(LOG)?
            .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))?;
        let ours = connection
            .prepare_cached(GROUP)?
            .query_row([group], |row| {
                Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let (id, last_delivered, read, pending) = ours.unwrap_or((0, 0, added.saturating_sub(length), 0));
        let first = |sql: &str, key: i64| -> rusqlite::Result<Option<i64>> {
            connection.prepare_cached(sql)?.query_row([key], |row| row.get(0))
        };
        let oldest = [first(FIRST_PENDING, id)?, first(FIRST_UNREAD, last_delivered)?];
        Ok(Self {
            length: count(length),
            bytes: count(bytes),
            backlog: count(added - read + pending),
            oldest_ms: oldest.into_iter().flatten().min().map(|row| id_of(row).ms),
            arrivals: count(added),
            file: 0,
        })
    }
}

/// A count as SQLite holds it.
pub(super) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
