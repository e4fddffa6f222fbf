//! PostgreSQL 18: a failover to a standby that has a copy of the slot, and a move to another cluster.

use nix::sys::signal::Signal;

use super::shop::{LOGICAL, Shop, TABLES, agrees, agrees_with};
use crate::harness::eventually;
use crate::harness::postgres::Cluster;
use crate::harness::redis::RedisServer;
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;

/// A primary, a standby, and a capture of whichever takes writes.
struct Pair {
    shop: Shop,
    standby: Cluster,
    redis: RedisServer,
    capture: Service,
}

impl Pair {
    /// With the slot on both; `None` where there is no PostgreSQL 18.
    async fn start(settings: &[(&str, &str)]) -> Option<Self> {
        let settings = [&LOGICAL[..], settings].concat();
        let shop = Shop::of(Cluster::start_18(&settings).await?);
        shop.sql("SELECT pg_create_physical_replication_slot('standby', true)");
        let follows = [("primary_slot_name", "standby"), ("hot_standby_feedback", "on")];
        let standby = shop.cluster().standby(&[&LOGICAL[..], &follows].concat()).await;
        let redis = RedisServer::start().await;
        shop.add(1..=20);
        let pair = Self {
            capture: Service::start("capture", &Self::settings(&shop, &standby, &redis)).await,
            shop,
            standby,
            redis,
        };
        agrees(&pair.shop, &pair.redis).await;
        pair.has_synced().await;
        Some(pair)
    }

    fn settings(shop: &Shop, standby: &Cluster, redis: &RedisServer) -> Settings {
        let primary = shop.cluster();
        let url = format!(
            "postgres://postgres@{}:{},{}:{}/{}?target_session_attrs=read-write",
            primary.host().replace('/', "%2F"),
            primary.port,
            standby.host().replace('/', "%2F"),
            standby.port,
            shop.database
        );
        shop.settings(redis).with("ORDERSTREAM_CAPTURE_DATABASE_URL", &url)
    }

    /// Waits until the standby has a copy of the slot that outlives a failover.
    async fn has_synced(&self) {
        eventually("the slot is on the standby", PATIENCE, async || {
            self.shop.sql("SELECT pg_log_standby_snapshot()");
            self.standby.sql("postgres", "SELECT pg_sync_replication_slots()");
            let synced = "SELECT count(*) FROM pg_replication_slots WHERE synced AND NOT temporary AND failover";
            (self.standby.sql("postgres", synced) == "1").then_some(())
        })
        .await;
    }

    /// The primary is gone, and the standby takes its place.
    fn fail_over(&self) {
        self.shop.cluster().kill();
        self.standby.sql("postgres", "SELECT pg_promote()");
    }

    /// Waits until the stream says what the new primary has.
    async fn agrees(&self) {
        let orders = || self.shop.orders_of(&self.standby, "orders", "order_items", "order_id");
        agrees_with(&self.redis, orders).await.has_no_event_twice();
    }
}

#[tokio::test]
async fn a_failover_to_a_standby_with_the_slot_loses_and_invents_nothing() {
    let Some(pair) = Pair::start(&[("synchronized_standby_slots", "standby")]).await else {
        return;
    };
    for first in [21, 41, 61] {
        pair.shop.add(first..=first + 19);
        pair.shop
            .sql("UPDATE orders SET total = total + 1 WHERE id % 3 = 0; DELETE FROM order_items WHERE id % 7 = 0");
    }
    pair.fail_over();
    pair.agrees().await;
    let sql = "UPDATE orders SET total = 500 WHERE id = 4; INSERT INTO orders (id, total) VALUES (900, 1); DELETE FROM orders WHERE id = 5";
    pair.standby.sql(&pair.shop.database, sql);
    pair.agrees().await;
    let said = pair.capture.stderr();
    assert!(!said.contains("changes were lost"), "{said}");
}

#[tokio::test]
async fn a_failover_to_a_standby_that_lagged_is_a_gap_and_what_it_has_stands() {
    let Some(pair) = Pair::start(&[]).await else {
        return;
    };
    pair.standby.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
    pair.standby.sql("postgres", "SELECT pg_reload_conf()");
    eventually("the standby is cut off", PATIENCE, async || {
        (pair
            .standby
            .sql("postgres", "SELECT count(*) FROM pg_stat_wal_receiver")
            == "0")
            .then_some(())
    })
    .await;
    pair.shop
        .sql("UPDATE orders SET total = 99 WHERE id = 3; DELETE FROM order_items WHERE order_id = 4");
    agrees(&pair.shop, &pair.redis).await;
    pair.fail_over();
    pair.capture.says("reason=\"timeline\"").await;
    pair.agrees().await;
}

#[tokio::test]
async fn a_database_that_moved_to_another_cluster_waits_until_it_is_adopted() {
    let Some(newer) = Cluster::start_18(&LOGICAL).await else {
        return;
    };
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let settings = shop.settings(&redis);
    let mut capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    capture.signal(Signal::SIGTERM);
    capture.ended(PATIENCE).await;
    newer.sql("postgres", &format!("CREATE DATABASE {}", shop.database));
    newer.sql(&shop.database, TABLES);
    newer.sql(
        &shop.database,
        "INSERT INTO orders (id, total) SELECT n, n * 2 FROM generate_series(1, 5) n",
    );
    let settings = settings.with("ORDERSTREAM_CAPTURE_DATABASE_URL", &newer.url(&shop.database));
    let mut capture = Service::start("capture", &settings).await;
    capture.says("run `orderstream capture adopt`").await;
    capture.kill();
    let adopted = settings.command(&["capture", "adopt"]).output().unwrap();
    assert!(adopted.status.success(), "{adopted:?}");
    let capture = Service::start("capture", &settings).await;
    capture.says("reason=\"slot_missing\"").await;
    let orders = || shop.orders_of(&newer, "orders", "order_items", "order_id");
    agrees_with(&redis, orders).await;
    newer.sql(
        &shop.database,
        "UPDATE orders SET total = 77 WHERE id = 2; DELETE FROM orders WHERE id = 3",
    );
    agrees_with(&redis, orders).await.has_no_event_twice();
}
