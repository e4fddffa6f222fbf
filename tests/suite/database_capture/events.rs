//! What becomes of a change.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use redis::streams::StreamRangeReply;
use serde_json::Value;

use super::shop::{Events, Shop, agrees, text};
use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::redis::RedisServer;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

#[tokio::test]
async fn on_files_a_shop_is_in_the_warehouse_with_nothing_else_installed() {
    let (shop, local) = (Shop::new().await, Local::new());
    shop.add(1..=300);
    // Pages of a walk follow the key's own order, which is not that of its text.
    let settings = shop.with(local.settings()).with("ORDERSTREAM_CAPTURE_BATCH", "7");
    let mut service = Service::start("run", &settings).await;
    local.has_rows(300).await;
    shop.sql("UPDATE orders SET total = 99.90 WHERE id = 7; DELETE FROM order_items WHERE order_id = 8 AND sku = 'B'");
    shop.sql("BEGIN; DELETE FROM order_items WHERE order_id = 9; DELETE FROM orders WHERE id = 9; COMMIT");
    shop.add(301..=301);
    let rows = || {
        local.sql("SELECT order_id, total_amount, item_count FROM orders WHERE order_id IN ('7', '8', '9', '301') AND deleted_at IS NULL ORDER BY 1")
    };
    eventually("the changes are loaded", PATIENCE, async || {
        (rows() == ["301|301.10|2", "7|99.90|2", "8|8.10|1"]).then_some(())
    })
    .await;
    service.signal(Signal::SIGTERM);
    service.ended(PATIENCE).await;
    assert_eq!(service.exit_code(), Some(0));
}

#[tokio::test]
async fn an_order_counts_only_while_the_query_says_so() {
    let (shop, local) = (Shop::new().await, Local::new());
    shop.sql("ALTER TABLE orders ADD completed_at timestamptz");
    shop.map(
        &shop
            .mapping()
            .replace("o.number AS name", "o.completed_at IS NULL AS test, o.number AS name"),
    );
    shop.add(1..=2);
    shop.sql("UPDATE orders SET completed_at = now() WHERE id = 1");
    let settings = shop.with(local.settings());
    let _service = Service::start("run", &settings).await;
    local.has_rows(2).await;
    let counts = |expected: &'static [&'static str]| {
        let local = &local;
        eventually("those count", PATIENCE, async move || {
            let sales = local.sql("SELECT DISTINCT order_id FROM order_sales ORDER BY 1");
            (sales == expected).then_some(())
        })
    };
    counts(&["1"]).await;
    shop.sql("UPDATE orders SET completed_at = now() WHERE id = 2");
    counts(&["1", "2"]).await;
    shop.sql("UPDATE orders SET completed_at = NULL WHERE id = 1");
    counts(&["2"]).await;
    shop.sql("UPDATE orders SET completed_at = now()");
    counts(&["1", "2"]).await;
}

#[tokio::test]
async fn an_order_that_is_read_again_does_not_bring_a_forgotten_customer_back() {
    let (shop, local) = (Shop::new().await, Local::new());
    shop.add(1..=2);
    shop.sql("UPDATE orders SET customer_id = 6900000004711");
    let settings = shop.with(local.settings());
    let service = Service::start("run", &settings).await;
    local.has_rows(2).await;
    let forget = |more: &[&str]| {
        let args = [&["forget", "--customer", "6900000004711"], more].concat();
        settings.command(&args).output().unwrap()
    };
    let output = forget(&["--yes"]);
    // What the group has not acked yet is left, and said.
    assert!(matches!(output.status.code(), Some(0 | 69)), "{output:?}");
    shop.sql("UPDATE orders SET total = 5 WHERE id = 1");
    // With what `forget` announces.
    local.has_rows(4).await;
    assert_eq!(
        local.sql("SELECT order_id, customer_id, total_amount FROM orders ORDER BY order_id"),
        ["1||5.00", "2||2.10"]
    );
    let kept =
        local.sql("SELECT count(*) FROM order_events WHERE customer_id IS NOT NULL OR payload LIKE '%6900000004711%'");
    assert_eq!(kept, ["0"]);
    // The mapping names no shop. The newest entry of the stream stays until another comes.
    shop.sql("UPDATE orders SET customer_id = NULL");
    local.has_rows(6).await;
    eventually("nothing is left", PATIENCE, async || {
        forget(&["--shop", "", "--yes"]);
        forget(&["--shop", "", "--verify"]).status.success().then_some(())
    })
    .await;
    drop(service);
}

#[tokio::test]
async fn every_kind_of_change_becomes_the_event_that_it_means() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=4);
    shop.add(6..=6);
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    capture.says("the walk over the orders is finished").await;
    shop.add(5..=5);
    shop.sql("UPDATE order_items SET order_id = 2 WHERE order_id = 1 AND sku = 'B'");
    shop.sql("INSERT INTO refunds VALUES (70, 3); INSERT INTO refund_lines VALUES (1, 70)");
    shop.sql("UPDATE orders SET total = 6 WHERE id = 6");
    shop.sql("DELETE FROM orders WHERE id = 4");
    let event = r#"{"event_id": "mine", "event_type": "order.paid", "order_id": "900", "total_amount": 1.50, "currency": "EUR", "items": [], "updated_at": "2026-01-01T00:00:00Z"}"#;
    shop.sql(&format!(
        "INSERT INTO outbox (payload) VALUES ('{event}'); DELETE FROM outbox"
    ));
    shop.sql(&format!(
        "SELECT pg_logical_emit_message(true, 'orderstream', '{}'), pg_logical_emit_message(true, 'elsewhere', 'x'),
                pg_logical_emit_message(false, 'orderstream', 'x')",
        event.replace("mine", "told").replace("900", "901")
    ));
    shop.sql("INSERT INTO orders (id, total) VALUES (9007199254740993, 0.10)");
    let events = eventually("all have come", PATIENCE, async || {
        let events = Events::of(&redis).await;
        (!events.types("9007199254740993").is_empty()).then_some(events)
    })
    .await;
    for (order, types) in [
        ("1", &["order.snapshot", "order.updated"][..]),
        ("2", &["order.snapshot", "order.updated"]),
        ("3", &["order.snapshot", "order.updated"]),
        ("4", &["order.snapshot", "order.deleted"]),
        ("5", &["order.created"]),
        ("6", &["order.snapshot", "order.updated"]),
        ("900", &["order.paid"]),
        ("901", &["order.paid"]),
    ] {
        assert_eq!(events.types(order), types, "{order}");
    }
    events.has_no_event_twice();
    let created = events
        .0
        .iter()
        .find(|entry| entry["event_type"] == "order.created")
        .unwrap();
    assert_eq!(created["source"], "capture");
    let payload: Value = serde_json::from_str(&created["payload"]).unwrap();
    assert!(
        created["payload"].replace('}', ",").contains("\"total_amount\":5.10,"),
        "{payload}"
    );
    assert!(
        text(&payload["created_at"]).starts_with("2026-03-29T01:30:00"),
        "{payload}"
    );
}

#[tokio::test]
async fn one_order_that_cannot_be_computed_is_a_dead_letter_and_its_mending_lands() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    capture.says("the walk over the orders is finished").await;
    shop.sql(
        "BEGIN; INSERT INTO orders (id, total, divisor) SELECT n, n, CASE n WHEN 33 THEN 0 ELSE 1 END FROM generate_series(1, 99) n;
         INSERT INTO order_items (order_id, qty, price) VALUES (50, -1, 1); COMMIT",
    );
    let dead = eventually("two dead letters", PATIENCE, async || {
        let reply: StreamRangeReply = redis.command(&["XRANGE", "dead_letters", "-", "+"]).await;
        (reply.ids.len() == 2).then_some(reply.ids)
    })
    .await;
    let field = |n: usize, name: &str| dead[n].get::<String>(name).unwrap_or_default();
    let found: BTreeMap<_, _> = (0..2).map(|n| (field(n, "order_id"), field(n, "error"))).collect();
    assert!(found["33"].contains("SQLSTATE 22012"), "{found:?}");
    assert!(found["50"].starts_with("items[0].qty"), "{found:?}");
    eventually("the others are in the stream", PATIENCE, async || {
        (Events::of(&redis).await.0.len() == 97).then_some(())
    })
    .await;
    shop.sql("UPDATE orders SET divisor = 1 WHERE id = 33; UPDATE order_items SET qty = 1 WHERE order_id = 50");
    agrees(&shop, &redis).await;
}
