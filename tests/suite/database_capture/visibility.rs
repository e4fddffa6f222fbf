//! Nothing is read before readers see it.

use std::time::Duration;

use super::shop::{Events, LOGICAL, Shop, agrees};
use crate::harness::eventually;
use crate::harness::redis::RedisServer;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

#[tokio::test]
async fn nothing_is_read_before_it_is_visible() {
    let shop = Shop::own(&[]).await;
    let redis = RedisServer::start().await;
    shop.add(1..=3);
    let _capture = Service::start("capture", &shop.settings(&redis)).await;
    let before = agrees(&shop, &redis).await.0.len();
    // Commits wait for a standby that is not there; the walsender sends them all the same.
    shop.sql("ALTER SYSTEM SET synchronous_standby_names = 'absent'");
    shop.sql("SELECT pg_reload_conf()");
    eventually("commits wait", PATIENCE, async || {
        (shop.sql("SHOW synchronous_standby_names") == "absent").then_some(())
    })
    .await;
    let session = shop
        .cluster()
        .session(&shop.database, "SET synchronous_commit = on")
        .await;
    let waiting = session.batch_execute("UPDATE orders SET total = 55.50 WHERE id = 2");
    let waits = async {
        eventually("the commit waits", PATIENCE, async || {
            (shop.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1").then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            Events::of(&redis).await.0.len(),
            before,
            "an event came before its transaction was visible"
        );
        shop.sql("ALTER SYSTEM RESET synchronous_standby_names");
        shop.sql("SELECT pg_reload_conf()");
    };
    let (updated, ()) = tokio::join!(waiting, waits);
    updated.unwrap();
    let events = agrees(&shop, &redis).await;
    assert_eq!(events.0.len(), before + 1);
    assert_eq!(events.orders()["2"], "55.5 2");
}

#[tokio::test]
async fn a_read_replica_that_lags_is_waited_for() {
    let (shop, redis) = (Shop::own(&[]).await, RedisServer::start().await);
    shop.add(1..=3);
    let replica = shop.cluster().standby(&LOGICAL).await;
    let settings = shop.settings(&redis);
    let settings = settings.with("ORDERSTREAM_CAPTURE_READ_URL", &replica.url(&shop.database));
    let _capture = Service::start("capture", &settings).await;
    let before = agrees(&shop, &redis).await.0.len();
    replica.sql("postgres", "SELECT pg_wal_replay_pause()");
    shop.sql("BEGIN; UPDATE orders SET total = 55.50 WHERE id = 2; DELETE FROM orders WHERE id = 3; COMMIT");
    let sent = "SELECT bool_and(sent_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid";
    eventually("the changes were sent", PATIENCE, async || {
        (shop.sql(sent) == "t").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let early = Events::of(&redis).await.0.len();
    assert_eq!(early, before, "an event came before the replica showed its transaction");
    replica.sql("postgres", "SELECT pg_wal_replay_resume()");
    let events = agrees(&shop, &redis).await;
    assert_eq!(events.0.len(), before + 2);
    assert_eq!(events.types("3").last().map(String::as_str), Some("order.deleted"));
}
