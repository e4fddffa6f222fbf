//! Where the stream stands after a commit, known without asking the file.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::clock;
use super::row::id_of;

/// Where a stream stands, as of its last commit; the backlog is that of the group it was opened with.
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
    /// Entries lost to damage since the stream was opened.
    pub lost: u64,
    /// The newest entry ever: a change wakes readers. Not a count, which a stream that was emptied may reach again.
    pub(super) last_id: i64,
    /// How often a file was opened: after damage another one, which wakes them too.
    pub(super) file: u64,
}

impl Stats {
    /// Whether the file was opened at all; before, the other figures mean nothing.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.file > 0
    }

    /// Age of the oldest entry that the group has not acked.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        self.oldest_ms
            .map(|ms| Duration::from_millis(clock::wall().saturating_sub(ms)))
    }

    /// As it was, but for what a commit changes.
    pub(super) fn after(&self, figures: &CommitStats) -> Self {
        Self {
            length: count(figures.length),
            bytes: count(figures.bytes),
            backlog: count(figures.unread) + figures.pending,
            oldest_ms: figures.oldest.map(|row| id_of(row).ms),
            last_id: figures.last_id,
            ..*self
        }
    }
}

const LOGS: &str = "
SELECT number, stream.last_id, stream.added, stream.length, stream.bytes + letters.bytes, letters.length,
    MAX(stream.last_id, letters.last_id)
FROM commits, logs AS stream, logs AS letters WHERE stream.log = 0 AND letters.log = 1";
const GROUP: &str = "SELECT id, last_delivered, read, pending FROM consumer_groups WHERE name = ?1";
const FIRST_PENDING: &str = "SELECT MIN(id) FROM pending WHERE group_id = ?1";
const FIRST_UNREAD: &str = "SELECT MIN(id) FROM entries WHERE id > ?1";

/// What a commit leaves behind, as far as our group is concerned. A missing group has read nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CommitStats {
    pub(super) commit: i64,
    pub(super) last_id: i64,
    /// The newest id of either log.
    pub(super) newest: i64,
    pub(super) added: i64,
    pub(super) length: i64,
    pub(super) bytes: i64,
    pub(super) letters: i64,
    pub(super) group: i64,
    pub(super) last_delivered: i64,
    pub(super) unread: i64,
    pub(super) pending: u64,
    /// The oldest that is not acked.
    pub(super) oldest: Option<i64>,
}

impl CommitStats {
    pub(super) fn read(connection: &Connection, group: &str) -> rusqlite::Result<Self> {
        let mut query = connection.prepare_cached(LOGS)?;
        let logs = query.query_row([], |row| {
            Ok(Self {
                commit: row.get(0)?,
                last_id: row.get(1)?,
                added: row.get(2)?,
                length: row.get(3)?,
                unread: row.get(3)?,
                bytes: row.get(4)?,
                letters: row.get(5)?,
                newest: row.get(6)?,
                ..Self::default()
            })
        })?;
        let mut query = connection.prepare_cached(GROUP)?;
        let group = query.query_row([group], |row| {
            Ok(Self {
                group: row.get(0)?,
                last_delivered: row.get(1)?,
                unread: logs.added - row.get::<_, i64>(2)?,
                pending: count(row.get(3)?),
                ..logs
            })
        });
        let figures = group.optional()?.unwrap_or(logs);
        let first = |sql: &str, key: i64| -> rusqlite::Result<Option<i64>> {
            connection.prepare_cached(sql)?.query_row([key], |row| row.get(0))
        };
        let pending = first(FIRST_PENDING, figures.group)?;
        let unread = first(FIRST_UNREAD, figures.last_delivered)?;
        Ok(Self {
            oldest: [pending, unread].into_iter().flatten().min(),
            ..figures
        })
    }
}

/// A count as SQLite holds it.
pub(super) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
