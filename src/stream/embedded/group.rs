//! Consumer groups: reading, refreshing and acking entries, the record of attempts, and members.
//!
//! Invariants: an entry is delivered to one member and is pending from then on, in one transaction;
//! a damaged row is delivered to none, and counted as lost.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::logs::{self, LogCounters, Session};
use super::row::{id_of, row_of, unpack};
use crate::stream::{AttemptStep, Attempts, Delivered, Destination, PAGE_BYTES, Refreshed, StreamId};

const CREATE: &str = "INSERT INTO consumer_groups (name, last_delivered, read, pending)
    SELECT ?1, 0, added - length, 0 FROM logs WHERE log = 0";
const FIND: &str = "SELECT id, last_delivered, read, pending FROM consumer_groups WHERE name = ?1";
const UNREAD: &str = "SELECT id, checksum, fields FROM entries WHERE id > ?1 ORDER BY id LIMIT ?2";
const DELIVER: &str =
    "INSERT INTO pending (group_id, id, consumer, delivered_at, deliveries) VALUES (?1, ?2, ?3, ?4, 1)
    ON CONFLICT (group_id, id) DO NOTHING";
const DELIVER_AGAIN: &str =
    "UPDATE pending SET consumer = ?3, delivered_at = ?4, deliveries = 1 WHERE group_id = ?1 AND id = ?2";
const ADVANCE: &str =
    "UPDATE consumer_groups SET last_delivered = ?2, read = read + ?3, pending = pending + ?4 WHERE id = ?1";
const CONSUMER: &str = "SELECT id FROM consumers WHERE group_id = ?1 AND name = ?2";
const SEEN: &str = "INSERT INTO consumers (group_id, name, seen) VALUES (?1, ?2, ?3)
    ON CONFLICT (group_id, name) DO UPDATE SET seen = excluded.seen RETURNING id";
const OWNER: &str = "SELECT consumer FROM pending WHERE group_id = ?1 AND id = ?2";
const IN_STREAM: &str = "SELECT 1 FROM entries WHERE id = ?1";
const REFRESH: &str = "UPDATE pending SET delivered_at = ?3 WHERE group_id = ?1 AND id = ?2";
const ACK: &str = "DELETE FROM pending WHERE group_id = ?1 AND id = ?2";
const ADD_PENDING: &str = "UPDATE consumer_groups SET pending = pending + ?2 WHERE id = ?1";
const ATTEMPTS: &str = "SELECT failed, unfinished FROM attempts WHERE group_name = ?1 AND id = ?2";
const RECORD: &str = "INSERT OR REPLACE INTO attempts (group_name, id, failed, unfinished) VALUES (?1, ?2, ?3, ?4)";
const REMOVE_ATTEMPTS: &str = "DELETE FROM attempts WHERE group_name = ?1 AND id = ?2";
const REMOVE_KEY: &str = "DELETE FROM dedupe WHERE id = ?1";
const SKIP_UNREAD: &str = "UPDATE consumer_groups SET read = read + 1 WHERE last_delivered < ?1";
const WITHOUT_PENDING: &str = "SELECT id, name, seen FROM consumers WHERE group_id = ?1
    AND NOT EXISTS (SELECT 1 FROM pending WHERE group_id = ?1 AND consumer = consumers.id)";
const REMOVE_CONSUMER: &str = "DELETE FROM consumers WHERE id = ?1";

/// A group's row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) id: i64,
    pub(super) last_delivered: i64,
    /// Entries that it was delivered or can never get.
    read: i64,
    pending: i64,
}

impl Group {
    /// `None` where it is missing.
    pub(super) fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        let mut find = connection.prepare_cached(FIND)?;
        let found = find.query_row([name], |row| {
            Ok(Self {
                id: row.get(0)?,
                last_delivered: row.get(1)?,
                read: row.get(2)?,
                pending: row.get(3)?,
            })
        });
        found.optional()
    }

    /// Creates a group that is missing, at 0, so that what was appended before is read too.
    pub(super) fn create(session: &Session<'_>, name: &str) -> rusqlite::Result<Self> {
        session.execute(CREATE, [name])?;
        session.created_groups.borrow_mut().push(name.to_owned());
        Self::find(session.connection, name)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    pub(super) fn find_or_create(session: &Session<'_>, name: &str) -> rusqlite::Result<Self> {
        match Self::find(session.connection, name)? {
            Some(group) => Ok(group),
            None => Self::create(session, name),
        }
    }

    /// Entries not delivered yet, and pending ones. Both are below 0 only in a damaged file.
    pub(super) fn backlog(self, stream: &LogCounters) -> (i64, i64) {
        (stream.added - self.read, self.pending)
    }

    /// Adds to its count of pending entries.
    pub(super) fn add_pending(self, session: &Session<'_>, entries: i64) -> rusqlite::Result<()> {
        if entries != 0 {
            session.execute(ADD_PENDING, [self.id, entries])?;
        }
        Ok(())
    }

    /// Notes that a member is active, and adds one that is new. Returns its id.
    pub(super) fn seen(self, session: &Session<'_>, consumer: &str) -> rusqlite::Result<i64> {
        let mut seen = session.connection.prepare_cached(SEEN)?;
        seen.query_row(params![self.id, consumer, session.now], |row| row.get(0))
    }

    /// The id of a member, where there is one of that name.
    pub(super) fn member(self, session: &Session<'_>, consumer: &str) -> rusqlite::Result<Option<i64>> {
        let mut find = session.connection.prepare_cached(CONSUMER)?;
        find.query_row(params![self.id, consumer], |row| row.get(0)).optional()
    }
}

/// Delivers entries that no member was given yet; `None` where the group was missing, and was
/// created.
pub(super) fn read(
    session: &Session<'_>,
    group: &str,
    consumer: &str,
    count: usize,
) -> rusqlite::Result<Option<Vec<Delivered>>> {
    let Some(group) = Group::find(session.connection, group)? else {
        Group::create(session, group)?;
        return Ok(None);
    };
    let mut delivered = Vec::new();
    let mut damaged = Vec::new();
    let (mut last, mut rows, mut bytes) = (group.last_delivered, 0_i64, 0);
    {
        let mut unread = session.connection.prepare_cached(UNREAD)?;
        let mut unread = unread.query([group.last_delivered, i64::try_from(count.max(1)).unwrap_or(i64::MAX)])?;
        while let Some(row) = unread.next()? {
            let (id, checksum, blob) = (row.get(0)?, row.get(1)?, row.get_ref(2)?.as_bytes()?);
            (last, rows, bytes) = (id, rows + 1, bytes + blob.len());
            match unpack(Destination::Stream, id, blob, checksum) {
                Some(entry) => delivered.push(Delivered {
                    entry,
                    deliveries: 1,
                    attempts: Attempts::default(),
                }),
                None => damaged.push(id),
            }
            if bytes > PAGE_BYTES {
                break;
            }
        }
    }
    if rows == 0 {
        if group.member(session, consumer)?.is_none() {
            group.seen(session, consumer)?;
        }
        return Ok(Some(delivered));
    }
    let member = group.seen(session, consumer)?;
    let mut pending = 0;
    for id in delivered.iter().filter_map(|one| row_of(one.entry.id)) {
        let row = [group.id, id, member, session.now];
        // An entry may be pending already where the group was moved back.
        match session.execute(DELIVER, row)? {
            0 => drop(session.execute(DELIVER_AGAIN, row)?),
            _ => pending += 1,
        }
    }
    session.execute(ADVANCE, [group.id, last, rows, pending])?;
    for id in damaged {
        lose(session, id)?;
        session.damaged.borrow_mut().push(id_of(id));
    }
    Ok(Some(delivered))
}

/// Removes an entry that cannot be read, where it is not gone already. Groups that have it pending
/// find it gone; others never get it. Its dedupe key is removed, so that a sender who sends it
/// again heals the loss.
pub(super) fn lose(session: &Session<'_>, id: i64) -> rusqlite::Result<()> {
    session.execute(REMOVE_KEY, [id])?;
    if logs::remove(session, Destination::Stream, id)? {
        session.execute(SKIP_UNREAD, [id])?;
    }
    Ok(())
}

/// Resets the idle time of entries that are still the consumer's.
pub(super) fn refresh(
    session: &Session<'_>,
    group: &str,
    consumer: &str,
    ids: &[StreamId],
) -> rusqlite::Result<Refreshed> {
    let mut refreshed = Refreshed::default();
    let Some(group) = Group::find(session.connection, group)? else {
        Group::create(session, group)?;
        // Without a group no entry can have become another consumer's.
        refreshed.held.extend(ids);
        return Ok(refreshed);
    };
    let member = group.member(session, consumer)?;
    let mut owner = session.connection.prepare_cached(OWNER)?;
    let mut in_stream = session.connection.prepare_cached(IN_STREAM)?;
    for &id in ids {
        let Some(row) = row_of(id) else {
            refreshed.held.push(id);
            continue;
        };
        let owner = owner
            .query_row([group.id, row], |found| found.get::<_, i64>(0))
            .optional()?;
        match (owner, in_stream.exists([row])?) {
            (Some(_), _) if owner != member => {}
            (Some(_), true) => {
                session.execute(REFRESH, [group.id, row, session.now])?;
                refreshed.held.push(id);
            }
            (Some(_), false) => {
                session.execute(ACK, [group.id, row])?;
                lose(session, row)?;
                refreshed.gone.push(id);
            }
            (None, true) => {}
            (None, false) => refreshed.held.push(id),
        }
    }
    group.add_pending(session, -i64::try_from(refreshed.gone.len()).unwrap_or(i64::MAX))?;
    Ok(refreshed)
}

/// Takes entries off the pending list, and removes the record of attempts of `tried`. Returns how
/// many were pending.
pub(super) fn ack(session: &Session<'_>, name: &str, ids: &[StreamId], tried: &[StreamId]) -> rusqlite::Result<u64> {
    for id in tried.iter().copied().filter_map(row_of) {
        session.execute(REMOVE_ATTEMPTS, params![name, id])?;
    }
    let Some(group) = Group::find(session.connection, name)? else {
        return Ok(0);
    };
    let mut ack = session.connection.prepare_cached(ACK)?;
    let mut acked = 0;
    for id in ids.iter().copied().filter_map(row_of) {
        acked += ack.execute([group.id, id])?;
    }
    group.add_pending(session, -i64::try_from(acked).unwrap_or(i64::MAX))?;
    Ok(acked as u64)
}

/// Writes a step into the record of an entry's attempts.
pub(super) fn record(session: &Session<'_>, group: &str, id: i64, step: AttemptStep) -> rusqlite::Result<Attempts> {
    let mut find = session.connection.prepare_cached(ATTEMPTS)?;
    let found = find.query_row(params![group, id], |row| {
        Ok(Attempts {
            failed: row.get(0)?,
            unfinished: row.get(1)?,
        })
    });
    let Attempts { failed, unfinished } = found.optional()?.unwrap_or_default();
    let (failed, unfinished) = match step {
        AttemptStep::Begin(count) => (failed, unfinished.max(count)),
        AttemptStep::Failed(count) => (failed.max(count), 0),
        AttemptStep::Spared => (failed, 0),
    };
    session.execute(RECORD, params![group, id, failed, unfinished])?;
    Ok(Attempts { failed, unfinished })
}

/// Whether an entry is in the stream and not pending with any member of the group.
pub(super) fn is_settled(session: &Session<'_>, name: &str, id: i64) -> rusqlite::Result<bool> {
    if let Some(group) = Group::find(session.connection, name)?
        && session.connection.prepare_cached(OWNER)?.exists([group.id, id])?
    {
        return Ok(false);
    }
    session.connection.prepare_cached(IN_STREAM)?.exists([id])
}

/// Removes members that have nothing pending and satisfy `is_silent`, which gets their name and
/// when they were last seen.
pub(super) fn remove_silent(
    session: &Session<'_>,
    name: &str,
    is_silent: impl Fn(&str, i64) -> bool,
) -> rusqlite::Result<Vec<String>> {
    let Some(group) = Group::find(session.connection, name)? else {
        return Ok(Vec::new());
    };
    let mut query = session.connection.prepare_cached(WITHOUT_PENDING)?;
    let members = query.query_map([group.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let members: Vec<(i64, String, i64)> = members.collect::<Result<_, _>>()?;
    let mut removed = Vec::new();
    for (id, consumer, seen) in members {
        if is_silent(&consumer, seen) {
            session.execute(REMOVE_CONSUMER, [id])?;
            removed.push(consumer);
        }
    }
    Ok(removed)
}
