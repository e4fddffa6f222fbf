//! `/api`: the operations over HTTP.
//!
//! Every [`Operation`] gets its route here, by one handler for each way in which a request travels.
//! A bearer token opens all of them; a page of another site cannot send one, so there is nothing to
//! forge.

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
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use super::super::AdminState;
use super::super::problem::Problem;
use crate::event::json;
use crate::operations::{self, Carrier, Operation, OperationsError, Visitor};

/// Bytes of a request: a thousand ids and as many orders, whose shops may have long names.
const REQUEST_LIMIT: usize = 512 * 1024;
/// Bound on one answer. A step of a long run takes about two seconds; stores may be slow.
const TIMEOUT: Duration = Duration::from_secs(60);

type JsonAnswer<O> = Result<Json<<O as Operation>::Answer>, Problem>;

struct Routes(Router<AdminState>);

impl Visitor for Routes {
    fn visit<O: Operation>(&mut self) {
        let handler = match O::CARRIER {
            Carrier::Query => get(by_query::<O>),
            Carrier::Path => get(by_path::<O>),
            Carrier::Body => post(by_body::<O>),
        };
        self.0 = std::mem::take(&mut self.0).route(O::PATH, handler);
    }
}

pub(super) fn router() -> Router<AdminState> {
    let mut routes = Routes(Router::new());
    operations::visit_all(&mut routes);
    routes
        .0
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

async fn by_query<O: Operation>(
    State(state): State<AdminState>,
    request: Result<Query<O>, QueryRejection>,
) -> JsonAnswer<O> {
    let Query(request) = request.map_err(|_| Problem::MalformedQuery)?;
    Ok(Json(request.run(&state.operations).await?))
}

async fn by_path<O: Operation>(
    State(state): State<AdminState>,
    request: Result<Path<O>, PathRejection>,
) -> JsonAnswer<O> {
    let Path(request) = request.map_err(|_| Problem::MalformedQuery)?;
    Ok(Json(request.run(&state.operations).await?))
}

async fn by_body<O: Operation>(State(state): State<AdminState>, body: Body) -> JsonAnswer<O> {
    // The layer bounds it.
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(|error| unread(&error))?;
    let request: O = json::parse(&bytes).map_err(|_| Problem::MalformedQuery)?;
    Ok(Json(request.run(&state.operations).await?))
}

/// A body without a declared length turns out to be too large while it is read.
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
                tracing::warn!(%error, "a store does not answer the request of an operator");
                error.unusable().map_or(Self::StoreUnavailable, Self::WarehouseUnusable)
            }
        }
    }
}
