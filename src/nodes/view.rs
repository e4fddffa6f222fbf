//! The processes on one stream as this one sees them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

use super::record::NodeRecord;

/// From one heartbeat of a process to its next.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// A process without a heartbeat for so long counts as gone.
pub const STALE_AFTER: Duration = Duration::from_secs(15);
/// A record without a heartbeat for so long is removed.
pub const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// An answer of the store is used for so long where the next heartbeats fail: shorter than it takes
/// for a live node in it to look stale.
const VALID_FOR: Duration = Duration::from_secs(10);

/// One process, and how old its last heartbeat is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "NodeView", into = "NodeView")]
pub struct Node {
    /// What it tells of itself.
    pub record: NodeRecord,
    /// By the store's clock, plus the time since that was read.
    pub heartbeat_age: Duration,
}

impl Node {
    /// Whether it counts as gone.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.heartbeat_age > STALE_AFTER
    }

    /// Whether it loads, and is there.
    #[must_use]
    pub fn is_live_worker(&self) -> bool {
        self.record.role.works() && !self.is_stale()
    }
}

/// A node as JSON has it.
#[derive(Serialize, Deserialize)]
struct NodeView {
    #[serde(flatten)]
    record: serde_json::Value,
    heartbeat_age_seconds: f64,
    #[serde(default)]
    stale: bool,
}

impl From<Node> for NodeView {
    fn from(node: Node) -> Self {
        Self {
            stale: node.is_stale(),
            heartbeat_age_seconds: node.heartbeat_age.as_secs_f64(),
            // Numbers, texts and lists: this cannot fail.
            record: serde_json::to_value(node.record).unwrap_or_default(),
        }
    }
}

impl From<NodeView> for Node {
    fn from(view: NodeView) -> Self {
        Self {
            record: NodeRecord::read(view.record),
            heartbeat_age: Duration::try_from_secs_f64(view.heartbeat_age_seconds).unwrap_or(Duration::MAX),
        }
    }
}

/// The answer of `/api/nodes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeList {
    /// All that have a record; none where they are not known.
    pub nodes: Option<Vec<Node>>,
}

/// What this process read last of all nodes, with its own heartbeat; a cheap clone.
#[derive(Debug, Clone, Default)]
pub struct Nodes(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// This process, as of its last sample.
    own: ArcSwapOption<NodeRecord>,
    answer: ArcSwapOption<NodesReading>,
}

/// What the store told at one moment.
#[derive(Debug)]
struct NodesReading {
    at: Instant,
    nodes: Vec<Node>,
}

impl Nodes {
    /// None is known yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }

    /// All nodes, with this one's figures of right now; `None` before the store's first answer and
    /// while it is away.
    #[must_use]
    pub fn current(&self) -> Option<Vec<Node>> {
        let answer = self.0.answer.load_full()?;
        let since = answer.at.elapsed();
        if since > VALID_FOR {
            return None;
        }
        let own = self.0.own.load_full();
        let aged = |node: &Node| match &own {
            Some(own) if own.id == node.record.id => Node {
                record: NodeRecord::clone(own),
                heartbeat_age: Duration::ZERO,
            },
            _ => Node {
                record: node.record.clone(),
                heartbeat_age: node.heartbeat_age + since,
            },
        };
        Some(answer.nodes.iter().map(aged).collect())
    }

    /// Whether this process is the first, by id, of those that load into the warehouse: it does what one
    /// of them is to do.
    #[must_use]
    pub fn is_own_the_first_worker(&self) -> bool {
        let nodes = self.current().unwrap_or_default();
        let workers = nodes.iter().filter(|node| node.is_live_worker());
        let first = workers.map(|node| &node.record.id).min();
        first.is_some() && first == self.own_id().as_ref()
    }

    /// All nodes but this process; `None` where they are not known.
    #[must_use]
    pub fn others(&self) -> Option<Vec<Node>> {
        let (mut nodes, own) = (self.current()?, self.own_id());
        nodes.retain(|node| Some(&node.record.id) != own.as_ref());
        Some(nodes)
    }

    /// Id of this process; `None` before its first sample.
    #[must_use]
    pub fn own_id(&self) -> Option<String> {
        self.0.own.load().as_ref().map(|own| own.id.clone())
    }

    pub(super) fn set_own(&self, record: NodeRecord) {
        self.0.own.store(Some(Arc::new(record)));
    }

    pub(super) fn set_all(&self, nodes: Vec<Node>) {
        let at = Instant::now();
        self.0.answer.store(Some(Arc::new(NodesReading { at, nodes })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Role;

    fn node(id: &str, role: Role, age: u64) -> Node {
        Node {
            record: NodeRecord {
                id: id.to_owned(),
                role,
                ..NodeRecord::default()
            },
            heartbeat_age: Duration::from_secs(age),
        }
    }

    #[test]
    fn a_node_is_stale_after_three_missed_heartbeats() {
        for (role, age, is_stale, is_live_worker) in [
            (Role::Work, 15, false, true),
            (Role::Work, 16, true, false),
            (Role::Run, 0, false, true),
            (Role::Serve, 0, false, false),
            (Role::Unknown, 0, false, false),
        ] {
            let node = node("a", role, age);
            assert_eq!(
                (node.is_stale(), node.is_live_worker()),
                (is_stale, is_live_worker),
                "{role:?}"
            );
            let json = serde_json::to_value(&node).unwrap();
            assert_eq!(
                (&json["stale"], &json["heartbeat_age_seconds"]),
                (&is_stale.into(), &(age as f64).into())
            );
            assert_eq!(serde_json::from_value::<Node>(json).unwrap(), node);
        }
    }

    #[test]
    fn this_process_is_as_fresh_as_its_last_sample() {
        let nodes = Nodes::unknown();
        assert_eq!(nodes.current(), None);
        nodes.set_own(node("a", Role::Run, 0).record);
        assert_eq!(nodes.current(), None, "of the others nothing is known");
        nodes.set_all(vec![node("a", Role::Serve, 4), node("b", Role::Work, 4)]);
        let current = nodes.current().unwrap();
        assert_eq!(current[0], node("a", Role::Run, 0));
        assert!(current[1].heartbeat_age >= Duration::from_secs(4));
    }
}
