//! A Redis Cluster on free ports of loopback: primaries that share the slots, and a replica of each.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{FromRedisValue, InfoDict, Value};
use tokio::time::timeout;

use super::eventually;
use super::ports::reserved_port;
use super::redis::{RedisOptions, RedisServer};
use super::relays::Relays;
use super::site::PATIENCE;

const SLOTS: u32 = 16_384;
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

/// First and last slots, and the place of their owner.
type SlotOwner = (i64, i64, usize);

pub struct Cluster {
    /// First the primaries, then their replicas in the same order.
    pub nodes: Vec<RedisServer>,
    ids: Vec<String>,
    is_replicated: bool,
    /// Before the ports of the cluster's bus.
    relays: Relays,
}

impl Cluster {
    /// `primaries` with a replica each, where `is_replicated`; all with these options.
    pub async fn start(primaries: usize, is_replicated: bool, options: RedisOptions) -> Self {
        let count = if is_replicated { 2 * primaries } else { primaries };
        let buses: Vec<_> = (0..count).map(|_| reserved_port()).collect();
        let relays = Relays::before(buses.clone());
        let started = (0..count).map(|place| {
            let (mut options, bus) = (options.clone(), buses[place]);
            options.tcp = !options.tls;
            options.config.extend([
                "cluster-enabled yes".to_owned(),
                format!("cluster-port {bus}"),
                format!("cluster-announce-bus-port {}", relays.port(place)),
                format!("cluster-node-timeout {}", NODE_TIMEOUT.as_millis()),
                "cluster-require-full-coverage no".to_owned(),
                // A replica may take over however long it was cut off.
                "cluster-replica-validity-factor 0".to_owned(),
                "repl-diskless-sync-delay 0".to_owned(),
            ]);
            options.config.extend(Relays::server(place));
            RedisServer::start_with(options)
        });
        let nodes = join_all(started).await;
        let ids = join_all(nodes.iter().map(|node| node.command::<String>(&["CLUSTER", "MYID"]))).await;
        let cluster = Self {
            nodes,
            ids,
            is_replicated,
            relays,
        };
        // Before any of them knows another.
        for (place, node) in cluster.nodes.iter().enumerate() {
            let epoch = (place + 1).to_string();
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
        }
        cluster.meet().await;
        for (place, node) in cluster.nodes.iter().take(primaries).enumerate() {
            let edge = |place: usize| u32::try_from(place).unwrap() * SLOTS / u32::try_from(primaries).unwrap();
            let (first, last) = (edge(place).to_string(), (edge(place + 1) - 1).to_string());
            node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
        }
        for (place, replica) in cluster.nodes.iter().enumerate().skip(primaries) {
            let primary = &cluster.ids[place - primaries];
            eventually("a node knows its primary", PATIENCE, async || {
                let replicated = replica.try_command::<()>(&["CLUSTER", "REPLICATE", primary]).await;
                replicated.ok()
            })
            .await;
        }
        cluster.is_whole().await;
        cluster
    }

    /// Introduces the nodes to each other, again where it took longer than the node timeout.
    async fn meet(&self) {
        for node in &self.nodes {
            eventually("a node knows the others", PATIENCE, async || {
                for (place, other) in self.nodes.iter().enumerate() {
                    let (port, bus) = (other.port().to_string(), self.relays.port(place).to_string());
                    let meet = ["CLUSTER", "MEET", "127.0.0.1", &port, &bus];
                    node.try_command::<()>(&meet).await.ok()?;
                }
                let knows = eventually("it knows them soon", PATIENCE, async || {
                    let known: String = node.try_command(&["CLUSTER", "NODES"]).await.ok()?;
                    self.ids.iter().all(|id| known.contains(id)).then_some(())
                });
                timeout(NODE_TIMEOUT, knows).await.ok()
            })
            .await;
        }
    }

    /// The places of those that run, and are not cut off.
    fn reachable(&self) -> impl Iterator<Item = usize> {
        let is_reachable = |place: &usize| self.nodes[*place].is_running() && !self.relays.is_cut_off(*place);
        (0..self.nodes.len()).filter(is_reachable)
    }

    /// Cuts that primary off from the others, its replica too, but from no client. Confirmed or not, what it takes from now
    /// on is thrown away once [`Self::join`] was called.
    pub async fn cut_off(&self, primary: usize) {
        let replica = self.replica_of(primary).await;
        self.relays.cut_off(Some(primary));
        self.nodes[replica].leave(&self.nodes[primary]).await;
    }

    /// Undoes [`Self::cut_off`].
    pub async fn join(&self) {
        for place in self.reachable() {
            self.nodes[place].may_follow().await;
        }
        self.relays.cut_off(None);
    }

    /// Waits until every node that runs knows all of them, all slots have an owner, on which they agree, and replicas are
    /// in step.
    pub async fn is_whole(&self) {
        eventually("the cluster is whole", PATIENCE, async || {
            let mut agreed: Option<Vec<SlotOwner>> = None;
            for node in self.nodes.iter().filter(|node| node.is_running()) {
                let mut owners = self.seen_by(node).await?;
                owners.sort_unstable();
                // One that was replaced while it was away finds out a moment after its start.
                (*agreed.get_or_insert_with(|| owners.clone()) == owners).then_some(())?;
            }
            Some(())
        })
        .await;
    }

    /// The owners of all slots as one node sees them; `None` while that is not whole.
    async fn seen_by(&self, node: &RedisServer) -> Option<Vec<SlotOwner>> {
        let known: Vec<Vec<Value>> = node.try_command(&["CLUSTER", "SLOTS"]).await.ok()?;
        let info: InfoDict = node.try_command(&["CLUSTER", "INFO"]).await.ok()?;
        let replication: InfoDict = node.try_command(&["INFO", "replication"]).await.ok()?;
        let is = |info: &InfoDict, name: &str, value: &str| info.get::<String>(name).as_deref() == Some(value);
        let is_up = is(&replication, "role", "master") || is(&replication, "master_link_status", "up");
        // First and last slot, the primary, and its replicas once they are known to be some.
        let is_replicated = known.iter().all(|range| range.len() > 3);
        let is_whole = is(&info, "cluster_state", "ok")
            && is(&info, "cluster_slots_assigned", &SLOTS.to_string())
            && is(&info, "cluster_known_nodes", &self.nodes.len().to_string())
            && (is_replicated || !self.is_replicated);
        (is_whole && is_up).then(|| self.owners(&known))
    }

    /// `host:port` of each, with commas; the first are replicas, where there are any.
    pub fn hosts(&self) -> String {
        let each: Vec<_> = self.nodes.iter().rev().map(RedisServer::tcp_address).collect();
        each.join(",")
    }

    /// The slot of a key.
    pub async fn slot(&self, key: &str) -> u16 {
        self.ask(&["CLUSTER", "KEYSLOT", key]).await
    }

    /// The place of the node that owns a key, as the first reachable node sees it.
    pub async fn owner(&self, key: &str) -> usize {
        let slot = i64::from(self.slot(key).await);
        let ranges = self.ranges().await;
        let range = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        range.expect("the slot has no owner").2
    }

    /// The places of all that own slots, as the first reachable node sees it.
    pub async fn primaries(&self) -> BTreeSet<usize> {
        self.ranges().await.into_iter().map(|(_, _, owner)| owner).collect()
    }

    async fn ranges(&self) -> Vec<SlotOwner> {
        self.owners(&self.ask::<Vec<Vec<Value>>>(&["CLUSTER", "SLOTS"]).await)
    }

    fn owners(&self, ranges: &[Vec<Value>]) -> Vec<SlotOwner> {
        let number = |value: &Value| i64::from_redis_value_ref(value).unwrap();
        let owner = |range: &Vec<Value>| {
            let node = Vec::<Value>::from_redis_value_ref(&range[2]).unwrap();
            let id = String::from_redis_value_ref(&node[2]).unwrap();
            let owner = self.ids.iter().position(|one| *one == id).unwrap();
            (number(&range[0]), number(&range[1]), owner)
        };
        ranges.iter().map(owner).collect()
    }

    /// The place of the replica that is in step with that primary.
    pub async fn replica_of(&self, primary: usize) -> usize {
        let port = self.nodes[primary].port().to_string();
        eventually("the primary has a replica", PATIENCE, async || {
            for (place, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_running()) {
                let info: InfoDict = node.try_command(&["INFO", "replication"]).await.ok()?;
                let is = |name: &str, value: &str| info.get::<String>(name).as_deref() == Some(value);
                if is("role", "slave") && is("master_port", &port) && is("master_link_status", "up") {
                    return Some(place);
                }
            }
            None
        })
        .await
    }

    /// Waits until all reachable nodes name another owner of that key than this; answers it.
    pub async fn left(&self, key: &str, former: usize) -> usize {
        let slot = i64::from(self.slot(key).await);
        for node in self.reachable() {
            eventually("another node owns the slot", PATIENCE, async || {
                let ranges: Vec<Vec<Value>> = self.nodes[node].try_command(&["CLUSTER", "SLOTS"]).await.ok()?;
                let number = |value: &Value| i64::from_redis_value_ref(value).unwrap();
                let range = ranges
                    .iter()
                    .find(|range| (number(&range[0])..=number(&range[1])).contains(&slot))?;
                let owner = Vec::<Value>::from_redis_value_ref(&range[2]).unwrap();
                (String::from_redis_value_ref(&owner[2]).unwrap() != self.ids[former]).then_some(())
            })
            .await;
        }
        self.owner(key).await
    }

    /// A planned failover of the primary at that place; answers the new one.
    pub async fn fail_over(&self, key: &str) -> usize {
        let primary = self.owner(key).await;
        let replica = self.replica_of(primary).await;
        loop {
            // A replica whose primary was away a moment ago refuses it.
            eventually("a failover begins", PATIENCE, async || {
                let begun = self.nodes[replica].try_command::<()>(&["CLUSTER", "FAILOVER"]).await;
                begun.ok()
            })
            .await;
            // It gives up after 5 s where the others do not vote for it, as they do for one primary's replicas once in
            // twice the node timeout.
            if let Ok(owner) = timeout(Duration::from_secs(6), self.left(key, primary)).await {
                return owner;
            }
        }
    }

    /// Whether replicas take over by themselves.
    pub async fn let_fail_over(&self, may: bool) {
        let value = if may { "no" } else { "yes" };
        for node in &self.nodes {
            let set = ["CONFIG", "SET", "cluster-replica-no-failover", value];
            node.command::<()>(&set).await;
        }
    }

    /// Opens the slot of a key for its move to that node, the old way.
    pub async fn open_move(&self, key: &str, to: usize) -> SlotMove<'_> {
        let (slot, from) = (self.slot(key).await.to_string(), self.owner(key).await);
        let importing = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]];
        self.nodes[to].command::<()>(&importing).await;
        let migrating = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]];
        self.nodes[from].command::<()>(&migrating).await;
        SlotMove {
            cluster: self,
            slot,
            from,
            to,
        }
    }

    /// Whether slots can move as a whole: in Redis from 8.4 on, in Valkey from 9.0 on.
    pub async fn can_migrate(&self) -> bool {
        let commands: Vec<String> = self.ask(&["CLUSTER", "HELP"]).await;
        commands
            .iter()
            .any(|line| line.starts_with("MIGRATION") || line.starts_with("MIGRATESLOTS"))
    }

    /// Moves the slot of a key to that node as a whole, and waits for it.
    pub async fn migrate(&self, key: &str, to: usize) {
        let (slot, from) = (self.slot(key).await.to_string(), self.owner(key).await);
        let of_redis = ["CLUSTER", "MIGRATION", "IMPORT", &slot, &slot];
        let of_valkey = [
            "CLUSTER",
            "MIGRATESLOTS",
            "SLOTSRANGE",
            &slot,
            &slot,
            "NODE",
            &self.ids[to],
        ];
        eventually("a migration begins", PATIENCE, async || {
            let is_begun = self.nodes[to].try_command::<Value>(&of_redis).await.is_ok()
                || self.nodes[from].try_command::<Value>(&of_valkey).await.is_ok();
            is_begun.then_some(())
        })
        .await;
        self.left(key, from).await;
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let node = self.reachable().next().expect("no node runs");
        self.nodes[node].command(words).await
    }
}

/// A slot that is on its way.
pub struct SlotMove<'a> {
    cluster: &'a Cluster,
    slot: String,
    from: usize,
    to: usize,
}

impl SlotMove<'_> {
    /// Keys of the slot that have not moved yet.
    pub async fn keys(&self) -> Vec<String> {
        let get = ["CLUSTER", "GETKEYSINSLOT", &self.slot, "1000"];
        self.cluster.nodes[self.from].command(&get).await
    }

    /// Moves these keys.
    pub async fn carry(&self, keys: &[String]) {
        let port = self.cluster.nodes[self.to].port().to_string();
        for key in keys {
            let carry = ["MIGRATE", "127.0.0.1", &port, key, "0", "60000"];
            self.cluster.nodes[self.from].command::<String>(&carry).await;
        }
    }

    /// Moves what is left, and gives the slot to the other node for good.
    pub async fn finish(self) {
        loop {
            let keys = self.keys().await;
            if keys.is_empty() {
                break;
            }
            self.carry(&keys).await;
        }
        let id = &self.cluster.ids[self.to];
        for place in [self.to, self.from] {
            let assign = ["CLUSTER", "SETSLOT", &self.slot, "NODE", id];
            self.cluster.nodes[place].command::<()>(&assign).await;
        }
    }
}
