//! Privacy requests, and what stands of a person in stores and logs.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::harness::folder::temporary;
use crate::harness::service::{order, webhook};
use crate::harness::shopify::render;

const SHOP: &str = "tests.myshopify.com";
/// What must stand nowhere.
const PERSONAL: [&str; 4] = ["held.out@example.com", "555-0100-4242", "Heldout Street", "Heldoutsson"];

/// All that the stores keep and the process has logged, as text: rows, entries, dead letters with
/// their bodies unpacked, and the bytes of files.
async fn all_that_is_kept(plant: &Plant, service: &Service) -> String {
    let mut kept = service.stderr();
    for (path, list) in [("/api/events", "entries"), ("/api/dead-letters", "letters")] {
        for one in api(service, path).await[list].as_array().unwrap() {
            let path = format!("{path}/{}", one["id"].as_str().unwrap());
            kept += &api(service, &path).await.to_string();
        }
    }
    kept += &api(service, "/api/audit").await.to_string();
    match plant {
        Plant::Servers(_) => {
            let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'orderstream'";
            for table in plant.sql(tables).lines() {
                kept += &plant.sql(&format!("SELECT t::text FROM {table} t"));
            }
        }
        Plant::Files(local) => {
            for file in std::fs::read_dir(local.data_dir()).unwrap() {
                // Files come and go while it runs.
                let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
                kept += &String::from_utf8_lossy(&bytes);
            }
        }
    }
    kept
}

async fn keeps_nothing_personal(plant: &Plant, service: &Service) {
    let kept = all_that_is_kept(plant, service).await;
    for text in PERSONAL {
        assert!(!kept.contains(text), "{text} is kept");
    }
}

/// A body with everything that is personal.
fn personal_order(id: u64) -> Value {
    let [email, phone, street, name] = PERSONAL;
    let mut order = order(id);
    let address = serde_json::json!({"address1": street, "last_name": name, "phone": phone, "country_code": "CA"});
    order["customer"] =
        serde_json::json!({"id": 6_900_000_004_711_u64, "email": email, "phone": phone, "last_name": name});
    order["email"] = email.into();
    order["note"] = format!("call {phone}").into();
    order["billing_address"] = address.clone();
    order["shipping_address"] = address;
    order
}

pub async fn a_privacy_request_is_an_event_of_ids(plant: Plant) {
    let service = plant.run().await;
    let [email, phone, ..] = PERSONAL;
    let person = serde_json::json!({"id": 6_900_000_004_711_u64, "email": email, "phone": phone});
    let request = |rest: Value| {
        let mut body = serde_json::json!({"shop_id": 954889, "shop_domain": SHOP});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        body.to_string()
    };
    let data = serde_json::json!({"customer": person, "orders_requested": [1, 2], "data_request": {"id": 9999}});
    let erasure = serde_json::json!({"customer": person, "orders_to_redact": [1]});
    for (topic, body) in [
        ("customers/data_request", request(data.clone())),
        ("customers/redact", request(erasure)),
        ("shop/redact", request(serde_json::json!({}))),
        ("orders/create", personal_order(1).to_string()),
    ] {
        let answer = service.deliver(topic, topic, body.as_bytes()).await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "accepted", "{topic}");
    }
    let mut broken = personal_order(2);
    broken["line_items"] = "none".into();
    for (topic, body) in [
        ("customers/redact", request(data)),
        ("customers/update", person.to_string()),
        ("shop/redact", r#"{"shop_domain":"another.myshopify.com"}"#.to_owned()),
        ("orders/create", broken.to_string()),
    ] {
        let answer = service
            .deliver(topic, &format!("broken-{topic}"), body.as_bytes())
            .await
            .unwrap();
        assert_eq!(
            answer.json::<Value>().await.unwrap()["status"],
            "quarantined",
            "{topic}"
        );
    }
    plant.has_rows(4).await;
    let rows = plant.sql(
        "SELECT event_type, shop, order_id, customer_id FROM order_events WHERE order_id = '' ORDER BY event_type",
    );
    let expected = [
        ("customer.data_requested", "6900000004711"),
        ("customer.redact_requested", "6900000004711"),
        ("shop.redact_requested", ""),
    ];
    let expected = expected.map(|(event_type, customer)| format!("{event_type}|{SHOP}||{customer}"));
    assert_eq!(Vec::from_iter(rows.lines()), expected);
    let payload = plant.sql("SELECT payload FROM order_events WHERE event_type = 'customer.data_requested'");
    let payload: Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(
        (&payload["order_ids"], &payload["request_id"]),
        (&serde_json::json!(["1", "2"]), &"9999".into())
    );
    assert_eq!(plant.sql("SELECT count(*) FROM orders"), "1", "a request is no order");
    keeps_nothing_personal(&plant, &service).await;
    // What the dead letter keeps of the order is enough to see what was wrong, and where.
    let letter = api(&service, "/api/dead-letters").await["letters"][0].clone();
    let shown = api(
        &service,
        &format!("/api/dead-letters/{}", letter["id"].as_str().unwrap()),
    )
    .await;
    let body = shown["content"]["body"].as_str().unwrap();
    assert!(
        body.contains("\"line_items\":\"none\"") && body.contains("\"country_code\":\"CA\""),
        "{body}"
    );
    stop(service).await;
}

/// Exit code of `forget`, and what it counted: events, orders, entries, dead letters, waiting, spooled.
fn forget(settings: &Settings, args: &[&str]) -> (Option<i32>, [u64; 6]) {
    let output = ask(&patient(settings), &[&["forget"], args, &["--json"]].concat());
    let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let sums: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{args:?}: {out}{errors}"));
    let figures = ["events", "orders", "entries", "letters", "waiting", "spooled"];
    (output.status.code(), figures.map(|name| sums[name].as_u64().unwrap()))
}

async fn send(service: &Service, topic: &str, id: &str, body: &Value, status: &str) {
    let answer = service.deliver(topic, id, body.to_string().as_bytes()).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["status"], status, "{id}");
}

pub async fn a_forgotten_customer_is_in_no_store_and_does_not_come_back(plant: Plant) {
    let settings = plant
        .settings()
        .with("ORDERSTREAM_KEEP_RAW", "full")
        .with("ORDERSTREAM_FORGET_KEY", "a key of the tests, long enough");
    let service = Service::start("run", &settings).await;
    let mut broken = personal_order(2);
    broken["line_items"] = "none".into();
    let mut other = order(3);
    other["customer"] = serde_json::json!({"id": 9});
    send(&service, "orders/create", "a", &personal_order(1), "accepted").await;
    send(&service, "orders/create", "b", &broken, "quarantined").await;
    send(&service, "orders/create", "c", &other, "accepted").await;
    plant.has_rows(2).await;
    is_settled(&service).await;
    let kept = all_that_is_kept(&plant, &service).await;
    let sees = PERSONAL.iter().all(|text| kept.contains(text));
    assert!(sees, "the test sees what is kept");

    let folder = temporary("exports-");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let verified = [
        "--customer",
        "6900000004711",
        "--verify",
        "--export",
        &path("asked.json"),
    ];
    assert_eq!(forget(&settings, &verified), (Some(69), [1, 1, 1, 1, 0, 0]));
    has_all_of_the_customer(&path("asked.json"));
    let refused = ask(&patient(&settings), &[&["forget"], &verified[..]].concat());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.status.code() == Some(64) && said.contains("asked.json exists"),
        "{said}"
    );
    has_all_of_the_customer(&path("asked.json"));
    let last = ["--customer", "6900000004711", "--yes", "--export", &path("last.json")];
    assert_eq!(forget(&settings, &last), (Some(0), [1, 0, 1, 1, 0, 0]));
    has_all_of_the_customer(&path("last.json"));
    let noted = service.stderr() + &api(&service, "/api/audit").await.to_string();
    assert!(
        noted.contains("an export of a customer of tests.myshopify.com"),
        "{noted}"
    );
    for text in PERSONAL.iter().chain(&["6900000004711"]) {
        assert!(!noted.contains(text), "{text} is noted");
    }
    // What `forget` announces to other groups is a row, too.
    plant.has_rows(3).await;
    is_settled(&service).await;
    let verify = ["--customer", "6900000004711", "--shop", SHOP, "--verify"];
    assert_eq!(forget(&settings, &verify), (Some(0), [0; 6]));
    nothing_brings_the_customer_back(&plant, &settings, &service).await;
    stop(service).await;
}

/// What stood of that customer in each store, whole bodies included, and nothing of others; for its owner alone.
fn has_all_of_the_customer(path: &str) {
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let records: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let records = records.as_array().unwrap();
    let stores = Vec::from_iter(records.iter().map(|record| record["store"].as_str().unwrap()));
    assert_eq!(stores, ["orders", "order_events", "stream", "dead_letters"]);
    for record in &records[..3] {
        assert_eq!(record["content"]["customer_id"], "6900000004711", "{record}");
    }
    assert_eq!(records[0]["content"]["billing_country"], "CA");
    for record in &records[1..] {
        let body = record["body"].as_str().unwrap();
        assert!(PERSONAL.iter().all(|text| body.contains(text)), "{record}");
    }
}

/// Not a late webhook, a replay or a rebuild.
async fn nothing_brings_the_customer_back(plant: &Plant, settings: &Settings, service: &Service) {
    let mut late = personal_order(1);
    late["updated_at"] = "2026-01-06T10:00:00-05:00".into();
    send(service, "orders/updated", "d", &late, "accepted").await;
    send(service, "orders/create", "e", &personal_order(4), "accepted").await;
    plant.has_rows(5).await;
    is_settled(service).await;
    for args in [&["replay", "--all", "--yes"][..], &["rebuild"]] {
        assert!(ask(&patient(settings), args).status.success(), "{args:?}");
    }
    is_settled(service).await;
    let customers = "SELECT order_id, customer_id FROM orders ORDER BY order_id";
    assert_eq!(plant.sql(customers), "1|\n3|9\n4|");
    let kept = "SELECT count(*) FROM order_events WHERE customer_id = '6900000004711' OR raw IS NOT NULL";
    assert_eq!(plant.sql(kept), "1");
    // What came late leaves the stream, once the group was given a later entry.
    let again = ["--customer", "6900000004711", "--shop", SHOP];
    eventually("nothing is left", PATIENCE, async || {
        forget(settings, &[&again[..], &["--yes"]].concat());
        let left = forget(settings, &[&again[..], &["--verify"]].concat());
        (left == (Some(0), [0; 6])).then_some(())
    })
    .await;
    let letters = api(service, "/api/dead-letters").await["letters"].clone();
    let letter = format!("/api/dead-letters/{}", letters[0]["id"].as_str().unwrap());
    let shown = api(service, &letter).await.to_string();
    assert!(
        !shown.contains("6900000004711") && shown.contains("line_items"),
        "{shown}"
    );
    let rows = plant.sql("SELECT * FROM order_events") + &plant.sql("SELECT * FROM orders");
    for text in PERSONAL {
        assert!(!rows.contains(text) && !shown.contains(text), "{text}");
    }
    // A second request names orders that came since; nobody else will forget these.
    let tombstones = || plant.sql("SELECT count(*) FROM forgotten").parse::<usize>().unwrap();
    let before = tombstones();
    let person = serde_json::json!({"id": 6_900_000_004_711_u64});
    let second = serde_json::json!({"shop_domain": SHOP, "customer": person, "orders_to_redact": [1, 77, 78]});
    send(service, "customers/redact", "f", &second, "accepted").await;
    eventually("its orders are forgotten", PATIENCE, async || {
        (tombstones() == before + 2).then_some(())
    })
    .await;
}

pub async fn a_privacy_request_waits_or_is_met_at_once(plant: Plant) {
    let settings = plant
        .settings()
        .with("ORDERSTREAM_FORGET_KEY", "a key of the tests, long enough");
    let mut service = Service::start("run", &settings).await;
    let person = serde_json::json!({"id": 6_900_000_004_711_u64});
    let request = serde_json::json!({"shop_domain": SHOP, "customer": person, "orders_to_redact": [7]}).to_string();
    let of_shop = serde_json::json!({"shop_domain": SHOP}).to_string();
    for (topic, body) in [
        ("orders/create", personal_order(1).to_string()),
        ("orders/create", order(7).to_string()),
        ("customers/redact", request),
        ("shop/redact", of_shop),
    ] {
        let id = format!("{topic} {}", body.len());
        let answer = service.deliver(topic, &id, body.as_bytes()).await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "accepted", "{topic}");
    }
    plant.has_rows(4).await;
    let waiting = async |service: &Service| service.health_check("privacy_requests").await;
    let both = async || {
        waiting(&service)
            .await
            .filter(|check| check["detail"].as_str().unwrap().contains("wait: 2;"))
    };
    let check = eventually("/health tells of both", PATIENCE, both).await;
    assert!(check["detail"].as_str().unwrap().contains(" is due on "), "{check:#}");
    assert_eq!(
        plant.sql("SELECT count(*) FROM orders WHERE customer_id = '6900000004711'"),
        "1",
        "nothing is done by itself"
    );

    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    let service = Service::start("run", &settings.with("ORDERSTREAM_ERASURE", "auto")).await;
    plant
        .answers("SELECT count(*) FROM orders WHERE customer_id = '6900000004711'", "0")
        .await;
    plant
        .answers(
            "SELECT count(DISTINCT event_type) FROM order_events WHERE event_type IN ('customer.forgotten', 'shop.forgotten')",
            "2",
        )
        .await;
    eventually("/health says nothing more", PATIENCE, async || {
        waiting(&service).await.is_none().then_some(())
    })
    .await;
    let audit = api(&service, "/api/audit").await;
    assert!(
        audit.as_array().unwrap().iter().all(|entry| entry["by"] == "request"),
        "{audit:#}"
    );
    assert!(!audit.to_string().contains("6900000004711"), "{audit:#}");
    stop(service).await;
}

/// Whoever asks to forget without a key is told what lacks, not that something does not answer.
async fn is_told_of_the_missing_key(service: &Service) {
    let asked = reqwest::Client::new()
        .post(service.admin_url("/api/forget"))
        .bearer_auth(TOKEN);
    let request = serde_json::json!({"customer": "7", "shop": SHOP});
    let refused = asked.json(&request).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "warehouse_unusable", "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("set ORDERSTREAM_FORGET_KEY"),
        "{problem}"
    );
}

/// Sends another event about order 5.
async fn send_newer(plant: &Plant, service: &Service) {
    let newer = order(5).to_string();
    let answer = service
        .deliver("orders/updated", "newer", newer.as_bytes())
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    plant.has_rows(4).await;
    is_settled(service).await;
}

pub async fn a_body_of_another_shop_is_quarantined(plant: Plant) {
    let send = async |service: &Service, id: u64, shop: &str| {
        let mut order = order(id);
        order["order_status_url"] = format!("https://example.com/{shop}/orders/abc/authenticate?key=k").into();
        let body = order.to_string().replace('/', "\\/");
        let answer = service
            .deliver("orders/create", &id.to_string(), body.as_bytes())
            .await
            .unwrap();
        answer.json::<Value>().await.unwrap()["status"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let service = plant.run().await;
    assert_eq!(
        send(&service, 1, "548380009").await,
        "accepted",
        "a sample of Shopify's binds nothing"
    );
    assert_eq!(send(&service, 2, "111").await, "accepted");
    assert_eq!(send(&service, 3, "222").await, "quarantined");
    let letter = api(&service, "/api/dead-letters").await["letters"][0].clone();
    assert!(
        letter["error"].as_str().unwrap().starts_with("body of another shop"),
        "{letter:#}"
    );
    stop(service).await;
    let settings = plant.settings().with("ORDERSTREAM_KEEP_RAW", "full");
    let service = Service::start("run", &settings).await;
    assert_eq!(
        send(&service, 4, "222").await,
        "quarantined",
        "a restart forgets no shop"
    );
    assert_eq!(send(&service, 5, "111").await, "accepted");
    send_newer(&plant, &service).await;
    stop(service).await;
    // They are old by now: one order had no event since, the other had.
    plant.change(
        "UPDATE order_events SET received_at = occurred_at WHERE event_type = 'order.created' AND order_id <> '2'",
    );
    let bodies = "SELECT count(*) FROM order_events WHERE raw IS NOT NULL";
    assert_eq!(plant.sql(bodies), "2");
    let settings = plant
        .settings()
        .with("ORDERSTREAM_SHOP_BINDING", "off")
        .with("ORDERSTREAM_RETAIN_EVENTS", "30d");
    let service = Service::start("run", &settings).await;
    assert_eq!(send(&service, 6, "222").await, "accepted");
    plant.answers(bodies, "1").await;
    plant
        .answers(
            "SELECT order_id FROM order_events ORDER BY order_id, event_type",
            "2\n5\n5\n6",
        )
        .await;
    if let Plant::Servers(_) = plant {
        is_told_of_the_missing_key(&service).await;
    }
    stop(service).await;
}

pub async fn versions_that_end_and_events_that_are_no_webhooks_are_said(plant: Plant) {
    let service = plant.run().await;
    let client = reqwest::Client::new();
    let send = async |id: u64, header: (&str, &str)| {
        let body = order(id).to_string();
        let request = webhook(
            &client,
            &service.url(""),
            "orders/create",
            &id.to_string(),
            body.as_bytes(),
        );
        let answer = request.header(header.0, header.1).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["status"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let check = async || service.health_check("api_version").await;
    assert_eq!(send(1, ("x-shopify-api-version", "unstable")).await, "accepted");
    assert_eq!(check().await, None, "what is no version says nothing");
    assert_eq!(send(2, ("x-shopify-api-version", "2019-04")).await, "accepted");
    let found = check().await.unwrap();
    assert!(
        found["detail"].as_str().unwrap().contains("version 2019-04"),
        "{found:#}"
    );
    assert_eq!(send(3, ("x-shopify-api-version", "9999-01")).await, "accepted");
    service.says("another version of Shopify's API").await;
    assert!(
        check().await.unwrap()["detail"]
            .as_str()
            .unwrap()
            .contains("newer than")
    );

    assert_eq!(send(4, ("shopify-action", "update")).await, "quarantined");
    let letter = api(&service, "/api/dead-letters").await["letters"][0].clone();
    assert!(
        letter["error"].as_str().unwrap().contains("Shopify's Events"),
        "{letter:#}"
    );
    // A subscription with our query.
    let data = serde_json::json!({"order": render::order(&order(5)), "shop": {"ianaTimezone": "Etc/GMT+5"}});
    let body = serde_json::json!({"topic": "Order", "action": "update", "data": data}).to_string();
    let request = webhook(&client, &service.url(""), "Order", "5", body.as_bytes());
    let answer = request.header("shopify-action", "update").send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["status"], "accepted");
    let loaded = "SELECT count(*) FROM order_events e JOIN orders o ON o.order_id = e.order_id \
                  WHERE o.order_id = '5' AND e.event_type = 'order.updated' AND o.local_date = '2026-01-05'";
    plant.answers(loaded, "1").await;
    let metrics = service
        .get(&service.admin_url("/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for line in [
        "orderstream_api_versions_total{version=\"unknown\"} 2",
        "orderstream_api_versions_total{version=\"old\"} 1",
        "orderstream_api_versions_total{version=\"newer\"} 1",
        "orderstream_events_deliveries_total 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    stop(service).await;
}
