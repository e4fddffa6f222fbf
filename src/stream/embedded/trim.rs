//! Trim: removes entries that every group has acked.
//!
//! Invariants: never an entry that any group still needs, and none while our own group is missing:
//! it is going to be created at 0, so it needs everything.

use rusqlite::Connection;

use super::logs::{Session, count_removed};
use crate::stream::{Destination, Trimmed};

/// Entries removed in one call from the old end; bounds how long appends wait for it.
const MOST: i64 = 5_000;
/// Entries looked at one by one in one call.
const WALK: i64 = 256;

/// Place, lag and oldest pending entry of each group, and whether it is ours.
const GROUPS: &str = "
SELECT name = ?1, last_delivered, added - read, pending,
    (SELECT MIN(id) FROM pending WHERE group_id = consumer_groups.id), length
FROM consumer_groups, logs WHERE log = 0";
/// `LENGTH` is in the inner query, so that no blob is read.
const PREFIX: &str = "
SELECT COUNT(*), TOTAL(length), MAX(id) FROM (SELECT id, LENGTH(fields) AS length FROM entries WHERE id < ?1 ORDER BY id LIMIT ?2)";
const REMOVE_PREFIX: &str = "DELETE FROM entries WHERE id <= ?1";
const WALKED: &str = "
SELECT id, length, EXISTS (SELECT 1 FROM consumer_groups, pending WHERE group_id = consumer_groups.id AND pending.id = walked.id)
FROM (SELECT id, LENGTH(fields) AS length FROM entries WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3) AS walked";
const REMOVE: &str = "DELETE FROM entries WHERE id = ?1";
const REMOVE_ATTEMPTS: &str = "DELETE FROM attempts WHERE id <= ?1";
const REMOVE_KEYS: &str = "DELETE FROM dedupe WHERE id <= ?1";
const REMOVE_KEY: &str = "DELETE FROM dedupe WHERE id = ?1";

/// What the groups need, taken together.
struct Need {
    /// The oldest id that any group needs.
    floor: i64,
    /// Every group was delivered everything up to here.
    delivered: i64,
    /// Entries that no group needs and that are beyond what is retained, or too many near the cap.
    excess: i64,
}

impl Need {
    /// `None` where nothing may be removed, or nothing has to be.
    fn find(connection: &Connection, group: &str, retain: u64, cap: u64) -> rusqlite::Result<Option<Self>> {
        let mut query = connection.prepare_cached(GROUPS)?;
        let mut rows = query.query([group])?;
        let (mut has_ours, mut lag, mut pending, mut length) = (false, 0, 0, 0);
        let (mut floor, mut delivered) = (i64::MAX, i64::MAX);
        while let Some(row) = rows.next()? {
            let last: i64 = row.get(1)?;
            has_ours |= row.get::<_, bool>(0)?;
            lag = lag.max(row.get::<_, i64>(2)?);
            pending += row.get::<_, i64>(3)?;
            // A group that was moved back needs entries below its pending ones: hence the smaller
            // of the two.
            let oldest: Option<i64> = row.get(4)?;
            floor = floor.min(last.saturating_add(1)).min(oldest.unwrap_or(i64::MAX));
            delivered = delivered.min(last);
            length = row.get(5)?;
        }
        let bound = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let acked = (length - lag - pending).max(0);
        let excess = (acked - bound(retain)).max(length - bound(cap / 10 * 9 + cap % 10 * 9 / 10));
        Ok((has_ours && excess > 0).then_some(Self {
            floor,
            delivered,
            excess: excess.min(MOST),
        }))
    }
}

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// Acked entries.
    pub(super) acked: u64,
    /// Entries in all, at most.
    pub(super) cap: u64,
    /// Whether a dedupe key outlives its entry.
    pub(super) keys: bool,
}

/// One step of trimming. `cursor` is where the walk behind an old pending entry continues; the new
/// one is returned with what was removed.
pub(super) fn trim(
    session: &Session<'_>,
    group: &str,
    keep: Retention,
    cursor: i64,
) -> rusqlite::Result<(Trimmed, i64)> {
    let Some(need) = Need::find(session.connection, group, keep.acked, keep.cap)? else {
        return Ok((Trimmed::default(), 0));
    };
    let prefix = remove_prefix(session, &need, keep.keys)?;
    if prefix == need.excess {
        let prefix = prefix.unsigned_abs();
        return Ok((Trimmed { prefix, pinned: 0 }, cursor));
    }
    let (pinned, cursor) = walk(session, &need, need.excess - prefix, cursor, keep.keys)?;
    let trimmed = Trimmed {
        prefix: prefix.unsigned_abs(),
        pinned: pinned.unsigned_abs(),
    };
    Ok((trimmed, cursor))
}

fn remove_prefix(session: &Session<'_>, need: &Need, keeps_keys: bool) -> rusqlite::Result<i64> {
    let mut query = session.connection.prepare_cached(PREFIX)?;
    let (count, bytes, last): (i64, f64, Option<i64>) = query.query_row([need.floor, need.excess], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    if let Some(last) = last {
        session.execute(REMOVE_PREFIX, [last])?;
        session.execute(REMOVE_ATTEMPTS, [last])?;
        if !keeps_keys {
            session.execute(REMOVE_KEYS, [last])?;
        }
        #[allow(clippy::cast_possible_truncation, reason = "bytes of a file are far below 2^53")]
        count_removed(session, Destination::Stream, count, bytes as i64)?;
    }
    Ok(count)
}

/// Removes acked entries behind an old pending one, one by one, strictly below what every group was
/// delivered.
fn walk(session: &Session<'_>, need: &Need, most: i64, cursor: i64, keeps_keys: bool) -> rusqlite::Result<(i64, i64)> {
    let mut query = session.connection.prepare_cached(WALKED)?;
    let mut rows = query.query([cursor.max(need.floor), need.delivered, WALK])?;
    let (mut walked, mut bytes, mut next) = (0, 0, cursor);
    let mut acked = Vec::new();
    while let Some(row) = rows.next()? {
        if i64::try_from(acked.len()).unwrap_or(i64::MAX) >= most {
            break;
        }
        let (id, length, is_pending): (i64, i64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        (walked, next) = (walked + 1, id + 1);
        if !is_pending {
            bytes += length;
            acked.push(id);
        }
    }
    drop(rows);
    for id in &acked {
        session.execute(REMOVE, [id])?;
        if !keeps_keys {
            session.execute(REMOVE_KEY, [id])?;
        }
    }
    let count = i64::try_from(acked.len()).unwrap_or(i64::MAX);
    count_removed(session, Destination::Stream, count, bytes)?;
    // From the end the walk starts over: entries that it passed may have been acked since.
    Ok((count, if walked < WALK { 0 } else { next }))
}
