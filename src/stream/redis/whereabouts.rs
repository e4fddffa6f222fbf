//! Where the stream's server is, as one URL says it: at a fixed address, or wherever the sentinels
//! say that the primary is.
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

use super::node::{ConnectionLimits, RedisNode};
use super::sentinel::Sentinels;
use super::url::RedisUrl;
use crate::metrics::Metrics;
use crate::stream::StreamError;

/// Least time from one look to the next.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

pub(super) enum Whereabouts {
    Fixed(Arc<RedisNode>),
    Sentinel(Box<Primary>),
}

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
    pub(super) fn new(url: RedisUrl, limits: ConnectionLimits, metrics: &Metrics) -> Result<Self, StreamError> {
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
        })
    }

    /// For texts, without credentials.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Fixed(node) => node.address.clone(),
            Self::Sentinel(primary) => match primary.known() {
                Some(node) => node.address.clone(),
                None => primary.sentinels.address(),
            },
        }
    }

    /// The server to use now.
    ///
    /// # Errors
    /// None is known, and the sentinels name none.
    pub(super) async fn owner(&self) -> Result<Arc<RedisNode>, StreamError> {
        match self {
            Self::Fixed(node) => Ok(Arc::clone(node)),
            Self::Sentinel(primary) => match primary.known() {
                Some(node) if !primary.is_doubted.load(Ordering::Acquire) => Ok(node),
                _ => {
                    let outcome = primary.look().await;
                    primary.known().map_or_else(|| Err(outcome.unwrap_or_else(unknown)), Ok)
                }
            },
        }
    }

    /// Whether that server is the one to use.
    pub(super) fn is_current(&self, node: &Arc<RedisNode>) -> bool {
        match self {
            Self::Fixed(fixed) => Arc::ptr_eq(fixed, node),
            Self::Sentinel(primary) => primary.uses(primary.node.borrow().as_ref(), node),
        }
    }

    /// Waits until the sentinels name another server than this one.
    pub(super) async fn left(&self, node: &Arc<RedisNode>) {
        if let Self::Sentinel(primary) = self {
            let mut current = primary.node.subscribe();
            // Fails only where the sender is gone, which `self` holds.
            let _ = current.wait_for(|current| !primary.uses(current.as_ref(), node)).await;
        } else {
            std::future::pending().await
        }
    }

    /// Something failed on the server in use: it may not be the primary any more.
    pub(super) fn doubt(&self) {
        if let Self::Sentinel(primary) = self {
            primary.is_doubted.store(true, Ordering::Release);
            primary.doubted.notify_one();
        }
    }

    /// Waits for the next doubt.
    pub(super) async fn doubted(&self) {
        match self {
            Self::Fixed(_) => std::future::pending().await,
            Self::Sentinel(primary) => primary.doubted.notified().await,
        }
    }

    /// Asks the sentinels, where there are any; answers why they name no primary.
    pub(super) async fn look(&self) -> Option<StreamError> {
        match self {
            Self::Fixed(_) => None,
            Self::Sentinel(primary) => primary.look().await,
        }
    }

    /// What an operator should see to; `None` where there are no sentinels.
    pub(super) async fn warnings(&self) -> Option<Vec<String>> {
        match self {
            Self::Fixed(_) => None,
            Self::Sentinel(primary) => Some(primary.sentinels.warnings().await),
        }
    }

    /// Gives no connection any more.
    pub(super) fn close(&self) {
        match self {
            Self::Fixed(node) => node.close(),
            Self::Sentinel(primary) => primary.known().iter().for_each(|node| node.close()),
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
