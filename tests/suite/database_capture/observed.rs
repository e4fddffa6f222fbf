//! What is seen of a capture: health, metrics, and the record of the node.

use serde_json::Value;

use super::shop::{Events, Shop, agrees};
use crate::harness::eventually;
use crate::harness::redis::RedisServer;
use crate::harness::service::{Service, TOKEN};
use crate::harness::site::PATIENCE;

/// The report of a process with a private listener.
async fn health(capture: &Service) -> Option<Value> {
    capture.get(&capture.admin_url("/health")).await.ok()?.json().await.ok()
}

/// Status and detail of a check.
fn check<'a>(report: &'a Value, name: &str) -> Option<(&'a str, &'a str)> {
    let check = report["checks"]
        .as_array()?
        .iter()
        .find(|check| check["name"] == name)?;
    Some((check["status"].as_str()?, check["detail"].as_str()?))
}

/// Waits until a check has that status; answers the report.
async fn judged(capture: &Service, name: &str, status: &str) -> Value {
    eventually(&format!("{name} is {status}"), PATIENCE, async || {
        let report = health(capture).await?;
        (check(&report, name)?.0 == status).then_some(report)
    })
    .await
}

/// A value of a metric; of several series their sum.
pub async fn metric(capture: &Service, name: &str) -> f64 {
    let text = capture
        .get(&capture.admin_url("/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let series = text
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    series
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[tokio::test]
async fn health_metrics_and_node_tell_of_wal_lag_and_reconnects() {
    let sizes = [("max_slot_wal_keep_size", "128MB"), ("max_wal_size", "256MB")];
    let (shop, redis) = (Shop::own(&sizes).await, RedisServer::start().await);
    shop.add(1..=3);
    let settings = shop
        .settings(&redis)
        .with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0")
        .with("ORDERSTREAM_ADMIN_TOKEN", TOKEN)
        .with("ORDERSTREAM_CAPTURE_HEARTBEAT", "1s")
        // What was stored is confirmed an hour later, so WAL stays.
        .with("ORDERSTREAM_CAPTURE_ACK_DELAY", "1h")
        .with("ORDERSTREAM_HEALTH_CAPTURE_WAL_WARNING", "4MiB")
        .with("ORDERSTREAM_HEALTH_CAPTURE_WAL_CRITICAL", "12MiB");
    let capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    let report = judged(&capture, "capture_wal", "healthy").await;
    let told = &report["capture"];
    assert_eq!(told["wal_status"], "reserved", "{told}");
    assert!(told["safe_bytes"].as_u64().unwrap() > 64 << 20, "{told}");
    assert!(
        told["failover_synced"].is_null(),
        "before PostgreSQL 17, or without a standby: {told}"
    );
    assert_eq!(check(&report, "capture_query").unwrap().0, "healthy", "{report}");

    let write = |mebibytes: u32| {
        let sql = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1048576)) FROM generate_series(1, ";
        shop.sql(&format!("{sql}{mebibytes})"))
    };
    write(6);
    let report = judged(&capture, "capture_wal", "warning").await;
    assert!(
        check(&report, "capture_wal").unwrap().1.contains(" MiB of WAL"),
        "{report}"
    );
    write(9);
    judged(&capture, "capture_wal", "critical").await;
    eventually("the gauges follow", PATIENCE, async || {
        let retained = metric(&capture, "orderstream_capture_retained_bytes").await;
        let critical = metric(&capture, "orderstream_health_check{check=\"capture_wal\"}").await;
        let canary = metric(&capture, "orderstream_capture_canary_seconds").await;
        (retained > 12e6 && critical >= 2.0 && (0.0..60.0).contains(&canary)).then_some(())
    })
    .await;

    // What is committed while Redis answers nothing is late.
    redis.stall();
    shop.add(4..=4);
    eventually("the lag is told", PATIENCE, async || {
        let report = health(&capture).await?;
        let gauge = metric(&capture, "orderstream_capture_lag_seconds").await;
        (report["capture"]["lag_seconds"].as_f64()? > 0.5 && gauge > 0.5).then_some(())
    })
    .await;
    redis.resume();
    agrees(&shop, &redis).await;
    eventually("nothing is late", PATIENCE, async || {
        (health(&capture).await?["capture"]["lag_seconds"].as_f64()? == 0.0).then_some(())
    })
    .await;
    for name in [
        "orderstream_capture_changes_total",
        "orderstream_capture_read_seconds_count",
    ] {
        assert!(metric(&capture, name).await > 0.0, "{name}");
    }
    reconnects_and_tells_its_node(&shop, &redis, &capture).await;
}

async fn reconnects_and_tells_its_node(shop: &Shop, redis: &RedisServer, capture: &Service) {
    let before = metric(capture, "orderstream_capture_reconnects_total").await;
    shop.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'");
    eventually("it has connected again", PATIENCE, async || {
        let after = metric(capture, "orderstream_capture_reconnects_total").await;
        let state = health(capture).await?["capture"]["state"] == "streaming";
        (after > before && state).then_some(())
    })
    .await;

    // The record of the node has the same figures, and the rate.
    let client = reqwest::Client::new();
    eventually("the node tells of its capture", PATIENCE, async || {
        let request = client.get(capture.admin_url("/api/nodes")).bearer_auth(TOKEN);
        let nodes: Value = request.send().await.ok()?.json().await.ok()?;
        let node = &nodes["nodes"][0];
        let is_told = node["capture"]["source"] == shop.database && node["capture"]["events"].as_u64()? >= 4;
        (is_told && node["captured_per_second"].as_f64().is_some()).then_some(())
    })
    .await;

    // Of keys that are none the others are read again, and nothing becomes a dead letter.
    let asked = serde_json::json!({"source": shop.database, "keys": ["nosuch", "1"]});
    let request = client.post(capture.admin_url("/api/capture/resync")).bearer_auth(TOKEN);
    let answer = request.json(&asked).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    eventually("the order was read again", PATIENCE, async || {
        (Events::of(redis).await.types("1").len() == 2).then_some(())
    })
    .await;
    assert_eq!(redis.command::<u64>(&["XLEN", "dead_letters"]).await, 0);
}

#[tokio::test]
async fn health_warns_of_a_query_that_takes_more_than_a_second() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=1);
    let mapping = shop.mapping();
    shop.map(&mapping.replace("o.id = ANY($1)\"", "o.id = ANY($1) AND pg_sleep(1.1)::text = ''\""));
    assert_ne!(shop.mapping(), mapping);
    let settings = shop.settings(&redis).with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0");
    let capture = Service::start("capture", &settings).await;
    let report = judged(&capture, "capture_query", "warning").await;
    assert!(
        check(&report, "capture_query").unwrap().1.contains("orderstream check"),
        "{report}"
    );
}
