//! Appends with a checkpoint, each one transaction: the row of `checkpoints` and the entries change
//! together.

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, params};

use super::logs::{Caps, OpenLogs, Session};
use super::row::PackedFields;
use super::writer::WriterHandle;
use crate::stream::{Checkpoint, CheckpointedAppend, CheckpointedWriter, Destination, NewEntry, StreamError};

const READ: &str = "SELECT version, record, request FROM checkpoints WHERE name = ?1";
const WRITE: &str = "INSERT INTO checkpoints (name, version, record, request) VALUES (?1, ?2, ?3, '')
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, record = excluded.record";
const REQUEST: &str = "INSERT INTO checkpoints (name, version, record, request) VALUES (?1, 0, '', ?2)
    ON CONFLICT (name) DO UPDATE SET request = excluded.request";
const REMOVE: &str = "DELETE FROM checkpoints WHERE name = ?1";

pub(super) struct EmbeddedCheckpointedWriter {
    pub(super) writer: WriterHandle,
    pub(super) caps: Caps,
    pub(super) source: String,
}

fn read(session: &Session<'_>, source: &str) -> rusqlite::Result<Checkpoint> {
    let mut read = session.connection.prepare_cached(READ)?;
    let found = read.query_row([source], |row| {
        Ok(Checkpoint {
            version: u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default(),
            record: row.get(1)?,
            request: row.get(2)?,
        })
    });
    Ok(found.optional()?.unwrap_or_default())
}

fn append(
    session: &Session<'_>,
    source: &str,
    entries: &[(Destination, PackedFields)],
    expected: u64,
    record: &str,
    caps: Caps,
) -> rusqlite::Result<CheckpointedAppend> {
    if read(session, source)?.version != expected {
        return Ok(CheckpointedAppend::Moved);
    }
    let mut logs = OpenLogs::open(session, caps)?;
    for log in [Destination::Stream, Destination::DeadLetters] {
        let count = entries.iter().filter(|(of, _)| *of == log).count() as u64;
        if count > logs.room(log) {
            return Ok(CheckpointedAppend::Full(log));
        }
    }
    for (log, fields) in entries {
        logs.append(*log, fields)?;
    }
    logs.close()?;
    let version = i64::try_from(expected).unwrap_or(i64::MAX).saturating_add(1);
    session.execute(WRITE, params![source, version, record])?;
    Ok(CheckpointedAppend::Stored)
}

#[async_trait]
impl CheckpointedWriter for EmbeddedCheckpointedWriter {
    async fn read(&mut self) -> Result<Checkpoint, StreamError> {
        let source = self.source.clone();
        self.writer.call(move |session| read(session, &source)).await
    }

    async fn append(
        &mut self,
        entries: &[NewEntry],
        expected: u64,
        record: &str,
        fill: u8,
    ) -> Result<CheckpointedAppend, StreamError> {
        let packed = |entry: &NewEntry| (entry.destination, PackedFields::new(&entry.fields));
        let entries = Vec::from_iter(entries.iter().map(packed));
        let bytes = entries.iter().map(|(_, fields)| fields.blob.len()).sum();
        let (source, record, mut caps) = (self.source.clone(), record.to_owned(), self.caps);
        caps.entries[0] = caps.entries[0] * u64::from(fill) / 100;
        let act = move |session: &Session<'_>| append(session, &source, &entries, expected, &record, caps);
        self.writer.store(bytes, act).await
    }

    async fn request(&mut self, request: &str) -> Result<(), StreamError> {
        let (source, request) = (self.source.clone(), request.to_owned());
        let act = move |session: &Session<'_>| session.execute(REQUEST, [source, request]).map(drop);
        self.writer.call(act).await
    }

    async fn remove(&mut self) -> Result<(), StreamError> {
        let source = self.source.clone();
        let act = move |session: &Session<'_>| session.execute(REMOVE, [source]).map(drop);
        self.writer.call(act).await
    }
}
