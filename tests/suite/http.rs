//! Bad input over real sockets: the answer that is promised, nothing lost, memory flat.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orderstream::shopify::Keyring;
use serde_json::Value;

use crate::harness::eventually;
use crate::harness::ground::{Ground, on_any_ground};
use crate::harness::ingest::{ADMIN_TOKEN, API_TOKEN, SECRET, Service, Settings, event, order, sign, signed, webhook};
use crate::harness::local::Local;
use crate::harness::redis::RedisServer;
use crate::harness::service::Service as Process;
use crate::harness::wire::{Answer, Wire, ask, get, request};

on_any_ground!(
    unbelievable_webhooks_are_refused,
    oversized_encoded_and_misaddressed_requests_are_refused,
    batches_are_judged_item_by_item,
    an_atomic_batch_is_all_or_nothing,
    what_standards_call_equal_is_taken,
    what_is_signed_and_cannot_be_converted_is_quarantined,
    the_private_listener_guards_its_api,
);

/// Asserts that the answer is the promised refusal.
fn assert_refused(case: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{case}: {answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{case}: {answer:?}"
    );
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{case}");
    assert_eq!(problem["status"], status, "{case}");
    let request_id = answer.header("x-request-id").expect(case);
    assert_eq!(problem["request_id"], request_id, "{case}");
    assert_eq!(answer.header("retry-after").is_some(), status == 503, "{case}");
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert!(!text.contains("personal@example.com"), "{case} repeats the body");
}

async fn unbelievable_webhooks_are_refused(ground: Ground) {
    let service = ground.ingest().await;
    let body = order(1);
    let good = sign(&body);
    let hex = hex::encode(&good[..32]);
    let cases: [(&str, Vec<(&str, &str)>); 9] = [
        ("none", vec![]),
        ("empty", vec![("x-shopify-hmac-sha256", "")]),
        ("short", vec![("x-shopify-hmac-sha256", &good[..40])]),
        ("hex", vec![("x-shopify-hmac-sha256", &hex)]),
        (
            "not base64",
            vec![("x-shopify-hmac-sha256", "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!=")],
        ),
        (
            "doubled",
            vec![("x-shopify-hmac-sha256", &good), ("x-shopify-hmac-sha256", "x")],
        ),
        ("listed twice", vec![("x-shopify-hmac-sha256", "a, b")]),
        (
            "contradicting",
            vec![("x-shopify-hmac-sha256", &good), ("shopify-hmac-sha256", "x")],
        ),
        (
            "of another body",
            vec![("x-shopify-hmac-sha256", "hMTq0K2x7oyOjoBwGYeTj5oxfnaVYXzbanUG9aajpKI=")],
        ),
    ];
    for (case, headers) in cases {
        let answer = ask(service.public, &request("POST /webhooks/orders", &headers, &body)).await;
        assert_refused(case, &answer, 401, "invalid_signature");
    }
    assert_eq!(service.stored().await.0, 0);
    // Not even its absence of a body saves an unsigned request, and a signed one is taken.
    let answer = ask(service.public, &request("POST /webhooks/orders", &[], b"")).await;
    assert_refused("no body", &answer, 401, "invalid_signature");
    assert_eq!(service.webhook("w-1", &body).await.json()["status"], "accepted");
    assert_eq!(service.stored().await.0, 1);
    service.stop().await;
}

#[tokio::test]
async fn what_the_head_rules_out_is_refused_before_a_body_comes() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let body = order(1);
    let heads_only = async |case: &str, request: &[u8]| {
        let answer = ask(service.public, &request[..request.len() - body.len()]).await;
        assert_refused(case, &answer, 401, "invalid_signature");
    };
    let malformed = request("POST /webhooks/orders", &[("x-shopify-hmac-sha256", "x")], &body);
    heads_only("malformed", &malformed).await;
    let keyring = Keyring::by_shop([("other.myshopify.com", &[SECRET.into()][..])]).unwrap();
    service.credentials.keyring.store(Some(Arc::new(keyring)));
    heads_only("a shop without a secret", &webhook("w-1", &body)).await;
    service.credentials.keyring.store(None);
    heads_only("no secret at all", &webhook("w-1", &body)).await;
    service.stop().await;
}

#[tokio::test]
async fn replaced_secrets_and_tokens_count_from_the_next_request() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    assert_eq!(service.webhook("w-1", &order(1)).await.status, 200);
    service.credentials.keyring.store(None);
    service.credentials.tokens.store(Arc::default());
    let answer = service.webhook("w-1", &order(1)).await;
    assert_refused("without a keyring", &answer, 401, "invalid_signature");
    let answer = service.batch("/events/batch", event("e-1").as_bytes()).await;
    assert_refused("without tokens", &answer, 401, "invalid_token");
    service.stop().await;
}

async fn oversized_encoded_and_misaddressed_requests_are_refused(ground: Ground) {
    let service = ground.ingest().await;
    let large = vec![b' '; 64 * 1024 + 1];
    let answer = ask(service.public, &webhook("w", &large)).await;
    assert_refused("declared", &answer, 413, "body_too_large");
    assert_eq!(answer.json()["limit"], 64 * 1024);

    let mut chunked = format!(
        "POST /webhooks/orders HTTP/1.1\r\nhost: x\r\nx-shopify-hmac-sha256: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        sign(&large)
    )
    .into_bytes();
    for chunk in large.chunks(1000) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_refused("chunked", &ask(service.public, &chunked).await, 413, "body_too_large");

    let body = order(1);
    let signature = sign(&body);
    let gzip = [
        ("x-shopify-hmac-sha256", signature.as_str()),
        ("content-encoding", "gzip"),
    ];
    let answer = ask(service.public, &request("POST /webhooks/orders", &gzip, &body)).await;
    assert_refused("gzip", &answer, 415, "unsupported_encoding");

    let answer = get(service.public, "/webhooks/orders").await;
    assert_refused("method", &answer, 405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
    assert_refused("path", &get(service.public, "/webhooks").await, 404, "not_found");
    assert_refused("admin path", &get(service.public, "/metrics").await, 404, "not_found");
    assert_eq!(service.stored().await.0, 0);
    service.stop().await;
}

#[tokio::test]
async fn malformed_heads_are_refused() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let huge = format!(
        "GET /livez HTTP/1.1\r\nhost: x\r\nx-huge: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    let many = format!("GET /livez HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(70_000));
    let post = "POST /webhooks/orders HTTP/1.1\r\nhost: x\r\n";
    let cases = [
        ("huge header", huge.as_str(), 431),
        ("many headers", many.as_str(), 431),
        ("long target", long.as_str(), 431),
        ("garbage", "\x16\x03\x01\x02 TLS, perhaps\r\n\r\n", 400),
        (
            "two lengths",
            &format!("{post}content-length: 1\r\ncontent-length: 2\r\n\r\nab"),
            400,
        ),
        ("no number", &format!("{post}content-length: -1\r\n\r\n"), 400),
        (
            "bad header name",
            "GET /livez HTTP/1.1\r\nhost: x\r\nb(d: x\r\n\r\n",
            400,
        ),
    ];
    for (case, bytes, status) in cases {
        let mut wire = Wire::connect(service.public).await;
        wire.send_until_refused(bytes.as_bytes()).await;
        let answer = wire.answer().await.expect(case);
        assert_eq!(answer.status, status, "{case}: {answer:?}");
        assert!(
            wire.rest().await.is_empty(),
            "{case}: the connection ends with the answer"
        );
    }
    assert_eq!(get(service.public, "/livez").await.status, 200);
    service.stop().await;
}

/// What hyper takes and RFC 9112 forbids.
#[tokio::test]
async fn ambiguous_heads_are_refused() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let coded = |coding: &str| format!("POST /webhooks/orders HTTP/1.1\r\nhost: x\r\n{coding}\r\n{body}");
    let chunked = "transfer-encoding: chunked\r\n";
    for (case, bytes) in [
        ("no host", "GET /livez HTTP/1.1\r\n\r\n".to_owned()),
        (
            "two hosts",
            "GET /livez HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n".to_owned(),
        ),
        ("chunked in two headers", coded(&chunked.repeat(2))),
        ("chunked twice", coded("transfer-encoding: chunked, chunked\r\n")),
        ("chunked and more", coded("transfer-encoding: gzip, chunked\r\n")),
    ] {
        for listener in [service.public, service.admin] {
            let mut wire = Wire::connect(listener).await;
            wire.send_until_refused(bytes.as_bytes()).await;
            let answer = wire.answer().await.expect(case);
            assert_refused(case, &answer, 400, "malformed_request");
            assert!(wire.rest().await.is_empty(), "{case}: the connection goes on");
        }
    }
    let old = ask(service.public, b"GET /livez HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.status, 200, "HTTP/1.0 knows no Host");
    service.stop().await;
}

#[tokio::test]
async fn slow_and_silent_peers_are_cut_off() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.public.header_timeout = Duration::from_millis(300);
    settings.public.body_timeout = Duration::from_millis(300);
    let service = Service::start_with(settings).await.ready().await;

    let mut slow_head = Wire::connect(service.public).await;
    slow_head.send(b"POST /webhooks/orders HTTP/1.1\r\nhost:").await;
    let answer = slow_head.answer().await.expect("an answer");
    assert_refused("slow head", &answer, 408, "request_timeout");
    assert!(slow_head.rest().await.is_empty());

    // A head that keeps coming, a byte at a time, is no better.
    let mut trickle = Wire::connect(service.public).await;
    let refused = eventually("the trickle is cut off", Duration::from_secs(20), async || {
        trickle.send_until_refused(b"X").await;
        let answer = tokio::time::timeout(Duration::from_millis(10), trickle.answer()).await;
        answer.ok().flatten()
    })
    .await;
    assert_refused("trickle", &refused, 408, "request_timeout");

    let body = order(1);
    let whole = webhook("w-1", &body);
    let mut slow_body = Wire::connect(service.public).await;
    slow_body.send(&whole[..whole.len() - 1]).await;
    let answer = slow_body.answer().await.expect("an answer");
    assert_refused("slow body", &answer, 408, "request_timeout");

    let mut silent = Wire::connect(service.public).await;
    assert!(silent.answer().await.is_none(), "silence gets no answer, only an end");

    // Between requests silence is fine: the head's limit does not run while a connection is idle.
    let mut idle = Wire::connect(service.public).await;
    for _ in 0..2 {
        idle.send(&request("GET /livez", &[], b"")).await;
        assert_eq!(idle.answer().await.unwrap().status, 200);
        let early = tokio::time::timeout(Duration::from_millis(900), idle.rest()).await;
        assert!(early.is_err(), "an idle connection was closed at the head's limit");
    }
    assert_eq!(service.stored().await.0, 0);
    service.stop().await;
}

#[tokio::test]
async fn idle_connections_end_at_their_own_limit() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.public.keep_alive = Duration::from_millis(200);
    let service = Service::start_with(settings).await.ready().await;
    let mut idle = Wire::connect(service.public).await;
    idle.send(&request("GET /livez", &[], b"")).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    assert!(idle.rest().await.is_empty());
    service.stop().await;
}

async fn batches_are_judged_item_by_item(ground: Ground) {
    let service = ground.ingest().await;
    let bare = request("POST /events/batch", &[], b"[]");
    let answer = ask(service.public, &bare).await;
    assert_refused("no token", &answer, 401, "invalid_token");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let wrong = request("POST /events/batch", &[("authorization", "Bearer nope")], b"[]");
    assert_refused("wrong token", &ask(service.public, &wrong).await, 401, "invalid_token");

    let bad = r#"{"event_type":"order.created","event_id":"bad","timestamp":"yesterday","order_id":"1"}"#;
    let mixed = format!("[{},{bad},{}]", event("e-1"), event("e-2"));
    let answer = service.batch("/events/batch", mixed.as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    let statuses: Vec<_> = json["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["status"].clone())
        .collect();
    assert_eq!(statuses, ["accepted", "invalid", "accepted"]);
    assert_eq!(json["counts"]["accepted"], 2);
    assert!(
        json["results"][1]["reason"].as_str().unwrap().contains("timestamp"),
        "{json}"
    );
    assert!(!answer.text().contains("yesterday"), "a value is repeated");

    let again = service.batch("/events/batch", mixed.as_bytes()).await.json();
    assert_eq!(again["results"][0]["status"], "duplicate");
    assert_eq!(again["results"][0]["stream_id"], json["results"][0]["stream_id"]);
    assert_eq!(service.stored().await.0, 2);

    let all_bad = service
        .batch("/events/batch", format!("{bad}\n{{broken\n").as_bytes())
        .await;
    assert_refused("all bad", &all_bad, 422, "no_valid_event");
    assert_eq!(all_bad.json()["results"].as_array().unwrap().len(), 2);
    let neither = service.batch("/events/batch", b"hello").await;
    assert_refused("neither", &neither, 400, "malformed_batch");
    let broken = service
        .batch("/events/batch", format!("[{},", event("e-3")).as_bytes())
        .await;
    assert_refused("broken array", &broken, 400, "malformed_batch");
    let many = format!("[{}]", vec!["1"; 1001].join(","));
    let many = service.batch("/events/batch", many.as_bytes()).await;
    assert_refused("too many", &many, 413, "batch_too_large");
    assert_eq!(service.stored().await.0, 2);

    let other = event("e-6").replace("1001", "1002");
    let twice = format!("{}\n{}\n{other}\n", event("e-6"), event("e-6"));
    let twice = service.batch("/events/batch", twice.as_bytes()).await.json();
    assert_eq!(twice["results"][0]["status"], "accepted");
    assert_eq!(twice["results"][1]["status"], "duplicate");
    assert_eq!(twice["results"][2]["status"], "invalid");
    assert_eq!(twice["results"][2]["reason"], "event_id was used for another body");
    service.stop().await;
}

/// What RFC 9110 calls the same is taken as the same.
async fn what_standards_call_equal_is_taken(ground: Ground) {
    let service = ground.ingest().await;
    let body = order(1);
    let good = sign(&body);
    let joined = format!("{good}, {good}");
    let signature = ("x-shopify-hmac-sha256", good.as_str());
    for (case, line, headers) in [
        (
            "identity",
            "/webhooks/orders",
            vec![signature, ("content-encoding", "identity")],
        ),
        (
            "no encoding",
            "/webhooks/orders",
            vec![signature, ("content-encoding", "")],
        ),
        ("doubled", "/webhooks/orders", vec![signature, signature]),
        (
            "joined",
            "/webhooks/orders",
            vec![("x-shopify-hmac-sha256", joined.as_str())],
        ),
        (
            "both names",
            "/webhooks/orders",
            vec![signature, ("shopify-hmac-sha256", &good)],
        ),
        ("a slash at the end", "/webhooks/orders/", vec![signature]),
        ("before a query", "/webhooks/orders/?x=1", vec![signature]),
    ] {
        let answer = ask(service.public, &request(&format!("POST {line}"), &headers, &body)).await;
        assert_eq!(answer.status, 200, "{case}: {answer:?}");
    }
    let batch = service
        .batch("/events/batch/?atomic=true", event("e-1").as_bytes())
        .await;
    assert_eq!(batch.status, 200, "{batch:?}");
    service.stop().await;
}

/// A chunk that is announced as larger than any body is refused when no more of it comes, or at the limit.
#[tokio::test]
async fn a_chunk_without_end_is_refused() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.public.body_timeout = Duration::from_secs(300);
    let service = Service::start_with(settings).await.ready().await;
    let head = format!(
        "POST /webhooks/orders HTTP/1.1\r\nhost: x\r\nx-shopify-hmac-sha256: {}\r\ntransfer-encoding: chunked\r\n\r\n\
         1000000000000000\r\n",
        sign(b"x")
    );
    for (bytes, status, code) in [(1, 408, "request_timeout"), (64 * 1024 + 1, 413, "body_too_large")] {
        let mut wire = Wire::connect(service.public).await;
        wire.send_until_refused(&[head.as_bytes(), &vec![b'x'; bytes]].concat())
            .await;
        assert_refused("2^60", &wire.answer().await.expect("an answer"), status, code);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_failed_token_is_logged_and_the_eleventh_delayed() {
    let local = Local::new();
    let settings = local.settings();
    let service = Process::start("run", &settings).await;
    for url in [service.url("/events/batch"), service.admin_url("/api/landed")] {
        let client = reqwest::Client::new();
        let refused = async || {
            let asked = Instant::now();
            let answer = client.post(&url).bearer_auth("nope").send().await.unwrap();
            assert_eq!(answer.status(), 401, "{url}");
            asked.elapsed()
        };
        for _ in 0..10 {
            refused().await;
        }
        assert!(
            refused().await >= Duration::from_secs(1),
            "{url}: the eleventh is not delayed"
        );
    }
    let said = service.says("path=\"/api\"").await;
    let lines = said
        .lines()
        .filter(|line| line.contains("a bearer token is missing or unknown"));
    assert_eq!(lines.count(), 4, "{said}");
    assert!(said.contains("127.0.0.1") && !said.contains("nope"), "{said}");
}

async fn an_atomic_batch_is_all_or_nothing(ground: Ground) {
    let service = ground.ingest().await;
    let atomic = "/events/batch?atomic=true";
    let bad = r#"{"event_type":"order.created"}"#;
    let spoilt = format!("{}\n{bad}\n", event("e-1"));
    let refused = service.batch(atomic, spoilt.as_bytes()).await;
    assert_refused("atomic", &refused, 422, "atomic_batch_refused");
    assert_eq!(service.stored().await.0, 0);
    let sound = format!("{}\n{}\n", event("e-1"), event("e-2"));
    assert_eq!(service.batch(atomic, sound.as_bytes()).await.status, 200);
    assert_eq!(service.stored().await.0, 2);
    for query in ["atomic=1", "atomic=True", "atomic", "atomic=false&atomic=true"] {
        let unclear = service
            .batch(&format!("/events/batch?{query}"), event("e-9").as_bytes())
            .await;
        assert_refused(query, &unclear, 400, "malformed_query");
    }
    assert_eq!(service.stored().await.0, 2);
    service.stop().await;
}

async fn what_is_signed_and_cannot_be_converted_is_quarantined(ground: Ground) {
    let service = ground.ingest().await;
    let cases: [(&str, &[u8]); 4] = [
        ("orders/create", b""),
        ("orders/create", b"{\"id\": 1}"),
        ("products/create", b"{\"id\": 2}"),
        ("orders/paid", b"\xff\x00 not JSON"),
    ];
    for (number, (topic, body)) in cases.into_iter().enumerate() {
        let request = signed(topic, &format!("q-{number}"), body);
        let first = ask(service.public, &request).await;
        assert_eq!(first.status, 200, "{topic}: {first:?}");
        let first = first.json();
        assert_eq!(first["status"], "quarantined", "{topic}");
        let again = ask(service.public, &request).await.json();
        assert_eq!(first, again, "quarantined once");
    }
    // A known webhook id with another body, and then a third.
    assert_eq!(service.webhook("w-1", &order(1)).await.json()["status"], "accepted");
    assert_eq!(service.webhook("w-1", &order(1)).await.json()["status"], "duplicate");
    assert_eq!(service.webhook("w-1", &order(2)).await.json()["status"], "quarantined");
    assert_eq!(service.webhook("w-1", &order(3)).await.json()["status"], "quarantined");
    assert_eq!(service.stored().await, (1, 6));
    service.stop().await;
}

async fn the_private_listener_guards_its_api(ground: Ground) {
    let service = ground.ingest().await;
    let ask_as = async |host: &str, token: Option<&str>, path: &str| {
        let authorization = token
            .map(|token| format!("authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{authorization}\r\n");
        ask(service.admin, request.as_bytes()).await
    };
    let answer = ask_as("127.0.0.1:9090", None, "/api/status").await;
    assert_refused("no token", &answer, 401, "invalid_token");
    let answer = ask_as("127.0.0.1:9090", Some(API_TOKEN), "/api/status").await;
    assert_refused("the other token", &answer, 401, "invalid_token");
    let answer = ask_as("rebound.example", Some(ADMIN_TOKEN), "/api/status").await;
    assert_refused("foreign host", &answer, 421, "wrong_host");
    let answer = ask_as("localhost:9090", Some(ADMIN_TOKEN), "/api/status").await;
    assert_eq!((answer.status, &answer.json()["trim_held_by"]), (200, &Value::Null));
    assert_eq!(ask_as("localhost", None, "/").await.status, 200);
    assert_eq!(ask_as("orders.internal:9090", None, "/").await.status, 200);
    let metrics = ask_as("orderstream:9090", None, "/metrics").await;
    assert!(
        metrics.text().contains("orderstream_requests_total"),
        "{}",
        metrics.text()
    );
    service.stop().await;
}

#[tokio::test]
async fn memory_stays_flat_under_bad_input() {
    // The other tests of this binary take memory too: this one measures in a process of its own.
    if !alone("http::memory_stays_flat_under_bad_input") {
        return;
    }
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.intake.body_limit = 1024 * 1024;
    let service = Service::start_with(settings).await.ready().await;
    let unsigned = request("POST /webhooks/orders", &[], &vec![b'x'; 1024 * 1024]);
    let mut wrong = webhook("w", &vec![b'x'; 1024 * 1024]);
    *wrong.last_mut().unwrap() = b'y';
    let tiny_items = format!("[{}", "1,".repeat(2 * 1024 * 1024 - 1));
    let round = async || {
        for _ in 0..8 {
            assert_eq!(ask(service.public, &unsigned).await.status, 401);
            assert_eq!(ask(service.public, &wrong).await.status, 401);
            assert_eq!(service.batch("/events/batch", tiny_items.as_bytes()).await.status, 413);
        }
    };
    round().await; // what is kept for the next request is kept once
    let before = resident_bytes();
    for _ in 0..8 {
        round().await;
    }
    let grown = resident_bytes().saturating_sub(before);
    // 64 rounds of 6 MiB each: a leak of a tenth of it would be seen.
    assert!(grown < 32 * 1024 * 1024, "grew by {grown} bytes");
    assert_eq!(service.metrics.body_bytes.get(), 0);
    service.stop().await;
}

/// True in a process that runs nothing but this test. Elsewhere it starts that process, waits for it and asserts that
/// it succeeded.
fn alone(test: &str) -> bool {
    const MARK: &str = "ORDERSTREAM_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{test} failed in a process of its own:\n{said}"
    );
    false
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
