//! Changes that were lost are told, counted, and healed by a walk.

use nix::sys::signal::Signal;

use super::shop::{Shop, agrees, figures};
use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::redis::RedisServer;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

#[tokio::test]
async fn each_loss_of_changes_is_a_gap_that_is_told_and_healed() {
    let shop = Shop::own(&[
        ("max_slot_wal_keep_size", "1MB"),
        ("min_wal_size", "32MB"),
        ("max_wal_size", "32MB"),
    ])
    .await;
    let redis = RedisServer::start().await;
    shop.add(1..=5);
    let settings = shop.settings(&redis);
    let mut capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    let (slot, mut next) = (shop.slot(), 100);
    for reason in [
        "slot_missing",
        "slot_lost",
        "checkpoint_missing",
        "checkpoint_behind",
        "publication",
        "truncate",
    ] {
        if reason != "truncate" {
            capture.kill();
            eventually("the slot is free", PATIENCE, async || {
                (shop.sql(&format!(
                    "SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'"
                )) == "f")
                    .then_some(())
            })
            .await;
        }
        next += 1;
        shop.add(next..=next);
        match reason {
            "slot_missing" => drop(shop.sql(&format!("SELECT pg_drop_replication_slot('{slot}')"))),
            "slot_lost" => {
                for _ in 0..6 {
                    shop.sql("SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'x', repeat('x', 100))");
                }
                shop.sql("CHECKPOINT");
                let status = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{slot}'");
                assert_eq!(shop.sql(&status), "lost");
            }
            "checkpoint_missing" => redis.command(&["FLUSHALL"]).await,
            "checkpoint_behind" => {
                let sql = format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())");
                drop(shop.sql(&sql));
            }
            "publication" => {
                // What is written meanwhile is not published.
                shop.sql(&format!("ALTER PUBLICATION {slot} DROP TABLE orders"));
                let refused = shop.command(&redis, &["capture"]);
                let said = String::from_utf8_lossy(&refused.stderr).into_owned();
                assert_eq!(refused.status.code(), Some(78), "{said}");
                assert!(
                    said.contains(&format!("ALTER PUBLICATION {slot} ADD TABLE public.orders")),
                    "{said}"
                );
                shop.sql("DROP TABLE IF EXISTS other; CREATE TABLE orders_2 (LIKE orders INCLUDING ALL)");
                shop.sql("INSERT INTO orders_2 SELECT * FROM orders; DROP TABLE orders; ALTER TABLE orders_2 RENAME TO orders");
                shop.sql(&format!("ALTER PUBLICATION {slot} ADD TABLE orders"));
            }
            _ => drop(shop.sql("TRUNCATE order_items")),
        }
        if reason != "truncate" {
            capture = Service::start("capture", &settings).await;
        }
        capture.says(&format!("reason=\"{reason}\"")).await;
        capture.says("the walk over the orders is finished").await;
        agrees(&shop, &redis).await;
    }
}

#[tokio::test]
async fn a_restored_database_is_a_gap_and_no_id_of_its_new_past_is_known() {
    let (shop, redis) = (Shop::own(&[]).await, RedisServer::start().await);
    shop.add(1..=5);
    let settings = shop.settings(&redis);
    let mut capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    capture.signal(Signal::SIGTERM);
    capture.ended(PATIENCE).await;
    shop.cluster().stop();
    shop.cluster().back_up();
    let mut ids = Vec::new();
    for total in [100, 200] {
        shop.cluster().restart().await;
        eventually("it takes writes", PATIENCE, async || {
            (shop.sql("SELECT pg_is_in_recovery()") == "f").then_some(())
        })
        .await;
        // The same positions of the WAL are written twice, with different content.
        shop.sql(&format!(
            "UPDATE orders SET total = {total}; INSERT INTO orders (id, total) VALUES (6, {total})"
        ));
        let mut capture = Service::start("capture", &settings).await;
        if total == 200 {
            capture.says("reason=\"timeline\"").await;
            capture.says("the walk over the orders is finished").await;
        }
        let events = agrees(&shop, &redis).await;
        events.has_no_event_twice();
        ids.push(events.0.len());
        capture.kill();
        shop.cluster().stop();
        if total == 100 {
            shop.cluster().restore();
        }
    }
    assert!(ids[1] > ids[0], "{ids:?}");
}

#[tokio::test]
async fn what_was_out_of_the_publication_for_a_while_is_a_gap() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let settings = shop
        .settings(&redis)
        .with("ORDERSTREAM_CAPTURE_HEARTBEAT", "1s")
        .with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0");
    let mut capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    let publication = shop.slot();
    let tables = "orders, order_items, refund_lines, outbox";
    let dropped = format!("DROP PUBLICATION {publication}");
    let created = format!(
        "DROP PUBLICATION IF EXISTS {publication}; CREATE PUBLICATION {publication} FOR TABLE {tables} WITH (publish_via_partition_root = true)"
    );
    let taken_out = format!("ALTER PUBLICATION {publication} DROP TABLE order_items");
    let put_back = format!("ALTER PUBLICATION {publication} ADD TABLE order_items");
    let mut gaps = 0;
    for (order, (out, back, is_running)) in (1..).zip([
        (&taken_out, &put_back, true),
        (&taken_out, &put_back, false),
        (&dropped, &created, true),
        (&dropped, &created, false),
    ]) {
        if !is_running {
            capture.kill();
        }
        shop.sql(out);
        shop.sql(&format!(
            "DELETE FROM order_items WHERE order_id = {order} AND sku = 'B'"
        ));
        shop.sql(&format!("UPDATE orders SET total = total + 1 WHERE id = {order}"));
        shop.sql(back);
        if !is_running {
            capture = Service::start("capture", &settings).await;
        }
        gaps = eventually("it is counted", PATIENCE, async || {
            let figures = figures(&capture).await?;
            if figures["state"] == "stopped" {
                capture.signal(Signal::SIGHUP);
            }
            figures["gaps"].as_u64().filter(|found| *found > gaps)
        })
        .await;
        agrees(&shop, &redis).await;
        capture.says("reason=\"publication\"").await;
    }
}

#[tokio::test]
async fn a_slot_that_another_made_anew_is_a_gap() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let mut capture = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    capture.signal(Signal::SIGTERM);
    capture.ended(PATIENCE).await;
    let slot = shop.slot();
    shop.sql(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    shop.sql("UPDATE orders SET total = 9 WHERE id = 3");
    shop.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    capture.says("reason=\"checkpoint_behind\"").await;
    agrees(&shop, &redis).await;
}

#[tokio::test]
async fn on_files_a_damaged_stream_is_a_gap_and_the_warehouse_is_right_after_it() {
    let (shop, local) = (Shop::new().await, Local::new());
    shop.add(1..=5);
    let settings = shop.with(local.settings());
    let mut service = Service::start("run", &settings).await;
    local.has_rows(5).await;
    service.signal(Signal::SIGTERM);
    service.ended(PATIENCE).await;
    std::fs::write(local.data_dir().join("stream.db"), [7; 5000]).unwrap();
    shop.sql("UPDATE orders SET total = 9 WHERE id = 3; DELETE FROM order_items WHERE order_id = 4");
    let service = Service::start("run", &settings).await;
    service.says("reason=\"checkpoint_missing\"").await;
    eventually("the warehouse is right", PATIENCE, async || {
        let rows = local
            .sql("SELECT order_id, total_amount, item_count FROM orders WHERE order_id IN ('3', '4', '5') ORDER BY 1");
        (rows == ["3|9.00|2", "4|4.10|0", "5|5.10|2"]).then_some(())
    })
    .await;
}
