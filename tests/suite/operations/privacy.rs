//! Privacy requests, and what stands of a person in stores and logs.

use super::*;
use crate::harness::service::{order, webhook};

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
    let service = plant.run().await;
    assert_eq!(
        send(&service, 4, "222").await,
        "quarantined",
        "a restart forgets no shop"
    );
    assert_eq!(send(&service, 5, "111").await, "accepted");
    stop(service).await;
    let service = Service::start("run", &plant.settings().with("ORDERSTREAM_SHOP_BINDING", "off")).await;
    assert_eq!(send(&service, 6, "222").await, "accepted");
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
    let check = async || {
        let report: Value = service
            .get(&service.url("/health"))
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let checks = report["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == "api_version").cloned()
    };
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
