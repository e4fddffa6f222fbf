//! Spans over OTLP, from the real binary to a collector: `cargo test --features otel otel::`.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::collector::{Collector, attribute};
use crate::harness::eventually;
use crate::harness::ground::{Place, in_any_place};
use crate::harness::local::Local;
use crate::harness::ports::reserved_port;
use crate::harness::postgres::Database;
use crate::harness::redis::{RedisOptions, RedisServer};
use crate::harness::service::{Service, Settings, TOKEN, event, order, webhook};
use crate::harness::site::{PATIENCE, Site, Store};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

in_any_place!(
    a_webhook_is_one_trace_from_its_request_to_its_load,
    a_batch_is_one_trace_with_few_spans,
    what_is_queued_is_sent_at_the_end,
);

/// With the usual delay between exports cut short.
fn traced(settings: &Settings, endpoint: &str) -> Settings {
    settings
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .with("OTEL_BSP_SCHEDULE_DELAY", "50")
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// Delivers an order below a parent.
async fn deliver(service: &Service, id: u64, flags: &str) {
    let body = order(id).to_string();
    let request = webhook(
        &reqwest::Client::new(),
        &service.url(""),
        "orders/create",
        &format!("webhook-{id}"),
        body.as_bytes(),
    );
    let answer = request.header("traceparent", traceparent(flags)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

fn said(span: &Span, name: &str) -> String {
    attribute(&span.attributes, name).unwrap_or_else(|| panic!("no {name} in {span:?}"))
}

fn is_below(span: &Span, parent: &Span) {
    assert_eq!(hex::encode(&span.trace_id), hex::encode(&parent.trace_id), "{span:?}");
    assert_eq!(
        hex::encode(&span.parent_span_id),
        hex::encode(&parent.span_id),
        "{span:?}"
    );
}

async fn a_webhook_is_one_trace_from_its_request_to_its_load(place: impl Place) {
    let collector = Collector::start().await;
    let settings = traced(&place.settings(), &collector.url())
        .with("OTEL_EXPORTER_OTLP_HEADERS", "x-tests=a key")
        .with("OTEL_SERVICE_NAME", "orders-of-the-tests")
        .with("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests");
    let service = Service::start("run", &settings).await;
    // What is not to be recorded comes first: its spans would be there before the others.
    deliver(&service, 1, "00").await;
    let stranger = reqwest::Client::new().post(service.url("/webhooks/orders")).body("{}");
    let stranger = stranger.header("traceparent", traceparent("01")).send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    deliver(&service, 2, "01").await;

    let load = collector.has_one("process orders_stream").await;
    let request = collector.has_one("POST /webhooks/orders").await;
    let append = collector.has_one("send orders_stream").await;
    assert_eq!(collector.spans().len(), 3, "{:?}", collector.spans());
    assert_eq!(hex::encode(&request.trace_id), TRACE);
    assert_eq!(hex::encode(&request.parent_span_id), PARENT);
    is_below(&append, &request);
    is_below(&load, &append);
    assert_eq!(
        [request.kind(), append.kind(), load.kind()],
        [SpanKind::Server, SpanKind::Producer, SpanKind::Consumer]
    );
    assert_eq!(said(&request, "http.response.status_code"), "200");
    assert_eq!(said(&request, "http.route"), "/webhooks/orders");
    assert_eq!(said(&request, "orderstream.outcome"), "accepted");
    assert_eq!(said(&request, "orderstream.shop"), "tests.myshopify.com");
    assert_eq!(
        said(&append, "messaging.message.id"),
        said(&load, "messaging.message.id")
    );
    assert_eq!(
        said(&request, "orderstream.event_id"),
        said(&load, "orderstream.event_id")
    );
    assert_eq!(said(&load, "messaging.consumer.group.name"), "pipeline_workers");
    assert!(load.end_time_unix_nano >= append.end_time_unix_nano);

    let export = collector.exports().remove(0);
    assert_eq!(
        (export.path.as_str(), export.header.as_deref()),
        ("/v1/traces", Some("a key"))
    );
    let resource = export.request.resource_spans[0].resource.clone().unwrap().attributes;
    let resource = |name| attribute(&resource, name);
    assert_eq!(resource("service.name").as_deref(), Some("orders-of-the-tests"));
    assert_eq!(resource("deployment.environment.name").as_deref(), Some("tests"));
    assert!(resource("service.version").is_some());
    // Nothing of the order, and no secret.
    let everything = format!("{:?}", collector.exports()).replace("a key", "");
    for content in ["A-1", "Thing", "20.5", "#2", "a secret of the tests", TOKEN] {
        assert!(!everything.contains(content), "{content} is in a span");
    }
}

async fn a_batch_is_one_trace_with_few_spans(place: impl Place) {
    let collector = Collector::start().await;
    let service = Service::start("run", &traced(&place.settings(), &collector.url())).await;
    let events: Vec<_> = (1..=300).map(event).collect();
    let request = reqwest::Client::new()
        .post(service.url("/events/batch"))
        .bearer_auth(TOKEN);
    let answer = request.body(json!(events).to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);

    let loaded = eventually("all are loaded", PATIENCE, async || {
        let spans = collector.spans();
        let loads: Vec<Span> = spans
            .into_iter()
            .filter(|span| span.name == "process orders_stream")
            .collect();
        let entries = |span: &Span| attribute(&span.attributes, "orderstream.entries");
        let counts = loads
            .iter()
            .map(|span| entries(span).map_or(1, |text| text.parse().unwrap()));
        let count: u64 = counts.sum();
        (count == 300).then_some(loads)
    });
    let loaded = loaded.await;
    // Pieces of 256, each of which is loaded in a few batches.
    let pieces = collector.has(2, "send orders_stream").await;
    let request = collector.has_one("POST /events/batch").await;
    assert!(loaded.len() < 30, "{} spans", loaded.len());
    assert!(request.parent_span_id.is_empty(), "nobody was above it");
    for piece in &pieces {
        is_below(piece, &request);
    }
    for load in &loaded {
        assert!(
            pieces.iter().any(|piece| piece.span_id == load.parent_span_id),
            "{load:?}"
        );
    }
}

async fn what_is_queued_is_sent_at_the_end(place: impl Place) {
    let collector = Collector::start().await;
    let settings = traced(&place.settings(), &collector.url()).with("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let mut service = Service::start("run", &settings).await;
    deliver(&service, 1, "01").await;
    service.settled(1).await;
    assert_eq!(collector.spans().len(), 0);
    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    assert_eq!(collector.spans().len(), 3, "{:?}", collector.spans());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_nothing_up_and_is_said_once() {
    let place = Local::new();
    let addr = SocketAddr::from(([127, 0, 0, 1], reserved_port()));
    let service = Service::start("run", &traced(&place.settings(), &format!("http://{addr}"))).await;
    const SAID: &str = "the collector does not take spans";
    deliver(&service, 1, "01").await;
    service.says(SAID).await;
    for id in 2..=5 {
        deliver(&service, id, "01").await;
        place.has_rows(usize::try_from(id).unwrap()).await;
    }
    let collector = Collector::start_at(addr).await;
    eventually("spans come again", PATIENCE, async || {
        deliver(&service, 6, "01").await;
        (!collector.spans().is_empty()).then_some(())
    })
    .await;
    let log = service.says("the collector takes spans again").await;
    assert_eq!(log.matches(SAID).count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_does_not_hold_up_the_end() {
    let place = Local::new();
    // The kernel takes connections, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let settings = traced(&place.settings(), &endpoint).with("ORDERSTREAM_SHUTDOWN_GRACE", "20s");
    let mut service = Service::start("run", &settings).await;
    deliver(&service, 1, "01").await;
    let (_export, _) = listener.accept().await.unwrap();
    deliver(&service, 2, "01").await;
    service.settled(2).await;
    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    let log = service.stderr();
    assert!(
        log.contains("all work is finished"),
        "the grace period was used up: {log}"
    );
    assert!(log.contains("spans were lost at the end"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_ends_its_trace_and_a_replay_goes_on_with_it() {
    let site = Site::new().await;
    let collector = Collector::start().await;
    let service = Service::start("run", &traced(&site.settings(), &collector.url())).await;
    let produced = event(1).to_string().replace("20.5", "\"none\"");
    let context = traceparent("01");
    let fields = [
        "event_type",
        "order.created",
        "event_id",
        "event-1",
        "timestamp",
        "2026-01-05T10:00:00Z",
    ];
    let rest = ["payload", produced.as_str(), "traceparent", context.as_str()];
    let _: String = site
        .redis
        .command(&[&["XADD", "orders_stream", "*"], &fields[..], &rest[..]].concat())
        .await;
    let buried = collector.has_one("settle orders_stream").await;
    assert_eq!(
        (hex::encode(&buried.trace_id), hex::encode(&buried.parent_span_id)),
        (TRACE.to_owned(), PARENT.to_owned())
    );
    assert_eq!(buried.status.clone().unwrap().code(), StatusCode::Error);
    assert_eq!(said(&buried, "error.type"), "dead_letter");

    deliver(&service, 2, "01").await;
    collector.has_one("process orders_stream").await;
    let replay = site.settings().command(&["replay", "--all", "--yes"]).output().unwrap();
    assert!(replay.status.success(), "{replay:?}");
    let loads = collector.has(2, "process orders_stream").await;
    assert_eq!(loads[0].parent_span_id, loads[1].parent_span_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_behind_the_spool() {
    let mut site = Site {
        redis: RedisServer::start_with(RedisOptions {
            durable: true,
            ..RedisOptions::default()
        })
        .await,
        store: Store::Shared(Database::migrated().await),
    };
    let (collector, folder) = (Collector::start().await, tempfile::tempdir().unwrap());
    let settings = traced(&site.settings(), &collector.url());
    let settings = settings.with("ORDERSTREAM_DATA_DIR", folder.path().to_str().unwrap());
    let service = Service::start("run", &settings).await;
    site.redis.kill();
    deliver(&service, 1, "01").await;
    let request = collector.has_one("POST /webhooks/orders").await;
    assert_eq!(said(&request, "orderstream.outcome"), "spooled");
    let append = collector.has_one("send orders_stream").await;
    site.redis.restart().await;
    let load = collector.has_one("process orders_stream").await;
    assert_eq!(hex::encode(&request.trace_id), TRACE);
    assert_eq!(hex::encode(&request.parent_span_id), PARENT);
    is_below(&append, &request);
    is_below(&load, &append);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_nothing_is_started() {
    let place = Local::new();
    let settings = place.settings().with("OTEL_SERVICE_NAME", "orders");
    let disabled = traced(&settings, "http://127.0.0.1:9").with("OTEL_SDK_DISABLED", "true");
    for settings in [settings, disabled] {
        let mut service = Service::start("run", &settings).await;
        deliver(&service, 1, "01").await;
        service.signal(Signal::SIGTERM);
        assert!(service.ended(PATIENCE).await.success());
        assert!(!service.stderr().contains("spans"), "{}", service.stderr());
    }
}
