//! Every body we have, delivered over the wire: each ends in the warehouse or in quarantine, once.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use serde_json::Value;

use crate::bodies;
use crate::captured;
use crate::harness::service::{Service, Settings};
use crate::harness::site::Site;

/// A body, the topic it is delivered under, and whether it can become an event.
struct Delivery {
    name: String,
    topic: String,
    body: Vec<u8>,
    is_event: bool,
}

const OURS: [(&str, &str, bool); 10] = [
    ("order_usd", "orders/create", true),
    ("order_guest_eur", "orders/paid", true),
    ("order_multi_currency_refunded", "orders/updated", true),
    ("order_deleted", "orders/delete", true),
    ("order_edited", "orders/edited", true),
    ("refund", "refunds/create", true),
    ("transaction", "order_transactions/create", true),
    ("envelope", "orders/create", false),
    ("fields_filtered", "orders/create", false),
    ("not_numeric", "orders/create", false),
];

/// Captured bodies that cannot become an event: envelopes, filtered fields, placeholders for amounts and ids, no order
/// at all.
const CAPTURED_QUARANTINED: [&str; 8] = [
    "docs_2026-04_orders_risk_assessment_changed.json",
    "gadget_2023-10_order_a.json",
    "gadget_2024-01_order_12_lines.json",
    "gadget_2025-04_order.json",
    "gadget_2025-04_refund_a.json",
    "go_2016_order_customer_id_null.json",
    "python_orders_list_envelope.json",
    "rest_2025-01_fields_filtered_tiny.json",
];

fn captured_deliveries(folder: &Path) -> Vec<Delivery> {
    let manifest = std::fs::read_to_string(folder.join("shopify/MANIFEST.tsv")).unwrap();
    let rows = manifest.lines().skip(1).map(|line| {
        let mut columns = line.split('\t');
        let (name, topic) = (columns.next().unwrap(), columns.next().unwrap());
        let topic = topic.split(' ').next().unwrap();
        Delivery {
            name: name.to_owned(),
            // Whole orders whose topic was not recorded.
            topic: if topic.ends_with("/*") || !topic.contains('/') {
                "orders/updated"
            } else {
                topic
            }
            .to_owned(),
            body: std::fs::read(folder.join("shopify").join(name)).unwrap(),
            is_event: !CAPTURED_QUARANTINED.contains(&name),
        }
    });
    rows.collect()
}

/// Bodies are kept byte for byte, and come from several shops.
fn settings(site: &Site) -> Settings {
    let settings = site.settings().with("ORDERSTREAM_KEEP_RAW", "full");
    settings.with("ORDERSTREAM_SHOP_BINDING", "off")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_body_ends_in_the_warehouse_or_in_quarantine_once() {
    let mut deliveries: Vec<Delivery> = OURS
        .iter()
        .map(|(name, topic, is_event)| Delivery {
            name: (*name).to_owned(),
            topic: (*topic).to_owned(),
            body: bodies::read(name),
            is_event: *is_event,
        })
        .collect();
    deliveries.push(Delivery {
        name: "an unknown topic".to_owned(),
        topic: "products/create".to_owned(),
        body: b"{\"id\":1}".to_vec(),
        is_event: false,
    });
    deliveries.push(Delivery {
        name: "no JSON".to_owned(),
        topic: "orders/create".to_owned(),
        body: b"\xff\x00 not JSON".to_vec(),
        is_event: false,
    });
    deliveries.extend(captured::folder().iter().flat_map(|folder| captured_deliveries(folder)));

    let site = Site::new().await;
    let service = Service::start("run", &settings(&site)).await;
    let mut events = BTreeMap::new();
    let mut letters = BTreeMap::new();
    // Twice: the second time each is known.
    for repeated in [false, true] {
        for delivery in &deliveries {
            let answer = service
                .deliver(&delivery.topic, &delivery.name, &delivery.body)
                .await
                .unwrap();
            assert_eq!(answer.status(), 200, "{}", delivery.name);
            let answer: Value = answer.json().await.unwrap();
            let expected = match (delivery.is_event, repeated) {
                (true, false) => "accepted",
                (true, true) => "duplicate",
                (false, _) => "quarantined",
            };
            assert_eq!(answer["status"], expected, "{}: {answer}", delivery.name);
            let ends = if delivery.is_event { &mut events } else { &mut letters };
            ends.insert(answer["event_id"].as_str().unwrap().to_owned(), &delivery.body);
        }
    }
    assert_eq!(
        events.len() + letters.len(),
        deliveries.len(),
        "every delivery has an id of its own"
    );

    site.has_rows(events.len()).await;
    site.is_settled().await;
    let rows = site.sql("SELECT event_id FROM orderstream.order_events ORDER BY 1");
    assert_eq!(rows.lines().collect::<Vec<_>>(), events.keys().collect::<Vec<_>>());
    let kept = site.letters().await;
    assert_eq!(kept.len(), letters.len());
    for letter in kept {
        let body = letters
            .remove(&letter["event_id"])
            .expect("a letter nobody sent, or twice");
        let raw = base64::engine::general_purpose::STANDARD
            .decode(&letter["raw"])
            .unwrap();
        assert_eq!(&zstd::decode_all(&raw[..]).unwrap(), body);
        assert!(!letter["error"].is_empty());
    }
}
