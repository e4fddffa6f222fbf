//! The figures of the stream after its last commit, known without a read of the file.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::clock;
use super::row::id_of;
use crate::sqlite::Moved;

/// The figures of a stream as of its last commit; the backlog is that of the group it was opened with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries in the stream.
    pub length: u64,
    /// Bytes of both logs, with what each row costs beside its fields.
    pub bytes: u64,
    /// Entries that the group has not acked.
    pub backlog: u64,
    /// Unix time of the oldest of those, milliseconds.
    pub oldest_ms: Option<u64>,
    /// Entries and dead letters lost to damage since the stream was opened, as far as their number is known.
    pub lost: u64,
    /// Losses since then whose number is not known, or only known to be at most what `lost` counts of them.
    pub losses_unknown: u64,
    /// The file's name no longer leads to it: it takes nothing.
    pub(super) moved: Option<Moved>,
    /// Entries in the dead letters.
    pub(super) dead_letters: u64,
    /// The newest id of either log.
    pub(super) newest: i64,
    /// The newest entry ever: a change wakes readers. Not a count, which a stream that was emptied may reach again.
    pub(super) last_id: i64,
    /// How often a file was opened: after damage another one, which wakes them too.
    pub(super) file: u64,
}

impl Stats {
    /// Whether the file was opened at all. Before, the other figures mean nothing.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.file > 0
    }

    /// Whether the file, or its log, was removed or replaced while it is open: it takes nothing then.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        self.moved.is_some()
    }

    /// Age of the oldest entry that the group has not acked.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        self.oldest_ms
            .map(|ms| Duration::from_millis(clock::wall().saturating_sub(ms)))
    }

    /// As it was, but for what a commit changes.
    pub(super) fn after(&self, commit: &CommitStats) -> Self {
        Self {
            length: count(commit.length),
            bytes: count(commit.bytes),
            backlog: count(commit.backlog),
            oldest_ms: commit.oldest.map(|row| id_of(row).ms),
            dead_letters: count(commit.dead_letters),
            last_id: commit.last_id,
            newest: commit.newest,
            ..*self
        }
    }
}

const LOGS: &str = "
SELECT stream.last_id, stream.added, stream.length, stream.bytes + letters.bytes, letters.length,
    MAX(stream.last_id, letters.last_id)
FROM logs AS stream, logs AS letters WHERE stream.log = 0 AND letters.log = 1";
const GROUP: &str = "SELECT id, last_delivered, read, pending FROM consumer_groups WHERE name = ?1";
const FIRST_PENDING: &str = "SELECT MIN(id) FROM pending WHERE group_id = ?1";
const FIRST_UNREAD: &str = "SELECT MIN(id) FROM entries WHERE id > ?1";

/// What a commit leaves behind, as far as our group is concerned. A missing group has read nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CommitStats {
    last_id: i64,
    newest: i64,
    length: i64,
    bytes: i64,
    dead_letters: i64,
    backlog: i64,
    /// The oldest entry that is not acked.
    oldest: Option<i64>,
}

impl CommitStats {
    pub(super) fn read(connection: &Connection, group: &str) -> rusqlite::Result<Self> {
        let mut query = connection.prepare_cached(LOGS)?;
        let (stats, added) = query.query_row([], |row| {
            let stats = Self {
                last_id: row.get(0)?,
                length: row.get(2)?,
                bytes: row.get(3)?,
                dead_letters: row.get(4)?,
                newest: row.get(5)?,
                ..Self::default()
            };
            Ok((stats, row.get::<_, i64>(1)?))
        })?;
        let mut query = connection.prepare_cached(GROUP)?;
        let group = query.query_row([group], |row| {
            let (read, pending): (i64, i64) = (row.get(2)?, row.get(3)?);
            Ok((row.get(0)?, row.get(1)?, added - read + pending))
        });
        let (group, last_delivered, backlog): (i64, i64, i64) = group.optional()?.unwrap_or((0, 0, stats.length));
        let first = |sql: &str, key: i64| -> rusqlite::Result<Option<i64>> {
            connection.prepare_cached(sql)?.query_row([key], |row| row.get(0))
        };
        let (pending, unread) = (first(FIRST_PENDING, group)?, first(FIRST_UNREAD, last_delivered)?);
        Ok(Self {
            backlog,
            oldest: [pending, unread].into_iter().flatten().min(),
            ..stats
        })
    }
}

/// A count as SQLite holds it.
pub(super) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
