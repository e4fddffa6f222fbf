//! The naive Rust way, as a competent user writes it first: axum, typed serde, and for each request one connection out
//! of a deadpool pool of 64 and one XADD. Verifies the HMAC and answers after the XADD. No dedupe, no outage.
//!
//! `ENTRY=whole` writes the entry that orderstream writes (its fields and its payload, made by its library) in place of
//! four fields with a small event.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deadpool_redis::{Config, Pool, PoolConfig, Runtime};
use hmac::{Hmac, KeyInit as _, Mac as _};
use orderstream::shopify::{self, DeliveryHints, Topic};
use orderstream::stream::codec;
use redis::Cmd;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use uuid::Uuid;

#[derive(Clone)]
struct Service {
    key: Hmac<Sha256>,
    pool: Pool,
    is_whole: bool,
}

#[derive(Deserialize)]
struct Order {
    id: u64,
    updated_at: String,
    total_price: String,
    currency: String,
    customer: Option<Customer>,
    line_items: Vec<Line>,
}

#[derive(Deserialize)]
struct Customer {
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Line {
    sku: Option<String>,
    quantity: i64,
    price: String,
}

#[derive(Serialize)]
struct Event {
    event_type: String,
    event_id: Uuid,
    timestamp: String,
    order_id: String,
    customer_id: Option<String>,
    total_amount: f64,
    currency: String,
    items: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    sku: Option<String>,
    qty: i64,
    price: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut config = Config::from_url(std::env::var("REDIS_URL")?);
    // One for each connection of the usual load; the default is two a core.
    config.pool = Some(PoolConfig::new(64));
    let pool = config.create_pool(Some(Runtime::Tokio1))?;
    let key = Hmac::new_from_slice(std::env::var("SECRET")?.as_bytes())?;
    let router = Router::new()
        .route("/webhooks/orders", post(receive))
        .with_state(Service {
            key,
            pool,
            is_whole: std::env::var("ENTRY").is_ok_and(|entry| entry == "whole"),
        });
    let port = std::env::var("PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn receive(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, (StatusCode, String)> {
    let given = headers.get("x-shopify-hmac-sha256").map(|value| STANDARD.decode(value));
    match given {
        Some(Ok(given)) if service.key.clone().chain_update(&body).verify_slice(&given).is_ok() => {}
        _ => return Err((StatusCode::UNAUTHORIZED, "invalid signature".to_owned())),
    }
    let (event_id, append) = if service.is_whole {
        whole_entry(&headers, &body)
    } else {
        small_entry(&headers, &body)
    }
    .map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let stream_id = send(&service.pool, &append)
        .await
        .map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok(Json(
        json!({"status": "accepted", "event_id": event_id, "stream_id": stream_id}),
    ))
}

fn xadd() -> Cmd {
    let mut append = redis::cmd("XADD");
    append.arg("orders_stream").arg("*");
    append
}

fn small_entry(headers: &HeaderMap, body: &[u8]) -> anyhow::Result<(Uuid, Cmd)> {
    let topic = headers.get("x-shopify-topic").and_then(|value| value.to_str().ok());
    let event = event(serde_json::from_slice(body)?, topic.unwrap_or_default())?;
    let mut append = xadd();
    append
        .arg("event_type")
        .arg(&event.event_type)
        .arg("event_id")
        .arg(event.event_id.to_string())
        .arg("timestamp")
        .arg(&event.timestamp)
        .arg("payload")
        .arg(serde_json::to_string(&event)?);
    Ok((event.event_id, append))
}

fn whole_entry(headers: &HeaderMap, body: &[u8]) -> anyhow::Result<(Uuid, Cmd)> {
    let hints = DeliveryHints::new(headers);
    let event_id = shopify::event_id(&hints, body);
    let received_at = OffsetDateTime::now_utc();
    let event = shopify::convert(Topic::parse(hints.topic)?, body, &hints, event_id, received_at)?;
    let mut append = xadd();
    for (name, value) in codec::encode(&event, &hints.provenance(received_at), None)?.0 {
        append.arg(&*name).arg(&*value);
    }
    Ok((event_id, append))
}

fn event(order: Order, topic: &str) -> anyhow::Result<Event> {
    let item = |line: Line| {
        Ok(Item {
            sku: line.sku,
            qty: line.quantity,
            price: line.price.parse()?,
        })
    };
    Ok(Event {
        event_type: topic.replace("orders/", "order."),
        event_id: Uuid::new_v4(),
        timestamp: order.updated_at,
        order_id: order.id.to_string(),
        customer_id: order.customer.and_then(|customer| customer.id).map(|id| id.to_string()),
        total_amount: order.total_price.parse()?,
        currency: order.currency,
        items: order.line_items.into_iter().map(item).collect::<anyhow::Result<_>>()?,
    })
}

async fn send(pool: &Pool, append: &Cmd) -> anyhow::Result<String> {
    let mut connection = pool.get().await?;
    Ok(append.query_async(&mut connection).await?)
}
