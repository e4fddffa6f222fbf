//! The floor: the HTTP stack that orderstream stands on (axum over hyper's http1, set up alike), which reads the body
//! and answers 200. `VERIFY=1` verifies the signature too. What no service on this stack can beat.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::Sha256;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let secret = std::env::var("SECRET")?;
    let verifies = std::env::var_os("VERIFY").is_some();
    let key = verifies
        .then(|| Hmac::<Sha256>::new_from_slice(secret.as_bytes()))
        .transpose()?;
    let router = Router::new().route("/webhooks/orders", post(receive)).with_state(key);
    let port = std::env::var("PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let router = router.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let router = router.clone();
                async move {
                    let request: hyper::Request<hyper::body::Incoming> = request;
                    Ok::<_, Infallible>(match router.oneshot(request.map(Body::new)).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    })
                }
            });
            let connection = http1::Builder::new()
                .max_buf_size(64 * 1024)
                .header_read_timeout(None)
                .writev(false)
                .serve_connection(TokioIo::new(socket), service);
            // A peer that went away.
            let _ = connection.await;
        });
    }
}

async fn receive(State(key): State<Option<Hmac<Sha256>>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(key) = key {
        let given = headers.get("x-shopify-hmac-sha256").map(|value| STANDARD.decode(value));
        match given {
            Some(Ok(given)) if key.chain_update(&body).verify_slice(&given).is_ok() => {}
            _ => return StatusCode::UNAUTHORIZED.into_response(),
        }
    }
    Json(json!({"status": "read", "bytes": body.len()})).into_response()
}
