//! What operators ask for (removing dead letters, replays, the state of an entry, the audit log),
//! and the heartbeats of nodes.
//!
//! Heartbeats are kept in memory: only the process that has the file open can be a node of this
//! stream. Others ask that process.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::clock::millis;
use super::group::Group;
use super::logs::{self, Session};
use super::row::{PackedFields, id_of, row_at, row_from, row_of, unpack};
use super::schema::{MINUTES, PAUSED};
use super::stream::EmbeddedStream;
use crate::sqlite;
use crate::stream::admin::{AUDIT_ENTRIES, LONG_IDLE, REPLAY_CONSUMER};
use crate::stream::nodes::MINUTES_KEPT;
use crate::stream::{
    Destination, Entry, EntryState, Fields, Heartbeat, NodeRegistry, PAGE, Stage, StreamAdmin, StreamError, StreamId,
};

const MAKE_PENDING: &str = "INSERT INTO pending (group_id, id, consumer, delivered_at, deliveries)
    SELECT ?1, id, ?3, ?4, 0 FROM entries WHERE id = ?2 ON CONFLICT (group_id, id) DO NOTHING";
const IS_PENDING: &str = "SELECT 1 FROM pending WHERE group_id = ?1 AND id = ?2";
const STATES: &str = "
SELECT consumer_groups.name, last_delivered, consumers.name, delivered_at, deliveries FROM consumer_groups
LEFT JOIN pending ON pending.group_id = consumer_groups.id AND pending.id = ?1
LEFT JOIN consumers ON consumers.id = pending.consumer ORDER BY consumer_groups.name";
/// Finds a table that another connection has made since this one was opened, as `table_exists` does not.
const HAS_TABLE: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
const NEXT_NOTE: &str = "SELECT MAX(?1, IFNULL((SELECT MAX(id) + 1 FROM audit), 0))";
const NOTE: &str = "INSERT INTO audit (id, checksum, fields) VALUES (?1, ?2, ?3)";
const REMOVE_OLD_NOTES: &str =
    "DELETE FROM audit WHERE id <= (SELECT id FROM audit ORDER BY id DESC LIMIT 1 OFFSET ?1)";
const NEWEST_NOTES: &str = "SELECT id, checksum, fields FROM audit ORDER BY id DESC LIMIT ?1";

#[async_trait]
impl StreamAdmin for EmbeddedStream {
    async fn remove(&self, log: Destination, ids: &[StreamId]) -> Result<u64, StreamError> {
        let ids = ids.to_vec();
        self.write(move |session, _| {
            let mut removed = 0;
            sqlite::overwrite_deleted(session.connection, true)?;
            for id in ids.iter().copied().filter_map(row_of) {
                removed += u64::from(logs::remove(session, log, id)?);
            }
            sqlite::overwrite_deleted(session.connection, false)?;
            Ok(removed)
        })
        .await
    }

    async fn drop_letter_bodies(&self, before: StreamId) -> Result<u64, StreamError> {
        let (mut from, end, mut dropped) = (0, row_from(before), 0);
        loop {
            let page = self.write(move |session, _| {
                sqlite::overwrite_deleted(session.connection, true)?;
                let page = logs::drop_letter_bodies(session, from, end);
                sqlite::overwrite_deleted(session.connection, false)?;
                page
            });
            let (count, last) = page.await?;
            dropped += count;
            let Some(last) = last else { return Ok(dropped) };
            from = last;
        }
    }

    async fn make_pending(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError> {
        let (group, ids) = (group.to_owned(), ids.to_vec());
        let make = move |session: &Session<'_>| make_pending(session, &group, &ids);
        self.file.writer.store(0, make).await
    }

    async fn settled(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError> {
        let (group, ids) = (group.to_owned(), ids.to_vec());
        self.read(move |connection, _| settled(connection, &group, &ids)).await
    }

    async fn entry_states(&self, id: StreamId) -> Result<Vec<EntryState>, StreamError> {
        let clock = self.file.writer.clock.clone();
        self.read(move |connection, ours| entry_states(connection, id, ours, |reading| clock.since(reading)))
            .await
    }

    async fn note(&self, note: &Fields) -> Result<(), StreamError> {
        let packed = PackedFields::new(note);
        let write = move |session: &Session<'_>| {
            let next = session.connection.prepare_cached(NEXT_NOTE)?;
            let id: i64 = { next }.query_row([row_at(session.wall)], |row| row.get(0))?;
            let checksum = packed.checksum(Destination::Stream, id);
            session.execute(NOTE, params![id, checksum, packed.blob])?;
            session.execute(REMOVE_OLD_NOTES, [i64::try_from(AUDIT_ENTRIES).unwrap_or(i64::MAX)])
        };
        self.file.writer.store(note.bytes(), write).await.map(drop)
    }

    async fn set_pause(&self, since: Option<&str>) -> Result<(), StreamError> {
        let since = since.map(str::to_owned);
        self.write(move |session, group| {
            session.execute(PAUSED, [])?;
            match &since {
                Some(since) => session.execute("INSERT OR IGNORE INTO paused VALUES (?1, ?2)", [group, since]),
                None => session.execute("DELETE FROM paused WHERE group_name = ?1", [group]),
            }
        })
        .await
        .map(drop)
    }

    async fn paused_since(&self) -> Result<Option<String>, StreamError> {
        self.read(move |connection, group| {
            if !connection.prepare_cached(HAS_TABLE)?.exists(["paused"])? {
                return Ok(None);
            }
            let mut since = connection.prepare_cached("SELECT since FROM paused WHERE group_name = ?1")?;
            since.query_row([group], |row| row.get(0)).optional()
        })
        .await
    }

    async fn notes(&self, count: usize) -> Result<Vec<Entry>, StreamError> {
        let count = i64::try_from(count.clamp(1, PAGE)).unwrap_or(i64::MAX);
        self.read(move |connection, _| {
            let mut query = connection.prepare_cached(NEWEST_NOTES)?;
            let notes = query.query_map([count], |row| {
                let blob = row.get_ref(2)?.as_bytes()?;
                Ok(unpack(Destination::Stream, row.get(0)?, blob, row.get(1)?))
            })?;
            // Damaged notes are left out.
            notes.filter_map(Result::transpose).collect()
        })
        .await
    }
}

impl EmbeddedStream {
    fn nodes(&self) -> MutexGuard<'_, HashMap<String, (String, Instant)>> {
        // No operation leaves the map half-changed.
        self.file.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl NodeRegistry for EmbeddedStream {
    async fn heartbeat(&self, node: &str, record: &str, forget_after: Duration) -> Result<Vec<Heartbeat>, StreamError> {
        let written = (record.to_owned(), Instant::now());
        self.nodes().insert(node.to_owned(), written);
        self.nodes().retain(|_, (_, written)| written.elapsed() < forget_after);
        self.heartbeats().await
    }

    async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StreamError> {
        let heartbeat = |(node, (record, written)): (&String, &(String, Instant))| Heartbeat {
            node: node.clone(),
            record: record.clone(),
            age: written.elapsed(),
        };
        Ok(self.nodes().iter().map(heartbeat).collect())
    }

    async fn keep_minute(&self, minute: u64, record: &str) -> Result<(), StreamError> {
        let place = i64::try_from(minute % MINUTES_KEPT).unwrap_or_default();
        let record = record.to_owned();
        self.write(move |session, _| {
            session.execute(MINUTES, [])?;
            session.execute("INSERT OR REPLACE INTO minutes VALUES (?1, ?2)", params![place, record])
        })
        .await
        .map(drop)
    }

    async fn minutes(&self) -> Result<Vec<String>, StreamError> {
        self.read(move |connection, _| {
            if !connection.prepare_cached(HAS_TABLE)?.exists(["minutes"])? {
                return Ok(Vec::new());
            }
            let mut records = connection.prepare_cached("SELECT record FROM minutes")?;
            records.query_map([], |row| row.get(0))?.collect()
        })
        .await
    }

    async fn leave(&self, node: &str, consumers: &[String]) -> Result<(), StreamError> {
        self.nodes().remove(node);
        if !consumers.is_empty() {
            let consumers = consumers.to_vec();
            let is_ours = move |consumer: &str, _| consumers.iter().any(|ours| ours == consumer);
            self.remove_consumers(is_ours).await?;
        }
        Ok(())
    }
}

fn make_pending(session: &Session<'_>, name: &str, ids: &[StreamId]) -> rusqlite::Result<Option<u64>> {
    let Some(group) = Group::find(session.connection, name)? else {
        return Ok(None);
    };
    let long_ago = session.now.saturating_sub(millis(LONG_IDLE));
    let consumer = group.seen(session, REPLAY_CONSUMER)?;
    let mut made = 0;
    for id in ids.iter().copied().filter_map(row_of) {
        if id <= group.last_delivered {
            made += session.execute(MAKE_PENDING, [group.id, id, consumer, long_ago])?;
        }
    }
    group.add_pending(session, i64::try_from(made).unwrap_or(i64::MAX))?;
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
    since: impl Fn(i64) -> Duration,
) -> rusqlite::Result<Vec<EntryState>> {
    let mut query = connection.prepare_cached(STATES)?;
    let states = query.query_map([row_of(id)], |row| {
        let (group, last): (String, i64) = (row.get(0)?, row.get(1)?);
        let stage = match row.get(2)? {
            Some(consumer) => Stage::Pending {
                consumer,
                deliveries: row.get::<_, i64>(4)?.unsigned_abs(),
                idle: since(row.get(3)?),
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
    states.collect()
}
