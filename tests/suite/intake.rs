//! What intake takes, and what it refuses with the field's name, so that no load and no view has to: over the real
//! binary, on servers and on files alike.

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::ground::{Place, in_any_place};
use crate::harness::service::{Service, TOKEN, event, order, webhook};
use crate::harness::site::{PATIENCE, Site};

in_any_place!(
    no_value_breaks_a_load_or_a_view,
    no_header_changes_what_a_body_says,
    what_is_written_otherwise_is_understood,
    no_text_costs_an_order_and_one_order_has_one_id
);

const VIEWS: [&str; 5] = [
    "sales",
    "daily_sales",
    "product_sales",
    "customer_orders",
    "hourly_arrivals",
];

/// Delivers a body with more headers; answers the status that the service says.
async fn deliver(service: &Service, topic: &str, id: &str, body: &Value, headers: &[(&str, &str)]) -> String {
    let client = reqwest::Client::new();
    let mut request = webhook(&client, &service.url(""), topic, id, body.to_string().as_bytes());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{id}");
    let answer: Value = answer.json().await.unwrap();
    answer["status"].as_str().unwrap().to_owned()
}

/// The errors of all dead letters, once there are so many.
async fn errors(service: &Service, count: usize) -> Vec<String> {
    let letters = eventually("the dead letters", PATIENCE, async || {
        let client = reqwest::Client::new();
        let request = client
            .get(service.admin_url("/api/dead-letters?count=100"))
            .bearer_auth(TOKEN);
        let page: Value = request.send().await.ok()?.json().await.ok()?;
        let letters = page["letters"].as_array()?.clone();
        (letters.len() >= count).then_some(letters)
    })
    .await;
    let mut errors: Vec<_> = letters
        .iter()
        .map(|letter| letter["error"].as_str().unwrap().to_owned())
        .collect();
    errors.sort();
    assert_eq!(errors.len(), count, "{errors:?}");
    errors
}

fn with(mut body: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        *body.pointer_mut(pointer).unwrap() = value.clone();
    }
    body
}

/// What of a webhook is past its bounds, and how that is named.
fn refused() -> Vec<(&'static str, Value, &'static str)> {
    let two_lines =
        json!([{"quantity": 1_000_000_000, "price": "0.99", "sku": "A"}, {"quantity": 1, "price": "1", "sku": "A"}]);
    vec![
        (
            "/line_items/0/quantity",
            json!(i64::MAX),
            "line_items[0].quantity: expected a whole number from 0 to 1000000000",
        ),
        (
            "/line_items/0/price",
            json!("1000000000000000"),
            "line_items[0].price: expected an exact decimal amount below 10^15",
        ),
        (
            "/line_items/0/price",
            json!("999999999999999"),
            "items[0].price: times qty, summed over the lines, must be",
        ),
        ("/line_items", two_lines, "items: more than 1000000000 units in all"),
        (
            "/total_price",
            json!("0.0000000001"),
            "total_price: expected an exact decimal amount below 10^15 with at most 9",
        ),
        (
            "/total_tax",
            json!("1e15"),
            "total_tax: expected an exact decimal amount",
        ),
        (
            "/updated_at",
            json!("9999-12-31T23:59:59-12:00"),
            "updated_at: expected a point in time",
        ),
        (
            "/customer",
            json!({"id": "x".repeat(256)}),
            "customer_id: longer than 255 characters",
        ),
    ]
}

async fn no_value_breaks_a_load_or_a_view(place: impl Place) {
    let service = Service::start("run", &place.settings()).await;
    let last_second = [("x-shopify-triggered-at", "9999-12-31T23:59:59-12:00")];
    let status = deliver(&service, "orders/create", "w-1", &order(1), &last_second).await;
    assert_eq!(status, "accepted");
    for (at, (pointer, value, _)) in refused().iter().enumerate() {
        let body = with(order(2), &[(pointer, value.clone())]);
        let status = deliver(&service, "orders/create", &format!("r-{at}"), &body, &[]).await;
        assert_eq!(status, "quarantined", "{pointer}");
    }
    let most = [
        ("/line_items/0/quantity", json!(1_000_000_000)),
        ("/line_items/0/price", json!("999999.999999999")),
        ("/name", json!("é".repeat(3000))),
        ("/customer", json!({"id": "c".repeat(255)})),
    ];
    let status = deliver(&service, "orders/create", "w-4", &with(order(4), &most), &[]).await;
    assert_eq!(status, "accepted");
    send_a_batch_out_of_bounds(&service).await;

    service.settled(3).await;
    let errors = errors(&service, refused().len()).await;
    for (_, _, reason) in refused() {
        assert!(
            errors.iter().any(|error| error.contains(reason)),
            "{reason}: {errors:?}"
        );
    }
    assert_eq!(place.query("SELECT order_id FROM {}orders ORDER BY 1"), ["1", "4", "7"]);
    assert_eq!(
        place.query("SELECT length(name) FROM {}orders WHERE order_id = '4'"),
        ["255"]
    );
    for view in VIEWS {
        assert!(!place.query(&format!("SELECT * FROM {{}}{view}")).is_empty(), "{view}");
    }
    assert!(!service.stderr().contains("panic"), "{}", service.stderr());
}

/// Of which only the third item is taken.
async fn send_a_batch_out_of_bounds(service: &Service) {
    let batch = json!([
        with(event(5), &[("/items/0/qty", json!(-1))]),
        with(event(6), &[("/items/0/qty", json!(i64::MAX))]),
        event(7),
        with(event(8), &[("/timestamp", json!("9999-12-31T23:59:59-12:00"))]),
    ]);
    let answer: Value = service.send_batch(&batch).await.unwrap().json().await.unwrap();
    let quantity = "items[0].qty: expected a whole number from 0 to 1000000000 (line 1, column ";
    for (at, reason) in [(0, quantity), (1, quantity), (3, "timestamp: expected a point in time")] {
        let result = &answer["results"][at];
        assert_eq!(result["status"], "invalid", "{answer}");
        assert!(result["reason"].as_str().unwrap().starts_with(reason), "{answer}");
    }
    assert_eq!(answer["results"][2]["status"], "accepted");
}

/// Another program's entries keep to the same bounds: what is past them becomes a dead letter that names the field.
#[tokio::test(flavor = "multi_thread")]
async fn another_producers_entry_out_of_bounds_is_a_dead_letter_that_names_the_field() {
    let site = Site::new().await;
    let service = Service::start("run", &site.settings()).await;
    let out_of_bounds = [
        (
            "/items/0/qty",
            json!(1_000_000_001),
            "items[0].qty: expected a whole number",
        ),
        (
            "/total_amount",
            json!(1e15),
            "total_amount: expected an exact decimal amount",
        ),
        (
            "/timestamp",
            json!("9999-12-31T23:59:59-12:00"),
            "timestamp: expected a point in time",
        ),
        (
            "/customer_id",
            json!("x".repeat(256)),
            "customer_id: longer than 255 characters",
        ),
        (
            "/items/0/price",
            json!(999_999_999_999_999_i64),
            "items[0].price: times qty",
        ),
    ];
    for (pointer, value, _) in &out_of_bounds {
        site.produce(&with(event(1), &[(pointer, value.clone())])).await;
    }
    site.produce(&event(1)).await;
    site.has_rows(1).await;
    let errors = errors(&service, out_of_bounds.len()).await;
    for (_, _, reason) in out_of_bounds {
        assert!(
            errors.iter().any(|error| error.contains(reason)),
            "{reason}: {errors:?}"
        );
    }
}

/// A body that is sent again under other headers, as whoever has seen it can.
async fn no_header_changes_what_a_body_says(place: impl Place) {
    let service = Service::start("run", &place.settings()).await;
    let at = |second: u64| json!(format!("2026-01-05T10:00:0{second}-05:00"));
    let older = with(
        order(1),
        &[("/updated_at", at(1)), ("/financial_status", json!("pending"))],
    );
    let newest = with(order(1), &[("/updated_at", at(2))]);
    for (id, body) in [("older", &older), ("newest", &newest)] {
        assert_eq!(deliver(&service, "orders/updated", id, body, &[]).await, "accepted");
    }
    let test = [("x-shopify-test", "true")];
    assert_eq!(
        deliver(&service, "orders/updated", "test", &newest, &test).await,
        "accepted"
    );
    let future = [("x-shopify-triggered-at", "9999-01-01T00:00:00Z")];
    assert_eq!(
        deliver(&service, "orders/updated", "future", &older, &future).await,
        "accepted"
    );
    let undated = json!({"id": 2, "total_price": "1.00", "currency": "EUR", "line_items": []});
    assert_eq!(
        deliver(&service, "orders/create", "undated", &undated, &future).await,
        "accepted"
    );
    let cancelled = json!({"id": 3, "total_price": "1.00", "currency": "EUR", "line_items": []});
    assert_eq!(
        deliver(&service, "orders/cancelled", "cancelled", &cancelled, &[]).await,
        "accepted"
    );
    let other_topics = [
        "orders/delete",
        "orders/edited",
        "refunds/create",
        "order_transactions/create",
        "disputes/create",
        "fulfillments/create",
        "fulfillment_events/delete",
    ];
    for topic in other_topics {
        let about = [("x-shopify-order-id", "1")];
        assert_eq!(
            deliver(&service, topic, topic, &newest, &about).await,
            "quarantined",
            "{topic}"
        );
    }

    service.settled(6).await;
    let sales = "SELECT order_id, status FROM {}sales ORDER BY 1";
    assert_eq!(
        place.query(sales),
        ["1|paid", "2|open", "3|open"],
        "neither deleted, cancelled nor a test, and as new as it was"
    );
    let future = "SELECT count(*) FROM {}order_events WHERE triggered_at > '9000-01-01' OR occurred_at > '9000-01-01'";
    assert_eq!(place.query(future), ["0"]);
    let tests = "SELECT count(*) FROM {}order_events WHERE test";
    assert_eq!(place.query(tests), ["0"]);
    let errors = errors(&service, other_topics.len()).await;
    for topic in other_topics {
        let reason = format!("the body is none of topic {topic}: ");
        assert!(
            errors.iter().any(|error| error.starts_with(&reason)),
            "{topic}: {errors:?}"
        );
    }
}

async fn what_is_written_otherwise_is_understood(place: impl Place) {
    let service = Service::start("run", &place.settings()).await;
    let body = with(order(1), &[("/updated_at", json!("2026-01-05T10:00:01-0500"))]);
    let marked = format!("\u{FEFF}{body}");
    let topics = ["ORDERS_CREATE", "Orders/Create", "orders/create"];
    for (at, topic) in topics.into_iter().enumerate() {
        let answer = service.deliver(topic, "w-1", marked.as_bytes()).await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let expected = if at == 0 { "accepted" } else { "duplicate" };
        assert_eq!(answer["status"], expected, "{topic}: the same delivery");
    }
    let client = reqwest::Client::new();
    let batch = format!("\u{FEFF}{}\n{}", event(2), event(3));
    let request = client.post(service.url("/events/batch")).bearer_auth(TOKEN).body(batch);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["counts"]["accepted"], 2, "{answer}");
    service.settled(3).await;
    let rows = place.query("SELECT event_type, order_id FROM {}order_events ORDER BY 2");
    assert_eq!(rows, ["order.created|1", "order.created|2", "order.created|3"]);
}

async fn no_text_costs_an_order_and_one_order_has_one_id(place: impl Place) {
    let service = Service::start("run", &place.settings()).await;
    let body = with(
        order(1),
        &[
            ("/id", json!("gid://shopify/Order/1")),
            ("/customer", json!({"id": "gid://shopify/Customer/7"})),
        ],
    );
    let body = body
        .to_string()
        .replace("\"#1\"", r##""#\u0000\ud83d1","note":{"a":["\udc00"]}"##);
    let answer = service.deliver("orders/create", "w-1", body.as_bytes()).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["status"], "accepted");
    let item = with(
        event(2),
        &[
            ("/order_id", json!("gid://shopify/Order/2")),
            ("/items/0/sku", json!("odd")),
        ],
    );
    let batch = format!(
        "[{}]",
        item.to_string().replace("\"odd\"", r#""a\ud800b","more":"\u0000""#)
    );
    let client = reqwest::Client::new();
    let request = client.post(service.url("/events/batch")).bearer_auth(TOKEN).body(batch);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["counts"]["accepted"], 1, "{answer}");

    service.settled(2).await;
    let orders = place.query("SELECT order_id, name, customer_id FROM {}orders ORDER BY 1");
    assert_eq!(orders, ["1|#\u{FFFD}\u{FFFD}1|7", "2||"]);
    assert_eq!(
        place.query("SELECT sku FROM {}order_items WHERE order_id = '2'"),
        ["a\u{FFFD}b"]
    );
}

/// Of another program, with what PostgreSQL's JSON cannot hold in a member that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn another_producers_odd_text_is_a_row() {
    let site = Site::new().await;
    let _service = Service::start("work", &site.settings()).await;
    let mut odd = event(1);
    odd["more"] = json!({"a": ["here"]});
    odd["order_id"] = json!("gid://shopify/Order/917001");
    let payload = odd.to_string().replace("here", r"\u0000\ud800\\u0000");
    site.produce_payload("event-1", &payload).await;
    site.has_rows(1).await;
    let kept = site.sql("SELECT order_id, payload -> 'more' -> 'a' ->> 0 FROM orderstream.order_events");
    assert_eq!(kept, "917001|\u{FFFD}\u{FFFD}\\u0000");
    assert_eq!(site.dead_letters().await, 0);
}

/// A flood of bodies that are refused for one reason is a line, and a line with their count at the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_bodies_is_two_lines() {
    let site = Site::new().await;
    let mut service = Service::start("serve", &site.settings()).await;
    for n in 0..60 {
        let body = with(order(n), &[("/line_items/0/quantity", json!(-1))]);
        assert_eq!(
            deliver(&service, "orders/create", &format!("w-{n}"), &body, &[]).await,
            "quarantined"
        );
    }
    let lines = |service: &Service| {
        let text = service.stderr();
        text.lines()
            .filter(|line| line.contains("WARN") && line.contains("ingest::quarantine"))
            .count()
    };
    service.says("ingest::quarantine").await;
    assert_eq!(lines(&service), 1, "{}", service.stderr());
    service.signal(nix::sys::signal::Signal::SIGTERM);
    service.ended(PATIENCE).await;
    let text = service.stderr();
    assert_eq!(lines(&service), 2, "{text}");
    assert!(
        text.contains("line_items[#].quantity: expected") && text.contains("count=59"),
        "{text}"
    );
}
