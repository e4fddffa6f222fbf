//! Redis that is there and takes nothing: each event is spooled at once, and moved on when it takes events again.

use redis::Value as Reply;

use super::{Place, deliver, depth_is, goes_direct};
use crate::harness::eventually;
use crate::harness::redis::{RedisOptions, RedisServer};
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

/// Brings it about, and ends it.
async fn through(place: &Place, begin: &[&[&str]], end: &[&[&str]]) {
    let service = Service::start("run", &place.settings()).await;
    let last = goes_direct(&service, 0).await;
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
