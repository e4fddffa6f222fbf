//! Large transactions, full streams, idle sources.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::shop::{Events, Shop, agrees, figures};
use crate::harness::eventually;
use crate::harness::redis::RedisServer;
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;

#[tokio::test]
async fn a_long_transaction_is_cut_and_goes_on_where_it_was_cut() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let settings = shop
        .settings(&redis)
        .with("ORDERSTREAM_CAPTURE_BATCH", "100")
        .with("ORDERSTREAM_CAPTURE_ACK_DELAY", "30s");
    let mut capture = Service::start("capture", &settings).await;
    capture.says("the walk over the orders is finished").await;
    let orders = orders();
    shop.add(1..=orders);
    let mut before = 0;
    loop {
        // By the tenth: each restart has the server read the transaction from its beginning.
        let enough = orders.min(before + orders / 10);
        eventually("more is stored", PATIENCE, async || {
            (redis.command::<u32>(&["XLEN", "orders_stream"]).await >= enough).then_some(())
        })
        .await;
        let status = std::fs::read_to_string(format!("/proc/{}/status", capture.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u32 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak <= 64 << 10, "{peak} kB");
        capture.kill();
        before = redis.command(&["XLEN", "orders_stream"]).await;
        if before == orders {
            break;
        }
        capture = Service::start("capture", &settings).await;
    }
    agrees(&shop, &redis).await.has_no_event_twice();
}

#[tokio::test]
async fn the_server_is_answered_while_the_stream_is_away() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let url = shop.cluster().url(&shop.database) + "&options=-c%20wal_sender_timeout%3D8s";
    let settings = shop
        .settings(&redis)
        .with("ORDERSTREAM_CAPTURE_DATABASE_URL", &url)
        .with("ORDERSTREAM_CAPTURE_BATCH", "50");
    let capture = Service::start("capture", &settings).await;
    capture.says("the walk over the orders is finished").await;
    shop.add(1..=2000);
    eventually("some are stored", PATIENCE, async || {
        (redis.command::<usize>(&["XLEN", "orders_stream"]).await > 0).then_some(())
    })
    .await;
    let walsender = format!(
        "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{}'",
        shop.slot()
    );
    let before = shop.sql(&walsender);
    redis.stall();
    // Longer than the server waits for a sign of life.
    tokio::time::sleep(Duration::from_secs(10)).await;
    redis.resume();
    agrees(&shop, &redis).await.has_no_event_twice();
    assert_eq!(shop.sql(&walsender), before, "{}", capture.stderr());
}

/// Orders of the large transaction; a million in the long form.
fn orders() -> u32 {
    std::env::var("ORDERSTREAM_CAPTURE_ORDERS").map_or(1000, |orders| orders.parse().unwrap())
}

#[tokio::test]
async fn near_its_cap_the_stream_is_left_to_others_and_capture_waits() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let settings = shop
        .settings(&redis)
        .with("ORDERSTREAM_STREAM_MAXLEN", "100")
        .with("ORDERSTREAM_RETAIN_ACKED", "10")
        .with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0");
    let capture = Service::start("capture", &settings).await;
    capture.says("the walk over the orders is finished").await;
    shop.add(1..=200);
    capture.says("the stream is near its cap").await;
    eventually("health says that it waits", PATIENCE, async || {
        (figures(&capture).await?["state"] == "waiting").then_some(())
    })
    .await;
    let length = async || redis.command::<usize>(&["XLEN", "orders_stream"]).await;
    eventually("nine tenths are used", PATIENCE, async || {
        (length().await == 90).then_some(())
    })
    .await;
    // Webhooks have the rest.
    let serve = Settings::embedded()
        .with("REDIS_URL", &redis.url())
        .with("ORDERSTREAM_STREAM_MAXLEN", "100")
        .with("ORDERSTREAM_RETAIN_ACKED", "10");
    let serve = Service::start("serve", &serve).await;
    for id in 9001..=9005 {
        assert_eq!(serve.deliver_order(id).await, Some(200));
    }
    assert_eq!(length().await, 95);
    // What others read and removed makes room.
    let mut seen = BTreeMap::new();
    eventually("all have come", PATIENCE, async || {
        let events = Events::of(&redis).await;
        seen.extend(events.orders());
        if let Some(behind) = events.behind() {
            redis
                .command::<usize>(&["XTRIM", "orders_stream", "MINID", &behind])
                .await;
        }
        (seen == shop.orders()).then_some(())
    })
    .await;
    eventually("health says that it streams", PATIENCE, async || {
        (figures(&capture).await?["state"] == "streaming").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_idle_source_keeps_no_wal_and_its_canary_comes_back() {
    let shop = Shop::own(&[("wal_sender_timeout", "2s")]).await;
    let redis = RedisServer::start().await;
    let settings = shop
        .settings(&redis)
        .with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0")
        .with("ORDERSTREAM_CAPTURE_HEARTBEAT", "1s");
    let capture = Service::start("capture", &settings).await;
    capture.says("the walk over the orders is finished").await;
    // Another database is busy.
    shop.cluster().sql(
        "postgres",
        "CREATE TABLE busy AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 40000)",
    );
    eventually("little WAL is retained", PATIENCE, async || {
        shop.sql("CHECKPOINT");
        let figures = figures(&capture).await?;
        let is_little = figures["retained_bytes"].as_u64()? < 8 << 20;
        (is_little && figures["canary_seconds"].as_f64()? < 5.0).then_some(())
    })
    .await;
    // A walsender that sends nothing is noticed, although the server answers.
    let check = async |status: &str| {
        eventually(&format!("the check is {status}"), PATIENCE, async || {
            let answer = capture.get(&capture.admin_url("/health")).await.ok()?;
            let report: Value = answer.json().await.ok()?;
            let checks = report["checks"].as_array()?.iter();
            let found = checks.filter(|check| check["name"] == "capture" && check["status"] == status);
            (found.count() == 1).then_some(())
        })
        .await;
    };
    let walsender: i32 = shop.sql("SELECT pid FROM pg_stat_replication").parse().unwrap();
    kill(Pid::from_raw(walsender), Signal::SIGSTOP).unwrap();
    check("critical").await;
    kill(Pid::from_raw(walsender), Signal::SIGCONT).unwrap();
    check("healthy").await;
}

/// Orders a second of a backlog of small transactions, and of one large one: `cargo test --release -- --ignored`.
#[tokio::test]
#[ignore = "a measurement"]
async fn measures_a_backlog() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let settings = shop.settings(&redis).with("RUST_LOG", "info");
    let mut capture = Service::start("capture", &settings).await;
    capture.says("the walk over the orders is finished").await;
    capture.kill();
    shop.sql(
        "CREATE PROCEDURE fill(first int, last int) LANGUAGE plpgsql AS $$ BEGIN FOR n IN first..last LOOP
           INSERT INTO orders (id, number, total) VALUES (n, '#' || n, n);
           INSERT INTO order_items (order_id, sku, price) SELECT n, 'A', x FROM generate_series(1, 3) x; COMMIT;
         END LOOP; END $$",
    );
    shop.sql("CALL fill(1, 20000)");
    shop.sql(
        "BEGIN; INSERT INTO orders (id, number, total) SELECT n, '#' || n, n FROM generate_series(20001, 40000) n;
         INSERT INTO order_items (order_id, sku, price) SELECT n, 'A', x FROM generate_series(20001, 40000) n, generate_series(1, 3) x; COMMIT",
    );
    let capture = Service::start("capture", &settings).await;
    let mut marks = Vec::new();
    let began = std::time::Instant::now();
    for mark in [1_usize, 20_000, 40_000] {
        eventually("the mark", PATIENCE, async || {
            (redis.command::<usize>(&["XLEN", "orders_stream"]).await >= mark).then_some(())
        })
        .await;
        marks.push(began.elapsed());
    }
    let rate = |from: Duration, to: Duration| 20_000.0 / (to - from).as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{}/status", capture.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    eprintln!(
        "small transactions {:.0} orders/s, one transaction {:.0} orders/s, {peak}",
        rate(marks[0], marks[1]),
        rate(marks[1], marks[2])
    );
}
