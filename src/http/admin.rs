//! The private listener: dashboard, metrics, health, the API and its description.
//!
//! `/api` needs a token, also for reads and on loopback. The `Host` header must be an address or a
//! known name, so that a page in an operator's browser cannot reach the listener by rebinding its
//! own name to it; probes and scrapers are exempt, since nothing personal is there.

mod live;
mod operations;
mod page;

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::AdminState;
use super::failed_tokens::FailedTokens;
use super::health;
use super::problem::Problem;
use crate::nodes::NodeList;
use crate::operations::SecretUsageReport;

/// `shutdown` ends the answers that have no end of their own.
pub(super) fn router(state: AdminState, shutdown: &CancellationToken) -> Router {
    let probes = state.probes.clone();
    let api = Router::new()
        .route("/api/status", get(status))
        .route("/api/secrets", get(secrets))
        .route("/api/nodes", get(nodes))
        .route("/api/settings", get(settings))
        .merge(live::router(shutdown))
        .merge(operations::router())
        .route_layer(middleware::from_fn_with_state(
            (state.clone(), FailedTokens::default()),
            with_token,
        ));
    let pages = page::router()
        .merge(api)
        .route_layer(middleware::from_fn_with_state(state.clone(), with_known_host));
    let pages = page::guarded(pages);
    let open = Router::new().route("/metrics", get(metrics));
    super::layers::with_fallbacks(pages.merge(open).with_state(state).merge(health::router(probes)))
}

async fn status(State(state): State<AdminState>) -> Response {
    let (_, report) = state.probes.health.report();
    Json(report).into_response()
}

async fn nodes(State(state): State<AdminState>) -> Response {
    Json(NodeList {
        nodes: state.nodes.current(),
    })
    .into_response()
}

async fn settings(State(state): State<AdminState>) -> Response {
    Json(&*state.settings).into_response()
}

async fn secrets(State(state): State<AdminState>) -> Response {
    let keyring = state.keyring.load_full();
    let node = state.live.node();
    let now = OffsetDateTime::now_utc();
    let others = if node.has_neighbours() {
        state.nodes.others()
    } else {
        Some(Vec::new())
    };
    Json(SecretUsageReport::of(
        keyring.as_deref(),
        node.started_at,
        others.as_deref(),
        now,
    ))
    .into_response()
}

async fn metrics(State(state): State<AdminState>) -> Response {
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match state.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, format)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            Problem::Internal.into_response()
        }
    }
}

async fn with_token(
    State((state, failed)): State<(AdminState, FailedTokens)>,
    request: Request,
    next: Next,
) -> Response {
    let admitted = state.tokens.load().admit(request.headers());
    match admitted {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            failed.count(request.extensions().get(), "/api").await;
            problem.into_response()
        }
    }
}

async fn with_known_host(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    if is_known_host(request.headers(), &state.hosts) {
        next.run(request).await
    } else {
        Problem::WrongHost.into_response()
    }
}

/// An address cannot be rebound, and `localhost` is resolved by the browser itself.
fn is_known_host(headers: &HeaderMap, known: &[String]) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(authority) = axum::http::uri::Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || known.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_addresses_and_known_names_are_answered() {
        let known = ["orders.internal".to_owned()];
        let answers = |host: &'static str| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            is_known_host(&headers, &known)
        };
        for host in [
            "127.0.0.1:9090",
            "[::1]:9090",
            "10.1.2.3",
            "localhost",
            "LOCALHOST:9090",
            "orders.internal:9090",
        ] {
            assert!(answers(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "orders.internal.evil",
        ] {
            assert!(!answers(host), "{host}");
        }
        assert!(!is_known_host(&HeaderMap::new(), &known));
    }
}
