//! `/api`: what an operator does, as JSON.
//!
//! Owns paths, queries and bodies; what is done stands in [`crate::operations`]. A bearer token opens all of it, which no
//! page of another site can send: there is nothing to forge. Personal fields stand only in the views of one entry.

use std::error::Error;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use http_body_util::LengthLimitError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use super::super::AdminState;
use super::super::problem::Problem;
use crate::event::json;
use crate::operations::{
    Action, AuditEntry, Consumers, DeadLetterGroups, DeadLetterPage, DeadLetterQuery, DeadLetterView, DeliveryQuery,
    DeliveryReport, EntryPage, EntryQuery, EntryView, HistoryStep, OperationsError, RebuildRequest, ReplayRequest,
    ResolveRequest, ResolveStep, Trace, TraceQuery,
};
use crate::stream::StreamId;

/// Bytes of a request: a thousand ids and as many orders, whose shops may have long names.
const REQUEST_LIMIT: usize = 512 * 1024;
/// Bound on one answer. A step of a long run takes about two seconds; stores may be slow.
const TIMEOUT: Duration = Duration::from_secs(60);

type Answer<T> = Result<Json<T>, Problem>;
type Asked<T> = Result<Query<T>, QueryRejection>;
type Of = Result<Path<StreamId>, PathRejection>;

pub(super) fn router() -> Router<AdminState> {
    Router::new()
        .route("/api/events", get(entries))
        .route("/api/events/{id}", get(entry))
        .route("/api/dead-letters", get(dead_letters))
        .route("/api/dead-letters/groups", get(dead_letter_groups))
        .route("/api/dead-letters/{id}", get(dead_letter))
        .route("/api/dead-letters/replay", post(replay_dead_letters))
        .route("/api/dead-letters/discard", post(discard_dead_letters))
        .route("/api/consumers", get(consumers))
        .route("/api/audit", get(audit))
        .route("/api/trace", get(trace))
        .route("/api/landed", post(landed))
        .route("/api/replay", post(replay))
        .route("/api/rebuild", post(rebuild))
        .route_layer(RequestBodyLimitLayer::new(REQUEST_LIMIT))
        .route_layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .route_layer(middleware::map_response(with_problem))
}

/// The layers answer with a bare status.
async fn with_problem(response: Response) -> Response {
    match response.status() {
        _ if response.extensions().get::<Problem>().is_some() => response,
        StatusCode::PAYLOAD_TOO_LARGE => Problem::BodyTooLarge(REQUEST_LIMIT).into_response(),
        StatusCode::SERVICE_UNAVAILABLE => Problem::StoreUnavailable.into_response(),
        _ => response,
    }
}

async fn entries(State(state): State<AdminState>, query: Asked<EntryQuery>) -> Answer<EntryPage> {
    Ok(Json(state.operations.entries(&asked(query)?).await?))
}

async fn entry(State(state): State<AdminState>, id: Of) -> Answer<EntryView> {
    Ok(Json(state.operations.entry(of(id)?).await?))
}

async fn dead_letters(State(state): State<AdminState>, query: Asked<DeadLetterQuery>) -> Answer<DeadLetterPage> {
    Ok(Json(state.operations.dead_letters(&asked(query)?).await?))
}

async fn dead_letter_groups(State(state): State<AdminState>) -> Answer<DeadLetterGroups> {
    Ok(Json(state.operations.dead_letter_groups().await?))
}

async fn dead_letter(State(state): State<AdminState>, id: Of) -> Answer<DeadLetterView> {
    Ok(Json(state.operations.dead_letter(of(id)?).await?))
}

async fn replay_dead_letters(State(state): State<AdminState>, body: Body) -> Answer<ResolveStep> {
    resolve(&state, Action::Replay, body).await
}

async fn discard_dead_letters(State(state): State<AdminState>, body: Body) -> Answer<ResolveStep> {
    resolve(&state, Action::Discard, body).await
}

async fn resolve(state: &AdminState, action: Action, body: Body) -> Answer<ResolveStep> {
    let request: ResolveRequest = read(body).await?;
    Ok(Json(state.operations.resolve(action, &request).await?))
}

async fn consumers(State(state): State<AdminState>) -> Answer<Consumers> {
    Ok(Json(state.operations.consumers().await?))
}

/// How many notes.
#[derive(Deserialize)]
struct AuditQuery {
    count: Option<usize>,
}

async fn audit(State(state): State<AdminState>, query: Asked<AuditQuery>) -> Answer<Vec<AuditEntry>> {
    let count = asked(query)?.count.unwrap_or(100);
    Ok(Json(state.operations.audit(count).await?))
}

async fn trace(State(state): State<AdminState>, query: Asked<TraceQuery>) -> Answer<Trace> {
    Ok(Json(state.operations.trace(&asked(query)?).await?))
}

async fn landed(State(state): State<AdminState>, body: Body) -> Answer<DeliveryReport> {
    let request: DeliveryQuery = read(body).await?;
    Ok(Json(state.operations.landed(&request).await?))
}

async fn replay(State(state): State<AdminState>, body: Body) -> Answer<HistoryStep> {
    let request: ReplayRequest = read(body).await?;
    Ok(Json(state.operations.replay(&request).await?))
}

async fn rebuild(State(state): State<AdminState>, body: Body) -> Answer<HistoryStep> {
    let request: RebuildRequest = read(body).await?;
    Ok(Json(state.operations.rebuild(request).await?))
}

fn asked<T>(query: Asked<T>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|_| Problem::MalformedQuery)
}

fn of(id: Of) -> Result<StreamId, Problem> {
    id.map(|Path(id)| id).map_err(|_| Problem::MalformedQuery)
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    // The layer bounds it.
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(|error| unread(&error))?;
    json::parse(&bytes).map_err(|_| Problem::MalformedQuery)
}

/// A body without a declared length is found out to be too large as it is read.
fn unread(error: &(dyn Error + 'static)) -> Problem {
    let mut causes = std::iter::successors(Some(error), |cause| (*cause).source());
    if causes.any(|error| error.is::<LengthLimitError>()) {
        Problem::BodyTooLarge(REQUEST_LIMIT)
    } else {
        Problem::BrokenBody
    }
}

impl From<OperationsError> for Problem {
    fn from(error: OperationsError) -> Self {
        match error {
            OperationsError::NotFound(_) => Self::NotFound,
            OperationsError::NoSuchCause => Self::NoSuchCause,
            OperationsError::AmbiguousCause => Self::AmbiguousFingerprint,
            OperationsError::Invalid(detail) => Self::InvalidOperation(detail),
            OperationsError::NoWarehouse => Self::NoWarehouse,
            OperationsError::CutShort => Self::Internal,
            OperationsError::Stream(_) | OperationsError::Warehouse(_) => {
                tracing::warn!(%error, "an operator's request cannot be done now");
                Self::StoreUnavailable
            }
        }
    }
}
