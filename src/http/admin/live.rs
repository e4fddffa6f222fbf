//! `/api/live`: the last minutes, then every second, as server-sent events.
//!
//! A slow viewer misses samples and delays no other. A viewer that disconnects, or a shutdown, ends
//! the answer at once.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderName;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::super::AdminState;
use super::super::problem::Problem;
use crate::live::{INTERVAL_MS, LiveSnapshot, Sample, Viewer};

/// A comment after so much silence, so that no proxy takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Some proxies (nginx) collect an answer before they pass it on, unless this header forbids it.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// The first event.
#[derive(Serialize)]
struct FirstEvent {
    interval_ms: u64,
    samples: Vec<Sample>,
}

pub(super) fn router(shutdown: &CancellationToken) -> Router<AdminState> {
    let shutdown = shutdown.clone();
    Router::new().route("/api/live", get(move |State(state)| watch(state, shutdown)))
}

async fn watch(state: AdminState, shutdown: CancellationToken) -> Result<impl IntoResponse, Problem> {
    let mut viewer = state.live.watch().ok_or(Problem::TooManyViewers)?;
    let history = Event::default().event("history").json_data(FirstEvent {
        interval_ms: INTERVAL_MS,
        samples: viewer.history(),
    });
    let events = stream::iter([history])
        .chain(stream::unfold(viewer, next))
        .take_until(shutdown.cancelled_owned());
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    Ok(([UNBUFFERED], Sse::new(events).keep_alive(keep_alive)))
}

async fn next(mut viewer: Viewer) -> Option<(Result<Event, axum::Error>, Viewer)> {
    let now: Arc<LiveSnapshot> = viewer.next().await?;
    Some((Event::default().event("now").json_data(&*now), viewer))
}
