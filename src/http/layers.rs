//! The tower-http layers around every handler.
//!
//! Owns their order. From outside: problems are rendered, the request id is set and propagated,
//! headers with secrets are marked sensitive, panics are caught, a head that HTTP forbids is
//! refused, a trailing slash is trimmed.

use std::any::Any;
use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, Request, Response, Version, header};
use axum::response::IntoResponse;
use tower::{Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::validate_request::ValidateRequestHeaderLayer;

use super::problem::{self, Problem};
use super::request_id::{self, CountedIds, REQUEST_ID};

/// The service of a listener.
pub(super) trait HttpService:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> HttpService for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// Headers that hold secrets, or what was made with them.
const SENSITIVE: [HeaderName; 3] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-shopify-hmac-sha256"),
    HeaderName::from_static("shopify-hmac-sha256"),
];

/// `routes` with an answer to every path and method that they do not serve.
pub(super) fn with_fallbacks(routes: Router) -> Router {
    routes
        .fallback(|| async { Problem::NotFound })
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
}

/// `router` within the layers.
pub(super) fn layered(router: Router) -> impl HttpService {
    ServiceBuilder::new()
        .map_response(problem::render)
        .map_request(request_id::drop_unsafe)
        .layer(SetRequestIdLayer::new(REQUEST_ID, CountedIds))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetSensitiveRequestHeadersLayer::new(SENSITIVE))
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(ValidateRequestHeaderLayer::custom(well_formed))
        .layer(NormalizePathLayer::trim_trailing_slash())
        .service(router)
}

/// `router` within the layers and compression. Event streams are not (tower-http's default): an
/// event would wait in the compressor for the next.
pub(super) fn compressed(router: Router) -> impl HttpService {
    ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(CompressionLayer::new())
        .service(layered(router))
}

/// The panic hook has logged the place (`telemetry.rs`); the panic's message may quote an order.
fn panicked(_: Box<dyn Any + Send>) -> Response<Body> {
    tracing::error!("a handler panicked");
    Problem::Internal.into_response()
}

/// Refuses what hyper takes and RFC 9112 forbids (3.2, 6.1): no `Host` or several, and a transfer
/// coding other than one `chunked`. A proxy in front may read such a request otherwise than we do.
#[expect(clippy::result_large_err, reason = "the signature is tower-http's")]
fn well_formed(request: &mut Request<Body>) -> Result<(), Response<Body>> {
    let headers = request.headers();
    let hosts = headers.get_all(header::HOST).iter().count();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = codings
        .next()
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let has_one_host = hosts == 1 || (hosts == 0 && request.version() < Version::HTTP_11);
    if has_one_host && is_chunked && codings.next().is_none() {
        Ok(())
    } else {
        Err(Problem::MalformedRequest.into_response())
    }
}
