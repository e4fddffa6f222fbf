//! What operators ask for, in a file.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::append::ROW_BYTES;
use super::group::{self, Group};
use super::row::{Packed, id_of, row_at, row_of, unpack};
use super::writer_handle::Session;
use super::{EmbeddedStream, SMALL};
use crate::stream::admin::{LONG_IDLE, NOTES, REPLAY_CONSUMER};
use crate::stream::{Destination, Entry, EntryState, Fields, PAGE, Stage, StreamAdmin, StreamError, StreamId};

const REMOVE: &str = "DELETE FROM dead_letters WHERE id = ?1 RETURNING LENGTH(fields)";
const REMOVED: &str = "UPDATE logs SET length = length - ?1, bytes = MAX(0, bytes - ?2) WHERE log = 1";
const MAKE_PENDING: &str = "INSERT INTO pending (group_id, id, consumer, delivered_at, deliveries)
    SELECT ?1, id, ?3, ?4, 0 FROM entries WHERE id = ?2 ON CONFLICT (group_id, id) DO NOTHING";
const IS_PENDING: &str = "SELECT 1 FROM pending WHERE group_id = ?1 AND id = ?2";
const COUNT: &str = "UPDATE consumer_groups SET pending = pending + ?2 WHERE id = ?1";
const FATES: &str = "
SELECT consumer_groups.name, last_delivered, consumers.name, delivered_at, deliveries FROM consumer_groups
LEFT JOIN pending ON pending.group_id = consumer_groups.id AND pending.id = ?1
LEFT JOIN consumers ON consumers.id = pending.consumer ORDER BY consumer_groups.name";
const NEXT_NOTE: &str = "SELECT MAX(?1, IFNULL((SELECT MAX(id) + 1 FROM audit), 0))";
const NOTE: &str = "INSERT INTO audit (id, checksum, fields) VALUES (?1, ?2, ?3)";
const FORGET: &str = "DELETE FROM audit WHERE id <= (SELECT id FROM audit ORDER BY id DESC LIMIT 1 OFFSET ?1)";
const NEWEST_NOTES: &str = "SELECT id, checksum, fields FROM audit ORDER BY id DESC LIMIT ?1";

#[async_trait]
impl StreamAdmin for EmbeddedStream {
    async fn remove_dead_letters(&self, ids: &[StreamId]) -> Result<u64, StreamError> {
        let ids = ids.to_vec();
        let remove = move |session: &Session<'_>| remove(session, &ids);
        self.file.writer.call(SMALL, remove).await
    }

    async fn make_pending(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError> {
        let (group, ids) = (group.to_owned(), ids.to_vec());
        let make = move |session: &Session<'_>| make_pending(session, &group, &ids);
        self.file.writer.store(SMALL, make).await
    }

    async fn settled(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError> {
        let (group, ids) = (group.to_owned(), ids.to_vec());
        let look = move |connection: &Connection| settled(connection, &group, &ids);
        self.file.read_connection.run(look).await
    }

    async fn entry_states(&self, id: StreamId) -> Result<Vec<EntryState>, StreamError> {
        let (clock, ours) = (self.file.clock.clone(), self.group());
        let since = move |reading| clock.since(reading);
        let look = move |connection: &_| entry_states(connection, id, &ours, since);
        self.file.read_connection.run(look).await
    }

    async fn note(&self, note: &Fields) -> Result<(), StreamError> {
        let packed = Packed::new(note);
        let write = move |session: &Session<'_>| {
            let next = session.connection.prepare_cached(NEXT_NOTE)?;
            let id: i64 = { next }.query_row([row_at(session.wall)], |row| row.get(0))?;
            let checksum = packed.checksum(Destination::Stream, id);
            session.execute(NOTE, params![id, checksum, packed.blob])?;
            session.execute(FORGET, [i64::try_from(NOTES).unwrap_or(i64::MAX)])
        };
        self.file.writer.store(SMALL, write).await.map(drop)
    }

    async fn notes(&self, count: usize) -> Result<Vec<Entry>, StreamError> {
        let count = i64::try_from(count.clamp(1, PAGE)).unwrap_or(i64::MAX);
        let look = move |connection: &Connection| {
            let mut query = connection.prepare_cached(NEWEST_NOTES)?;
            let notes = query.query_map([count], |row| {
                let blob = row.get_ref(2)?.as_bytes()?;
                Ok(unpack(Destination::Stream, row.get(0)?, blob, row.get(1)?))
            })?;
            // What is damaged is left out.
            notes.filter_map(Result::transpose).collect()
        };
        self.file.read_connection.run(look).await
    }
}

fn remove(session: &Session<'_>, ids: &[StreamId]) -> rusqlite::Result<u64> {
    let mut remove = session.connection.prepare_cached(REMOVE)?;
    let (mut letters, mut bytes) = (0_i64, 0_i64);
    for id in ids.iter().copied().filter_map(row_of) {
        let length = remove.query_row([id], |row| row.get::<_, i64>(0)).optional()?;
        if let Some(length) = length {
            letters += 1;
            bytes += length + ROW_BYTES;
        }
    }
    session.execute(REMOVED, [letters, bytes])?;
    Ok(letters.unsigned_abs())
}

fn make_pending(session: &Session<'_>, name: &str, ids: &[StreamId]) -> rusqlite::Result<Option<u64>> {
    let Some(group) = Group::find(session.connection, name)? else {
        return Ok(None);
    };
    let long_ago = session.now.saturating_sub(super::millis(LONG_IDLE));
    let consumer = group.seen(session, REPLAY_CONSUMER)?;
    let mut made = 0;
    for id in ids.iter().copied().filter_map(row_of) {
        if id <= group.last_delivered {
            made += session.execute(MAKE_PENDING, [group.id, id, consumer, group::signed(long_ago)])?;
        }
    }
    session.execute(COUNT, [group.id, i64::try_from(made).unwrap_or_default()])?;
    Ok(Some(made as u64))
}

fn settled(connection: &Connection, name: &str, ids: &[StreamId]) -> rusqlite::Result<Option<u64>> {
    let Some(group) = Group::find(connection, name)? else {
        return Ok(None);
    };
    let mut is_pending = connection.prepare_cached(IS_PENDING)?;
    let mut settled = 0;
    for id in ids.iter().copied().filter_map(row_of) {
        if id <= group.last_delivered && !is_pending.exists([group.id, id])? {
            settled += 1;
        }
    }
    Ok(Some(settled))
}

fn entry_states(
    connection: &Connection,
    id: StreamId,
    ours: &str,
    since: impl Fn(u64) -> Duration,
) -> rusqlite::Result<Vec<EntryState>> {
    let mut query = connection.prepare_cached(FATES)?;
    let fates = query.query_map([row_of(id)], |row| {
        let (group, last): (String, i64) = (row.get(0)?, row.get(1)?);
        let reading = |column| {
            row.get::<_, Option<i64>>(column)
                .map(|count| count.map_or(0, i64::unsigned_abs))
        };
        let stage = match row.get(2)? {
            Some(consumer) => Stage::Pending {
                consumer,
                deliveries: reading(4)?,
                idle: since(reading(3)?),
            },
            None if id > id_of(last) => Stage::Unread,
            None => Stage::Settled,
        };
        Ok(EntryState {
            ours: group == ours,
            group,
            stage,
        })
    })?;
    fates.collect()
}
