//! Ids that are reserved, noted, and forgotten.

use orderstream::stream::Stream as _;

use super::*;
use crate::harness::eventually;

const PATIENCE: Duration = Duration::from_secs(30);
/// How long the reservation of another process is respected.
const LIFETIME_MS: u64 = 3000;

#[tokio::test]
async fn what_was_appended_is_noted_with_the_next_flush_or_by_settling() {
    let server = RedisServer::start().await;
    let ids = ids_key(&server).await;
    let noted = async |n: u32| -> bool {
        let value: String = server.command(&["HGET", &ids, &format!("key-{n}")]).await;
        !value.starts_with('~')
    };
    let stream = open(&server.config());
    let mut writer = stream.writer();
    accepted(&writer.try_append_with_more(&[entry(1)]).await.unwrap()[0]);
    assert!(!noted(1).await);
    accepted(&writer.try_append_with_more(&[entry(2)]).await.unwrap()[0]);
    assert!(noted(1).await && !noted(2).await);
    writer.settle().await;
    assert!(noted(2).await);
    accepted(&writer.try_append(&[entry(3)]).await.unwrap()[0]);
    assert!(noted(3).await);
}

/// Another process reserved the id of entry 1 just now, and is gone. Answers when, in milliseconds of the server's clock.
async fn reserve(server: &RedisServer) -> u64 {
    let (seconds, micros): (u64, u64) = server.command(&["TIME"]).await;
    let taken = seconds * 1000 + micros / 1000;
    let reservation = format!("~{taken} 00000000abcdef01-1");
    let ids = ids_key(server).await;
    server.command::<()>(&["HSET", &ids, "key-1", &reservation]).await;
    taken
}

#[tokio::test]
async fn a_reservation_that_outlives_its_writer_ends() {
    let server = RedisServer::start().await;
    let taken = reserve(&server).await;
    let stream = open(&server.config());
    let mut writer = stream.writer();
    let outcomes = writer.try_append_with_more(&[entry(1), entry(2)]).await.unwrap();
    assert!(matches!(outcomes[0], Appended::Unavailable(_)), "{outcomes:?}");
    accepted(&outcomes[1]);
    let id = accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
    assert!(id.ms >= taken + LIFETIME_MS, "{id}, reserved at {taken}");
    assert_eq!(stream.report().await.unwrap().length, 2);
}

#[tokio::test]
async fn what_the_writer_of_a_reservation_appended_is_found() {
    let server = RedisServer::start().await;
    reserve(&server).await;
    let fields = entry(1).fields;
    let mut add = vec!["XADD", "orders_stream", "*"];
    for (name, value) in &fields.0 {
        add.extend([&**name, std::str::from_utf8(value).unwrap()]);
    }
    let id: String = server.command(&add).await;
    let stream = open(&server.config());
    let outcomes = stream.writer().try_append(&[entry(1)]).await.unwrap();
    assert_eq!(outcomes, [Appended::Duplicate(id.parse().unwrap())]);
    assert_eq!(stream.report().await.unwrap().length, 1);
}

#[tokio::test]
async fn an_id_is_known_for_the_window_and_its_hash_is_removed_after_it() {
    let server = RedisServer::start().await;
    // A trim removes the hash from two windows on and until four have passed, by when it would have expired: on a busy
    // machine a second or two are over before it is called.
    let window = Duration::from_secs(4);
    let config = StreamConfig {
        dedupe_window: Some(window),
        ..stream_config()
    };
    let stream = RedisStream::new(&server.config(), &config, Metrics::new()).unwrap();
    let mut writer = stream.writer();
    let first = accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
    let keys = async || server.command::<Vec<String>>(&["KEYS", "orders_stream:ids:*"]).await;
    let hash = keys().await.remove(0);
    // It would expire too, which blocks the server for as long as its removal takes.
    server.command::<()>(&["PERSIST", &hash]).await;
    let known = eventually("the id is forgotten", PATIENCE, async || {
        let outcome = writer.try_append(&[entry(1)]).await.unwrap().remove(0);
        match outcome {
            Appended::Duplicate(id) => {
                assert_eq!(id, first);
                None
            }
            other => Some(accepted(&other).ms - first.ms),
        }
    })
    .await;
    assert!(u128::from(known) >= window.as_millis(), "{known} ms");
    eventually("the hash is removed", PATIENCE, async || {
        stream.trim(0).await.unwrap();
        (!keys().await.contains(&hash)).then_some(())
    })
    .await;
}
