//! Figures of the stream: those after the last commit, known without a read of the file, and the
//! report for health.

use std::time::Duration;

use rusqlite::Connection;

use super::clock;
use super::group::Group;
use super::logs::LogCounters;
use super::row::id_of;
use crate::sqlite::Moved;
use crate::stream::{ConsumerReport, GroupReport, REPLAY_CONSUMER, StreamReport};

const FIRST_PENDING: &str = "SELECT MIN(id) FROM pending WHERE group_id = ?1";
const FIRST_UNREAD: &str = "SELECT MIN(id) FROM entries WHERE id > ?1";
const FIRST_DEAD_LETTER: &str = "SELECT MIN(id) FROM dead_letters";
const GROUPS: &str = "
SELECT name, pending, last_delivered, added - read,
    (SELECT MIN(id) FROM pending WHERE group_id = consumer_groups.id),
    (SELECT MIN(id) FROM entries WHERE entries.id > last_delivered)
FROM consumer_groups, logs WHERE log = 0 ORDER BY name";
const CONSUMERS: &str = "
SELECT consumers.name, seen, (SELECT COUNT(*) FROM pending WHERE group_id = consumer_groups.id AND consumer = consumers.id)
FROM consumers, consumer_groups WHERE group_id = consumer_groups.id AND consumer_groups.name = ?1 ORDER BY consumers.name";

/// The figures of a stream as of its last commit; the backlog is that of the group it was opened
/// with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries in the stream.
    pub length: u64,
    /// Bytes of both logs, with what each row costs beside its fields.
    pub bytes: u64,
    /// Entries that the group has not acked.
    pub backlog: u64,
    /// Of these, the ones that a consumer has.
    pub(super) pending: u64,
    /// Unix time of the oldest of those, milliseconds.
    pub oldest_ms: Option<u64>,
    /// Entries and dead letters lost to damage since the stream was opened, as far as their number
    /// is known.
    pub lost: u64,
    /// Losses since then whose number is not known, or only known to be at most what `lost` counts
    /// of them.
    pub losses_unknown: u64,
    /// Why the file's name no longer leads to it; it accepts no writes then.
    pub(super) moved: Option<Moved>,
    /// Entries in the dead letters.
    pub(super) dead_letters: u64,
    /// The newest row id of either log.
    pub(super) newest: i64,
    /// The newest row id of the stream; a change wakes readers. A count would not do: a stream that
    /// was emptied may reach it again.
    pub(super) last_id: i64,
    /// How often a file was opened: after damage another one, which wakes readers too.
    pub(super) file: u64,
}

impl Stats {
    /// Whether the file was opened at all. Before, the other figures mean nothing.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.file > 0
    }

    /// Whether the file, or its log, was removed or replaced while it is open: it accepts no writes
    /// then.
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

    /// Entries not acked, and dead letters: what is lost with the file.
    pub(super) fn held(&self) -> u64 {
        self.backlog + self.dead_letters
    }

    /// What a commit leaves behind; the other figures have their default. A missing group has read
    /// nothing.
    pub(super) fn read(connection: &Connection, group: &str) -> rusqlite::Result<Self> {
        let logs @ [stream, dead_letters] = LogCounters::read(connection)?;
        let group = Group::find(connection, group)?;
        let (unread, pending) = group.map_or((stream.length, 0), |group| group.backlog(&stream));
        let first = |sql: &str, key: i64| -> rusqlite::Result<Option<i64>> {
            connection.prepare_cached(sql)?.query_row([key], |row| row.get(0))
        };
        let first_pending = first(FIRST_PENDING, group.map_or(0, |group| group.id))?;
        let first_unread = first(FIRST_UNREAD, group.map_or(0, |group| group.last_delivered))?;
        let oldest = [first_pending, first_unread].into_iter().flatten().min();
        Ok(Self {
            length: count(stream.length),
            bytes: count(logs.iter().map(|log| log.bytes).sum()),
            backlog: count(unread + pending),
            pending: count(pending),
            oldest_ms: oldest.map(|row| id_of(row).ms),
            dead_letters: count(dead_letters.length),
            newest: stream.last_id.max(dead_letters.last_id),
            last_id: stream.last_id,
            ..Self::default()
        })
    }

    /// These figures after a commit, which left `read` behind.
    pub(super) fn after(&self, read: Self) -> Self {
        Self {
            lost: self.lost,
            losses_unknown: self.losses_unknown,
            moved: self.moved,
            file: self.file,
            ..read
        }
    }
}

/// The report of one moment, without caps. `idle` returns how long a consumer has been silent that
/// was last seen at that reading of the steady clock.
pub(super) fn report(
    connection: &Connection,
    group: &str,
    idle: impl Fn(&str, i64) -> Duration,
) -> rusqlite::Result<StreamReport> {
    let [stream, dead_letters] = LogCounters::read(connection)?;
    let mut query = connection.prepare_cached(FIRST_DEAD_LETTER)?;
    let mut report = StreamReport {
        length: count(stream.length),
        entries_added: Some(count(stream.added)),
        dead_letters: count(dead_letters.length),
        dead_letters_added: Some(count(dead_letters.added)),
        oldest_dead_letter: age(query.query_row([], |row| row.get(0))?),
        last_id: (stream.last_id > 0).then(|| id_of(stream.last_id)),
        ..StreamReport::default()
    };
    add_groups(connection, group, &mut report)?;
    let mut query = connection.prepare_cached(CONSUMERS)?;
    let consumers = query.query_map([group], |row| {
        let name: String = row.get(0)?;
        Ok(ConsumerReport {
            idle: idle(&name, row.get(1)?),
            pending: count(row.get(2)?),
            name,
        })
    })?;
    report.consumers = consumers.collect::<Result<_, _>>()?;
    report.consumers.retain(|consumer| consumer.name != REPLAY_CONSUMER);
    Ok(report)
}

/// Age of an entry by the wall clock, which gives ids.
fn age(row: Option<i64>) -> Option<Duration> {
    row.map(|row| Duration::from_millis(clock::wall().saturating_sub(id_of(row).ms)))
}

fn add_groups(connection: &Connection, ours: &str, report: &mut StreamReport) -> rusqlite::Result<()> {
    let mut query = connection.prepare_cached(GROUPS)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (name, last): (String, i64) = (row.get(0)?, row.get(2)?);
        let (pending, unread): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
        let after = id_of(last + 1);
        let is_ours = name == ours;
        if is_ours {
            report.oldest_pending = age(pending);
            report.oldest_backlog = age([pending, unread].into_iter().flatten().min());
        }
        report.groups.push(GroupReport {
            name,
            ours: is_ours,
            pending: count(row.get(1)?),
            lag: Some(count(row.get(3)?)),
            last_delivered: id_of(last),
            needs_from: pending.map_or(after, |first| id_of(first).min(after)),
        });
    }
    Ok(())
}

/// A count as SQLite holds it.
fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
