//! HTTP: the public listener (webhooks, batches, health) and the private one.
//!
//! # Layout
//! From the socket inwards:
//! - `connection.rs` accepts and runs hyper's HTTP/1.1 connection; `connections.rs` caps how many
//!   there are and chooses the one that gives way to a newcomer.
//! - `connection_state.rs` is what a connection waits for from its peer, and since when.
//!   `timeout_io.rs` (the socket) and `body_guard.rs` (the bodies) write it; a timer beside hyper's
//!   connection and `connections.rs` read it.
//! - `layers.rs` is the tower-http stack around each router: request ids, panics, sensitive
//!   headers, malformed heads.
//! - `state.rs` is what the handlers share. The handlers are `webhooks.rs`, `batch.rs` (with
//!   `batch_items.rs` and `batch_answer.rs`), `health.rs` and `admin/`.
//! - A handler gets a body only through `verified.rs` (a signature) or `token.rs` (a bearer token),
//!   read by `body.rs`.
//! - `problem.rs` is every refusal.
//!
//! # Invariants
//! - Every answer carries `x-request-id`. Every refusal is `application/problem+json` and made in
//!   `problem.rs`, except what hyper refuses by itself (a head that cannot be read), which is bare.
//! - A body is not parsed before its sender is authenticated, and never held beyond its limit, its
//!   timeout and its permit of the memory budget.
//! - Time limits: between requests `KEEP_ALIVE`; a head, and a stalled write, `HEADER_TIMEOUT`; a
//!   body `BODY_TIMEOUT` in all and 5 s between two bytes; an answer 2.8 s after the last byte of
//!   its body.
//! - At the cap of connections the one that has waited longest for its peer ends. A connection
//!   whose request is being handled never does.
//!
//! # Start and end
//! A listener is bound by `app.rs` and served until its token is cancelled. It then stops
//! accepting, closes idle connections and returns after the last request in flight was answered;
//! viewers of `/api/live` are disconnected at once.
//!
//! # Absent by design
//! HTTP/2 and TLS: a proxy in front has them. `axum::serve`: it bounds neither connections nor
//! heads. No store: events go to [`crate::ingest::Appender`], health comes from [`crate::health`],
//! operations from [`crate::operations`].

mod admin;
mod batch;
mod batch_answer;
mod batch_items;
mod body;
mod body_forms;
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
mod state;
mod timeout_io;
mod token;
mod verified;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::health::Probes;
pub use self::state::{AdminState, PublicCredentials, PublicState};
pub use self::token::Tokens;

use self::connection::ListenerLimits;
use self::connection_state::Timeouts;
use crate::config::PublicConfig;
use crate::metrics::Metrics;

/// Bounds of the private listener, which needs no settings for them.
const ADMIN_CONNECTIONS: usize = 64;
const ADMIN_TIMEOUTS: Timeouts = Timeouts {
    idle: Duration::from_secs(75),
    head: Duration::from_secs(10),
};

/// Serves the public listener until `shutdown`, and then until the last request in flight is
/// answered.
pub async fn serve_public(
    listener: TcpListener,
    state: PublicState,
    config: &PublicConfig,
    metrics: &Metrics,
    shutdown: CancellationToken,
) {
    let bounds = ListenerLimits {
        timeouts: Timeouts {
            idle: config.keep_alive,
            head: config.header_timeout,
        },
        connections: config.max_connections,
        open: metrics.connections.clone(),
    };
    connection::serve(listener, layers::layered(public_router(state)), bounds, shutdown).await;
}

/// Serves the private listener until `shutdown`, and then until the last request in flight is
/// answered; viewers of `/api/live` are disconnected at once.
pub async fn serve_admin(listener: TcpListener, state: AdminState, shutdown: CancellationToken) {
    let bounds = ListenerLimits {
        timeouts: ADMIN_TIMEOUTS,
        connections: ADMIN_CONNECTIONS,
        // Only the public listener's connections are exported.
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
        // One Arc: a request counts one reference, not one for each of the state's parts.
        .with_state(Arc::new(state));
    layers::with_fallbacks(routes.merge(health::router(probes)))
}
