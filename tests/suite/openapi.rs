//! `openapi.yaml` is the truth: it names exactly the routes that there are, and real answers are as it says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use orderstream::operations::{Carrier, Operation, Visitor, visit_all};
use serde_json::{Value, json};

use crate::harness::ingest::{ADMIN_TOKEN, API_TOKEN, Service, Settings, event, order, sign, signed};
use crate::harness::redis::RedisServer;
use crate::harness::wire::{Answer, ask, get, request};

/// The description, as the service serves it.
fn description() -> Value {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml")).unwrap();
    serde_yaml_ng::from_str(&text).unwrap()
}

/// `GET /path` of every operation.
fn described(description: &Value) -> BTreeSet<String> {
    let paths = description["paths"].as_object().unwrap();
    let methods = ["get", "post", "put", "delete", "patch"];
    paths
        .iter()
        .flat_map(|(path, item)| {
            let there = methods.into_iter().filter(|method| item.get(method).is_some());
            there.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

/// Gathers the routes of all operations.
struct Routes(BTreeSet<String>);

impl Visitor for Routes {
    fn visit<O: Operation>(&mut self) {
        let method = match O::CARRIER {
            Carrier::Query | Carrier::Path => "GET",
            Carrier::Body => "POST",
        };
        self.0.insert(format!("{method} {}", O::PATH));
    }
}

/// `GET /path` of every operation, and of every `.route("...` in the source.
fn routed() -> BTreeSet<String> {
    let mut unread = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http")];
    let mut operations = Routes(BTreeSet::new());
    visit_all(&mut operations);
    let mut routes = operations.0;
    while let Some(file) = unread.pop() {
        if file.is_dir() {
            unread.extend(std::fs::read_dir(file).unwrap().map(|file| file.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(file).unwrap();
        let calls = text.split(".route(").skip(1);
        for call in calls.filter(|call| call.trim_start().starts_with('"')) {
            let mut parts = call.splitn(3, '"');
            let path = parts.nth(1).unwrap();
            let handler = parts.next().unwrap().trim_start_matches([',', ' ', '\n']);
            let method = handler.split('(').next().unwrap().to_uppercase();
            routes.insert(format!("{method} {path}"));
        }
    }
    routes
}

#[test]
fn names_exactly_the_routes_that_there_are() {
    let routed = routed();
    assert!(
        routed.contains("POST /webhooks/orders"),
        "routes were not found: {routed:?}"
    );
    assert_eq!(described(&description()), routed);
}

/// Every `$ref` within.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, found));
        }
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let (description, mut found) = (description(), BTreeSet::new());
    references(&description, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let target = description.pointer(reference.trim_start_matches('#'));
        assert!(target.is_some(), "{reference}");
    }
}

/// Follows a `$ref` within the description, if it is one.
fn resolved<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => description
            .pointer(reference.strip_prefix('#').unwrap())
            .expect(reference),
        None => value,
    }
}

/// Asserts that the answer is one that the description has for the operation.
fn assert_described(description: &Value, operation: &str, answer: &Answer) {
    let (method, path) = operation.split_once(' ').unwrap();
    let responses = &description["paths"][path][method.to_lowercase()]["responses"];
    let status = answer.status.to_string();
    let response = responses
        .get(&status)
        .or_else(|| responses.get("default"))
        .unwrap_or_else(|| panic!("{operation}: {status} is not described"));
    let response = resolved(description, response);
    for (name, _) in response["headers"].as_object().into_iter().flatten() {
        assert!(answer.header(name).is_some(), "{operation}: {status} lacks {name}");
    }
    let media_type = answer.header("content-type").unwrap().split(';').next().unwrap();
    let schema = &response["content"][media_type]["schema"];
    assert!(
        schema.is_object(),
        "{operation}: {status} {media_type} is not described"
    );
    if media_type.ends_with("json") {
        let errors = errors(description, schema, &answer.json());
        assert!(errors.is_empty(), "{operation}: {status}: {errors}");
    }
}

/// What is wrong with a value by that schema; empty where nothing is.
fn errors(description: &Value, schema: &Value, value: &Value) -> String {
    let root = json!({"components": description["components"], "allOf": [schema]});
    let validator = jsonschema::validator_for(&root).unwrap();
    let errors: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    if errors.is_empty() {
        String::new()
    } else {
        format!("{errors:?}\n{value:#}")
    }
}

/// Asserts that a part of an answer is as the schema of that name has it.
pub fn assert_is(name: &str, value: &Value) {
    let schema = json!({"$ref": format!("#/components/schemas/{name}")});
    let errors = errors(&description(), &schema, value);
    assert!(errors.is_empty(), "{name}: {errors}");
}

fn check(description: &Value, operation: &str, status: u16, answer: &Answer) {
    assert_eq!(answer.status, status, "{operation}: {answer:?}");
    assert_described(description, operation, answer);
}

const WEBHOOKS: &str = "POST /webhooks/orders";
const BATCH: &str = "POST /events/batch";

#[tokio::test]
async fn the_doors_answer_as_described() {
    let description = description();
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let check = |operation, status, answer: &Answer| check(&description, operation, status, answer);

    let large = vec![b' '; 64 * 1024 + 1];
    let signature = sign(b"");
    let encoded = [("content-encoding", "br"), ("x-shopify-hmac-sha256", &signature)];
    let encoded = request(WEBHOOKS, &encoded, b"");
    check(WEBHOOKS, 200, &service.webhook("w-1", &order(1)).await);
    check(WEBHOOKS, 200, &service.webhook("w-1", &order(1)).await);
    let unknown = signed("products/create", "w-2", b"{}");
    check(WEBHOOKS, 200, &ask(service.public, &unknown).await);
    check(
        WEBHOOKS,
        401,
        &ask(service.public, &request(WEBHOOKS, &[], b"{}")).await,
    );
    check(WEBHOOKS, 405, &get(service.public, "/webhooks/orders").await);
    check(WEBHOOKS, 413, &service.webhook("w-3", &large).await);
    check(WEBHOOKS, 415, &ask(service.public, &encoded).await);

    let mixed = format!("{}\n{{}}\n{{broken\n", event("e-1"));
    let many = [b"[1", &b",1".repeat(1000)[..], b"]"].concat();
    check(BATCH, 200, &service.batch("/events/batch", mixed.as_bytes()).await);
    check(BATCH, 200, &service.batch("/events/batch", mixed.as_bytes()).await);
    check(BATCH, 400, &service.batch("/events/batch", b"").await);
    check(BATCH, 401, &ask(service.public, &request(BATCH, &[], b"[]")).await);
    check(BATCH, 413, &service.batch("/events/batch", &many).await);
    check(BATCH, 422, &service.batch("/events/batch", b"[]").await);
    let atomic = service.batch("/events/batch?atomic=true", mixed.as_bytes()).await;
    check(BATCH, 422, &atomic);
    service.stop().await;
}

#[tokio::test]
async fn a_full_stream_is_answered_as_described() {
    let description = description();
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.stream.maxlen = 1;
    settings.stream.retain_acked = 0;
    let service = Service::start_with(settings).await.ready().await;
    service.webhook("w-1", &order(1)).await;
    check(&description, WEBHOOKS, 503, &service.webhook("w-2", &order(2)).await);
    let batch = service.batch("/events/batch", event("e-1").as_bytes()).await;
    check(&description, BATCH, 503, &batch);
    service.stop().await;
}

#[tokio::test]
async fn probes_and_the_private_listener_answer_as_described() {
    let description = description();
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let check = |operation: &str, status, answer: &Answer| check(&description, operation, status, answer);
    for addr in [service.public, service.admin] {
        for path in ["/health", "/livez", "/readyz"] {
            check(&format!("GET {path}"), 200, &get(addr, path).await);
        }
    }
    for path in ["/", "/docs", "/metrics", "/openapi.yaml", "/openapi.json"] {
        check(&format!("GET {path}"), 200, &get(service.admin, path).await);
    }
    for file in ["main.js", "base.css", "mark.svg", "uplot.LICENSE.txt"] {
        let answer = get(service.admin, &format!("/assets/{file}")).await;
        check("GET /assets/{file}", 200, &answer);
    }
    check("GET /assets/{file}", 404, &get(service.admin, "/assets/none.js").await);
    let served = get(service.admin, "/openapi.yaml").await;
    assert_eq!(serde_yaml_ng::from_str::<Value>(served.text()).unwrap(), description);
    assert_eq!(get(service.admin, "/openapi.json").await.json(), description);
    check("GET /api/status", 401, &as_admin(service.admin, API_TOKEN).await);
    check("GET /api/status", 200, &as_admin(service.admin, ADMIN_TOKEN).await);
    service.draining.cancel();
    check("GET /readyz", 503, &get(service.public, "/readyz").await);
    service.stop().await;
}

async fn as_admin(addr: SocketAddr, token: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    ask(
        addr,
        &request("GET /api/status", &[("authorization", &authorization)], b""),
    )
    .await
}

/// A letter at the door, one that a worker might have written, and an entry: all that an operator looks at.
#[tokio::test]
async fn what_operators_ask_is_answered_as_described() {
    let description = description();
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let check = |operation: &str, status, answer: &Answer| check(&description, operation, status, answer);
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let asks = async |line: &str, body: &str| {
        let headers = [("authorization", authorization.as_str())];
        ask(service.admin, &request(line, &headers, body.as_bytes())).await
    };
    let taken = service.webhook("w-1", &order(1)).await.json();
    let entry = format!("/api/events/{}", taken["stream_id"].as_str().unwrap());
    let quarantined = ask(service.public, &signed("products/create", "w-2", b"{}"))
        .await
        .json();
    let letter = format!("/api/dead-letters/{}", quarantined["stream_id"].as_str().unwrap());

    check("GET /api/events", 200, &asks("GET /api/events?count=1", "").await);
    let of_order = asks("GET /api/events?order=%231&event_type=order.created", "").await;
    check("GET /api/events", 200, &of_order);
    assert_eq!(of_order.json()["entries"].as_array().unwrap().len(), 1);
    check("GET /api/events", 400, &asks("GET /api/events?count=many", "").await);
    check("GET /api/events/{id}", 200, &asks(&format!("GET {entry}"), "").await);
    check("GET /api/events/{id}", 404, &asks("GET /api/events/1-1", "").await);
    check("GET /api/events/{id}", 400, &asks("GET /api/events/x", "").await);
    check("GET /api/dead-letters", 200, &asks("GET /api/dead-letters", "").await);
    check(
        "GET /api/dead-letters/groups",
        200,
        &asks("GET /api/dead-letters/groups", "").await,
    );
    check(
        "GET /api/dead-letters/{id}",
        200,
        &asks(&format!("GET {letter}"), "").await,
    );
    check("GET /api/secrets", 200, &asks("GET /api/secrets", "").await);
    check("GET /api/consumers", 200, &asks("GET /api/consumers", "").await);
    check("GET /api/nodes", 200, &asks("GET /api/nodes", "").await);
    for action in ["replay", "discard"] {
        let operation = format!("POST /api/dead-letters/{action}");
        check(&operation, 400, &asks(&operation, "{").await);
        check(&operation, 400, &asks(&operation, r#"{"everything":true}"#).await);
        check(&operation, 422, &asks(&operation, "{}").await);
        check(
            &operation,
            422,
            &asks(&operation, r#"{"all":true,"fingerprint":"x"}"#).await,
        );
        check(
            &operation,
            200,
            &asks(&operation, r#"{"all":true,"dry_run":true}"#).await,
        );
        check(&operation, 200, &asks(&operation, r#"{"all":true,"rate":100}"#).await);
    }
    let nul = asks("GET /api/trace?order=1&shop=%00", "").await;
    check("GET /api/trace", 422, &nul);
    check("GET /api/audit", 200, &asks("GET /api/audit?count=5", "").await);
    for operation in described(&description)
        .iter()
        .filter(|operation| operation.contains(" /api/"))
    {
        let line = operation.replace("{id}", "1-1");
        check(operation, 401, &ask(service.admin, &request(&line, &[], b"{}")).await);
    }
    service.stop().await;
}

#[tokio::test]
async fn as_much_may_be_asked_for_as_is_described() {
    let description = description();
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let check = |status, answer: &Answer| check(&description, "POST /api/landed", status, answer);
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let asks = async |body: &str| {
        let headers = [("authorization", authorization.as_str())];
        ask(service.admin, &request("POST /api/landed", &headers, body.as_bytes())).await
    };
    let landing = r#"{"events":["e-1"],"orders":[["","1"]]}"#;
    check(409, &asks(landing).await);
    check(400, &asks("{").await);
    let nul = r#"{"events":["e-\u0000"]}"#;
    check(422, &asks(nul).await);
    let events = Vec::from_iter((0..1000).map(|id| format!("{id:036}")));
    let orders = Vec::from_iter(events.iter().map(|id| ["one-of-the-shops.myshopify.com", &id[..13]]));
    let as_much_as_may_be = json!({ "events": events, "orders": orders }).to_string();
    check(409, &asks(&as_much_as_may_be).await);
    service.stop().await;
}

#[tokio::test]
async fn the_last_page_says_that_it_is_the_last() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    for id in [1, 2] {
        service.webhook(&format!("w-{id}"), &order(id)).await;
        ask(service.public, &signed("products/create", &format!("q-{id}"), b"{}")).await;
    }
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    for (path, count, is_last) in [
        ("/api/events", 1, false),
        ("/api/events", 2, true),
        ("/api/dead-letters", 1, false),
        ("/api/dead-letters", 2, true),
    ] {
        let line = format!("GET {path}?count={count}");
        let page = ask(service.admin, &request(&line, &headers, b"")).await.json();
        assert_eq!(page["next"].is_null(), is_last, "{line}: {page:#}");
    }
    service.stop().await;
}

/// A struct is not to be read from an array of its values, nor an id from what is none.
#[tokio::test]
async fn what_operators_ask_wrongly_is_refused_as_described() {
    let description = description();
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    for (operation, body) in [
        ("POST /api/replay", "[null, null]"),
        ("POST /api/replay", r#"{"dry_run":true,"next":[null,null]}"#),
        (
            "POST /api/replay",
            r#"{"dry_run":true,"next":{"stream":["0-0","0-0"]}}"#,
        ),
        ("POST /api/replay", r#"{"dry_run":true,"from":"+1-0"}"#),
        ("POST /api/rebuild", r#"{"next":[null,null]}"#),
        ("POST /api/forget", r#"{"customer":"1","next":["s",[]]}"#),
        ("POST /api/forget/export", r#"{"customer":"1","next":["s",[]]}"#),
        (
            "POST /api/dead-letters/discard",
            r#"{"all":true,"dry_run":true,"next":["0-0","0-0"]}"#,
        ),
    ] {
        let answer = ask(service.admin, &request(operation, &headers, body.as_bytes())).await;
        check(&description, operation, 400, &answer);
    }
    service.stop().await;
}
