//! `GET /health`, `/livez`, `/readyz`: on both listeners.
//!
//! The status code says whether this node can durably accept, and only that; the body says it too (check
//! `stream`), and how the readers are. However often it is asked, and however fresh the report is to be, the stream is
//! looked at once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::health::collector::Health;

/// What the probes look at; a cheap clone.
#[derive(Debug, Clone)]
pub struct Probes {
    /// Of the stream, and whether this process can accept.
    pub health: Health,
    /// Turns readiness off; fires some time before the listeners are shut down.
    pub draining: CancellationToken,
    /// Whether the loops of this process move; decides `/livez`.
    pub alive: Arc<AtomicBool>,
}

pub(super) fn router(probes: Probes) -> Router {
    Router::new()
        .route("/health", get(report))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(probes)
}

async fn report(State(probes): State<Probes>, uri: Uri) -> Result<Response, Problem> {
    let (can_accept, report) = if super::flag(&uri, "fresh")? {
        probes.health.next_report().await
    } else {
        probes.health.report()
    };
    let status = if can_accept {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok((status, Json(report)).into_response())
}

async fn live(State(probes): State<Probes>) -> Response {
    if probes.alive.load(Ordering::Relaxed) {
        "alive\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the workers are stuck\n").into_response()
    }
}

async fn ready(State(probes): State<Probes>) -> Response {
    if probes.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    } else if probes.health.can_accept() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the stream takes no writes\n").into_response()
    }
}
