//! The parts of a running process.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::credentials::Credentials;
use super::storage::Storage;
use crate::capture::CaptureStatus;
use crate::config::{Config, Purpose};
use crate::health::{Notice, WarehouseProbe};
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::shutdown::Roles;
use crate::stream::Stream;
use crate::worker::Workers;

/// All parts, in the hands of the composition root.
pub(super) struct App {
    pub(super) config: Config,
    pub(super) purpose: Purpose,
    pub(super) storage: Storage,
    pub(super) workers: Option<Arc<Workers>>,
    /// Whether the workers reach the warehouse.
    pub(super) warehouse: Option<WarehouseProbe>,
    /// What is wrong with webhook subscriptions.
    pub(super) subscriptions: Notice,
    /// Which orders are not as the shop has them.
    pub(super) reconcile: Notice,
    /// The capture of this process.
    pub(super) capture: Option<CaptureStatus>,
    /// Tells the capture that its mapping is to be read again.
    pub(super) reloaded: Arc<Notify>,
    pub(super) credentials: Credentials,
    pub(super) metrics: Metrics,
    /// The processes on the stream, this one included.
    pub(super) nodes: Nodes,
    /// Readiness is off.
    pub(super) draining: CancellationToken,
    /// Listeners and workers, which take work in.
    pub(super) front: Roles,
    /// What those depend on.
    pub(super) back: Roles,
    /// Ends after those, since the writers may spool until their end.
    pub(super) drainer: Roles,
    /// Ends last.
    pub(super) heartbeat: Roles,
}

impl App {
    pub(super) fn stream(&self) -> Arc<dyn Stream> {
        Arc::clone(&self.storage.stream)
    }
}
