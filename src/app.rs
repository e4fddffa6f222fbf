//! The composition root: builds what a process needs, binds, runs, drains.
//!
//! Owns the order of start and end. Invariants: all addresses are bound before anything runs; a
//! stream or warehouse that is away at start is waited for, a wrong configuration ends the start.
//! At the end listeners and workers stop first, then what they depend on, then the drainer, then
//! the heartbeat, and files are closed; what is left is logged with its place.

mod credentials;
mod erasure;
mod error;
mod listeners;
mod node_record;
mod reconcile;
mod reload;
mod retention;
mod start;
mod state;
mod storage;
mod subscriptions;

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::credentials::Credentials;
pub use self::error::AppError;
pub use self::listeners::Addresses;
use self::listeners::Listeners;
use self::reconcile::ReconcileRole;
use self::state::App;
use self::storage::Storage;
use crate::capture::Capture;
use crate::config::{Config, Purpose};
use crate::health::{Notice, WarehouseProbe};
use crate::ingest::{Drainer, SpoolFallback};
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::open_files;
use crate::operations::{Actor, Operations};
use crate::shutdown::{Roles, SignalRequest, Signals};
use crate::spans;
use crate::worker::{Handler, Loader, Workers, loss_monitor, trimmer};

/// Runs ingest, workers, a capture or all of them, depending on `purpose`, until a signal ends it. Calls `up` with
/// the addresses once they are served.
///
/// # Errors
/// It did not start, or a part of it died.
pub async fn run(config: Config, purpose: Purpose, up: impl FnOnce(Addresses)) -> Result<(), AppError> {
    let mut signals = Signals::listen()?;
    let (app, addresses) = App::start(config, purpose).await?;
    up(addresses);
    let ended = app.until_stopped(&mut signals).await;
    let grace = app.config.shutdown.grace;
    tokio::select! {
        drained = tokio::time::timeout(grace, app.drain()) => match drained {
            Ok(()) => info!("stopped: all work is finished"),
            Err(_) => warn!(?grace, "stopped: the grace period is over"),
        },
        () = signals.stop() => warn!("stopped at once by a second signal"),
    }
    app.log_remaining();
    ended
}

impl App {
    async fn start(config: Config, purpose: Purpose) -> Result<(Self, Addresses), AppError> {
        let metrics = Metrics::new();
        open_files::raise_limit(config.public.max_connections);
        let credentials = Credentials::new(&config)?;
        let mut storage = Storage::open(&config, purpose, &metrics).await?;
        let listeners = Listeners::bind(&config, purpose)?;
        let addresses = listeners.addresses();
        storage.announce(addresses.public, addresses.private)?;
        let front = Roles::new();
        let mut app = Self {
            workers: None,
            warehouse: None,
            subscriptions: Notice::default(),
            reconcile: Notice::default(),
            back: front.beside(),
            drainer: front.beside(),
            heartbeat: front.beside(),
            nodes: Nodes::unknown(),
            draining: CancellationToken::new(),
            capture: None,
            reloaded: Arc::new(Notify::new()),
            config,
            purpose,
            storage,
            credentials,
            metrics,
            front,
        };
        app.start_capture().await?;
        start::log_addresses(&app.config, addresses, purpose);
        app.start_workers();
        listeners.start(&app);
        app.start_upkeep(addresses);
        Ok((app, addresses))
    }

    /// A mapping or a source that cannot work ends the start; a source that is away is waited for.
    async fn start_capture(&mut self) -> Result<(), AppError> {
        let Some(config) = self.config.capture.clone().filter(|_| self.purpose.captures()) else {
            return Ok(());
        };
        let capture = Capture::new(config, self.stream(), &self.metrics, Arc::clone(&self.reloaded));
        capture.verify().await?;
        self.capture = Some(capture.status());
        self.front.spawn("capture", capture.run(self.front.stop_token()));
        Ok(())
    }

    fn start_workers(&mut self) {
        let Some(warehouse) = self.storage.warehouse.clone() else {
            return;
        };
        let handler: Arc<dyn Handler> = Arc::new(Loader::new(Arc::clone(&warehouse)));
        let probe = self.warehouse.insert(WarehouseProbe::unknown()).clone();
        let operations = Operations::new(
            self.stream(),
            Some(Arc::clone(&warehouse)),
            &self.config.intake,
            Actor::Request,
        );
        let acts_by_itself = self.config.erases_on_request;
        let requests = erasure::watch(operations, Arc::clone(&warehouse), probe.clone(), acts_by_itself);
        self.back.spawn_task("privacy requests", requests);
        if !self.config.shopify_admin.shops.is_empty() {
            let config = self.config.shopify_admin.clone();
            let watch = subscriptions::watch(config, self.subscriptions.clone(), self.metrics.clone());
            self.back.spawn_task("subscriptions", watch);
            let role = ReconcileRole {
                config: self.config.shopify_admin.clone(),
                folder: self.config.data_dir.clone(),
                stream: self.stream(),
                warehouse: Arc::clone(&warehouse),
                probe: probe.clone(),
                nodes: self.nodes.clone(),
                notice: self.reconcile.clone(),
                metrics: self.metrics.clone(),
            };
            self.back.spawn_task("reconcile", role.run());
        }
        let retention = self.config.retention;
        let retaining = retention::run(
            retention,
            self.stream(),
            Arc::clone(&warehouse),
            probe.clone(),
            self.nodes.clone(),
        );
        self.back.spawn_task("retention", retaining);
        let losses = start::compare_warehouse(self.stream(), warehouse, probe.clone(), retention.events);
        self.back.spawn_task("warehouse comparison", losses);
        self.back
            .spawn_task("warehouse check", start::probe_warehouse(Arc::clone(&handler), probe));
        let workers = Arc::new(Workers::new(self.stream(), handler, &self.config.worker, &self.metrics));
        self.workers = Some(Arc::clone(&workers));
        let stop = self.front.stop_token();
        self.front.spawn("workers", async move { workers.run(stop).await });
    }

    fn start_upkeep(&self, at: Addresses) {
        let heartbeater = self.heartbeater(at);
        let stop = self.heartbeat.stop_token();
        self.heartbeat.spawn("heartbeater", heartbeater.run(stop));
        self.back.spawn(
            "trimmer",
            trimmer::run(self.stream(), self.metrics.clone(), self.back.stop_token()),
        );
        let monitor = loss_monitor::run(self.stream(), self.metrics.clone(), self.back.stop_token());
        self.back.spawn("loss monitor", monitor);
        self.back
            .spawn_task("stream check", start::connect_stream(self.stream()));
        if let Some(redis) = self.storage.redis.clone() {
            let lookout = redis.look_out(self.heartbeat.stop_token());
            self.heartbeat.spawn("lookout", lookout);
        }
        if let Some(fallback) = self.storage.fallback.clone() {
            let drainer = Drainer::new(fallback, self.stream());
            self.drainer.spawn("drainer", drainer.run(self.drainer.stop_token()));
        }
    }

    /// Runs until a signal or the death of a part.
    async fn until_stopped(&self, signals: &mut Signals) -> Result<(), AppError> {
        loop {
            tokio::select! {
                request = signals.next() => match request {
                    SignalRequest::Stop => return Ok(()),
                    SignalRequest::Reload => self.reload(),
                },
                role = self.front.failed() => return Err(AppError::Role(role)),
            }
        }
    }

    async fn drain(&self) {
        self.draining.cancel();
        // Load balancers need the time to take this node out.
        if self.purpose.ingests() {
            let delay = self.config.shutdown.drain_delay;
            info!(?delay, "stopping: readiness is off");
            tokio::time::sleep(delay).await;
        }
        self.front.stop().await;
        self.back.stop().await;
        self.drainer.stop().await;
        self.heartbeat.stop().await;
        self.storage.close().await;
        spans::finish().await;
    }

    fn log_remaining(&self) {
        self.log_spooled();
        let Some(workers) = &self.workers else { return };
        let count = workers.in_flight();
        if count > 0 {
            let consumers = workers.names().collect::<Vec<_>>().join(", ");
            let (stream, group) = (&self.config.stream.name, &self.config.stream.group);
            warn!(
                count,
                stream, group, consumers, "entries in flight stay pending; another worker will claim them"
            );
        }
    }

    fn log_spooled(&self) {
        let depth = |fallback: &SpoolFallback| fallback.spool.report().depth;
        let count = self.storage.fallback.as_ref().map_or(0, depth);
        if let Some(file) = self.storage.spool_file().filter(|_| count > 0) {
            warn!(
                count,
                file = %file.display(),
                "events stay in the spool; the next process on this folder moves them, or run `orderstream drain`"
            );
        }
    }
}
