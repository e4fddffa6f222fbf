//! What operators ask for, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::Pipeline;
use redis::streams::StreamInfoGroupsReply;

use super::keys::{IDS_A_CALL, Keys, millis};
use super::partition::Partition;
use super::scripts;
use super::stream::RedisStream;
use crate::stream::admin::{AUDIT_ENTRIES, LONG_IDLE, REPLAY_CONSUMER};
use crate::stream::{Destination, Entry, EntryState, Fields, PAGE, Stage, StreamAdmin, StreamError, StreamId};

/// One line of an extended XPENDING.
type PendingLine = (StreamId, String, u64, u64);

impl Partition {
    /// Every group and the last id it was given.
    async fn groups(&self) -> Result<Vec<(String, StreamId)>, StreamError> {
        let mut exists = redis::cmd("EXISTS");
        if self.server.query::<u8>(exists.arg(&self.keys.stream)).await? == 0 {
            return Ok(Vec::new());
        }
        let mut info = redis::cmd("XINFO");
        let info = info.arg("GROUPS").arg(&self.keys.stream);
        let reply: StreamInfoGroupsReply = self.server.query(info).await?;
        let group = |group: redis::streams::StreamInfoGroup| {
            let last = group.last_delivered_id.parse().unwrap_or_default();
            (group.name, last)
        };
        Ok(reply.groups.into_iter().map(group).collect())
    }

    /// Those that a group was given; `None` where there is no such group. The last id only grows,
    /// so what was read stays read.
    async fn read_of(&self, group: &str, ids: &[StreamId]) -> Result<Option<Vec<StreamId>>, StreamError> {
        let groups = self.groups().await?;
        let group = groups.into_iter().find(|(name, _)| name == group);
        Ok(group.map(|(_, last)| ids.iter().copied().filter(|id| id.with_part(0) <= last).collect()))
    }

    /// What is pending of each with a group; a line at most.
    async fn pending_of(
        &self,
        asked: impl Iterator<Item = (&str, StreamId)>,
    ) -> Result<Vec<Option<PendingLine>>, StreamError> {
        let mut pipeline = Pipeline::new();
        for (group, id) in asked {
            let pending = pipeline.cmd("XPENDING").arg(&self.keys.stream).arg(group);
            pending.arg(id).arg(id).arg(1);
        }
        let lines: Vec<Vec<PendingLine>> = self.server.query_all(pipeline).await?;
        Ok(lines.into_iter().map(|lines| lines.into_iter().next()).collect())
    }

    async fn make_pending(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError> {
        let Some(read) = self.read_of(group, ids).await? else {
            return Ok(None);
        };
        let mut made = 0;
        for ids in read.chunks(IDS_A_CALL) {
            let mut script = scripts::MAKE_PENDING.key(&self.keys.stream);
            script.arg(group).arg(REPLAY_CONSUMER);
            script.arg(millis(LONG_IDLE)).arg(ids);
            made += self.server.run::<u64>(&script).await?;
        }
        Ok(Some(made))
    }

    async fn settled(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError> {
        let Some(read) = self.read_of(group, ids).await? else {
            return Ok(None);
        };
        let mut settled = 0;
        for ids in read.chunks(IDS_A_CALL) {
            let lines = self.pending_of(ids.iter().map(|id| (group, *id))).await?;
            settled += lines.iter().filter(|line| line.is_none()).count() as u64;
        }
        Ok(Some(settled))
    }

    async fn entry_states(&self, id: StreamId) -> Result<Vec<EntryState>, StreamError> {
        let groups = self.groups().await?;
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let lines = self.pending_of(groups.iter().map(|(group, _)| (&**group, id))).await?;
        let fate = |((group, last), line): ((String, StreamId), Option<PendingLine>)| EntryState {
            ours: group == self.keys.group,
            group,
            stage: match line {
                Some((_, consumer, idle, deliveries)) => Stage::Pending {
                    consumer,
                    deliveries,
                    idle: Duration::from_millis(idle),
                },
                None if id.with_part(0) > last => Stage::Unread,
                None => Stage::Settled,
            },
        };
        Ok(groups.into_iter().zip(lines).map(fate).collect())
    }
}

impl RedisStream {
    /// Asks each partition for its part of the ids, and adds up; `None` where the group is in none
    /// of these. Without ids the first one is asked.
    async fn add_up<'a, F>(
        &'a self,
        ids: &[StreamId],
        ask: impl Fn(&'a Partition, Vec<StreamId>) -> F,
    ) -> Result<Option<u64>, StreamError>
    where
        F: Future<Output = Result<Option<u64>, StreamError>>,
    {
        let mut parts = self.partitions.by_partition(ids);
        if parts.is_empty() {
            parts.push((self.partitions.at(0), Vec::new()));
        }
        let answers = try_join_all(parts.into_iter().map(|(partition, ids)| ask(partition, ids))).await?;
        Ok(answers.into_iter().flatten().reduce(|one, other| one + other))
    }

    /// Keys that the partitions have in common.
    fn common(&self) -> &Keys {
        &self.partitions.at(0).keys
    }
}

#[async_trait]
impl StreamAdmin for RedisStream {
    async fn remove(&self, log: Destination, ids: &[StreamId]) -> Result<u64, StreamError> {
        let parts = match log {
            Destination::Stream => self.partitions.by_partition(ids),
            Destination::DeadLetters => vec![(self.partitions.at(0), ids.to_vec())],
        };
        let mut removed = 0;
        for (partition, ids) in parts {
            let (server, key) = match log {
                Destination::Stream => (&partition.server, &partition.keys.stream),
                Destination::DeadLetters => (&self.partitions.letters, &partition.keys.dead_letters),
            };
            for ids in ids.chunks(IDS_A_CALL) {
                let mut delete = redis::cmd("XDEL");
                delete.arg(key).arg(ids);
                removed += server.query::<u64>(&delete).await?;
            }
        }
        Ok(removed)
    }

    async fn drop_letter_bodies(&self, before: StreamId) -> Result<u64, StreamError> {
        self.rewrite_letters(before).await
    }

    async fn make_pending(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError> {
        self.add_up(ids, |partition, ids| async move {
            partition.make_pending(group, &ids).await
        })
        .await
    }

    async fn settled(&self, group: &str, ids: &[StreamId]) -> Result<Option<u64>, StreamError> {
        self.add_up(
            ids,
            |partition, ids| async move { partition.settled(group, &ids).await },
        )
        .await
    }

    async fn entry_states(&self, id: StreamId) -> Result<Vec<EntryState>, StreamError> {
        match id.part < self.partitions.readable() {
            true => self.partitions.at(id.part).entry_states(id).await,
            false => Ok(Vec::new()),
        }
    }

    async fn note(&self, note: &Fields) -> Result<(), StreamError> {
        let mut add = redis::cmd("XADD");
        add.arg(&self.common().audit)
            .arg("MAXLEN")
            .arg("~")
            .arg(AUDIT_ENTRIES)
            .arg("*");
        add.arg(note);
        self.partitions.at(0).server.query::<String>(&add).await?;
        Ok(())
    }

    async fn set_pause(&self, since: Option<&str>) -> Result<(), StreamError> {
        let keys = self.common();
        let mut mark = redis::cmd(if since.is_some() { "HSETNX" } else { "HDEL" });
        mark.arg(&keys.paused).arg(&keys.group).arg(since);
        self.partitions.at(0).server.query::<u64>(&mark).await.map(drop)
    }

    async fn paused_since(&self) -> Result<Option<String>, StreamError> {
        let (keys, mut mark) = (self.common(), redis::cmd("HGET"));
        mark.arg(&keys.paused).arg(&keys.group);
        self.partitions.at(0).server.query(&mark).await
    }

    async fn notes(&self, count: usize) -> Result<Vec<Entry>, StreamError> {
        let mut query = redis::cmd("XREVRANGE");
        query.arg(&self.common().audit).arg("+").arg("-");
        query.arg("COUNT").arg(count.clamp(1, PAGE));
        self.partitions.at(0).server.query(&query).await
    }
}
