//! The trace context of a request stands in its entries, whether or not this program records spans of its own.

use std::collections::HashMap;

use redis::streams::StreamRangeReply;

use crate::harness::ingest::{API_TOKEN, Service, event, order, sign};
use crate::harness::redis::RedisServer;
use crate::harness::wire::{ask, request};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn entries(redis: &RedisServer, log: &str) -> Vec<Option<String>> {
    let reply: StreamRangeReply = redis.command(&["XRANGE", log, "-", "+"]).await;
    let fields = reply.ids.into_iter().map(|entry| entry.map);
    let text = |fields: HashMap<String, redis::Value>| {
        let value = fields.get("traceparent")?;
        Some(redis::from_redis_value_ref(value).unwrap())
    };
    fields.map(text).collect()
}

#[tokio::test]
async fn it_stands_in_every_entry_of_a_request() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let deliver = async |id: &str, body: &[u8], traceparent: Option<&str>| {
        let signature = sign(body);
        let mut headers = vec![
            ("x-shopify-hmac-sha256", signature.as_str()),
            ("x-shopify-topic", "orders/create"),
            ("x-shopify-webhook-id", id),
        ];
        headers.extend(traceparent.map(|text| ("traceparent", text)));
        let answer = ask(service.public, &request("POST /webhooks/orders", &headers, body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    deliver("a", &order(1), Some(TRACEPARENT)).await;
    deliver("b", &order(2), Some("00-0-0-01")).await;
    deliver("c", &order(3), None).await;
    deliver("d", b"{}", Some(TRACEPARENT)).await;
    let batch = format!("[{},{}]", event("one"), event("two"));
    let authorization = format!("Bearer {API_TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("traceparent", TRACEPARENT)];
    let answer = ask(
        service.public,
        &request("POST /events/batch", &headers, batch.as_bytes()),
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let kept = Some(TRACEPARENT.to_owned());
    assert_eq!(
        entries(&redis, "orders_stream").await,
        [kept.clone(), None, None, kept.clone(), kept.clone()]
    );
    assert_eq!(entries(&redis, "dead_letters").await, [kept]);
}
