//! Append: dedupe and row of each entry, and a worker's dead letter, each in one transaction.
//!
//! Invariant: a dedupe key and its entry are stored together or not at all.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{CachedStatement, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use super::clock::millis;
use super::group;
use super::logs::{Caps, OpenLogs, Session, index};
use super::row::{PackedFields, id_of, row_of};
use super::writer::WriterHandle;
use crate::stream::{Appended, Destination, NewEntry, StreamId, Writer};

/// Expired keys removed with each append, beside twice as many as it adds.
const EXPIRED_REMOVED: usize = 16;

/// Takes an expired key's row over.
const REMEMBER: &str = "INSERT INTO dedupe (id, key, digest, remembered_at) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (key) DO UPDATE SET id = excluded.id, digest = excluded.digest, remembered_at = excluded.remembered_at
    WHERE remembered_at < ?5";
const KNOWN: &str = "SELECT id, digest FROM dedupe WHERE key = ?1 AND remembered_at >= ?2";
const REMOVE_EXPIRED: &str =
    "DELETE FROM dedupe WHERE id IN (SELECT id FROM dedupe ORDER BY id LIMIT ?2) AND remembered_at < ?1";

/// An entry packed by its caller, so that the writing thread only writes.
struct PackedEntry {
    log: Destination,
    key: [u8; 16],
    digest: [u8; 16],
    fields: PackedFields,
}

impl PackedEntry {
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
            fields: PackedFields::new(&entry.fields),
        }
    }
}

pub(super) struct EmbeddedWriter {
    writer: WriterHandle,
    caps: Caps,
    dedupe_window: Option<Duration>,
}

impl EmbeddedWriter {
    pub(super) fn boxed(writer: &WriterHandle, caps: Caps, dedupe_window: Option<Duration>) -> Box<dyn Writer> {
        Box::new(Self {
            writer: writer.clone(),
            caps,
            dedupe_window,
        })
    }
}

#[async_trait]
impl Writer for EmbeddedWriter {
    async fn append(&mut self, entries: &[NewEntry]) -> Vec<Appended> {
        if entries.is_empty() {
            return Vec::new();
        }
        let count = entries.len();
        let entries: Vec<_> = entries.iter().map(PackedEntry::new).collect();
        let bytes = entries.iter().map(|entry| entry.fields.blob.len()).sum();
        let (caps, window) = (self.caps, self.dedupe_window);
        let appended = self
            .writer
            .store(bytes, move |session| append(session, &entries, caps, window))
            .await;
        appended.unwrap_or_else(|error| Appended::all_failed(error, count))
    }
}

fn append(
    session: &Session<'_>,
    entries: &[PackedEntry],
    caps: Caps,
    dedupe_window: Option<Duration>,
) -> rusqlite::Result<Vec<Appended>> {
    let mut logs = OpenLogs::open(session, caps)?;
    let mut keys = dedupe_window
        .map(|window| DedupeKeys::prepare(session, window))
        .transpose()?;
    let mut outcomes = Vec::with_capacity(entries.len());
    for entry in entries {
        outcomes.push(match &mut keys {
            Some(keys) => append_once(&mut logs, keys, entry)?,
            None => logs.append(entry.log, &entry.fields)?,
        });
    }
    logs.close()?;
    if let Some(keys) = keys {
        let most = i64::try_from(2 * entries.len() + EXPIRED_REMOVED).unwrap_or(i64::MAX);
        session.execute(REMOVE_EXPIRED, [keys.horizon, most])?;
    }
    Ok(outcomes)
}

/// Appends an entry whose key is not known. A known key is recognized also at the cap.
fn append_once(logs: &mut OpenLogs<'_>, keys: &mut DedupeKeys<'_>, entry: &PackedEntry) -> rusqlite::Result<Appended> {
    match logs.refusal(entry.log, &entry.fields) {
        Some(refusal) => Ok(keys.known(entry)?.unwrap_or(refusal)),
        None if keys.remember(logs.next_id(), entry)? => logs.append(entry.log, &entry.fields),
        // A key that is in the index without its row is damage.
        None => keys.known(entry)?.ok_or(rusqlite::Error::QueryReturnedNoRows),
    }
}

/// The dedupe keys that are remembered. Their age is measured by the steady clock, so that none
/// lasts for ever after the wall clock was ahead.
struct DedupeKeys<'a> {
    now: i64,
    /// The oldest reading that still counts.
    horizon: i64,
    remember: CachedStatement<'a>,
    known: CachedStatement<'a>,
}

impl<'a> DedupeKeys<'a> {
    fn prepare(session: &Session<'a>, window: Duration) -> rusqlite::Result<Self> {
        Ok(Self {
            now: session.now,
            horizon: session.now.saturating_sub(millis(window)),
            remember: session.connection.prepare_cached(REMEMBER)?,
            known: session.connection.prepare_cached(KNOWN)?,
        })
    }

    /// False where the key is known.
    fn remember(&mut self, id: i64, entry: &PackedEntry) -> rusqlite::Result<bool> {
        let row = params![id, entry.key, entry.digest, self.now, self.horizon];
        Ok(self.remember.execute(row)? == 1)
    }

    fn known(&mut self, entry: &PackedEntry) -> rusqlite::Result<Option<Appended>> {
        let found = self.known.query_row(params![entry.key, self.horizon], |row| {
            let (id, digest): (i64, [u8; 16]) = (row.get(0)?, row.get(1)?);
            Ok(if digest == entry.digest {
                Appended::Duplicate(id_of(id))
            } else {
                Appended::Conflict(id_of(id))
            })
        });
        found.optional()
    }
}

/// Writes a dead letter, acks its entry and removes the record of its attempts. Returns false, and
/// changes nothing, where the dead letters are at their cap.
pub(super) fn dead_letter(
    session: &Session<'_>,
    group: &str,
    id: StreamId,
    fields: &PackedFields,
    caps: Caps,
) -> rusqlite::Result<bool> {
    let row = row_of(id);
    // An entry that is in the stream and not pending was settled: by this call before its answer
    // got lost, or by another consumer. One that is gone from the stream too was lost, and the dead
    // letter is all that is left of it.
    if let Some(row) = row
        && group::is_settled(session, group, row)?
    {
        return Ok(true);
    }
    let mut logs = OpenLogs::open(session, Caps { bytes: None, ..caps })?;
    if logs.append(Destination::DeadLetters, fields)? == Appended::Full {
        return Ok(false);
    }
    logs.close()?;
    group::ack(session, group, &[id], &[id])?;
    Ok(true)
}
