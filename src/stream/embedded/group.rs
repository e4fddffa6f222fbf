//! Consumer groups: who was handed out what.
//!
//! Owns a group's place, its members and what they have pending. Invariants: an entry is handed to one member and is
//! pending from then on, in one transaction; a row that is damaged is handed to nobody.

use rusqlite::{Connection, OptionalExtension, params};

use super::append::ROW_BYTES;
use super::row::{id_of, row_of, unpack};
use super::writer_handle::Session;
use crate::stream::{Attempts, Delivered, Destination, Refreshed, Step, StreamId};

/// Bytes of one page of entries: what is beyond comes with the next.
pub(super) const PAGE_BYTES: usize = 32 << 20;

const CREATE: &str = "INSERT INTO consumer_groups (name, last_delivered, read, pending)
    SELECT ?1, 0, added - length, 0 FROM logs WHERE log = 0 ON CONFLICT (name) DO NOTHING";
const FIND: &str = "SELECT id, last_delivered FROM consumer_groups WHERE name = ?1";
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
const IS_THERE: &str = "SELECT 1 FROM entries WHERE id = ?1";
const REFRESH: &str = "UPDATE pending SET delivered_at = ?3 WHERE group_id = ?1 AND id = ?2";
const ACK: &str = "DELETE FROM pending WHERE group_id = ?1 AND id = ?2";
const ACKED: &str = "UPDATE consumer_groups SET pending = pending - ?2 WHERE id = ?1";
const ATTEMPTS: &str = "SELECT failed, unfinished FROM attempts WHERE group_name = ?1 AND id = ?2";
const RECORD: &str = "INSERT OR REPLACE INTO attempts (group_name, id, failed, unfinished) VALUES (?1, ?2, ?3, ?4)";
const FORGET: &str = "DELETE FROM attempts WHERE group_name = ?1 AND id = ?2";
const LOSE_KEY: &str = "DELETE FROM dedupe WHERE id = ?1";
const LOSE: &str = "DELETE FROM entries WHERE id = ?1 RETURNING LENGTH(fields)";
const LOST: &str = "UPDATE logs SET length = length - 1, bytes = MAX(0, bytes - ?1) WHERE log = 0";
const LOST_UNREAD: &str = "UPDATE consumer_groups SET read = read + 1 WHERE last_delivered < ?1";
const SILENT: &str = "SELECT id, name, seen FROM consumers WHERE group_id = ?1
    AND NOT EXISTS (SELECT 1 FROM pending WHERE group_id = ?1 AND consumer = consumers.id)";
const REMOVE: &str = "DELETE FROM consumers WHERE id = ?1";

/// A group's row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) id: i64,
    pub(super) last_delivered: i64,
}

impl Group {
    /// `None` where it is missing.
    pub(super) fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        let mut find = connection.prepare_cached(FIND)?;
        let found = find.query_row([name], |row| {
            Ok(Self {
                id: row.get(0)?,
                last_delivered: row.get(1)?,
            })
        });
        found.optional()
    }

    /// Takes that many off its count of pending entries.
    pub(super) fn settled(self, session: &Session<'_>, entries: i64) -> rusqlite::Result<()> {
        if entries > 0 {
            session.execute(ACKED, [self.id, entries])?;
        }
        Ok(())
    }

    /// The id of a member, who is here now; it joins where it is new.
    pub(super) fn seen(self, session: &Session<'_>, consumer: &str) -> rusqlite::Result<i64> {
        let mut seen = session.connection.prepare_cached(SEEN)?;
        seen.query_row(params![self.id, consumer, signed(session.now)], |row| row.get(0))
    }

    /// The id of a member, where there is one of that name.
    pub(super) fn member(self, session: &Session<'_>, consumer: &str) -> rusqlite::Result<Option<i64>> {
        let mut find = session.connection.prepare_cached(CONSUMER)?;
        find.query_row(params![self.id, consumer], |row| row.get(0)).optional()
    }
}

/// Creates a group where it is missing, at 0, so that what was appended before is read too. Answers whether it did.
pub(super) fn ensure(session: &Session<'_>, name: &str) -> rusqlite::Result<bool> {
    Ok(session.execute(CREATE, [name])? == 1)
}

/// What a read came to.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) delivered: Vec<Delivered>,
    /// The group was missing.
    pub(super) created: bool,
}

/// Hands out entries that no member was given yet.
pub(super) fn read(session: &Session<'_>, group: &str, consumer: &str, count: usize) -> rusqlite::Result<Read> {
    let Some(group) = Group::find(session.connection, group)? else {
        ensure(session, group)?;
        return Ok(Read {
            created: true,
            ..Read::default()
        });
    };
    let mut read = Read::default();
    let mut last = group.last_delivered;
    let (mut rows, mut bytes) = (0_i64, 0);
    let mut damaged = Vec::new();
    {
        let mut unread = session.connection.prepare_cached(UNREAD)?;
        let mut unread = unread.query([group.last_delivered, i64::try_from(count.max(1)).unwrap_or(i64::MAX)])?;
        while let Some(row) = unread.next()? {
            let (id, checksum, blob) = (row.get(0)?, row.get(1)?, row.get_ref(2)?.as_bytes()?);
            (last, rows, bytes) = (id, rows + 1, bytes + blob.len());
            match unpack(Destination::Stream, id, blob, checksum) {
                Some(entry) => read.delivered.push(Delivered {
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
        return Ok(read);
    }
    let member = group.seen(session, consumer)?;
    let mut pending = 0;
    for id in read.delivered.iter().filter_map(|one| row_of(one.entry.id)) {
        let of = [group.id, id, member, signed(session.now)];
        // An entry may be pending already where the group was moved back.
        match session.execute(DELIVER, of)? {
            0 => drop(session.execute(DELIVER_AGAIN, of)?),
            _ => pending += 1,
        }
    }
    session.execute(ADVANCE, [group.id, last, rows, pending])?;
    for id in damaged {
        lose(session, id)?;
        session.damaged.borrow_mut().push(id_of(id));
    }
    Ok(read)
}

/// Removes an entry that cannot be read, if it is not gone already. Groups that have it pending find it gone; others never
/// get it. Its key is forgotten, so that a sender who sends it again heals the loss.
pub(super) fn lose(session: &Session<'_>, id: i64) -> rusqlite::Result<()> {
    session.execute(LOSE_KEY, [id])?;
    let mut lose = session.connection.prepare_cached(LOSE)?;
    let length = lose.query_row([id], |row| row.get::<_, i64>(0)).optional()?;
    if let Some(length) = length {
        session.execute(LOST, [length + ROW_BYTES])?;
        session.execute(LOST_UNREAD, [id])?;
    }
    Ok(())
}

/// Resets the idle time of what is still the consumer's.
pub(super) fn refresh(
    session: &Session<'_>,
    group: &str,
    consumer: &str,
    ids: &[StreamId],
) -> rusqlite::Result<(Refreshed, bool)> {
    let mut refreshed = Refreshed::default();
    let Some(group) = Group::find(session.connection, group)? else {
        ensure(session, group)?;
        // Without a group nothing can have become another's.
        refreshed.held.extend(ids);
        return Ok((refreshed, true));
    };
    let member = group.member(session, consumer)?;
    let mut owner = session.connection.prepare_cached(OWNER)?;
    let mut is_there = session.connection.prepare_cached(IS_THERE)?;
    let mut gone = 0;
    for &id in ids {
        let Some(row) = row_of(id) else {
            refreshed.held.push(id);
            continue;
        };
        let owner = owner
            .query_row([group.id, row], |found| found.get::<_, i64>(0))
            .optional()?;
        let is_there = is_there.exists([row])?;
        match owner {
            Some(_) if owner != member => {}
            Some(_) if is_there => {
                session.execute(REFRESH, [group.id, row, signed(session.now)])?;
                refreshed.held.push(id);
            }
            Some(_) => {
                session.execute(ACK, [group.id, row])?;
                lose(session, row)?;
                gone += 1;
                refreshed.gone.push(id);
            }
            None if is_there => {}
            None => refreshed.held.push(id),
        }
    }
    group.settled(session, gone)?;
    Ok((refreshed, false))
}

/// Takes entries off the pending list, and the records of `tried`; answers how many were pending.
pub(super) fn ack(session: &Session<'_>, name: &str, ids: &[StreamId], tried: &[StreamId]) -> rusqlite::Result<u64> {
    for id in tried.iter().copied().filter_map(row_of) {
        session.execute(FORGET, params![name, id])?;
    }
    let Some(group) = Group::find(session.connection, name)? else {
        return Ok(0);
    };
    let mut ack = session.connection.prepare_cached(ACK)?;
    let mut acked = 0;
    for id in ids.iter().copied().filter_map(row_of) {
        acked += ack.execute([group.id, id])?;
    }
    group.settled(session, i64::try_from(acked).unwrap_or(i64::MAX))?;
    Ok(acked as u64)
}

/// Writes a step into the record of an entry's tries.
pub(super) fn record(session: &Session<'_>, group: &str, id: i64, step: Step) -> rusqlite::Result<Attempts> {
    let mut find = session.connection.prepare_cached(ATTEMPTS)?;
    let found = find.query_row(params![group, id], |row| {
        Ok(Attempts {
            failed: row.get(0)?,
            unfinished: row.get(1)?,
        })
    });
    let Attempts { failed, unfinished } = found.optional()?.unwrap_or_default();
    let attempts = match step {
        Step::Begin(count) => Attempts {
            failed,
            unfinished: unfinished.max(count),
        },
        Step::Failed(count) => Attempts {
            failed: failed.max(count),
            unfinished: 0,
        },
        Step::Spared => Attempts { failed, unfinished: 0 },
    };
    session.execute(RECORD, params![group, id, attempts.failed, attempts.unfinished])?;
    Ok(attempts)
}

/// Ends the record of an entry's tries, and that it is pending.
pub(super) fn settle(session: &Session<'_>, name: &str, id: i64) -> rusqlite::Result<()> {
    session.execute(FORGET, params![name, id])?;
    if let Some(group) = Group::find(session.connection, name)? {
        let acked = session.execute(ACK, [group.id, id])?;
        group.settled(session, i64::try_from(acked).unwrap_or(i64::MAX))?;
    }
    Ok(())
}

/// Whether an entry is pending with anybody in the group, and whether it is in the stream.
pub(super) fn whereabouts(session: &Session<'_>, name: &str, id: i64) -> rusqlite::Result<(bool, bool)> {
    let is_pending = match Group::find(session.connection, name)? {
        Some(group) => session.connection.prepare_cached(OWNER)?.exists([group.id, id])?,
        None => false,
    };
    Ok((is_pending, session.connection.prepare_cached(IS_THERE)?.exists([id])?))
}

/// Removes members that have nothing pending and were last seen, or asked last, before `since`.
pub(super) fn remove_silent(
    session: &Session<'_>,
    name: &str,
    is_silent: impl Fn(&str, u64) -> bool,
) -> rusqlite::Result<Vec<String>> {
    let Some(group) = Group::find(session.connection, name)? else {
        return Ok(Vec::new());
    };
    let mut removed = Vec::new();
    let mut silent = session.connection.prepare_cached(SILENT)?;
    let mut silent = silent.query([group.id])?;
    let mut members = Vec::new();
    while let Some(row) = silent.next()? {
        members.push((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?));
    }
    for (id, consumer, seen) in members {
        if is_silent(&consumer, u64::try_from(seen).unwrap_or_default()) {
            session.execute(REMOVE, [id])?;
            removed.push(consumer);
        }
    }
    Ok(removed)
}

/// A reading of the clock, as SQLite holds it.
pub(super) fn signed(reading: u64) -> i64 {
    i64::try_from(reading).unwrap_or(i64::MAX)
}
