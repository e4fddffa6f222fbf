//! Tables that are altered while they are captured.

use nix::sys::signal::Signal;

use super::shop::{Events, Shop, agrees, agrees_with, figures};
use crate::harness::eventually;
use crate::harness::redis::RedisServer;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

#[tokio::test]
async fn a_column_that_goes_away_stops_it_until_the_mapping_is_mended_and_nothing_is_lost() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    shop.sql("ALTER TABLE orders RENAME COLUMN total TO total_due; UPDATE orders SET total_due = 7 WHERE id = 3");
    capture.says("capture stopped: ").await;
    shop.sql("UPDATE orders SET total_due = 8 WHERE id = 4; DELETE FROM orders WHERE id = 5");
    shop.map(&shop.mapping().replace("o.total /", "o.total_due /"));
    capture.signal(Signal::SIGHUP);
    let events = eventually("the changes have come", PATIENCE, async || {
        let events = Events::of(&redis).await;
        (events.orders().get("4").map(String::as_str) == Some("8 2")).then_some(events)
    })
    .await;
    assert_eq!(events.orders()["3"], "7 2");
    assert!(!events.orders().contains_key("5"));
    let gaps = shop.sql(&format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'",
        shop.slot()
    ));
    assert_eq!(gaps, "1");
}

#[tokio::test]
async fn a_mapping_that_does_not_work_changes_nothing_and_one_that_works_is_taken() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=2);
    let settings = shop.settings(&redis).with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0");
    let capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    let mapping = shop.mapping();
    for (from, to, hint) in [
        ("o.total /", "o.totl /", "column o.totl does not exist"),
        ("[[watch]]", "[[wacht]]", "unknown field `wacht`"),
    ] {
        shop.map(&mapping.replacen(from, to, 1));
        capture.signal(Signal::SIGHUP);
        eventually("health tells of it", PATIENCE, async || {
            let figures = figures(&capture).await?;
            let problem = figures["problem"].as_str()?;
            (problem.contains("the former stays in use") && problem.contains(hint)).then_some(())
        })
        .await;
    }
    shop.add(3..=3);
    agrees(&shop, &redis).await;
    // Also over a new connection.
    shop.sql(&format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
        shop.slot()
    ));
    shop.add(4..=4);
    agrees(&shop, &redis).await;
    let told = figures(&capture).await.unwrap();
    assert_eq!(told["state"], "streaming", "{told}");
    shop.map(&mapping.replace("o.number AS name", "'taken' AS name"));
    capture.signal(Signal::SIGHUP);
    capture.says("read the mapping again is_other=true").await;
    shop.add(5..=5);
    let events = agrees(&shop, &redis).await;
    assert_eq!(events.payloads().last().unwrap()["name"], "taken");
    assert!(figures(&capture).await.unwrap()["problem"].is_null());
    let said = capture.stderr();
    assert!(
        !said.contains("capture stopped") && !said.contains("unreachable: the mapping"),
        "{said}"
    );
}

/// Lets capture stop at what was altered; answers what it says.
async fn stops(capture: &Service, at: &str) {
    capture.says("capture stopped: ").await;
    capture.says(at).await;
}

#[tokio::test]
async fn tables_that_are_renamed_stop_it_until_the_mapping_is_mended_and_nothing_is_lost() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    // Only lines change, which the mapping does not know by that name.
    shop.sql("ALTER TABLE order_items RENAME TO order_lines");
    shop.sql("DELETE FROM order_lines WHERE order_id = 3 AND sku = 'A'");
    stops(&capture, "relation \"order_items\" does not exist").await;
    shop.sql("DELETE FROM order_lines WHERE order_id = 4 AND sku = 'A'");
    shop.map(&shop.mapping().replace("order_items", "order_lines"));
    capture.signal(Signal::SIGHUP);
    agrees_with(&redis, || {
        shop.orders_of(shop.cluster(), "orders", "order_lines", "order_id")
    })
    .await;
    shop.sql("ALTER TABLE orders RENAME TO sales; UPDATE sales SET total = 7 WHERE id = 5");
    stops(&capture, "relation \"orders\" does not exist").await;
    shop.map(
        &shop
            .mapping()
            .replace("public.orders", "public.sales")
            .replace("FROM orders", "FROM sales"),
    );
    capture.signal(Signal::SIGHUP);
    let events = agrees_with(&redis, || {
        shop.orders_of(shop.cluster(), "sales", "order_lines", "order_id")
    })
    .await;
    events.has_no_event_twice();
    assert!(!capture.stderr().contains("changes were lost"), "{}", capture.stderr());
}

#[tokio::test]
async fn a_key_of_another_type_and_a_column_less_are_followed() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    shop.sql(
        "ALTER TABLE orders ALTER id TYPE text; ALTER TABLE order_items ALTER order_id TYPE text;
         UPDATE orders SET total = 7 WHERE id = '3'; INSERT INTO orders (id, total) VALUES ('A-1', 9)",
    );
    // The type of the key is looked up at a connect: nothing of the mapping is to be mended.
    stops(&capture, "operator does not exist").await;
    capture.signal(Signal::SIGHUP);
    agrees(&shop, &redis).await;
    shop.sql("ALTER TABLE orders DROP COLUMN currency; UPDATE orders SET total = 8 WHERE id = 'A-1'");
    stops(&capture, "column o.currency does not exist").await;
    shop.map(&shop.mapping().replace("o.currency", "'EUR' AS currency"));
    capture.signal(Signal::SIGHUP);
    agrees(&shop, &redis).await.has_no_event_twice();
    assert!(!capture.stderr().contains("changes were lost"), "{}", capture.stderr());
}

#[tokio::test]
async fn changes_that_do_not_tell_their_order_are_a_gap_once_the_table_is_mended() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let mut capture = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    shop.sql("ALTER TABLE order_items REPLICA IDENTITY DEFAULT");
    shop.sql("UPDATE order_items SET order_id = 2 WHERE order_id = 1 AND sku = 'B'");
    stops(&capture, "ALTER TABLE public.order_items REPLICA IDENTITY FULL").await;
    // The shop goes on meanwhile.
    shop.sql("DELETE FROM order_items WHERE order_id = 3 AND sku = 'B'; UPDATE orders SET total = 4 WHERE id = 4");
    shop.sql("ALTER TABLE order_items REPLICA IDENTITY FULL");
    capture.signal(Signal::SIGHUP);
    capture.says("reason=\"definition\"").await;
    agrees(&shop, &redis).await;
    capture.says("the walk over the orders is finished").await;

    // What was changed under a former name of the key is read only after the mapping has the new one.
    capture.kill();
    shop.sql("DELETE FROM order_items WHERE order_id = 5 AND sku = 'B'");
    shop.sql("ALTER TABLE order_items RENAME order_id TO sale_id");
    let mapping = shop.mapping();
    let mapping = mapping
        .replace("i.order_id", "i.sale_id")
        .replace("key = \"order_id\"", "key = \"sale_id\"");
    shop.map(&mapping);
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    capture.says("reason=\"definition\"").await;
    agrees_with(&redis, || {
        shop.orders_of(shop.cluster(), "orders", "order_items", "sale_id")
    })
    .await;
}

#[tokio::test]
async fn a_partition_that_logs_less_than_its_root_is_noticed() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.sql(
        "DROP TABLE order_items;
         CREATE TABLE order_items (id bigserial PRIMARY KEY, order_id bigint NOT NULL, sku text, qty int NOT NULL DEFAULT 1,
                                   price numeric(12,2) NOT NULL) PARTITION BY RANGE (id);
         CREATE TABLE items_1 PARTITION OF order_items FOR VALUES FROM (1) TO (1000);
         ALTER TABLE order_items REPLICA IDENTITY FULL; ALTER TABLE items_1 REPLICA IDENTITY FULL",
    );
    shop.add(1..=5);
    let settings = shop.settings(&redis).with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0");
    let capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    shop.sql("UPDATE order_items SET order_id = 2 WHERE order_id = 1 AND sku = 'B'");
    agrees(&shop, &redis).await;
    let attach = |first: u32, last: u32| {
        shop.sql(&format!(
            "CREATE TABLE items_{first} (LIKE order_items INCLUDING ALL);
             INSERT INTO items_{first} (id, order_id, price) VALUES ({first}, 3, 1), ({first} + 1, 3, 1);
             ALTER TABLE order_items ATTACH PARTITION items_{first} FOR VALUES FROM ({first}) TO ({last})"
        ));
    };
    attach(1000, 2000);
    shop.sql("UPDATE order_items SET order_id = 4 WHERE id = 1000");
    stops(&capture, "REPLICA IDENTITY FULL").await;
    shop.sql("DELETE FROM order_items WHERE id = 1001; ALTER TABLE items_1000 REPLICA IDENTITY FULL");
    capture.signal(Signal::SIGHUP);
    capture.says("reason=\"definition\"").await;
    agrees(&shop, &redis).await;
    capture.says("the walk over the orders is finished").await;
    // A deletion alone shows it too.
    attach(2000, 3000);
    shop.sql("DELETE FROM order_items WHERE id = 2000; ALTER TABLE items_2000 REPLICA IDENTITY FULL");
    eventually("it is told twice", PATIENCE, async || {
        if figures(&capture).await?["state"] == "stopped" {
            capture.signal(Signal::SIGHUP);
        }
        (capture.stderr().matches("reason=\"definition\"").count() == 2).then_some(())
    })
    .await;
    agrees(&shop, &redis).await;
}
