//! Where the servers of the stream are, as one URL says it: at a fixed address, wherever the sentinels
//! say that the primary is, or on the node of a cluster that owns a hash slot.
//!
//! Invariants: a server that is left gives no connection any more, and whoever blocks on one of its
//! connections is told ([`Whereabouts::left`]); what fails on the server in use has the sentinels
//! asked again before the next connection is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;
use tracing::info;

use super::cluster::{self, Cluster};
use super::node::{ConnectionLimits, RedisNode};
use super::sentinel::Sentinels;
use super::url::RedisUrl;
use crate::metrics::Metrics;
use crate::stream::StreamError;

/// Least time from one look to the next.
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(100);

pub(super) enum Whereabouts {
    Fixed(Arc<RedisNode>),
    Sentinel(Box<Primary>),
    Cluster(Box<Cluster>),
}

/// Interval at which sentinels are asked.
const ASK_SENTINELS_EVERY: Duration = Duration::from_secs(1);

/// The primary that sentinels name.
pub(super) struct Primary {
    sentinels: Sentinels,
    /// The one in use; none before the first look.
    node: watch::Sender<Option<Arc<RedisNode>>>,
    /// Something failed on it since the last look.
    is_doubted: AtomicBool,
    doubted: Notify,
    /// When the last look ended, and its error. Held over a look.
    looked: Mutex<Option<(Instant, Option<StreamError>)>>,
    metrics: Metrics,
}

impl Whereabouts {
    /// `slots`: of the partitions, in order, and of the dead letters.
    pub(super) fn new(
        url: RedisUrl,
        slots: &Arc<[u16]>,
        limits: ConnectionLimits,
        metrics: &Metrics,
    ) -> Result<Self, StreamError> {
        Ok(match url {
            RedisUrl::Fixed(info) => Self::Fixed(Arc::new(RedisNode::new(info, limits)?)),
            RedisUrl::Sentinel(url) => Self::Sentinel(Box::new(Primary {
                sentinels: Sentinels::new(url, limits)?,
                node: watch::Sender::new(None),
                is_doubted: AtomicBool::new(false),
                doubted: Notify::new(),
                looked: Mutex::new(None),
                metrics: metrics.clone(),
            })),
            RedisUrl::Cluster(url) => {
                let cluster = Cluster::new(url, Arc::clone(slots), limits, metrics)?;
                Self::Cluster(Box::new(cluster))
            }
        })
    }

    pub(super) fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::Cluster(cluster) => Some(cluster),
            Self::Fixed(_) | Self::Sentinel(_) => None,
        }
    }

    /// For texts, without credentials.
    pub(super) fn address(&self, slot: u16) -> String {
        match self {
            Self::Fixed(node) => node.address.clone(),
            Self::Sentinel(primary) => match primary.known() {
                Some(node) => node.address.clone(),
                None => primary.sentinels.address(),
            },
            Self::Cluster(cluster) => cluster.address(slot),
        }
    }

    /// The server to use now for keys of that slot.
    ///
    /// # Errors
    /// None is known, and the sentinels or the cluster's nodes name none.
    pub(super) async fn owner(&self, slot: u16) -> Result<Arc<RedisNode>, StreamError> {
        match self {
            Self::Fixed(node) => Ok(Arc::clone(node)),
            Self::Sentinel(primary) => match primary.known() {
                Some(node) if !primary.is_doubted.load(Ordering::Acquire) => Ok(node),
                _ => {
                    let outcome = primary.look().await;
                    primary.known().map_or_else(|| Err(outcome.unwrap_or_else(unknown)), Ok)
                }
            },
            Self::Cluster(cluster) => cluster.owner(slot).await,
        }
    }

    /// Whether that server is the one to use for keys of that slot.
    pub(super) fn is_current(&self, slot: u16, node: &Arc<RedisNode>) -> bool {
        match self {
            Self::Fixed(fixed) => Arc::ptr_eq(fixed, node),
            Self::Sentinel(primary) => primary.uses(primary.node.borrow().as_ref(), node),
            Self::Cluster(cluster) => cluster.is_owner(slot, node),
        }
    }

    /// Waits until another server than this one is named for keys of that slot.
    pub(super) async fn left(&self, slot: u16, node: &Arc<RedisNode>) {
        match self {
            Self::Fixed(_) => std::future::pending().await,
            Self::Sentinel(primary) => {
                let mut current = primary.node.subscribe();
                // Fails only where the sender is gone, which `self` holds.
                let _ = current.wait_for(|current| !primary.uses(current.as_ref(), node)).await;
            }
            Self::Cluster(cluster) => cluster.left(slot, node).await,
        }
    }

    /// Something failed on the server in use: it may not be the primary any more.
    pub(super) fn doubt(&self) {
        match self {
            Self::Fixed(_) => {}
            Self::Sentinel(primary) => {
                primary.is_doubted.store(true, Ordering::Release);
                primary.doubted.notify_one();
            }
            Self::Cluster(cluster) => cluster.doubted.notify_one(),
        }
    }

    /// Waits for the next doubt.
    pub(super) async fn doubted(&self) {
        match self {
            Self::Fixed(_) => std::future::pending().await,
            Self::Sentinel(primary) => primary.doubted.notified().await,
            Self::Cluster(cluster) => cluster.doubted.notified().await,
        }
    }

    /// From one look to the next where nothing is doubted.
    pub(super) fn look_every(&self) -> Duration {
        match self {
            Self::Fixed(_) | Self::Sentinel(_) => ASK_SENTINELS_EVERY,
            Self::Cluster(_) => cluster::LOOK_EVERY,
        }
    }

    /// Asks the sentinels or the cluster, where there are any; answers why they name no primary.
    pub(super) async fn look(&self) -> Option<StreamError> {
        match self {
            Self::Fixed(_) => None,
            Self::Sentinel(primary) => primary.look().await,
            Self::Cluster(cluster) => cluster.look().await,
        }
    }

    /// What an operator should see to; `None` where the address is fixed.
    pub(super) async fn warnings(&self) -> Option<Vec<String>> {
        match self {
            Self::Fixed(_) => None,
            Self::Sentinel(primary) => Some(primary.sentinels.warnings().await),
            Self::Cluster(cluster) => Some(cluster.warnings()),
        }
    }

    /// Gives no connection any more.
    pub(super) fn close(&self) {
        match self {
            Self::Fixed(node) => node.close(),
            Self::Sentinel(primary) => primary.known().iter().for_each(|node| node.close()),
            Self::Cluster(cluster) => {
                let nodes = cluster.known().map(|map| map.primaries());
                nodes.iter().flatten().for_each(|node| node.close());
            }
        }
    }
}

impl Primary {
    fn known(&self) -> Option<Arc<RedisNode>> {
        self.node.borrow().clone()
    }

    fn uses(&self, current: Option<&Arc<RedisNode>>, node: &Arc<RedisNode>) -> bool {
        current.is_some_and(|current| Arc::ptr_eq(current, node))
    }

    async fn look(&self) -> Option<StreamError> {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if let Some((at, error)) = &*looked
            && *at + LOOK_PAUSE > asked
        {
            return error.clone();
        }
        self.is_doubted.store(false, Ordering::Release);
        let known = self.known();
        let found = self.sentinels.find(known.as_ref()).await;
        let error = match found {
            Ok(another) => {
                if let Some(node) = another {
                    self.change(known, node);
                }
                None
            }
            Err(error) => Some(error),
        };
        *looked = Some((Instant::now(), error.clone()));
        error
    }

    fn change(&self, former: Option<Arc<RedisNode>>, node: Arc<RedisNode>) {
        let address = node.address.clone();
        self.node.send_replace(Some(node));
        match former {
            Some(former) => {
                former.close();
                self.metrics.owner_changes.inc();
                info!(
                    former = former.address,
                    primary = address,
                    "the sentinels name another primary"
                );
            }
            None => info!(primary = address, "the sentinels name the primary"),
        }
    }
}

fn unknown() -> StreamError {
    StreamError::Unusable("the sentinels named no primary".to_owned())
}
