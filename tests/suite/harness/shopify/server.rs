//! The listener: tokens, GraphQL by operation name, result files of bulk operations.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::shop::{CLIENT_ID, CLIENT_SECRET, FIXED_TOKEN, Fault, SHOP, Shop};
use super::{analytics, bulk, render, search};
use crate::harness::service::Settings;

/// A query may cost so many points.
const MAX_COST: f64 = 1000.0;

/// Answers until it is dropped.
pub struct FakeShopify {
    addr: SocketAddr,
    shop: Arc<Mutex<Shop>>,
    _serving: JoinSet<()>,
}

#[derive(Clone)]
struct Served {
    addr: SocketAddr,
    shop: Arc<Mutex<Shop>>,
}

impl FakeShopify {
    pub async fn start() -> Self {
        // Fails where another test was faster; it installs the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shop = Arc::new(Mutex::new(Shop::default()));
        let served = Served {
            addr,
            shop: Arc::clone(&shop),
        };
        let router = Router::new()
            .route("/admin/oauth/access_token", post(grant))
            .route("/admin/api/{version}/graphql.json", post(graphql))
            .route("/bulk/{*path}", get(file))
            .with_state(served);
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            addr,
            shop,
            _serving: serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Reads or changes the shop.
    pub fn with<T>(&self, act: impl FnOnce(&mut Shop) -> T) -> T {
        act(&mut self.shop.lock().unwrap())
    }

    /// The same settings, with access to this shop by a token.
    pub fn known_to(&self, settings: &Settings) -> Settings {
        self.reached_by(settings)
            .with("ORDERSTREAM_SHOPIFY_ADMIN_TOKEN", FIXED_TOKEN)
    }

    /// The same settings, with access to this shop by an app of the Dev Dashboard.
    pub fn known_to_app(&self, settings: &Settings) -> Settings {
        self.reached_by(settings)
            .with("ORDERSTREAM_SHOPIFY_CLIENT_ID", CLIENT_ID)
            .with("ORDERSTREAM_SHOPIFY_CLIENT_SECRET", CLIENT_SECRET)
    }

    fn reached_by(&self, settings: &Settings) -> Settings {
        settings
            .with("ORDERSTREAM_SHOPIFY_SHOP", SHOP)
            .with("ORDERSTREAM_SHOPIFY_ADMIN_URL", &self.url())
    }
}

/// The client-credentials grant.
async fn grant(State(served): State<Served>, body: Bytes) -> Response {
    let field = |name: &str| {
        let found = url::form_urlencoded::parse(&body).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let mut shop = served.shop.lock().unwrap();
    if field("grant_type") != "client_credentials" || field("client_id") != CLIENT_ID {
        return (StatusCode::BAD_REQUEST, json!({"error": "invalid_request"}).to_string()).into_response();
    }
    if field("client_secret") != CLIENT_SECRET {
        return (StatusCode::BAD_REQUEST, json!({"error": "invalid_client"}).to_string()).into_response();
    }
    shop.grants += 1;
    let token = format!("shpat_granted_{}", shop.grants);
    let life = shop.token_life;
    shop.tokens.insert(token.clone(), Some(Instant::now() + life));
    let (scope, expires_in) = (shop.scopes.join(","), life.as_secs());
    json!({"access_token": token, "scope": scope, "expires_in": expires_in})
        .to_string()
        .into_response()
}

async fn graphql(
    State(served): State<Served>,
    Path(version): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match reply(&served, &version, &headers, &body) {
        Some(reply) => reply,
        None => std::future::pending().await,
    }
}

/// None where it is never answered.
fn reply(served: &Served, version: &str, headers: &HeaderMap, body: &Bytes) -> Option<Response> {
    let mut shop = served.shop.lock().unwrap();
    let token = headers
        .get("x-shopify-access-token")
        .and_then(|token| token.to_str().ok());
    if !token.is_some_and(|token| shop.accepts(token)) {
        let errors = "[API] Invalid API key or access token (unrecognized login or wrong password)";
        return Some((StatusCode::UNAUTHORIZED, json!({ "errors": errors }).to_string()).into_response());
    }
    match shop.faults.pop_front() {
        None => {}
        Some(Fault::Status(status, retry_after)) => {
            let status = StatusCode::from_u16(status).unwrap();
            let mut answer = (status, json!({"errors": "a fault of the tests"}).to_string()).into_response();
            if let Some(after) = retry_after {
                answer.headers_mut().insert("retry-after", after.parse().unwrap());
            }
            return Some(answer);
        }
        Some(Fault::Reset) => {
            // A body that fails cuts the connection.
            let cut = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
            return Some(axum::body::Body::from_stream(cut).into_response());
        }
        Some(Fault::Errors(errors)) => {
            return Some(json!({ "data": null, "errors": errors }).to_string().into_response());
        }
    }
    let request: Value = serde_json::from_slice(body).unwrap();
    let operation = request["operationName"].as_str().unwrap();
    let text = request["query"].as_str().unwrap();
    assert!(
        text.contains(&format!(" {operation}")),
        "no operation {operation} in {text}"
    );
    let variables = &request["variables"];
    let (requested, actual) = cost(operation, variables);
    if requested > MAX_COST {
        let errors = json!([{"message": format!("Query cost is {requested}, which exceeds the single query max cost limit (1000)."),
            "extensions": {"code": "MAX_COST_EXCEEDED", "cost": requested, "maxCost": MAX_COST}}]);
        return Some(json!({ "errors": errors }).to_string().into_response());
    }
    let cost = match shop.charge(requested, actual) {
        Ok(cost) => cost,
        Err(cost) => {
            let errors = json!([{"message": "Throttled", "extensions": {"code": "THROTTLED",
                "documentation": "https://shopify.dev/api/usage/rate-limits"}}]);
            return Some(
                json!({ "errors": errors, "extensions": cost })
                    .to_string()
                    .into_response(),
            );
        }
    };
    shop.requests.push((operation.to_owned(), variables.clone()));
    let base = format!("http://{}", served.addr);
    let data = answer(&mut shop, operation, variables, &base);
    if shop.stall_at == Some(operation) {
        shop.stall_at = None;
        return None;
    }
    let mut reply = json!({ "data": data, "extensions": cost }).to_string().into_response();
    let version = version.parse().unwrap();
    reply.headers_mut().insert("x-shopify-api-version", version);
    Some(reply)
}

async fn file(State(served): State<Served>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let range = headers.get("range").and_then(|range| range.to_str().ok());
    bulk::download(&mut served.shop.lock().unwrap(), &path, range)
}

/// Points requested and used.
fn cost(operation: &str, variables: &Value) -> (f64, f64) {
    let ids = variables["ids"].as_array().map_or(0, Vec::len);
    match operation {
        "Window" => (26.0, 14.0),
        // Full orders were seen at about 17 points each.
        "Orders" => {
            let each = u32::try_from(ids).unwrap();
            (f64::from(each) * 17.0, f64::from(each) * 17.0)
        }
        "Identity" => (3.0, 3.0),
        "Analytics" => (65.0, 65.0),
        _ => (10.0, 10.0),
    }
}

fn answer(shop: &mut Shop, operation: &str, variables: &Value, base: &str) -> Value {
    let text = |name: &str| variables[name].as_str().unwrap_or_default().to_owned();
    match operation {
        "Identity" => json!({
            "shop": {
                "id": "gid://shopify/Shop/60021178580", "myshopifyDomain": shop.domain, "ianaTimezone": shop.timezone,
                "currencyCode": shop.currency, "taxesIncluded": true, "plan": {"publicDisplayName": "Basic"},
            },
            "currentAppInstallation": {
                "accessScopes": shop.scopes.iter().map(|scope| json!({"handle": scope})).collect::<Vec<_>>(),
            },
            "publicApiVersions": shop.versions.iter()
                .map(|(handle, supported)| json!({"handle": handle, "supported": supported}))
                .collect::<Vec<_>>(),
        }),
        "Window" => {
            let found = search::orders(shop, &text("query"));
            let nodes = found
                .iter()
                .map(|(id, order)| json!({"id": format!("gid://shopify/Order/{id}"), "createdAt": render::utc_of(order.created_at), "updatedAt": render::utc_of(order.updated_at)}));
            json!({ "orders": page(nodes.collect(), &text("after")) })
        }
        "Count" => {
            let count = search::orders(shop, &text("query")).len();
            json!({"ordersCount": {"count": count, "precision": "EXACT"}})
        }
        "Orders" => {
            let ids = variables["ids"].as_array().unwrap();
            json!({ "nodes": ids.iter().map(|id| by_id(shop, id, "")).collect::<Vec<_>>() })
        }
        "OrderLines" => json!({ "nodes": [by_id(shop, &variables["id"], &text("after"))] }),
        "Deletions" => {
            let found = shop
                .deletions
                .iter()
                .filter(|(_, at)| search::finds_deletion(&text("q"), at));
            let nodes = found.map(|(id, at)| {
                json!({
                    "id": format!("gid://shopify/BasicEvent/{id}"), "action": "destroy", "createdAt": at,
                    "subjectId": format!("gid://shopify/Order/{id}"), "subjectType": "ORDER",
                })
            });
            json!({ "events": page(nodes.collect(), &text("after")) })
        }
        // What the app lacks is null.
        "Analytics" if !shop.scopes.contains(&"read_reports") => json!({"shopifyqlQuery": null}),
        "Analytics" => analytics::report(shop, &text("q")),
        "Subscriptions" => json!({ "webhookSubscriptions": page(shop.subscriptions.clone(), &text("after")) }),
        "Subscribe" => json!({ "webhookSubscriptionCreate": subscribe(shop, &text("topic"), &variables["s"]) }),
        "Re" => json!({ "webhookSubscriptionUpdate": resubscribe(shop, &text("id"), &variables["s"]) }),
        other => bulk::answer(shop, other, variables, base).unwrap_or_else(|| panic!("operation {other}")),
    }
}

/// An order with at most a hundred of its lines, those after that cursor.
fn by_id(shop: &Shop, id: &Value, after: &str) -> Value {
    let number = id.as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap();
    let Some(order) = shop.orders.get(&number) else {
        return Value::Null;
    };
    let mut order = render::order(&order.body());
    let lines = render::list(&order["lineItems"]["edges"]).map(|edge| edge["node"].clone());
    order["lineItems"] = page_of(lines.collect(), after, 100);
    order
}

/// The page after that cursor, which is a number of nodes.
fn page(nodes: Vec<Value>, after: &str) -> Value {
    page_of(nodes, after, 250)
}

fn page_of(nodes: Vec<Value>, after: &str, most: usize) -> Value {
    let from = after.parse().unwrap_or(0);
    let until = (from + most).min(nodes.len());
    json!({
        "nodes": nodes[from..until],
        "pageInfo": {"hasNextPage": until < nodes.len(), "endCursor": until.to_string()},
    })
}

fn subscribe(shop: &mut Shop, topic: &str, input: &Value) -> Value {
    let uri = input["uri"].as_str().unwrap();
    let refused = |message: &str| {
        json!({"webhookSubscription": null,
            "userErrors": [{"field": ["webhookSubscription", "callbackUrl"], "message": message}]})
    };
    if let Some(message) = shop.refusal {
        return refused(message);
    }
    if !uri.starts_with("https://") {
        return refused("Address protocol http:// is not supported");
    }
    let is_taken = |one: &Value| one["topic"] == topic && one["uri"] == uri;
    if shop.subscriptions.iter().any(is_taken) {
        return refused("Address for this topic has already been taken");
    }
    let subscription = shop.subscribe(topic, uri);
    change(subscription, input);
    json!({"webhookSubscription": {
        "id": subscription["id"], "uri": uri, "apiVersion": subscription["apiVersion"],
    }, "userErrors": []})
}

fn resubscribe(shop: &mut Shop, id: &str, input: &Value) -> Value {
    let keeps_fields = shop.keeps_fields;
    match shop.subscriptions.iter_mut().find(|one| one["id"] == id) {
        Some(subscription) => {
            let fields = subscription["includeFields"].clone();
            change(subscription, input);
            if keeps_fields {
                subscription["includeFields"] = fields;
            }
            json!({"webhookSubscription": subscription, "userErrors": []})
        }
        None => json!({"webhookSubscription": null,
            "userErrors": [{"field": ["id"], "message": "Webhook subscription does not exist"}]}),
    }
}

fn change(subscription: &mut Value, input: &Value) {
    for (name, value) in input.as_object().unwrap() {
        // "If null, then all fields will be included", and the list is not null.
        let is_all = name == "includeFields" && value.is_null();
        subscription[name] = if is_all { json!([]) } else { value.clone() };
    }
}
