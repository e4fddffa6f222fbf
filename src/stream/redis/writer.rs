//! The writer: a flush goes to each server that owns a part of it, at once (`node_writer.rs`).
//!
//! Where there is one server, that is all; in a cluster entries go by the owner of their log. A server
//! that no entry of a flush goes to gets its connection back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join, join_all};

use super::keys::LogName;
use super::node::RedisNode;
use super::node_writer::{LONG_PATIENCE, NodeWriter, SHORT_PATIENCE};
use super::partition::Partitions;
use super::reservation::Flushes;
use crate::stream::{Appended, NewEntry, StreamError, Writer};

/// Bound on the notes of a writer that is not used any more: it must not hold up a flush to others.
const SETTLE_LIMIT: Duration = Duration::from_millis(250);

pub(super) struct RedisWriter {
    partitions: Arc<Partitions>,
    flushes: Arc<Flushes>,
    with_dedupe: bool,
    /// Of each server that the last flush went to; in a cluster with the node.
    writers: Vec<(Option<Arc<RedisNode>>, NodeWriter)>,
}

/// Entries of a flush that go to one node of a cluster.
struct Share {
    node: Arc<RedisNode>,
    log: LogName,
    places: Vec<usize>,
}

impl RedisWriter {
    pub(super) fn new(partitions: Arc<Partitions>, flushes: Arc<Flushes>) -> Self {
        Self {
            partitions,
            flushes,
            with_dedupe: true,
            writers: Vec::new(),
        }
    }

    /// The same, which neither asks nor remembers whether an event was appended before.
    pub(super) fn without_dedupe(self) -> Self {
        Self {
            with_dedupe: false,
            ..self
        }
    }

    async fn append_within(&mut self, entries: &[NewEntry], patience: Duration) -> Vec<Appended> {
        if entries.is_empty() {
            return Vec::new();
        }
        if self.partitions.servers.is_cluster() {
            return self.append_to_each(entries, patience).await;
        }
        if self.writers.is_empty() {
            let writer = self.writer_to(None);
            self.writers.push((None, writer));
        }
        match self.writers.first_mut() {
            Some((_, writer)) => writer.append_within(entries, patience).await,
            None => Vec::new(),
        }
    }

    /// In a cluster.
    async fn append_to_each(&mut self, entries: &[NewEntry], patience: Duration) -> Vec<Appended> {
        let mut outcomes = vec![Appended::Full; entries.len()];
        let shares = self.shares(entries, &mut outcomes).await;
        let is_one = shares.len() == 1 && shares.iter().all(|share| share.places.len() == entries.len());
        let appends = Vec::from_iter(shares.into_iter().map(|share| {
            let mut writer = self.writer_to(Some(&share.node));
            writer.server = Arc::clone(self.partitions.server(share.log));
            async move {
                let appended = if is_one {
                    writer.append_within(entries, patience).await
                } else {
                    let own = Vec::from_iter(share.places.iter().map(|place| entries[*place].clone()));
                    writer.append_within(&own, patience).await
                };
                (share, writer, appended)
            }
        }));
        let unused = std::mem::take(&mut self.writers);
        let (appended, ()) = join(join_all(appends), settle_all(unused)).await;
        for (share, writer, appended) in appended {
            for (place, outcome) in share.places.into_iter().zip(appended) {
                outcomes[place] = outcome;
            }
            self.writers.push((Some(share.node), writer));
        }
        outcomes
    }

    /// What goes to which node. Where none is known for an entry, that is its outcome.
    async fn shares(&self, entries: &[NewEntry], outcomes: &mut [Appended]) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        let mut known: BTreeMap<LogName, Result<usize, Arc<StreamError>>> = BTreeMap::new();
        for (place, entry) in entries.iter().enumerate() {
            let log = self.partitions.log_of(entry);
            let share = match known.get(&log) {
                Some(share) => share.clone(),
                None => {
                    let owner = self.partitions.server(log).node().await;
                    let share = owner.map_err(Arc::new).map(|node| {
                        let is_its = |share: &Share| Arc::ptr_eq(&share.node, &node);
                        shares.iter().position(is_its).unwrap_or_else(|| {
                            let places = Vec::with_capacity(entries.len());
                            shares.push(Share { node, log, places });
                            shares.len() - 1
                        })
                    });
                    known.insert(log, share.clone());
                    share
                }
            };
            match share {
                Ok(share) => shares[share].places.push(place),
                Err(error) => outcomes[place] = Appended::Failed(error),
            }
        }
        shares
    }

    /// The writer to that node, or a new one.
    fn writer_to(&mut self, node: Option<&Arc<RedisNode>>) -> NodeWriter {
        let is_its = |(known, _): &(Option<Arc<RedisNode>>, NodeWriter)| {
            known
                .as_ref()
                .zip(node)
                .is_some_and(|(known, node)| Arc::ptr_eq(known, node))
        };
        match self.writers.iter().position(is_its) {
            Some(place) => self.writers.swap_remove(place).1,
            None => NodeWriter::new(self.partitions.clone(), self.flushes.clone(), self.with_dedupe),
        }
    }
}

/// Has these note what they left, and gives their connections back.
async fn settle_all(writers: Vec<(Option<Arc<RedisNode>>, NodeWriter)>) {
    let each = writers.into_iter().map(|(_, mut writer)| async move {
        let _ = tokio::time::timeout(SETTLE_LIMIT, writer.settle()).await;
    });
    join_all(each).await;
}

#[async_trait]
impl Writer for RedisWriter {
    async fn append(&mut self, entries: &[NewEntry]) -> Vec<Appended> {
        let appended = self.append_within(entries, LONG_PATIENCE).await;
        self.settle().await;
        appended
    }

    async fn append_with_more(&mut self, entries: &[NewEntry]) -> Vec<Appended> {
        self.append_within(entries, SHORT_PATIENCE).await
    }

    fn partition_of(&self, entry: &NewEntry) -> Option<u16> {
        match (self.partitions.log_of(entry), self.partitions.fail_apart()) {
            (LogName::Partition(partition), _) => Some(partition),
            (LogName::DeadLetters, false) => Some(0),
            (LogName::DeadLetters, true) => None,
        }
    }

    async fn settle(&mut self) {
        join_all(self.writers.iter_mut().map(|(_, writer)| writer.settle())).await;
    }
}
