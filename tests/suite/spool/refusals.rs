//! Redis that is there and takes nothing: each event is spooled at once, and moved on when it takes events again.

use std::time::{Duration, Instant};

use redis::Value as Reply;

use super::{Place, are_spooled, deliver, deliver_as, depth_is, goes_direct, goes_direct_at_first};
use crate::chaos::proxy::{Dialect, Mode, Proxy, REFUSALS};
use crate::harness::eventually;
use crate::harness::redis::{RedisOptions, RedisServer};
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

/// Brings it about, and ends it.
async fn through(place: &Place, begin: &[&[&str]], end: &[&[&str]]) {
    let service = Service::start("run", &place.settings()).await;
    let last = goes_direct_at_first(&service).await;
    command(&place.site.redis, begin).await;
    for id in 101..=110 {
        assert_eq!(deliver(&service, id).await, (200, "spooled".to_owned()), "{begin:?}");
    }
    assert_eq!(service.get(&service.url("/health")).await.unwrap().status(), 200);
    depth_is(&service, 10).await;
    command(&place.site.redis, end).await;
    depth_is(&service, 0).await;
    let direct = goes_direct(&service, 200).await - 200;
    let sent = usize::try_from(last + 10 + direct).unwrap();
    // Of the tries to go direct some were spooled too.
    place.site.has_rows(sent).await;
    place.site.is_settled().await;
    assert_eq!(place.site.dead_letters().await, 0);
}

async fn command(redis: &RedisServer, commands: &[&[&str]]) {
    for words in commands {
        let _: Reply = redis.command(words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory() {
    let place = Place::new().await;
    let (begin, end) = (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]);
    through(&place, &[&begin], &[&end]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica() {
    let place = Place::new().await;
    through(
        &place,
        &[&["REPLICAOF", "127.0.0.1", "1"]],
        &[&["REPLICAOF", "NO", "ONE"]],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_snapshot() {
    let gone = tempfile::tempdir().unwrap();
    let place = Place::with_redis(RedisOptions {
        config: vec![
            format!("dir {}", gone.path().display()),
            "save 86400 1000000".to_owned(),
        ],
        ..RedisOptions::default()
    })
    .await;
    gone.close().unwrap();
    let _: Reply = place.site.redis.command(&["SET", "unsaved", "1"]).await;
    let _: Reply = place
        .site
        .redis
        .command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"])
        .await;
    let _: Reply = place.site.redis.command(&["BGSAVE"]).await;
    eventually("the snapshot failed", PATIENCE, async || {
        let info: String = place.site.redis.command(&["INFO", "persistence"]).await;
        info.contains("rdb_last_bgsave_status:err").then_some(())
    })
    .await;
    let switch = |on| ["CONFIG", "SET", "stop-writes-on-bgsave-error", on];
    through(&place, &[&switch("yes")], &[&switch("no")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights() {
    let place = Place::new().await;
    let right = |right| ["ACL", "SETUSER", "default", right];
    through(&place, &[&right("-xadd")], &[&right("+xadd")]).await;
}

/// Those that are hard to bring about for real come from a proxy in between.
#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_there_is() {
    let place = Place::new().await;
    let socket = place.site.redis.url().trim_start_matches("unix://").into();
    let proxy = Proxy::before(socket, Dialect::Redis).await;
    let address = format!("redis://127.0.0.1:{}", proxy.port);
    let service = Service::start("run", &place.settings().with("REDIS_URL", &address)).await;
    let mut last = goes_direct_at_first(&service).await;
    for refusal in REFUSALS {
        proxy.set(Mode::Refuse(refusal));
        last += 1;
        // What is new needs no script.
        let expected = match refusal.line.starts_with("NOSCRIPT") {
            true => "accepted",
            false => "spooled",
        };
        let answer = deliver(&service, last).await;
        assert_eq!(answer, (200, expected.to_owned()), "{refusal:?}");
        proxy.set(Mode::Pass);
        depth_is(&service, 0).await;
        last = goes_direct(&service, last).await;
    }
    place.site.has_rows(usize::try_from(last).unwrap()).await;
    place.site.is_settled().await;
    assert_eq!(place.site.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_loads_its_file() {
    let mut place = Place::with_redis(RedisOptions {
        config: [
            "rdbcompression no",
            "key-load-delay 100000",
            "loading-process-events-interval-bytes 1024",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..RedisOptions::default()
    })
    .await;
    let service = Service::start("run", &place.settings()).await;
    let last = goes_direct_at_first(&service).await;
    // Half a minute of loading, which is cut short below.
    let fill = "for n = 1, 300 do redis.call('SET', 'filler:' .. n, string.rep('x', 2000)) end";
    command(&place.site.redis, &[&["EVAL", fill, "0"], &["SAVE"]]).await;
    place.site.redis.restart_loading().await;
    are_spooled(&service, 101..=110).await;
    assert_eq!(service.get(&service.url("/readyz")).await.unwrap().status(), 200);
    let still: Result<String, _> = place.site.redis.try_command(&["PING"]).await;
    assert_eq!(still.unwrap_err().code(), Some("LOADING"));
    command(&place.site.redis, &[&["CONFIG", "SET", "key-load-delay", "0"]]).await;
    depth_is(&service, 0).await;
    place.site.has_rows(usize::try_from(last).unwrap() + 10).await;
}

/// Idle connections are closed, and new ones refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_takes_no_connections() {
    let place = Place::new().await;
    let service = Service::start("run", &place.settings().with("ORDERSTREAM_HEALTH_AFTER", "0s")).await;
    let first = goes_direct_at_first(&service).await;
    // Redis does not close a connection that is subscribed, however long it is idle.
    let client = redis::Client::open(format!("{}?protocol=resp3", place.site.redis.url())).unwrap();
    let (pushed, _unread) = tokio::sync::mpsc::unbounded_channel();
    let config = redis::AsyncConnectionConfig::new()
        .set_push_sender(pushed)
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let held = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut held = held.unwrap();
    held.subscribe("nothing").await.unwrap();
    let mut set = async |name: &str, value: &str| {
        let mut set = redis::cmd("CONFIG");
        let () = set
            .arg("SET")
            .arg(name)
            .arg(value)
            .query_async(&mut held)
            .await
            .unwrap();
    };
    set("timeout", "1").await;
    set("maxclients", "1").await;
    let began = Instant::now();
    let mut last = 1000;
    while began.elapsed() < Duration::from_secs(5) {
        last += 1;
        let (status, word) = deliver(&service, last).await;
        assert_eq!(status, 200, "{word}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    set("maxclients", "10000").await;
    set("timeout", "0").await;
    let direct = goes_direct(&service, 5000).await - 5000;
    depth_is(&service, 0).await;
    place
        .site
        .has_rows(usize::try_from(first + last - 1000 + direct).unwrap())
        .await;
    place.site.is_settled().await;
    assert_eq!(place.site.dead_letters().await, 0);
    eventually("all is healthy again", PATIENCE, async || {
        let report = super::health(&service).await;
        let is_well = |name: &str| {
            let mut checks = report["checks"].as_array().unwrap().iter();
            checks.any(|check| check["name"] == name && check["status"] == "healthy")
        };
        ["stream", "spool", "warehouse"].into_iter().all(is_well).then_some(())
    })
    .await;
}

/// Nobody's events wait for letters that are not allowed.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_to_the_dead_letters() {
    let place = Place::new().await;
    let service = Service::start("run", &place.settings()).await;
    let last = goes_direct_at_first(&service).await;
    command(
        &place.site.redis,
        &[&["ACL", "SETUSER", "default", "resetkeys", "~orders_stream*"]],
    )
    .await;
    let broken = deliver_as(&service, "broken", &serde_json::json!({"no": "order"})).await;
    assert_eq!(broken, (200, "quarantined".to_owned()));
    depth_is(&service, 1).await;
    place.site.redis.stall();
    are_spooled(&service, 101..=105).await;
    place.site.redis.resume();
    place.site.has_rows(usize::try_from(last).unwrap() + 5).await;
    depth_is(&service, 1).await;
    command(&place.site.redis, &[&["ACL", "SETUSER", "default", "allkeys"]]).await;
    depth_is(&service, 0).await;
    assert_eq!(place.site.dead_letters().await, 1);
}
