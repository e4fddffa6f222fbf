//! The primaries of a Redis or Valkey Cluster, as its nodes tell them.
//!
//! A look asks a few nodes, seeds among them, for CLUSTER SLOTS. The map of the highest
//! `cluster_current_epoch` counts: a primary that was cut off goes on naming itself. Invariants: a
//! node that is known stays the same one, with its pool, from map to map; nothing waits for a look
//! but the first one; a redirect outweighs the map until the next look.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::{ConnectionAddr, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value, from_redis_value};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;
use tracing::info;

use super::error;
use super::node::{ConnectionLimits, PATIENCE, RedisNode};
use super::slot_map::{SlotMap, SlotRange, redirect_address, slot_ranges};
use super::url::{ClusterUrl, server_at};
use super::whereabouts::LOOK_PAUSE;
use crate::metrics::Metrics;
use crate::stream::StreamError;

/// Nodes that one look asks.
const ASKED: usize = 6;

pub(super) struct Cluster {
    url: ClusterUrl,
    seeds: Vec<Arc<RedisNode>>,
    limits: ConnectionLimits,
    /// Slots of the partitions, in order, and of the dead letters.
    slots: Arc<[u16]>,
    map: watch::Sender<Option<Arc<SlotMap>>>,
    pub(super) doubted: Notify,
    /// When the last look ended, and its error. Held over a look.
    looked: Mutex<Option<(Instant, Option<StreamError>)>>,
    metrics: Metrics,
}

/// What a node told: the greatest epoch that it knows of, and who owns what.
struct Told {
    epoch: u64,
    ranges: Vec<SlotRange>,
}

/// Where a command is to be sent instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) address: (String, u16),
    /// For this slot from now on; else once, while it moves.
    pub(super) moved: Option<u16>,
}

impl Redirect {
    /// Of a node's refusal; `None` where it is none.
    pub(super) fn of(error: &RedisError, answered: &RedisNode) -> Option<Self> {
        let (address, slot) = error.redirect_node()?;
        Some(Self {
            address: redirect_address(address, answered.host())?,
            moved: (error.kind() == ErrorKind::Server(ServerErrorKind::Moved)).then_some(slot),
        })
    }
}

impl Cluster {
    pub(super) fn new(
        mut url: ClusterUrl,
        slots: Arc<[u16]>,
        limits: ConnectionLimits,
        metrics: &Metrics,
    ) -> Result<Self, StreamError> {
        let seeds = std::mem::take(&mut url.seeds).into_iter();
        let seeds = seeds.map(|info| RedisNode::new(info, limits).map(Arc::new));
        Ok(Self {
            seeds: seeds.collect::<Result<_, _>>()?,
            url,
            limits,
            slots,
            map: watch::Sender::new(None),
            doubted: Notify::new(),
            looked: Mutex::new(None),
            metrics: metrics.clone(),
        })
    }

    /// For texts: the owner of that slot, else the seeds.
    pub(super) fn address(&self, slot: u16) -> String {
        match self.owner_now(slot) {
            Some(node) => node.address.clone(),
            None => self.seeds_address(),
        }
    }

    fn seeds_address(&self) -> String {
        let seeds: Vec<_> = self.seeds.iter().map(|seed| &*seed.address).collect();
        format!("the cluster at {}", seeds.join(", "))
    }

    pub(super) fn known(&self) -> Option<Arc<SlotMap>> {
        self.map.borrow().clone()
    }

    /// The owner of a slot, as far as is known.
    pub(super) fn owner_now(&self, slot: u16) -> Option<Arc<RedisNode>> {
        self.map.borrow().as_ref()?.owner(slot).cloned()
    }

    pub(super) fn is_owner(&self, slot: u16, node: &Arc<RedisNode>) -> bool {
        let map = self.map.borrow();
        let owner = map.as_ref().and_then(|map| map.owner(slot));
        owner.is_some_and(|owner| Arc::ptr_eq(owner, node))
    }

    /// # Errors
    /// No node tells, or none owns that slot.
    pub(super) async fn owner(&self, slot: u16) -> Result<Arc<RedisNode>, StreamError> {
        if self.map.borrow().is_none() {
            let outcome = self.look().await;
            if let (None, Some(error)) = (self.known(), outcome) {
                return Err(error);
            }
        }
        self.owner_now(slot).ok_or_else(|| {
            self.doubted.notify_one();
            let line = format!("no node owns hash slot {slot}");
            error::server_error(&self.seeds_address(), "CLUSTERDOWN", &line)
        })
    }

    /// Waits until another node than this one owns the slot.
    pub(super) async fn left(&self, slot: u16, node: &Arc<RedisNode>) {
        let mut map = self.map.subscribe();
        let is_elsewhere = |map: &Option<Arc<SlotMap>>| {
            let owner = map.as_ref().and_then(|map| map.owner(slot));
            owner.is_some_and(|owner| !Arc::ptr_eq(owner, node))
        };
        // Fails only where the sender is gone, which `self` holds.
        let _ = map.wait_for(is_elsewhere).await;
    }

    /// Partitions of the same number have their logs on the same node: the first such partition's.
    pub(super) fn lane(&self, partition: usize) -> usize {
        let map = self.map.borrow();
        let owner = |partition: &usize| map.as_ref()?.owner(*self.slots.get(*partition)?);
        let Some(own) = owner(&partition) else { return partition };
        let is_same = |one: &usize| owner(one).is_some_and(|owner| Arc::ptr_eq(owner, own));
        (0..partition).find(is_same).unwrap_or(partition)
    }

    /// The node that a redirect leads to; a slot that moved for good is its from now on.
    pub(super) fn follow(&self, redirect: &Redirect) -> Result<Arc<RedisNode>, StreamError> {
        let (host, port) = &redirect.address;
        let address = format!("{host}:{port}");
        let known = self
            .map
            .borrow()
            .as_ref()
            .and_then(|map| map.node_at(&address).cloned());
        let is_new = known.is_none();
        let node = match known {
            Some(node) => node,
            None => Arc::new(RedisNode::new(server_at(&self.url.server, host, *port), self.limits)?),
        };
        let moved = redirect.moved.filter(|slot| !self.is_owner(*slot, &node));
        if is_new || moved.is_some() {
            self.map.send_modify(|map| {
                let mut changed = map.as_deref().cloned().unwrap_or_default();
                changed.add_node(address, Arc::clone(&node));
                if let Some(slot) = moved {
                    changed.set_owner(slot, Arc::clone(&node));
                }
                *map = Some(Arc::new(changed));
            });
        }
        if let Some(slot) = moved {
            self.doubted.notify_one();
            self.metrics.owner_changes.inc();
            info!(
                primary = node.address,
                slot, "another node of the cluster owns a partition"
            );
        }
        Ok(node)
    }

    /// Asks for a new map; answers why there is none.
    pub(super) async fn look(&self) -> Option<StreamError> {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if let Some((at, error)) = &*looked
            && *at + LOOK_PAUSE > asked
        {
            return error.clone();
        }
        let error = match self.ask().await {
            Ok(ranges) => self.change(&ranges).err(),
            Err(error) => Some(error),
        };
        *looked = Some((Instant::now(), error.clone()));
        error
    }

    async fn ask(&self) -> Result<Vec<SlotRange>, StreamError> {
        let nodes = self.asked();
        let mut answers: FuturesUnordered<_> = nodes.iter().map(|node| self.ask_one(node)).collect();
        let (mut best, mut error): (Option<Told>, Option<StreamError>) = (None, None);
        // Once there is an answer, one that is newer comes soon or not at all.
        let mut until = Instant::now() + self.limits.connect + self.limits.response;
        while let Ok(Some(answer)) = tokio::time::timeout_at(until, answers.next()).await {
            match answer {
                Ok(told) => {
                    let rank = |told: &Told| (told.epoch, told.ranges.len());
                    if best.as_ref().is_none_or(|best| rank(&told) > rank(best)) {
                        best = Some(told);
                    }
                    until = until.min(Instant::now() + PATIENCE);
                }
                // Of several the one that an operator can do something about.
                Err(other) => {
                    let is_idle = |error: &StreamError| {
                        matches!(error, StreamError::Unreachable { .. } | StreamError::Timeout { .. })
                    };
                    if error.as_ref().is_none_or(is_idle) {
                        error = Some(other);
                    }
                }
            }
        }
        match best {
            Some(told) => Ok(told.ranges),
            None => Err(error.unwrap_or_else(|| StreamError::Timeout {
                server: self.seeds_address(),
                after: self.limits.connect + self.limits.response,
            })),
        }
    }

    /// Some of the nodes, of which each is asked in its turn; seeds first, since the others may be
    /// cut off.
    fn asked(&self) -> Vec<Arc<RedisNode>> {
        let mut seeds = self.seeds.clone();
        let mut primaries = self.known().map(|map| map.primaries()).unwrap_or_default();
        for nodes in [&mut seeds, &mut primaries] {
            let turn = rand::random::<u32>() as usize % nodes.len().max(1);
            nodes.rotate_left(turn);
        }
        let first = seeds.len().min(ASKED / 2);
        let mut asked: Vec<Arc<RedisNode>> = Vec::new();
        for node in seeds[..first].iter().chain(&primaries).chain(&seeds[first..]) {
            if !asked.iter().any(|one| one.address == node.address) {
                asked.push(Arc::clone(node));
            }
        }
        asked.truncate(ASKED);
        asked
    }

    async fn ask_one(&self, node: &RedisNode) -> Result<Told, StreamError> {
        let mut questions = Pipeline::new();
        questions.cmd("CLUSTER").arg("SLOTS").cmd("CLUSTER").arg("INFO");
        let answers = node.questions.ask(questions, self.limits).await;
        let answers = answers.map_err(|(error, limit)| error::stream_error(&node.address, &error, limit))?;
        let mut answers = answers.into_iter();
        let slots = answers.next().unwrap_or(Ok(Value::Nil)).map_err(|error| {
            match error
                .detail()
                .is_some_and(|detail| detail.contains("cluster support disabled"))
            {
                true => StreamError::Unusable(format!(
                    "{} is not a node of a cluster: use redis:// or rediss:// for a single server",
                    node.address
                )),
                false => node.stream_error(&error),
            }
        })?;
        let has_tls = matches!(self.url.server.addr(), ConnectionAddr::TcpTls { .. });
        let ranges = slot_ranges(slots, node.host(), has_tls);
        if ranges.is_empty() {
            let line = "it knows of no node that owns hash slots";
            return Err(error::server_error(&node.address, "CLUSTERDOWN", line));
        }
        // A user may lack the right to ask.
        let info: Option<String> = answers.next().and_then(|info| from_redis_value(info.ok()?).ok());
        let epoch = info.as_deref().and_then(|info| {
            let value = info
                .lines()
                .find_map(|line| line.strip_prefix("cluster_current_epoch:"));
            value?.trim().parse().ok()
        });
        Ok(Told {
            epoch: epoch.unwrap_or_default(),
            ranges,
        })
    }

    fn change(&self, ranges: &[SlotRange]) -> Result<(), StreamError> {
        let former = self.known();
        let node = |host: &str, port| RedisNode::new(server_at(&self.url.server, host, port), self.limits);
        let map = SlotMap::new(ranges, former.as_deref().unwrap_or(&SlotMap::default()), node)?;
        match &former {
            Some(former) => {
                for &slot in self.slots.iter() {
                    if let Some((one, other)) = former.owner(slot).zip(map.owner(slot))
                        && !Arc::ptr_eq(one, other)
                    {
                        self.metrics.owner_changes.inc();
                        info!(
                            former = one.address,
                            primary = other.address,
                            slot,
                            "another node of the cluster owns a partition"
                        );
                    }
                }
            }
            None => info!(primaries = map.primaries().len(), "the cluster tells its primaries"),
        }
        self.map.send_replace(Some(Arc::new(map)));
        Ok(())
    }

    /// What an operator should see to.
    pub(super) fn warnings(&self) -> Vec<String> {
        let Some(map) = self.known() else { return Vec::new() };
        let mut warnings = Vec::new();
        if map.unowned() > 0 {
            warnings.push(format!(
                "{} of the cluster's hash slots have no node: a partition that moves there is not served (redis-cli \
                 --cluster fix).",
                map.unowned()
            ));
        }
        let partitions = &self.slots[..self.slots.len().saturating_sub(1)];
        let is_used = |node: &Arc<RedisNode>| {
            let owners = partitions.iter().filter_map(|slot| map.owner(*slot));
            owners.into_iter().any(|owner| Arc::ptr_eq(owner, node))
        };
        let idle = map.primaries().into_iter().filter(|node| !is_used(node));
        let idle: Vec<String> = idle.map(|node| node.address.clone()).collect();
        if !idle.is_empty() {
            warnings.push(format!(
                "{} of the cluster's primaries own no partition and do nothing for this stream ({}): raise \
                 ORDERSTREAM_PARTITIONS, best to four for each primary.",
                idle.len(),
                idle.join(", ")
            ));
        }
        warnings
    }
}

/// Interval at which the map is asked for where nothing failed.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);
