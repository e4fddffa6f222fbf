//! A transaction's session, and the two logs with their counters: appending a row, removing a row.
//!
//! Invariants: ids rise strictly over both logs, whatever the clock does; at a cap nothing is
//! stored and nothing is evicted; the counters change in the transaction that changes the rows.

use std::cell::RefCell;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Params, params};

use super::row::{PackedFields, id_of, row_at, unpack};
use crate::stream::{Appended, Destination, Fields, StreamId};

/// Bytes that a row costs beside its fields: its id, its checksum, and its dedupe key.
const ROW_BYTES: i64 = 80;

const READ: &str = "SELECT last_id, added, length, bytes FROM logs ORDER BY log";
const UPDATE: &str = "UPDATE logs SET last_id = ?2, added = ?3, length = ?4, bytes = ?5 WHERE log = ?1";
const INSERT: [&str; 2] = [
    "INSERT INTO entries (id, checksum, fields) VALUES (?1, ?2, ?3)",
    "INSERT INTO dead_letters (id, checksum, fields) VALUES (?1, ?2, ?3)",
];
const REMOVE: [&str; 2] = [
    "DELETE FROM entries WHERE id = ?1 RETURNING LENGTH(fields)",
    "DELETE FROM dead_letters WHERE id = ?1 RETURNING LENGTH(fields)",
];
const LETTERS: &str = "SELECT id, checksum, fields FROM dead_letters WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3";
const REWRITE_LETTER: &str = "UPDATE dead_letters SET checksum = ?2, fields = ?3 WHERE id = ?1";
/// Letters that are rewritten at once.
const LETTERS_AT_ONCE: usize = 200;
const REMOVED: &str = "UPDATE logs SET length = length - ?2, bytes = MAX(0, bytes - ?3) WHERE log = ?1";

/// What a call has while its transaction is open.
pub(super) struct Session<'a> {
    /// The writing connection.
    pub(super) connection: &'a Connection,
    /// The steady clock's reading, milliseconds.
    pub(super) now: i64,
    /// Unix time, milliseconds.
    pub(super) wall: u64,
    /// Damaged entries that no caller gets to know.
    pub(super) damaged: RefCell<Vec<StreamId>>,
    /// Groups that were missing.
    pub(super) created_groups: RefCell<Vec<String>>,
}

impl Session<'_> {
    /// Runs a statement, prepared once.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(params)
    }
}

/// What an append must not exceed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    /// Entries of the stream, and dead letters.
    pub(super) entries: [u64; 2],
    /// Bytes of both.
    pub(super) bytes: Option<u64>,
}

/// The counters of one log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogCounters {
    /// The newest row id, also after that entry was removed.
    pub(super) last_id: i64,
    /// Entries ever appended.
    pub(super) added: i64,
    /// Entries in the log.
    pub(super) length: i64,
    /// Bytes of those, with [`ROW_BYTES`].
    pub(super) bytes: i64,
}

impl LogCounters {
    /// Those of the stream and of the dead letters. A missing row is damage.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<[Self; 2]> {
        let mut query = connection.prepare_cached(READ)?;
        let mut rows = query.query_map([], |row| {
            Ok(Self {
                last_id: row.get(0)?,
                added: row.get(1)?,
                length: row.get(2)?,
                bytes: row.get(3)?,
            })
        })?;
        let mut next = || rows.next().unwrap_or(Err(rusqlite::Error::QueryReturnedNoRows));
        Ok([next()?, next()?])
    }
}

/// Place of a log in arrays, and its number in the table `logs`.
pub(super) fn index(log: Destination) -> usize {
    match log {
        Destination::Stream => 0,
        Destination::DeadLetters => 1,
    }
}

/// Both logs, open for appends. What is appended counts once they are closed.
pub(super) struct OpenLogs<'a> {
    session: &'a Session<'a>,
    caps: Caps,
    counters: [LogCounters; 2],
    inserts: [CachedStatement<'a>; 2],
}

impl<'a> OpenLogs<'a> {
    pub(super) fn open(session: &'a Session<'a>, caps: Caps) -> rusqlite::Result<Self> {
        let [stream, dead_letters] = INSERT;
        Ok(Self {
            session,
            caps,
            counters: LogCounters::read(session.connection)?,
            inserts: [
                session.connection.prepare_cached(stream)?,
                session.connection.prepare_cached(dead_letters)?,
            ],
        })
    }

    /// The row id of the next entry: the clock's time, or right after the newest where the clock is
    /// not beyond that.
    pub(super) fn next_id(&self) -> i64 {
        let [stream, dead_letters] = &self.counters;
        row_at(self.session.wall).max(stream.last_id.max(dead_letters.last_id) + 1)
    }

    /// Why these fields cannot be appended now.
    pub(super) fn refusal(&self, log: Destination, packed: &PackedFields) -> Option<Appended> {
        if packed.blob.is_empty() {
            return Some(Appended::Refused("an entry needs at least one field".to_owned()));
        }
        let reaches = |value: i64, cap: u64| u64::try_from(value).is_ok_and(|value| value >= cap);
        let bytes = self.counters.iter().map(|log| log.bytes).sum::<i64>() + bytes_of(packed);
        let is_full = reaches(self.counters[index(log)].length, self.caps.entries[index(log)])
            || self.caps.bytes.is_some_and(|cap| reaches(bytes, cap.saturating_add(1)));
        is_full.then_some(Appended::Full)
    }

    /// How many entries more the log takes.
    pub(super) fn room(&self, log: Destination) -> u64 {
        let length = u64::try_from(self.counters[index(log)].length).unwrap_or_default();
        self.caps.entries[index(log)].saturating_sub(length)
    }

    /// Appends, unless there is no room.
    pub(super) fn append(&mut self, log: Destination, packed: &PackedFields) -> rusqlite::Result<Appended> {
        if let Some(refusal) = self.refusal(log, packed) {
            return Ok(refusal);
        }
        let id = self.next_id();
        self.inserts[index(log)].execute(params![id, packed.checksum(log, id), packed.blob])?;
        let counters = &mut self.counters[index(log)];
        counters.last_id = id;
        counters.added += 1;
        counters.length += 1;
        counters.bytes += bytes_of(packed);
        Ok(Appended::Accepted(id_of(id)))
    }

    /// Writes the counters.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        for (log, of) in (0_i64..).zip(self.counters) {
            self.session
                .execute(UPDATE, [log, of.last_id, of.added, of.length, of.bytes])?;
        }
        Ok(())
    }
}

fn bytes_of(packed: &PackedFields) -> i64 {
    i64::try_from(packed.blob.len()).unwrap_or(i64::MAX) + ROW_BYTES
}

/// Removes a row; false where it was gone already.
pub(super) fn remove(session: &Session<'_>, log: Destination, id: i64) -> rusqlite::Result<bool> {
    let mut remove = session.connection.prepare_cached(REMOVE[index(log)])?;
    let length = remove.query_row([id], |row| row.get::<_, i64>(0)).optional()?;
    if let Some(length) = length {
        count_removed(session, log, 1, length)?;
    }
    Ok(length.is_some())
}

/// Counts rows that were removed, and the bytes of their fields.
pub(super) fn count_removed(session: &Session<'_>, log: Destination, rows: i64, bytes: i64) -> rusqlite::Result<()> {
    let log = i64::try_from(index(log)).unwrap_or_default();
    session.execute(REMOVED, [log, rows, bytes + rows * ROW_BYTES])?;
    Ok(())
}

/// Takes the bodies of the next letters after a row and before another; answers how many had one, and
/// the last row that was looked at, where there may be more. A damaged row stays as it is.
pub(super) fn drop_letter_bodies(
    session: &Session<'_>,
    after: i64,
    before: i64,
) -> rusqlite::Result<(u64, Option<i64>)> {
    let log = Destination::DeadLetters;
    let mut query = session.connection.prepare_cached(LETTERS)?;
    let limit = i64::try_from(LETTERS_AT_ONCE).unwrap_or(i64::MAX);
    let rows = query.query_map([after, before, limit], |row| {
        let (id, blob) = (row.get::<_, i64>(0)?, row.get_ref(2)?.as_bytes()?);
        Ok((id, blob.len(), unpack(log, id, blob, row.get(1)?)))
    })?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let (mut dropped, mut freed) = (0, 0);
    for (id, length, letter) in &rows {
        let Some(mut fields) = letter.clone().map(|letter| letter.fields).filter(Fields::has_body) else {
            continue;
        };
        fields.drop_body();
        let packed = PackedFields::new(&fields);
        session.execute(REWRITE_LETTER, params![id, packed.checksum(log, *id), packed.blob])?;
        dropped += 1;
        freed += length.saturating_sub(packed.blob.len());
    }
    if dropped > 0 {
        let freed = i64::try_from(freed).unwrap_or(i64::MAX);
        session.execute(REMOVED, [1, 0, freed])?;
    }
    let last = rows.last().map(|(id, ..)| *id);
    Ok((dropped, last.filter(|_| rows.len() == LETTERS_AT_ONCE)))
}
