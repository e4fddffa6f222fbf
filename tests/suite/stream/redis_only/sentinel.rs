//! The primary that sentinels name: which of them counts, what a failover loses, how readers follow.

use std::sync::Arc;

use orderstream::shutdown::Roles;
use orderstream::stream::{Claim, Stream};
use tokio_util::sync::CancellationToken;

use super::connections::{EVERYTHING, documented};
use super::*;
use crate::harness::eventually;
use crate::harness::redis::RedisOptions;
use crate::harness::sentinels::{NAME, Sentinel, Sentinels};
use crate::harness::site::PATIENCE;

fn config(url: String, server: &RedisServer) -> RedisConfig {
    RedisConfig {
        url: url.into(),
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(2),
        ..server.config()
    }
}

/// Appends until it is taken.
async fn append(stream: &RedisStream, n: u32) -> StreamId {
    let mut writer = stream.writer();
    eventually("an entry is taken", PATIENCE, async || {
        let outcomes = writer.try_append(&[entry(n)]).await.ok()?;
        match outcomes[0] {
            Appended::Accepted(id) | Appended::Duplicate(id) => Some(id),
            _ => None,
        }
    })
    .await
}

/// Two servers and three sentinels with users of the documented rights, after a failover, and a further sentinel with
/// what it takes to deceive: another server, which calls itself a primary, under the same name, from an older epoch.
struct Deceived {
    redis: Sentinels,
    primary: usize,
    decoy: RedisServer,
    stale: Sentinel,
}

impl Deceived {
    async fn start() -> Self {
        let rights = [EVERYTHING, "`redis+sentinel://`, on the servers"].map(documented);
        let options = RedisOptions {
            tcp: true,
            acl: vec![
                "user default on nopass ~* &* +@all".to_owned(),
                format!("user app on >secret {}", rights.join(" ")),
            ],
            ..RedisOptions::default()
        };
        let rights = documented("`redis+sentinel://`, `sentinel_username` on the sentinels");
        let watch = format!("watch on >w&tch {rights}");
        let (redis, decoy) = tokio::join!(
            Sentinels::start(options.clone(), Some(&watch)),
            RedisServer::start_with(options)
        );
        Self {
            primary: redis.fail_over().await,
            stale: Sentinel::start(decoy.port(), 5, 1, Some(&watch), None).await,
            redis,
            decoy,
        }
    }

    fn config(&self) -> RedisConfig {
        let (stale, hosts) = (self.stale.address(), self.redis.hosts());
        let of_sentinels = "sentinel_username=watch&sentinel_password=w%26tch";
        let url = format!("redis+sentinel://app:secret@{stale},{hosts}?{of_sentinels}");
        config(url, &self.decoy)
    }

    /// Appends five that the replica is never sent.
    async fn append_to_the_primary_alone(&self, stream: &RedisStream) {
        let [primary, replica] = [self.primary, 1 - self.primary].map(|which| &self.redis.servers[which]);
        replica.has_all_of(primary).await;
        let denied = ["ACL", "SETUSER", "default", "-psync", "-sync", "-replconf"];
        primary.command::<()>(&denied).await;
        primary.command::<u64>(&["CLIENT", "KILL", "TYPE", "replica"]).await;
        for n in 1..=5 {
            append(stream, n).await;
        }
    }

    /// The primary answers nothing any more, once a reader waits on it.
    async fn hang(&self) {
        let primary = &self.redis.servers[self.primary];
        eventually("the reader waits", PATIENCE, async || {
            let clients: String = primary.command(&["INFO", "clients"]).await;
            clients.contains("blocked_clients:1").then_some(())
        })
        .await;
        primary.stall();
    }
}

#[tokio::test]
async fn the_newest_epoch_counts_and_what_a_failover_loses_is_reported() {
    let mut all = Deceived::start().await;
    let stream = Arc::new(open(&all.config()));
    let roles = Roles::new();
    roles.spawn("lookout", Arc::clone(&stream).look_out(roles.stop_token()));
    stream.ensure_group().await.unwrap();
    let first = append(&stream, 0).await;
    let named = format!("127.0.0.1:{}", all.redis.port(all.primary));
    assert_eq!(stream.inspect().await.unwrap().address, named);

    all.append_to_the_primary_alone(&stream).await;
    let mut reader = stream.reader("a", 0);
    let never = CancellationToken::new();
    while !reader.read(10, Duration::ZERO, &never).await.unwrap().is_empty() {}
    assert_eq!(stream.report().await.unwrap().lost.entries, 0);
    // Only the sentinels tell the reader where to go on.
    let (read, ()) = tokio::join!(reader.read(1, Duration::from_secs(300), &never), all.hang());
    let error = read.unwrap_err();
    assert!(
        error.to_string().contains("another server is the primary now"),
        "{error}"
    );
    let lost = eventually("the loss is reported", PATIENCE, async || {
        let lost = stream.report().await.ok()?.lost;
        (lost.entries > 0).then_some(lost.entries)
    })
    .await;
    assert_eq!(lost, 5);
    let own = stream.claim("a", Claim::Own(&[]), StreamId::MIN, 10).await.unwrap();
    let own = Vec::from_iter(own.entries.iter().map(|delivered| delivered.entry.id));
    let next = append(&stream, 6).await;
    let read = reader.read(10, Duration::from_secs(10), &never).await.unwrap();
    let read = Vec::from_iter(read.iter().map(|delivered| delivered.entry.id));
    // The promoted replica may know that the first was read.
    assert_eq!([own, read].concat(), [first, next]);

    // One sentinel that tells the truth is enough, and the primary in use stays where none does.
    for sentinel in &mut all.redis.sentinels[1..] {
        sentinel.kill();
    }
    append(&stream, 7).await;
    eventually("two sentinels are warned of", PATIENCE, async || {
        let warnings = stream.inspect().await.ok()?.warnings;
        let about = warnings.iter().filter(|text| text.contains("sentinel is of no use"));
        (about.count() == 2).then_some(())
    })
    .await;
    all.redis.sentinels[0].kill();
    append(&stream, 8).await;
    assert_eq!(all.decoy.command::<u64>(&["DBSIZE"]).await, 0);
    roles.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_sentinels_is_named() {
    let server = RedisServer::start_with(RedisOptions {
        tcp: true,
        ..RedisOptions::default()
    })
    .await;
    let sentinel = Sentinel::start(server.port(), 5, 1, None, None).await;
    for (url, wrong) in [
        (
            format!("redis+sentinel://{}/other", sentinel.address()),
            "no primary named `other`",
        ),
        (
            format!("redis+sentinel://{}/{NAME}", server.tcp_address()),
            "is no sentinel",
        ),
        (
            format!("redis+sentinel://:hush@{}/{NAME}", sentinel.address()),
            "refused the credentials",
        ),
        (
            format!("redis+sentinel://{}/{NAME}?sentinel_password=hush", sentinel.address()),
            "refused the credentials",
        ),
    ] {
        let error = open(&config(url, &server)).inspect().await.unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    let stream = open(&config(
        format!("redis+sentinel://{}/{NAME}", sentinel.address()),
        &server,
    ));
    let warnings = stream.inspect().await.unwrap().warnings;
    assert!(warnings.iter().any(|text| text.contains("no replica")), "{warnings:?}");
    // The password changes; the next URL has it, as after SIGHUP.
    append(&stream, 1).await;
    server.command::<()>(&["CONFIG", "SET", "requirepass", "new"]).await;
    let url = format!("redis+sentinel://:new@{}/{NAME}", sentinel.address());
    stream.prepare(&url.into()).unwrap()();
    append(&stream, 2).await;
}
