//! The two listeners: binding, and what `http` gets of the stream and the workers.
//!
//! Invariant: an address that is taken is reported before anything runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpSocket};

use super::error::AppError;
use super::state::App;
use crate::config::{Config, Purpose};
use crate::health::Thresholds;
use crate::health::collector::{Health, Sources};
use crate::http::{self, AdminState, Probes, PublicState};
use crate::ingest::{AppendStats, Appender, ShopBinding, SpoolReader};
use crate::live::{Live, ProcessInfo};
use crate::operations::{Actor, Operations};

/// Interval of the check that the workers' loops move.
const LIVENESS_CHECK: Duration = Duration::from_secs(1);
/// Connections that the kernel keeps until they are accepted (at most `net.core.somaxconn`). Beyond
/// it newcomers are dropped, and try again only after a second.
const BACKLOG: u32 = 4096;

/// The bound addresses (port 0 in a setting is any free one).
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Webhooks, batches, health.
    pub public: Option<SocketAddr>,
    /// Metrics and the admin API.
    pub private: Option<SocketAddr>,
}

/// A bound socket.
struct Bound {
    listener: TcpListener,
    addr: SocketAddr,
}

/// The bound listeners.
pub(super) struct Listeners {
    public: Option<Bound>,
    private: Option<Bound>,
}

impl Listeners {
    pub(super) fn bind(config: &Config, purpose: Purpose) -> Result<Self, AppError> {
        let public = purpose.ingests().then_some(config.public.addr);
        Ok(Self {
            public: bind(public, "ORDERSTREAM_LISTEN_ADDR")?,
            private: bind(config.admin.addr, "ORDERSTREAM_ADMIN_ADDR")?,
        })
    }

    pub(super) fn addresses(&self) -> Addresses {
        let addr = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.addr);
        Addresses {
            public: addr(&self.public),
            private: addr(&self.private),
        }
    }

    /// Serves both.
    pub(super) fn start(self, app: &App) {
        if self.public.is_none() && self.private.is_none() {
            return;
        }
        let appender = self.public.is_some().then(|| {
            let dedupe = app.config.stream.dedupe_window.is_some();
            Appender::start(
                app.stream(),
                app.storage.fallback.as_ref(),
                &app.config.appender,
                dedupe,
                &app.metrics,
                &app.back,
            )
        });
        let append_stats = appender
            .as_ref()
            .map_or_else(AppendStats::none, |appender| appender.append_stats().clone());
        let sources = Sources {
            stream: app.stream(),
            warehouse: app.warehouse.clone(),
            nodes: app.nodes.clone(),
            capture: app.capture.clone(),
        };
        let health = Health::start(
            sources,
            Thresholds::from(&app.config),
            append_stats,
            app.storage.fallback.clone(),
            app.metrics.clone(),
            &app.back,
        );
        let probes = Probes {
            health,
            draining: app.draining.clone(),
            alive: watch_liveness(app),
        };
        if let Some((public, appender)) = self.public.zip(appender) {
            start_public(app, public.listener, appender, probes.clone());
        }
        if let Some(private) = self.private {
            start_private(app, private.listener, probes);
        }
    }
}

fn start_public(app: &App, listener: TcpListener, appender: Appender, probes: Probes) {
    let (config, metrics) = (app.config.public.clone(), app.metrics.clone());
    let state = PublicState::new(
        appender,
        probes,
        app.credentials.public.clone(),
        app.config.intake.clone(),
        &config,
        &metrics,
    );
    let state = match app.config.intake.shop_binding {
        true => state.with_shop_binding(ShopBinding::new(app.stream())),
        false => state,
    };
    let stop = app.front.stop_token();
    app.front.spawn("quarantine log", state.log_quarantines(stop.clone()));
    app.front.spawn("public listener", async move {
        http::serve_public(listener, state, &config, &metrics, stop).await;
    });
}

fn start_private(app: &App, listener: TcpListener, probes: Probes) {
    let node = ProcessInfo {
        command: app.purpose.name(),
        version: env!("CARGO_PKG_VERSION"),
        started_at: OffsetDateTime::now_utc(),
        has_warehouse: app.storage.warehouse.is_some(),
        storage: app.storage.stores(),
    };
    let warehouse = app.storage.warehouse.clone();
    let keyring = if app.purpose.ingests() {
        Arc::clone(&app.credentials.public.keyring)
    } else {
        Arc::default()
    };
    let stream = app.stream();
    let spool = app.storage.spool_file().map(SpoolReader::at);
    let operations = Operations::new(Arc::clone(&stream), warehouse, &app.config.intake, Actor::Api).with_spool(spool);
    let state = AdminState {
        live: Live::start(stream, probes.health.clone(), app.nodes.clone(), node, &app.back),
        probes,
        metrics: app.metrics.clone(),
        tokens: Arc::clone(&app.credentials.admin),
        hosts: Arc::clone(&app.config.admin.hosts),
        keyring,
        nodes: app.nodes.clone(),
        operations,
        settings: Arc::clone(&app.config.settings),
    };
    let stop = app.front.stop_token();
    app.front
        .spawn("private listener", http::serve_admin(listener, state, stop));
}

/// Follows whether the workers' loops move; always true without workers.
fn watch_liveness(app: &App) -> Arc<AtomicBool> {
    let alive = Arc::new(AtomicBool::new(true));
    if let Some(workers) = app.workers.clone() {
        let flag = Arc::clone(&alive);
        app.back.spawn_task("liveness check", async move {
            loop {
                flag.store(workers.is_live(), Ordering::Relaxed);
                tokio::time::sleep(LIVENESS_CHECK).await;
            }
        });
    }
    alive
}

fn bind(addr: Option<SocketAddr>, setting: &'static str) -> Result<Option<Bound>, AppError> {
    let Some(addr) = addr else { return Ok(None) };
    listen(addr)
        .map(Some)
        .map_err(|source| AppError::Bind { addr, setting, source })
}

fn listen(addr: SocketAddr) -> io::Result<Bound> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // As `TcpListener::bind` does: connections of a process before do not keep the address.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let listener = socket.listen(BACKLOG)?;
    let addr = listener.local_addr()?;
    Ok(Bound { listener, addr })
}
