//! The dashboard and the API reference: static files, embedded, that contain nothing personal and
//! need no token.
//!
//! What the pages show they request from `/api` with the operator's token. Invariants: nothing is
//! loaded from another host, no page contains a script or style itself, no page of another site can
//! frame one of these, and a browser revalidates each file.

use std::borrow::Cow;

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;
use sha2::{Digest as _, Sha256};
use tower_http::set_header::SetResponseHeaderLayer;

use super::super::AdminState;
use super::super::problem::Problem;

/// In a debug build they are read from the folder anew for each request.
#[derive(RustEmbed)]
#[folder = "src/http/admin/page"]
struct Files;

/// The description of both listeners.
const OPENAPI_YAML: &str = include_str!("../../../openapi.yaml");
/// The same; `build.rs` writes it.
const OPENAPI_JSON: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// Scripts, styles and requests go to this listener alone; text becomes markup nowhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const GUARDS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub(super) fn router() -> Router<AdminState> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| file("index.html", &headers)))
        .route("/docs", get(async |headers: HeaderMap| file("docs.html", &headers)))
        .route("/assets/{file}", get(asset))
        .route(
            "/openapi.yaml",
            get(async |headers: HeaderMap| described("application/yaml", OPENAPI_YAML, &headers)),
        )
        .route(
            "/openapi.json",
            get(async |headers: HeaderMap| described("application/json", OPENAPI_JSON, &headers)),
        )
}

/// Puts the guards on every answer of `routes`, and keeps it out of caches where it does not say
/// otherwise.
pub(super) fn guarded(routes: Router<AdminState>) -> Router<AdminState> {
    let no_store = HeaderValue::from_static("no-store");
    let caching = SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, no_store);
    GUARDS
        .into_iter()
        .fold(routes.route_layer(caching), |routes, (name, value)| {
            routes.route_layer(SetResponseHeaderLayer::overriding(
                name,
                HeaderValue::from_static(value),
            ))
        })
}

async fn asset(name: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    match name {
        Ok(Path(name)) => file(&name, &headers),
        // No name is other than UTF-8.
        Err(_) => Problem::NotFound.into_response(),
    }
}

fn described(kind: &'static str, text: &'static str, headers: &HeaderMap) -> Response {
    let digest = Sha256::digest(text);
    revalidated(kind, Cow::Borrowed(text.as_bytes()), &digest, headers)
}

fn file(name: &str, headers: &HeaderMap) -> Response {
    match (content_type(name), Files::get(name)) {
        (Some(kind), Some(file)) => revalidated(kind, file.data, &file.metadata.sha256_hash(), headers),
        _ => Problem::NotFound.into_response(),
    }
}

fn content_type(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        "txt" => Some("text/plain; charset=utf-8"),
        _ => None,
    }
}

/// The content, or 304 where the browser has it. It asks each time: after an update no page runs
/// with old scripts.
fn revalidated(kind: &'static str, content: Cow<'static, [u8]>, digest: &[u8], headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", hex::encode(&digest[..16]));
    let caching = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    if knows(headers, &tag) {
        (StatusCode::NOT_MODIFIED, caching).into_response()
    } else {
        (caching, [(header::CONTENT_TYPE, kind)], content).into_response()
    }
}

/// Whether the browser has the content of that tag; compared weakly, as RFC 9110 has it for
/// `If-None-Match`.
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    tags.any(|known| known.trim().trim_start_matches("W/") == tag)
}
