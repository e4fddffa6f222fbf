//! What a foreign command takes off the group is loaded all the same.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::*;

const GROUP: [&str; 2] = ["orders_stream", "pipeline_workers"];

async fn produced(site: &Site, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        site.produce(&event(id)).await;
    }
}

/// Waits until the only process has looked at the group as it is now: its script asks for `commandstats` first. (In the
/// text of the script, which may be loaded just before, the word stands in single quotes.)
async fn is_looked_at(site: &Site) {
    let socket = site.redis.url().trim_start_matches("unix://").to_owned();
    let mut server = BufReader::new(UnixStream::connect(socket).await.unwrap());
    server.write_all(b"MONITOR\r\n").await.unwrap();
    let looked = async {
        let mut line = Vec::new();
        while !String::from_utf8_lossy(&line).contains("\"commandstats\"") {
            line.clear();
            assert_ne!(server.read_until(b'\n', &mut line).await.unwrap(), 0, "Redis hung up");
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.expect("nobody looks");
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
    let lock = site.lock_out_loads().await;
    // Before the worker starts, so that it reads them in one page.
    produced(&site, 1..=58).await;
    let mut worker = Service::start("work", &settings).await;
    are_pending(&site, 58).await;
    worker.kill();
    is_looked_at(&site).await;
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
    is_looked_at(&site).await;
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
    let lock = site.lock_out_loads().await;
    produced(&site, 1..=58).await;
    let worker = Service::start("work", &settings).await;
    are_pending(&site, 58).await;
    let () = site
        .redis
        .command(&["XGROUP", "DELCONSUMER", GROUP[0], GROUP[1], "live"])
        .await;
    let () = site
        .redis
        .command(&["XGROUP", "CREATECONSUMER", GROUP[0], GROUP[1], "live"])
        .await;
    let began = Instant::now();
    eventually("what is in hand is refreshed twice", PATIENCE, async || {
        (began.elapsed() > Duration::from_millis(2600)).then_some(())
    })
    .await;
    drop(lock);
    site.has_rows(58).await;
    site.is_settled().await;
    assert!(
        !worker.stderr().contains("another consumer's now"),
        "{}",
        worker.stderr()
    );
}
