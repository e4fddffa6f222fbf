//! TLS with a private CA, TCP, ACL users, changed credentials, unusable URLs.

use std::collections::HashMap;
use std::time::Instant;

use orderstream::config::Durability;
use orderstream::stream::{AttemptStep, Claim, DeadLetter, Destination, Range, ReadOrder, Stream, StreamAdmin as _};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::chaos::proxy::{Dialect, Mode, Proxy};
use crate::harness::eventually;
use crate::harness::redis::RedisOptions;

/// What the service needs of Redis, as an operator would grant it: one row of the table in the documentation.
pub fn documented(row: &str) -> String {
    let text = include_str!("../../../../docs/GUARANTEES.md");
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("| {row} | `")));
    let rule = found.and_then(|rest| rest.strip_suffix("` |"));
    rule.unwrap_or_else(|| panic!("no row for {row}")).replace("\\|", "|")
}

/// A server with a user who has these rights; `durable` as [`RedisOptions`].
async fn acl_server_for(rights: &[String], durable: bool) -> RedisServer {
    RedisServer::start_with(RedisOptions {
        tcp: true,
        durable,
        acl: vec![
            "user default on nopass ~* &* +@all".to_owned(),
            format!("user app on >p@ss/w#rd? {}", rights.join(" ")),
        ],
        ..RedisOptions::default()
    })
    .await
}

async fn acl_server() -> RedisServer {
    acl_server_for(&[documented(EVERYTHING)], false).await
}

pub const EVERYTHING: &str = "every process and command";

/// To reach it as that user.
fn as_user(server: &RedisServer) -> RedisConfig {
    RedisConfig {
        url: format!("redis://app:p%40ss%2Fw%23rd%3F@{}/0", server.tcp_address()).into(),
        ..server.config()
    }
}

/// Every call of the seam once.
pub async fn use_everything(server: &RedisServer, stream: &RedisStream) {
    stream.ensure_group().await.unwrap();
    stream.confirm_writable(0).await.unwrap();
    let outcomes = stream.writer().try_append(&[entry(1), entry(2)]).await.unwrap();
    let id = accepted(&outcomes[0]);
    let never = CancellationToken::new();
    let delivered = stream
        .reader("a", 0)
        .read(10, Duration::from_millis(10), &never)
        .await
        .unwrap();
    assert_eq!(delivered.len(), 2);
    let cancelled = CancellationToken::new();
    let (rest, ()) = tokio::join!(
        async {
            let mut reader = stream.reader("a", 0);
            reader.read(10, Duration::from_secs(300), &cancelled).await.unwrap()
        },
        async {
            eventually("the reader waits", Duration::from_secs(10), async || {
                let clients: String = server.command(&["INFO", "clients"]).await;
                clients.contains("blocked_clients:1").then_some(())
            })
            .await;
            cancelled.cancel();
        }
    );
    assert_eq!(rest, []);
    stream
        .claim("a", Claim::Own(&[]), StreamId::default(), 10)
        .await
        .unwrap();
    stream.refresh("a", &[id]).await.unwrap();
    stream.record(id, AttemptStep::Failed(1)).await.unwrap();
    let letter = DeadLetter {
        entry: delivered[0].entry.clone(),
        error: "poison".to_owned(),
        attempts: 3,
        consumer: "a".to_owned(),
    };
    assert!(stream.dead_letter(&letter).await.unwrap());
    assert_eq!(stream.ack(&[id, delivered[1].entry.id], &[id]).await.unwrap(), 1);
    operate(stream, id).await;
    stream.trim(0).await.unwrap();
    stream.remove_silent_consumers(Duration::ZERO).await.unwrap();
    assert_eq!(stream.restore().await.unwrap(), []);
    stream.reader("b", 0).read(1, Duration::ZERO, &never).await.unwrap();
    assert_eq!(stream.restore().await.unwrap(), []);
    let group = stream_config().group;
    let () = server
        .command(&["XGROUP", "SETID", "orders_stream", &group, "99999999999999-0"])
        .await;
    assert_eq!(stream.restore().await.unwrap().len(), 1);
    assert_eq!(stream.report().await.unwrap().length, 2);
    stream.inspect().await.unwrap();
}

/// What operators ask for.
async fn operate(stream: &RedisStream, id: StreamId) {
    for order in [ReadOrder::OldestFirst, ReadOrder::NewestFirst] {
        let letters = Range::all(Destination::DeadLetters, order, 10);
        let letters = stream.range(letters).await.unwrap().entries;
        assert_eq!(letters.len(), 1);
    }
    assert_eq!(stream.remove(Destination::DeadLetters, &[id]).await.unwrap(), 0);
    let group = stream_config().group;
    assert_eq!(stream.make_pending(&group, &[id]).await.unwrap(), Some(1));
    assert_eq!(stream.entry_states(id).await.unwrap().len(), 1);
    stream.ack(&[id], &[id]).await.unwrap();
    stream.note(&entry(9).fields).await.unwrap();
    assert_eq!(stream.notes(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_acl_user_with_the_documented_rights_suffices() {
    let server = acl_server().await;
    let stream = open(&as_user(&server));
    use_everything(&server, &stream).await;
    let report = stream.inspect().await.unwrap();
    assert!(
        report.product.starts_with("redis ") || report.product.starts_with("valkey "),
        "{report:?}"
    );
    assert_eq!(report.address, server.tcp_address());
    assert_eq!(
        report.eviction_policy.as_deref(),
        Some("noeviction"),
        "INFO tells what CONFIG GET may not"
    );
    assert_eq!(report.fsync.as_deref(), Some("off"));
}

#[tokio::test]
async fn durability_needs_the_documented_rights_beside() {
    let everything = documented(EVERYTHING);
    let knows_waitaof = {
        let server = RedisServer::start().await;
        let known: Vec<redis::Value> = server.command(&["COMMAND", "INFO", "WAITAOF"]).await;
        known != [redis::Value::Nil]
    };
    let version = if knows_waitaof { "7.2 or newer" } else { "7.0" };
    let fsynced = documented(&format!("`ORDERSTREAM_DURABILITY=fsynced`, Redis {version}"));
    let replicated = documented("`ORDERSTREAM_DURABILITY=replicated:N`");
    for (rights, durability) in [(fsynced, Durability::Fsynced), (replicated, Durability::Replicated(1))] {
        for (rights, suffices) in [
            (vec![everything.clone()], false),
            (vec![everything.clone(), rights], true),
        ] {
            let server = acl_server_for(&rights, durability == Durability::Fsynced).await;
            let replica = RedisServer::start_with(RedisOptions {
                tcp: true,
                ..RedisOptions::default()
            })
            .await;
            replica.follow(&server).await;
            let stream = open(&RedisConfig {
                durability,
                ..as_user(&server)
            });
            let appended = stream.writer().try_append(&[entry(1)]).await;
            assert_eq!(appended.is_ok(), suffices, "{durability:?}: {appended:?}");
            if suffices {
                stream.confirm_writable(0).await.unwrap();
                stream.inspect().await.unwrap();
            }
        }
    }
    let server = acl_server_for(
        &[
            everything,
            documented("warnings about settings that INFO does not tell"),
        ],
        true,
    )
    .await;
    let report = open(&as_user(&server)).inspect().await.unwrap();
    assert_eq!(report.fsync.as_deref(), Some("always"));
}

#[tokio::test]
async fn a_wrong_password_is_named_and_a_new_one_heals() {
    let server = acl_server().await;
    let url = |password: &str| format!("redis://app:{password}@{}", server.tcp_address());
    let config = RedisConfig {
        url: url("stale-secret").into(),
        ..server.config()
    };
    let stream = open(&config);
    let mut writer = stream.writer();
    let mut reader = stream.reader("a", 0);
    let never = CancellationToken::new();
    let errors = [
        writer.try_append(&[entry(1)]).await.unwrap_err(),
        reader.read(1, Duration::from_millis(1), &never).await.unwrap_err(),
        stream.confirm_writable(0).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, StreamError::Denied(_)), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(&server.tcp_address()) && !text.contains("stale-secret"),
            "{text}"
        );
    }
    assert!(
        stream.prepare(&"redis+cluster://nowhere".into()).is_err(),
        "the old one stays"
    );
    stream.prepare(&url("p%40ss%2Fw%23rd%3F").into()).unwrap()();
    accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
    stream.ensure_group().await.unwrap();
    assert_eq!(reader.read(1, Duration::from_millis(1), &never).await.unwrap().len(), 1);
}

/// Without the right to the last step the copy, which has no expiry by then, does not stay.
#[tokio::test]
async fn no_copy_of_letters_stays_where_a_right_is_missing() {
    let workers = documented("processes with workers, unless `ORDERSTREAM_RETAIN_LETTER_BODIES=off`");
    for missing in ["+xsetid", "+rename", "+persist"] {
        assert!(workers.contains(missing), "{workers}");
        let rights = [documented(EVERYTHING), workers.replace(missing, "")];
        let server = acl_server_for(&rights, false).await;
        let add = ["XADD", "dead_letters", "1-1", "error", "x", "raw", "y"];
        server.command::<()>(&add).await;
        let dropped = open(&as_user(&server))
            .drop_letter_bodies(StreamId::new(u64::MAX, 0))
            .await;
        // It came as far as the script.
        let error = dropped.unwrap_err().to_string();
        assert!(error.contains("executing the script"), "without {missing}: {error}");
        let keys: Vec<String> = server.command(&["KEYS", "dead_letters*"]).await;
        assert_eq!(keys, ["dead_letters"], "without {missing}");
        let body: Vec<(String, Vec<String>)> = server.command(&["XRANGE", "dead_letters", "-", "+"]).await;
        assert_eq!(body[0].1, ["error", "x", "raw", "y"], "without {missing}");
        assert_eq!(server.command::<i64>(&["TTL", "dead_letters"]).await, -1);
    }
}

/// What a loss is seen by: the newest id, also of a letter that is gone, and the counters.
#[tokio::test]
async fn letters_without_bodies_have_the_counters_of_the_stream_before() {
    let server = RedisServer::start().await;
    for id in ["1-1", "2-1", "3-1", "4-1"] {
        server
            .command::<()>(&["XADD", "dead_letters", id, "error", "x", "raw", "y"])
            .await;
    }
    server.command::<()>(&["XDEL", "dead_letters", "2-1", "4-1"]).await;
    let counters = async || {
        let info: HashMap<String, redis::Value> = server.command(&["XINFO", "STREAM", "dead_letters"]).await;
        let names = [
            "length",
            "last-generated-id",
            "max-deleted-entry-id",
            "entries-added",
            "groups",
        ];
        names.map(|name| info[name].clone())
    };
    let before = counters().await;
    let stream = open(&server.config());
    assert_eq!(stream.drop_letter_bodies(StreamId::new(u64::MAX, 0)).await.unwrap(), 2);
    assert_eq!(counters().await, before);
    assert_eq!(server.command::<i64>(&["TTL", "dead_letters"]).await, -1);
}

/// The rights of processes with workers, and no groups of others.
#[tokio::test]
async fn bodies_of_old_letters_are_taken_where_that_is_allowed_and_harms_nobody() {
    let workers = "processes with workers, unless `ORDERSTREAM_RETAIN_LETTER_BODIES=off`";
    let (all, none) = (StreamId::new(u64::MAX, 0), [documented(EVERYTHING)]);
    for rights in [&none[..], &[documented(EVERYTHING), documented(workers)]] {
        let server = acl_server_for(rights, false).await;
        let add = ["XADD", "dead_letters", "1-1", "error", "x", "raw", "y"];
        server.command::<()>(&add).await;
        let stream = open(&as_user(&server));
        let dropped = stream.drop_letter_bodies(all).await;
        if rights.len() == 1 {
            // Each engine has words of its own for it.
            assert!(dropped.is_err(), "{dropped:?}");
            let letters: Vec<(String, Vec<String>)> = server.command(&["XRANGE", "dead_letters", "-", "+"]).await;
            assert_eq!(letters[0].1, ["error", "x", "raw", "y"]);
            continue;
        }
        assert_eq!(dropped.unwrap(), 1);
        server.command::<()>(&["XADD", "dead_letters", "2-1", "raw", "y"]).await;
        let group = ["XGROUP", "CREATE", "dead_letters", "others", "0"];
        server.command::<()>(&group).await;
        let error = stream.drop_letter_bodies(all).await.unwrap_err();
        assert!(
            error.to_string().contains("a consumer group of another program"),
            "{error}"
        );
        assert_eq!(server.command::<u64>(&["EXISTS", "dead_letters:copy"]).await, 0);
    }
}

#[tokio::test]
async fn held_connections_follow_a_new_url() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let stream = open(&old.config());
    let mut writer = stream.writer();
    accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
    stream.prepare(&new.url().into()).unwrap()();
    accepted(&writer.try_append(&[entry(2)]).await.unwrap()[0]);
    assert_eq!(old.command::<u64>(&["XLEN", "orders_stream"]).await, 1);
    assert_eq!(new.command::<u64>(&["XLEN", "orders_stream"]).await, 1);
}

#[tokio::test]
async fn tls_with_a_private_ca_is_verified() {
    let Some(server) = RedisServer::start_tls().await else {
        return;
    };
    let Some(stranger) = RedisServer::start_tls().await else {
        return;
    };
    let config = RedisConfig {
        url: format!("rediss://{}", server.tcp_address()).into(),
        ca_file: Some(server.ca_file()),
        ..server.config()
    };
    use_everything(&server, &open(&config)).await;

    let untrusted = RedisConfig {
        ca_file: Some(stranger.ca_file()),
        ..config.clone()
    };
    let error = open(&untrusted).confirm_writable(0).await.unwrap_err();
    assert!(matches!(error, StreamError::Unreachable { .. }), "{error:?}");
    let missing = RedisConfig {
        ca_file: Some("/no/such/ca.pem".into()),
        ..config
    };
    let error = RedisStream::new(&missing, &stream_config(), Metrics::new())
        .err()
        .unwrap();
    assert!(error.to_string().contains("/no/such/ca.pem"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let server = RedisServer::start().await;
    let config = RedisConfig {
        url: "unix:///no/such/redis.sock".into(),
        ..server.config()
    };
    let error = open(&config).writer().try_append(&[entry(1)]).await.unwrap_err();
    assert!(matches!(error, StreamError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("/no/such/redis.sock"), "{error}");
    assert!(!error.is_refused());
}

#[tokio::test]
async fn doubtful_settings_are_warned_of() {
    let server = RedisServer::start().await;
    server
        .command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "100mb"])
        .await;
    let report = open(&server.config()).inspect().await.unwrap();
    assert_eq!(report.eviction_policy.as_deref(), Some("allkeys-lru"));
    assert_eq!(report.memory_limit, Some(104_857_600));
    assert!(
        report.warnings.iter().any(|warning| warning.contains("noeviction")),
        "{report:?}"
    );
    assert!(
        report.warnings.iter().any(|warning| warning.contains("appendonly")),
        "{report:?}"
    );
    let durable = RedisOptions {
        durable: true,
        ..RedisOptions::default()
    };
    let report = open(&RedisServer::start_with(durable).await.config())
        .inspect()
        .await
        .unwrap();
    assert_eq!((report.fsync.as_deref(), report.warnings), (Some("always"), Vec::new()));
}

#[tokio::test]
async fn a_server_that_ignores_block_is_asked_a_few_times_a_second() {
    let redis = RedisServer::start().await;
    let socket = redis.url().trim_start_matches("unix://").into();
    let proxy = Proxy::before(socket, Dialect::Redis).await;
    let stream = open(&RedisConfig {
        url: format!("redis://127.0.0.1:{}", proxy.port).into(),
        ..redis.config()
    });
    stream.ensure_group().await.unwrap();
    proxy.set(Mode::NeverBlocks);
    let (mut reader, never) = (stream.reader("a", 0), CancellationToken::new());
    let began = Instant::now();
    for _ in 0..7 {
        let read = reader.read(10, Duration::from_secs(60), &never).await.unwrap();
        assert!(read.is_empty());
    }
    // From the third answer on.
    assert!(
        began.elapsed() >= Duration::from_millis(5 * 250),
        "{:?}",
        began.elapsed()
    );
    stream.writer().try_append(&[entry(1)]).await.unwrap();
    let read = reader.read(10, Duration::from_secs(60), &never).await.unwrap();
    assert_eq!(read.len(), 1);
}
