//! What a foreign command takes off the group is loaded all the same.

use super::*;

const GROUP: [&str; 2] = ["orders_stream", "pipeline_workers"];

/// Processes look once a second; by then each has.
const LOOKED: u64 = 2500;

async fn produced(site: &Site, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        site.produce(&event(id)).await;
    }
}

async fn passes(what: &str, ms: u64) {
    let began = Instant::now();
    eventually(what, PATIENCE, async || {
        (began.elapsed() > Duration::from_millis(ms)).then_some(())
    })
    .await;
}

/// Waits until so many are pending.
async fn are_pending(site: &Site, count: u64) {
    eventually(&format!("{count} are pending"), PATIENCE, async || {
        (site.pending().await == Some(count)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_dead_workers_removed_consumer_are_loaded() {
    let site = Site::new().await;
    let serve = Service::start("serve", &site.settings()).await;
    let settings = site.settings().with("CONSUMER_NAME", "dead");
    let mut worker = Service::start("work", &settings).await;
    let lock = site.lock_out_loads().await;
    produced(&site, 1..=58).await;
    are_pending(&site, 58).await;
    worker.kill();
    eventually("it has been silent for a while", PATIENCE, async || {
        let consumers: Vec<std::collections::HashMap<String, redis::Value>> =
            site.redis.command(&["XINFO", "CONSUMERS", GROUP[0], GROUP[1]]).await;
        let idle: u64 = redis::from_redis_value_ref(&consumers[0]["idle"]).unwrap();
        (idle > LOOKED).then_some(())
    })
    .await;
    drop(lock);
    let dropped: u64 = site
        .redis
        .command(&["XGROUP", "DELCONSUMER", GROUP[0], GROUP[1], "dead"])
        .await;
    assert_eq!(dropped, 58);
    let said = serve.says("a foreign command took entries off the group").await;
    assert!(said.contains("entries=58"), "{said}");
    let _worker = Service::start("work", &site.settings()).await;
    site.has_rows(58).await;
    site.is_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_entries_that_the_group_was_moved_past_are_loaded() {
    let site = Site::new().await;
    let serve = Service::start("serve", &site.settings()).await;
    eventually("the group is there", PATIENCE, async || site.pending().await).await;
    passes("it is looked at", LOOKED).await;
    produced(&site, 1..=139).await;
    let () = site.redis.command(&["XGROUP", "SETID", GROUP[0], GROUP[1], "$"]).await;
    let _worker = Service::start("work", &site.settings()).await;
    produced(&site, 140..=150).await;
    site.has_rows(150).await;
    site.is_settled().await;
    serve.says("XGROUP SETID").await;
}

/// Its next read may bring the consumer back at once, so that no look misses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_keeps_what_it_has_in_hand() {
    let site = Site::new().await;
    let settings = site.settings().with("CONSUMER_NAME", "live");
    let settings = settings.with("ORDERSTREAM_CLAIM_IDLE", "5s");
    let worker = Service::start("work", &settings).await;
    eventually("the group is there", PATIENCE, async || site.pending().await).await;
    let lock = site.lock_out_loads().await;
    produced(&site, 1..=58).await;
    are_pending(&site, 58).await;
    let () = site
        .redis
        .command(&["XGROUP", "DELCONSUMER", GROUP[0], GROUP[1], "live"])
        .await;
    let () = site
        .redis
        .command(&["XGROUP", "CREATECONSUMER", GROUP[0], GROUP[1], "live"])
        .await;
    passes("what is in hand is refreshed twice", 2600).await;
    drop(lock);
    site.has_rows(58).await;
    site.is_settled().await;
    assert!(
        !worker.stderr().contains("another consumer's now"),
        "{}",
        worker.stderr()
    );
}
