//! `GET /health`, `/livez`, `/readyz`: on both listeners.
//!
//! The status code of `/health` tells only whether this node can durably accept; its body is the
//! whole report. The report is at most a second old, and no number of probes makes more load on the
//! stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::health::collector::Health;

/// State of the probes; a cheap clone.
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

#[derive(Deserialize)]
struct ReportQuery {
    /// Waits for the next report.
    #[serde(default)]
    fresh: bool,
}

async fn report(
    State(probes): State<Probes>,
    query: Result<Query<ReportQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|_| Problem::MalformedQuery)?;
    let (can_accept, report) = if query.fresh {
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
