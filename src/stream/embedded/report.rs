//! What health needs to know, read in one snapshot.

use std::time::Duration;

use rusqlite::Connection;

use super::clock;
use super::row::id_of;
use super::stats::count;
use crate::stream::{ConsumerReport, GroupReport, REPLAY_CONSUMER, StreamId, StreamReport};

const LOGS: &str = "SELECT length, added, last_id FROM logs ORDER BY log";
const FIRST_LETTER: &str = "SELECT MIN(id) FROM dead_letters";
const GROUPS: &str = "
SELECT name, pending, last_delivered, added - read,
    (SELECT MIN(id) FROM pending WHERE group_id = consumer_groups.id),
    (SELECT MIN(id) FROM entries WHERE entries.id > last_delivered)
FROM consumer_groups, logs WHERE log = 0 ORDER BY name";
const CONSUMERS: &str = "
SELECT consumers.name, seen, (SELECT COUNT(*) FROM pending WHERE group_id = consumer_groups.id AND consumer = consumers.id)
FROM consumers, consumer_groups WHERE group_id = consumer_groups.id AND consumer_groups.name = ?1 ORDER BY consumers.name";

/// Figures of one moment; caps are for the caller to fill in. `idle` tells how long a consumer has been silent that was
/// last seen at that reading of the clock.
pub(super) fn report(
    connection: &Connection,
    group: &str,
    idle: impl Fn(&str, u64) -> Duration,
) -> rusqlite::Result<StreamReport> {
    let mut query = connection.prepare_cached(LOGS)?;
    let mut logs = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut next = || logs.next().unwrap_or(Err(rusqlite::Error::QueryReturnedNoRows));
    let (length, added, last): (i64, i64, i64) = next()?;
    let (dead_letters, letters_added, _) = next()?;
    let first_letter = connection
        .prepare_cached(FIRST_LETTER)?
        .query_row([], |row| row.get(0))?;
    let mut report = StreamReport {
        length: count(length),
        entries_added: Some(count(added)),
        dead_letters: count(dead_letters),
        dead_letters_added: Some(count(letters_added)),
        oldest_dead_letter: age(first_letter),
        last_id: (last > 0).then(|| id_of(last)),
        ..StreamReport::default()
    };
    groups(connection, group, &mut report)?;
    let mut query = connection.prepare_cached(CONSUMERS)?;
    let consumers = query.query_map([group], |row| {
        let (name, seen): (String, i64) = (row.get(0)?, row.get(1)?);
        Ok(ConsumerReport {
            idle: idle(&name, count(seen)),
            pending: count(row.get(2)?),
            name,
        })
    })?;
    report.consumers = consumers.collect::<Result<_, _>>()?;
    report.consumers.retain(|consumer| consumer.name != REPLAY_CONSUMER);
    Ok(report)
}

/// Of an entry, by the clock that gives ids.
fn age(row: Option<i64>) -> Option<Duration> {
    row.map(|row| Duration::from_millis(clock::wall().saturating_sub(id_of(row).ms)))
}

fn groups(connection: &Connection, ours: &str, report: &mut StreamReport) -> rusqlite::Result<()> {
    let mut query = connection.prepare_cached(GROUPS)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (name, last): (String, i64) = (row.get(0)?, row.get(2)?);
        let (pending, unread): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
        let after: StreamId = id_of(last + 1);
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
