//! Which node owns which hash slot: what CLUSTER SLOTS answers, and the map that follows from it.
//! Pure but for making the nodes, which connect to nothing yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::{Value, from_redis_value};

use super::node::RedisNode;
use super::placing::SLOTS;

/// A primary, as a node told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeAddress {
    pub(super) host: String,
    pub(super) port: u16,
    /// Hosts by which a redirect may call it too.
    pub(super) aliases: Vec<String>,
}

/// Slots that a primary owns, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotRange {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) primary: NodeAddress,
}

/// The answer to CLUSTER SLOTS of the node at `asked`. With TLS a node's hostname counts more than
/// its address, since the certificate names it. Ranges that are not understood are left out.
pub(super) fn slot_ranges(answer: Value, asked: &str, has_tls: bool) -> Vec<SlotRange> {
    let ranges: Vec<Vec<Value>> = from_redis_value(answer).unwrap_or_default();
    let range = |range: Vec<Value>| {
        let mut parts = range.into_iter();
        let (first, last) = (parts.next()?, parts.next()?);
        let (first, last): (u16, u16) = (from_redis_value(first).ok()?, from_redis_value(last).ok()?);
        Some(SlotRange {
            first,
            last,
            primary: node_address(parts.next()?, asked, has_tls)?,
        })
    };
    let mut ranges: Vec<SlotRange> = ranges.into_iter().filter_map(range).collect();
    ranges.retain(|range| range.first <= range.last && range.last < SLOTS);
    ranges.sort_by_key(|range| range.first);
    ranges
}

fn node_address(node: Value, asked: &str, has_tls: bool) -> Option<NodeAddress> {
    let mut parts = from_redis_value::<Vec<Value>>(node).ok()?.into_iter();
    let named: Option<String> = from_redis_value(parts.next()?).ok()?;
    let port = from_redis_value(parts.next()?).ok().filter(|port| *port > 0)?;
    // Then its id; since 7.0 what else is known of it, names and values in turn.
    let others: Vec<String> = parts
        .nth(1)
        .and_then(|more| from_redis_value(more).ok())
        .unwrap_or_default();
    let other = |name: &str| {
        let found = others
            .chunks_exact(2)
            .find(|pair| pair.first().is_some_and(|key| key == name));
        found
            .and_then(|pair| pair.last().cloned())
            .filter(|host| !host.is_empty())
    };
    // `?`: it is to be called by a hostname, and has none.
    let named = named.filter(|host| !host.is_empty() && host != "?");
    let known = [named, other("ip"), other("hostname")];
    let [named, ip, hostname] = known.clone();
    let host = match has_tls {
        true => hostname.or(named).or(ip),
        false => named.or(ip),
    };
    Some(NodeAddress {
        host: host.unwrap_or_else(|| asked.to_owned()),
        port,
        aliases: known.into_iter().flatten().collect(),
    })
}

/// `host:port` of a redirect; without a host, that of the node which answered it.
pub(super) fn redirect_address(text: &str, answered: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() || host == "?" { answered } else { host };
    Some((host.to_owned(), port.parse().ok().filter(|port| *port > 0)?))
}

/// The owners of all slots, as far as is known.
#[derive(Default, Clone)]
pub(super) struct SlotMap {
    /// First and last slot, rising.
    ranges: Vec<(u16, u16, Arc<RedisNode>)>,
    /// What redirects said since.
    moved: BTreeMap<u16, Arc<RedisNode>>,
    /// By each `host:port` that a redirect may name.
    nodes: BTreeMap<String, Arc<RedisNode>>,
}

impl SlotMap {
    /// `node` makes one of a host and port; those of `former` stay the same ones.
    pub(super) fn new<E>(
        ranges: &[SlotRange],
        former: &Self,
        node: impl Fn(&str, u16) -> Result<RedisNode, E>,
    ) -> Result<Self, E> {
        let mut map = Self::default();
        for SlotRange { first, last, primary } in ranges {
            let address = format!("{}:{}", primary.host, primary.port);
            let known = map.nodes.get(&address).or_else(|| former.nodes.get(&address));
            let owner = match known.cloned() {
                Some(node) => node,
                None => Arc::new(node(&primary.host, primary.port)?),
            };
            for alias in &primary.aliases {
                let alias = format!("{alias}:{}", primary.port);
                map.nodes.entry(alias).or_insert_with(|| Arc::clone(&owner));
            }
            map.nodes.insert(address, Arc::clone(&owner));
            map.ranges.push((*first, *last, owner));
        }
        Ok(map)
    }

    /// That slot has this owner, as a redirect said.
    pub(super) fn set_owner(&mut self, slot: u16, node: Arc<RedisNode>) {
        self.moved.insert(slot, node);
    }

    /// A node that no slot is known of, for as long as this map is used.
    pub(super) fn add_node(&mut self, address: String, node: Arc<RedisNode>) {
        self.nodes.insert(address, node);
    }

    pub(super) fn node_at(&self, address: &str) -> Option<&Arc<RedisNode>> {
        self.nodes.get(address)
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<RedisNode>> {
        if let Some(node) = self.moved.get(&slot) {
            return Some(node);
        }
        let place = self.ranges.partition_point(|(first, _, _)| *first <= slot);
        let (_, last, node) = self.ranges.get(place.checked_sub(1)?)?;
        (slot <= *last).then_some(node)
    }

    /// The nodes that own slots, each once.
    pub(super) fn primaries(&self) -> Vec<Arc<RedisNode>> {
        let mut primaries: Vec<Arc<RedisNode>> = Vec::new();
        for (_, _, node) in &self.ranges {
            if !primaries.iter().any(|known| Arc::ptr_eq(known, node)) {
                primaries.push(Arc::clone(node));
            }
        }
        primaries
    }

    /// Slots that no node owns.
    pub(super) fn unowned(&self) -> usize {
        let owned: usize = self
            .ranges
            .iter()
            .map(|(first, last, _)| usize::from(last - first) + 1)
            .sum();
        usize::from(SLOTS).saturating_sub(owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn node(host: Value, port: i64, others: &[&str]) -> Value {
        let others = Value::Array(others.iter().copied().map(bulk).collect());
        Value::Array(vec![host, Value::Int(port), bulk("id"), others])
    }

    fn range(first: i64, last: i64, node: Value) -> Value {
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    fn hosts(answer: Vec<Value>, has_tls: bool) -> Vec<(u16, String, u16)> {
        let ranges = slot_ranges(Value::Array(answer), "asked", has_tls).into_iter();
        ranges
            .map(|range| (range.first, range.primary.host, range.primary.port))
            .collect()
    }

    #[test]
    fn an_answer_names_each_primary_or_the_node_that_was_asked() {
        let answer = || {
            vec![
                range(100, 200, node(bulk("10.0.0.2"), 7001, &["hostname", "b.example"])),
                range(0, 99, node(Value::Nil, 7000, &[])),
                range(201, 300, node(bulk(""), 7002, &["ip", "10.0.0.3"])),
                range(301, 400, node(bulk("?"), 7003, &[])),
                // Not understood.
                range(500, 20_000, node(bulk("x"), 1, &[])),
                range(600, 599, node(bulk("x"), 1, &[])),
                range(600, 601, node(bulk("x"), 0, &[])),
            ]
        };
        let named = |hosts: [&str; 4]| {
            let each = hosts.into_iter().zip([0, 100, 201, 301]).zip(7000u16..);
            Vec::from_iter(each.map(|((host, first), port)| (first, host.to_owned(), port)))
        };
        assert_eq!(
            hosts(answer(), false),
            named(["asked", "10.0.0.2", "10.0.0.3", "asked"])
        );
        assert_eq!(
            hosts(answer(), true),
            named(["asked", "b.example", "10.0.0.3", "asked"])
        );
        assert_eq!(hosts(Vec::new(), false), []);
    }

    #[test]
    fn a_redirect_names_a_host_or_the_one_that_answered() {
        let read = |text| redirect_address(text, "asked");
        assert_eq!(read("10.0.0.1:7000"), Some(("10.0.0.1".to_owned(), 7000)));
        assert_eq!(read("::1:7000"), Some(("::1".to_owned(), 7000)));
        assert_eq!(read(":7000"), Some(("asked".to_owned(), 7000)));
        assert_eq!(read("?:7000"), Some(("asked".to_owned(), 7000)));
        assert_eq!(read("10.0.0.1"), None);
        assert_eq!(read("10.0.0.1:0"), None);
    }

    #[test]
    fn a_map_keeps_its_nodes_and_redirects_outweigh_it() {
        let address = |host: &str, aliases: &[&str]| NodeAddress {
            host: host.to_owned(),
            port: 1,
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        };
        let ranges = |hosts: [&str; 3]| {
            let each = hosts.into_iter().zip([(0, 99), (100, 199), (300, SLOTS - 1)]);
            Vec::from_iter(each.map(|(host, (first, last))| SlotRange {
                first,
                last,
                primary: address(host, &["alias"]),
            }))
        };
        let limits = super::super::node::ConnectionLimits {
            pool_size: 1,
            connect: std::time::Duration::from_secs(1),
            response: std::time::Duration::from_secs(1),
        };
        let made = |host: &str, port| {
            let info = redis::IntoConnectionInfo::into_connection_info(format!("redis://{host}:{port}")).unwrap();
            RedisNode::new(info, limits)
        };
        let first = SlotMap::new(&ranges(["a", "b", "a"]), &SlotMap::default(), made).unwrap();
        let of = |map: &SlotMap, slot| map.owner(slot).map(|node| node.address.clone());
        let owners = [0, 99, 100, 199, 200, 299, 300, SLOTS - 1].map(|slot| of(&first, slot));
        let expected =
            ["a", "a", "b", "b", "", "", "a", "a"].map(|host| Some(format!("{host}:1")).filter(|it| it != ":1"));
        assert_eq!(owners, expected);
        assert_eq!((first.primaries().len(), first.unowned()), (2, 100));
        assert_eq!(first.node_at("alias:1").unwrap().address, "a:1");
        let mut second = SlotMap::new(&ranges(["c", "b", "c"]), &first, made).unwrap();
        assert!(Arc::ptr_eq(second.owner(100).unwrap(), first.owner(100).unwrap()));
        second.set_owner(100, Arc::clone(second.owner(0).unwrap()));
        assert_eq!(of(&second, 100).as_deref(), Some("c:1"));
        assert_eq!(of(&second, 101).as_deref(), Some("b:1"));
    }
}
