//! HTTP: the public listener (webhooks, batches, health) and the private one.
//!
//! Owns routes, extractors and answers. Must not know a store: events go to [`crate::ingest::Appender`], health comes
//! from [`crate::health`]. Invariants: every answer to a request carries `x-request-id`; every refusal of one is
//! `application/problem+json` (made in `problem`, nowhere else), while hyper's own refusal of an unreadable head is bare;
//! nothing a peer sends is looked at before it is authenticated.
//!
//! From the socket inwards: `connection.rs` accepts and runs hyper's connection, `connections.rs` bounds how many there are,
//! `timeout_io.rs` and `connection_state.rs` hold the clocks that hyper lacks, `body_guard.rs` tells them where a request
//! stands; `layers.rs` is what stands around every handler, and the handlers are `webhooks.rs`, `batch.rs`, `health.rs` and
//! `admin.rs`. They get a body only through `verified.rs` (a signature) or `token.rs`, read by `body.rs`.

mod admin;
mod batch;
mod body;
mod body_guard;
mod connection;
mod connection_state;
mod connections;
mod failed_tokens;
mod health;
mod layers;
mod problem;
mod request_id;
mod spans;
mod timeout_io;
mod token;
mod verified;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::Router;
use axum::http::Uri;
use axum::routing::post;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::health::Probes;
pub use self::token::Tokens;

use self::connection::Bounds;
use self::connection_state::Timeouts;
use self::failed_tokens::FailedTokens;
use self::problem::Problem;
use crate::config::{IntakeConfig, PublicConfig};
use crate::ingest::{Admission, Appender, QuarantineLog};
use crate::live::Live;
use crate::metrics::{Metrics, Outcomes, Route};
use crate::nodes::Nodes;
use crate::operations::Operations;
use crate::shopify::Keyring;

/// Bounds of the private listener, which needs no settings for them.
const ADMIN_CONNECTIONS: usize = 64;
const ADMIN_TIMEOUTS: Timeouts = Timeouts {
    idle: Duration::from_secs(75),
    head: Duration::from_secs(10),
};

/// What the public listener works with; a cheap clone.
#[derive(Debug, Clone)]
pub struct PublicState {
    appender: Appender,
    admission: Admission,
    probes: Probes,
    credentials: PublicCredentials,
    intake: Arc<IntakeConfig>,
    /// From the end of a head to the last byte of its body.
    body_timeout: Duration,
    signatures: webhooks::BySecret,
    failed_tokens: FailedTokens,
    webhook_outcomes: Outcomes,
    batch_outcomes: Outcomes,
    quarantine_log: Arc<QuarantineLog>,
}

/// Who may send; replaced as a whole when the secrets are read again. A cheap clone.
#[derive(Debug, Clone, Default)]
pub struct PublicCredentials {
    /// Verifies webhooks; `None` refuses every one.
    pub keyring: Arc<ArcSwapOption<Keyring>>,
    /// Opens `/events/batch`.
    pub tokens: Arc<ArcSwap<Tokens>>,
}

impl PublicState {
    /// The door's answers are counted in the health of `probes`.
    #[must_use]
    pub fn new(
        appender: Appender,
        probes: Probes,
        credentials: PublicCredentials,
        intake: IntakeConfig,
        public: &PublicConfig,
        metrics: &Metrics,
    ) -> Self {
        Self {
            appender,
            admission: Admission::new(intake.bytes_in_flight, intake.body_limit, metrics.body_bytes.clone()),
            probes,
            credentials,
            intake: Arc::new(intake),
            body_timeout: public.body_timeout,
            signatures: webhooks::BySecret::new(metrics),
            failed_tokens: FailedTokens::default(),
            webhook_outcomes: metrics.outcomes(Route::Webhook),
            batch_outcomes: metrics.outcomes(Route::Batch),
            quarantine_log: Arc::default(),
        }
    }

    /// The role that says how many further deliveries were quarantined.
    pub fn log_quarantines(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.quarantine_log).run(stop)
    }
}

/// What the private listener works with; a cheap clone.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// Same as the public listener's.
    pub probes: Probes,
    /// Shown at `/metrics`.
    pub metrics: Metrics,
    /// Opens `/api`; empty refuses everyone.
    pub tokens: Arc<ArcSwap<Tokens>>,
    /// Names under which the listener may be asked for, besides IP addresses and `localhost`.
    pub hosts: Arc<[String]>,
    /// What `/api` does.
    pub operations: Operations,
    /// What `/api/live` shows.
    pub live: Live,
    /// What `/api/nodes` shows.
    pub nodes: Nodes,
    /// Whose use `/api/secrets` shows: the public listener's; empty where there is none.
    pub keyring: Arc<ArcSwapOption<Keyring>>,
}

/// Serves the public listener until `shutdown`, and then until the last request in flight is answered.
pub async fn serve_public(
    listener: TcpListener,
    state: PublicState,
    config: &PublicConfig,
    metrics: &Metrics,
    shutdown: CancellationToken,
) {
    let bounds = Bounds {
        timeouts: Timeouts {
            idle: config.keep_alive,
            head: config.header_timeout,
        },
        connections: config.max_connections,
        open: metrics.connections.clone(),
    };
    connection::serve(listener, layers::layered(public_router(state)), bounds, shutdown).await;
}

/// Serves the private listener until `shutdown`, and then until the last request in flight is answered; who watches
/// `/api/live` is let go at once.
pub async fn serve_admin(listener: TcpListener, state: AdminState, shutdown: CancellationToken) {
    let bounds = Bounds {
        timeouts: ADMIN_TIMEOUTS,
        connections: ADMIN_CONNECTIONS,
        // Only the public listener's connections are a figure.
        open: Gauge::default(),
    };
    let operations = state.operations.clone();
    let router = layers::compressed(admin::router(state, &shutdown));
    connection::serve(listener, router, bounds, shutdown).await;
    operations.finish().await;
}

fn public_router(state: PublicState) -> Router {
    let probes = state.probes.clone();
    let routes = Router::new()
        .route("/webhooks/orders", post(webhooks::receive))
        .route("/events/batch", post(batch::receive))
        // In one piece: a request counts one reference, not one for each of its metrics.
        .with_state(Arc::new(state));
    closed(routes.merge(health::router(probes)))
}

/// A query's `true` or `false`, where it has one. Refuses anything else: whoever writes `atomic=1` must not get half a
/// batch stored.
fn flag(uri: &Uri, name: &str) -> Result<bool, Problem> {
    let query = uri.query().unwrap_or_default();
    let mut given = url::form_urlencoded::parse(query.as_bytes()).filter(|(found, _)| found == name);
    let set = given.next().map_or(Ok(false), |(_, value)| value.parse());
    match (set, given.next()) {
        (Ok(set), None) => Ok(set),
        (Err(_), _) | (_, Some(_)) => Err(Problem::MalformedQuery),
    }
}

/// With an answer to every path and method that is not served.
fn closed(routes: Router) -> Router {
    routes
        .fallback(|| async { Problem::NotFound })
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
}
