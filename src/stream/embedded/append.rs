//! Append: dedupe, cap and row of each entry, all in one transaction.
//!
//! Invariants: ids rise strictly over both logs, whatever the clock does; a key and its entry are stored together or not
//! at all; at the cap nothing is stored and nothing is evicted.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{CachedStatement, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::clock::millis;
use super::group::signed;
use super::row::{Packed, id_of, row_at};
use super::writer_handle::{Session, WriterHandle};
use crate::stream::{Appended, Destination, NewEntry, StreamError, Writer};

/// What a row costs beside its fields: its id, its checksum, and its key where that is remembered.
pub(super) const ROW_BYTES: i64 = 80;

/// Expired keys removed with each append, beside twice as many as it adds.
const FORGOTTEN: usize = 16;

const LOGS: &str = "SELECT last_id, added, length, bytes FROM logs ORDER BY log";
const UPDATE_LOG: &str = "UPDATE logs SET last_id = ?2, added = ?3, length = ?4, bytes = ?5 WHERE log = ?1";
const ENTRY: &str = "INSERT INTO entries (id, checksum, fields) VALUES (?1, ?2, ?3)";
const LETTER: &str = "INSERT INTO dead_letters (id, checksum, fields) VALUES (?1, ?2, ?3)";
const REMEMBER: &str =
    "INSERT INTO dedupe (id, key, digest, remembered_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO NOTHING";
const KNOWN: &str = "SELECT id, digest, remembered_at FROM dedupe WHERE key = ?1";
const FORGET: &str = "DELETE FROM dedupe WHERE id = ?1";
const FORGET_EXPIRED: &str =
    "DELETE FROM dedupe WHERE id IN (SELECT id FROM dedupe ORDER BY id LIMIT ?2) AND remembered_at < ?1";

/// What an append must not exceed, and how long keys are remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) maxlen: u64,
    pub(super) dead_letters_maxlen: u64,
    pub(super) bytes: Option<u64>,
    pub(super) dedupe_window: Option<Duration>,
}

/// An entry made ready by its caller, so that the one writing thread only writes.
struct Row {
    log: Destination,
    key: [u8; 16],
    digest: [u8; 16],
    packed: Packed,
}

impl Row {
    fn new(entry: &NewEntry) -> Self {
        let mut hash = Sha256::new();
        hash.update([index(entry.destination) as u8]);
        hash.update(&entry.dedupe_key);
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self {
            log: entry.destination,
            key,
            digest: entry.digest,
            packed: Packed::new(&entry.fields),
        }
    }
}

pub(super) struct EmbeddedWriter {
    pub(super) writer: WriterHandle,
    pub(super) limits: Limits,
}

#[async_trait]
impl Writer for EmbeddedWriter {
    async fn append(&mut self, entries: &[NewEntry]) -> Result<Vec<Appended>, StreamError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<_> = entries.iter().map(Row::new).collect();
        let bytes = rows.iter().map(|row| row.packed.blob.len()).sum();
        let limits = self.limits;
        self.writer
            .store(bytes, move |session| append(session, &rows, limits))
            .await
    }
}

fn append(session: &Session<'_>, rows: &[Row], limits: Limits) -> rusqlite::Result<Vec<Appended>> {
    let mut logs = Logs::open(session, limits)?;
    let mut keys = limits
        .dedupe_window
        .map(|window| Keys::prepare(session, window))
        .transpose()?;
    let mut outcomes = Vec::with_capacity(rows.len());
    for row in rows {
        outcomes.push(match &mut keys {
            Some(keys) => append_once(&mut logs, keys, row)?,
            None => logs.append(row.log, &row.packed)?,
        });
    }
    logs.close()?;
    if let Some(keys) = keys {
        let most = i64::try_from(2 * rows.len() + FORGOTTEN).unwrap_or(i64::MAX);
        session.execute(FORGET_EXPIRED, [keys.horizon, most])?;
    }
    Ok(outcomes)
}

/// Appends an entry whose key is not known.
fn append_once(logs: &mut Logs<'_>, keys: &mut Keys<'_>, row: &Row) -> rusqlite::Result<Appended> {
    if let Some(outcome) = logs.refusal(row.log, &row.packed) {
        return Ok(keys.known(row)?.unwrap_or(outcome));
    }
    let id = logs.next_id();
    if keys.remember(id, row)? {
        return logs.append(row.log, &row.packed);
    }
    if let Some(known) = keys.known(row)? {
        return Ok(known);
    }
    keys.forget(row)?;
    keys.remember(id, row)?;
    logs.append(row.log, &row.packed)
}

/// The keys that are remembered. Their age is told by the steady clock, so that none lasts for ever after the wall clock
/// was ahead.
struct Keys<'a> {
    now: i64,
    /// The oldest reading that still counts.
    horizon: i64,
    remember: CachedStatement<'a>,
    known: CachedStatement<'a>,
    forget: CachedStatement<'a>,
}

impl<'a> Keys<'a> {
    fn prepare(session: &Session<'a>, window: Duration) -> rusqlite::Result<Self> {
        let connection = session.connection;
        Ok(Self {
            now: signed(session.now),
            horizon: signed(session.now.saturating_sub(millis(window))),
            remember: connection.prepare_cached(REMEMBER)?,
            known: connection.prepare_cached(KNOWN)?,
            forget: connection.prepare_cached(FORGET)?,
        })
    }

    /// False where the key is there already.
    fn remember(&mut self, id: i64, row: &Row) -> rusqlite::Result<bool> {
        Ok(self.remember.execute(params![id, row.key, row.digest, self.now])? == 1)
    }

    fn find(&mut self, row: &Row) -> rusqlite::Result<Option<(i64, [u8; 16], i64)>> {
        self.known
            .query_row([&row.key], |found| Ok((found.get(0)?, found.get(1)?, found.get(2)?)))
            .optional()
    }

    fn known(&mut self, row: &Row) -> rusqlite::Result<Option<Appended>> {
        let found = self.find(row)?.filter(|(.., at)| *at >= self.horizon);
        Ok(found.map(|(id, digest, _)| {
            if digest == row.digest {
                Appended::Duplicate(id_of(id))
            } else {
                Appended::Conflict(id_of(id))
            }
        }))
    }

    fn forget(&mut self, row: &Row) -> rusqlite::Result<()> {
        if let Some((id, ..)) = self.find(row)? {
            self.forget.execute([id])?;
        }
        Ok(())
    }
}

/// Figures of one log.
#[derive(Clone, Copy)]
struct Log {
    last_id: i64,
    added: i64,
    length: i64,
    bytes: i64,
}

/// Both logs, open for appends. What was appended counts once they are closed.
pub(super) struct Logs<'a> {
    session: &'a Session<'a>,
    limits: Limits,
    logs: [Log; 2],
    inserts: [CachedStatement<'a>; 2],
}

fn index(log: Destination) -> usize {
    match log {
        Destination::Stream => 0,
        Destination::DeadLetters => 1,
    }
}

impl<'a> Logs<'a> {
    pub(super) fn open(session: &'a Session<'a>, limits: Limits) -> rusqlite::Result<Self> {
        let mut figures = session.connection.prepare_cached(LOGS)?;
        let mut figures = figures.query_map([], |row| {
            Ok(Log {
                last_id: row.get(0)?,
                added: row.get(1)?,
                length: row.get(2)?,
                bytes: row.get(3)?,
            })
        })?;
        let mut next = || figures.next().unwrap_or(Err(rusqlite::Error::QueryReturnedNoRows));
        Ok(Self {
            session,
            limits,
            logs: [next()?, next()?],
            inserts: [
                session.connection.prepare_cached(ENTRY)?,
                session.connection.prepare_cached(LETTER)?,
            ],
        })
    }

    /// The id of the next entry: the clock's time, or right after the newest where the clock is not beyond that.
    fn next_id(&self) -> i64 {
        let [stream, letters] = &self.logs;
        row_at(self.session.wall).max(stream.last_id.max(letters.last_id) + 1)
    }

    /// Why nothing like that can be appended now.
    fn refusal(&self, log: Destination, packed: &Packed) -> Option<Appended> {
        let cap = match log {
            Destination::Stream => self.limits.maxlen,
            Destination::DeadLetters => self.limits.dead_letters_maxlen,
        };
        let reaches = |value: i64, cap: u64| u64::try_from(value).is_ok_and(|value| value >= cap);
        let bytes = self.logs.iter().map(|log| log.bytes).sum::<i64>() + bytes_of(packed);
        if packed.blob.is_empty() {
            return Some(Appended::Refused("an entry needs at least one field".to_owned()));
        }
        let full = reaches(self.logs[index(log)].length, cap)
            || self
                .limits
                .bytes
                .is_some_and(|limit| reaches(bytes, limit.saturating_add(1)));
        full.then_some(Appended::Full)
    }

    /// Appends, unless there is no room.
    pub(super) fn append(&mut self, log: Destination, packed: &Packed) -> rusqlite::Result<Appended> {
        if let Some(refusal) = self.refusal(log, packed) {
            return Ok(refusal);
        }
        let id = self.next_id();
        self.inserts[index(log)].execute(params![id, packed.checksum(log, id), packed.blob])?;
        let figures = &mut self.logs[index(log)];
        figures.last_id = id;
        figures.added += 1;
        figures.length += 1;
        figures.bytes += bytes_of(packed);
        Ok(Appended::Accepted(id_of(id)))
    }

    pub(super) fn close(self) -> rusqlite::Result<()> {
        for (log, figures) in self.logs.iter().enumerate() {
            let log = i64::try_from(log).unwrap_or_default();
            self.session.execute(
                UPDATE_LOG,
                [log, figures.last_id, figures.added, figures.length, figures.bytes],
            )?;
        }
        Ok(())
    }
}

fn bytes_of(packed: &Packed) -> i64 {
    i64::try_from(packed.blob.len()).unwrap_or(i64::MAX) + ROW_BYTES
}
