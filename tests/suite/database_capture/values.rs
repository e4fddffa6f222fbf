//! Values as the database has them: large ones, exact ones, and times in the shop's zone.

use serde_json::Value;

use super::shop::{Events, Shop, agrees, text};
use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::redis::RedisServer;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

/// Beyond 2^53, where a JSON number of JavaScript has gaps.
const LARGE: &str = "9007199254740993";
const LARGEST: &str = "9223372036854775807";

/// A mapping that also tells how long the note is: no field of an event would hold it.
fn with_length_of_note(shop: &Shop) {
    let mapping = shop.mapping();
    shop.map(&mapping.replace("o.number AS name,", "o.number AS name, length(o.note) AS order_number,"));
    shop.sql("ALTER TABLE orders ALTER note SET STORAGE EXTERNAL");
}

#[tokio::test]
async fn large_exact_and_odd_values_arrive_as_they_are() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    with_length_of_note(&shop);
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    capture.says("the walk over the orders is finished").await;
    shop.sql(&format!(
        r#"BEGIN;
          INSERT INTO orders (id, number, customer_id, total, note) VALUES ({LARGE}, '#\u0000 \x00 ""', {LARGEST}, 0.10, repeat('0123456789abcdef', 65536));
          INSERT INTO order_items (id, order_id, sku, qty, price) VALUES ({LARGEST}, {LARGE}, E'tab\tline\n\\u0000', 1, 0.10);
          COMMIT"#
    ));
    agrees(&shop, &redis).await;
    // The note is stored out of line and did not change, so the WAL does not hold it.
    shop.sql("UPDATE orders SET total = 0.20");
    let events = agrees(&shop, &redis).await;
    let payloads = Vec::from_iter(events.0.iter().map(|entry| &entry["payload"]));
    assert!(
        payloads[0].replace('}', ",").contains("\"total_amount\":0.10,"),
        "{payloads:?}"
    );
    assert!(payloads[0].contains("\"price\":0.10"), "{payloads:?}");
    assert!(
        payloads[1].replace('}', ",").contains("\"total_amount\":0.20,"),
        "{payloads:?}"
    );
    for payload in events.payloads() {
        assert_eq!(text(&payload["order_id"]), LARGE);
        assert_eq!(text(&payload["customer_id"]), LARGEST);
        assert_eq!(payload["name"], r##"#\u0000 \x00 """##);
        assert_eq!(payload["order_number"], 1 << 20);
        assert_eq!(text(&payload["items"][0]["line_id"]), LARGEST);
        assert_eq!(payload["items"][0]["sku"], "tab\tline\n\\u0000");
    }
}

#[tokio::test]
async fn an_outbox_row_is_one_event_however_large_and_whatever_happens_to_it_later() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.sql("ALTER TABLE outbox ADD COLUMN sent boolean; ALTER TABLE outbox ALTER payload SET STORAGE EXTERNAL");
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    capture.says("the walk over the orders is finished").await;
    let event = |id: &str, more: &str| {
        format!(
            r#"{{"event_type": "order.paid", "order_id": "{id}", "total_amount": 1.50, "currency": "EUR", "items": [{more}], "updated_at": "2026-01-01T00:00:00Z"}}"#
        )
    };
    let line = r#"{"line_id": 1, "sku": "A", "qty": 1, "price": 0.01}"#;
    let large = event("1", &vec![line; 2000].join(","));
    shop.sql(&format!(
        "INSERT INTO outbox (payload) VALUES ('{}'), ('{large}')",
        event("0", "")
    ));
    // As publishers mark what they have sent.
    shop.sql("UPDATE outbox SET sent = true; UPDATE outbox SET id = id + 10; DELETE FROM outbox");
    // No text of PostgreSQL holds a NUL; its escape in a message does.
    let odd = event("2", "").replace("\"currency\"", r#""name": "a\u0000b", "currency""#);
    shop.sql(&format!("SELECT pg_logical_emit_message(true, 'orderstream', '{odd}')"));
    let events = eventually("all have come", PATIENCE, async || {
        let events = Events::of(&redis).await;
        (!events.types("2").is_empty()).then_some(events)
    })
    .await;
    let payloads = events.payloads();
    let orders = Vec::from_iter(payloads.iter().map(|payload| text(&payload["order_id"])));
    assert_eq!(orders, ["0", "1", "2"]);
    assert_eq!(payloads[1]["items"].as_array().map(Vec::len), Some(2000));
    assert_eq!(payloads[2]["name"], Value::from("a\u{FFFD}b"));
}

/// Around both changes of the clocks in Berlin, and around midnight.
const TIMES: [(&str, &str, &str); 6] = [
    ("2026-03-29 00:30Z", "2026-03-29", "60"),
    ("2026-03-29 01:30Z", "2026-03-29", "120"),
    ("2026-10-25 00:30Z", "2026-10-25", "120"),
    ("2026-10-25 01:30Z", "2026-10-25", "60"),
    ("2026-06-30 22:30Z", "2026-07-01", "120"),
    ("2026-12-31 23:30Z", "2027-01-01", "60"),
];

#[tokio::test]
async fn the_day_of_an_order_is_the_shops_across_changes_of_its_clocks() {
    let (shop, local) = (Shop::new().await, Local::new());
    let insert = |(n, (at, ..)): (usize, &(&str, &str, &str))| {
        shop.sql(&format!(
            "INSERT INTO orders (id, total, created_at) VALUES ({n}, 1, '{at}')"
        ))
    };
    // Half by the first walk, half as changes.
    TIMES[..3]
        .iter()
        .enumerate()
        .map(|(n, time)| insert((n, time)))
        .for_each(drop);
    let service = Service::start("run", &shop.with(local.settings())).await;
    local.has_rows(3).await;
    service.says("the walk over the orders is finished").await;
    TIMES[3..]
        .iter()
        .enumerate()
        .map(|(n, time)| insert((n + 3, time)))
        .for_each(drop);
    local.has_rows(6).await;
    let rows = local.sql("SELECT local_date, utc_offset_minutes FROM orders ORDER BY order_id");
    let expected = TIMES.map(|(_, day, offset)| format!("{day}|{offset}"));
    assert_eq!(rows, expected);
}
