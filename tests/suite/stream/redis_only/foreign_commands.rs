//! A foreign command takes entries off the group: they are found, and made pending again.

use orderstream::stream::{Claim, Restored, Stream as _, StreamAdmin as _};
use tokio_util::sync::CancellationToken;

use super::*;

async fn filled(server: &RedisServer, entries: u32) -> RedisStream {
    let stream = open(&server.config());
    stream.ensure_group().await.unwrap();
    append(&stream, 0..entries).await;
    stream
}

async fn append(stream: &RedisStream, entries: std::ops::Range<u32>) -> Vec<StreamId> {
    let flush = Vec::from_iter(entries.map(entry));
    let outcomes = stream.writer().try_append(&flush).await.unwrap();
    outcomes.iter().map(accepted).collect()
}

async fn read(stream: &RedisStream, consumer: &str, count: usize) -> Vec<StreamId> {
    let mut reader = stream.reader(consumer, 0);
    let read = reader
        .read(count, Duration::ZERO, &CancellationToken::new())
        .await
        .unwrap();
    read.iter().map(|one| one.entry.id).collect()
}

/// What a reclaimer gets.
async fn stale(stream: &RedisStream) -> Vec<StreamId> {
    let hour = Claim::Stale(Duration::from_secs(3600));
    let page = stream.claim("reclaimer", hour, StreamId::MIN, 500).await.unwrap();
    page.entries.iter().map(|one| one.entry.id).collect()
}

async fn nothing(stream: &RedisStream) {
    assert_eq!(stream.restore().await.unwrap(), []);
}

fn one(restored: &[Restored]) -> (&str, u64) {
    match restored {
        [one] => (&one.cause, one.entries),
        other => panic!("not one: {other:?}"),
    }
}

#[tokio::test]
async fn what_was_pending_with_a_removed_consumer_is_pending_again() {
    let server = RedisServer::start().await;
    let stream = filled(&server, 100).await;
    let others = open(&server.config());
    let acked = read(&stream, "worker-1", 20).await;
    stream.ack(&acked, &[]).await.unwrap();
    let lost = read(&stream, "worker-2", 58).await;
    read(&stream, "worker-3", 10).await;
    nothing(&stream).await;
    nothing(&others).await;
    let dropped: u64 = server
        .command(&["XGROUP", "DELCONSUMER", "orders_stream", "pipeline_workers", "worker-2"])
        .await;
    assert_eq!(dropped, 58);
    let restored = stream.restore().await.unwrap();
    let (cause, entries) = one(&restored);
    assert!(cause.contains("worker-2") && cause.contains("DELCONSUMER"), "{cause}");
    assert_eq!(entries, 58);
    nothing(&others).await;
    nothing(&stream).await;
    assert_eq!(stale(&stream).await, lost);
}

#[tokio::test]
async fn what_the_group_was_moved_past_becomes_pending() {
    let server = RedisServer::start().await;
    let stream = filled(&server, 150).await;
    let others = open(&server.config());
    let read_before = read(&stream, "worker-1", 11).await;
    stream.ack(&read_before, &[]).await.unwrap();
    nothing(&stream).await;
    nothing(&others).await;
    server
        .command::<()>(&["XGROUP", "SETID", "orders_stream", "pipeline_workers", "$"])
        .await;
    // Workers go on meanwhile, which makes Redis' own count of what was read look sound.
    append(&stream, 150..152).await;
    let new = read(&stream, "worker-1", 100).await;
    assert_eq!(new.len(), 2);
    let restored = stream.restore().await.unwrap();
    let (cause, entries) = one(&restored);
    assert!(cause.contains("SETID"), "{cause}");
    assert_eq!(entries, 139);
    nothing(&others).await;
    nothing(&stream).await;
    let claimed = stale(&stream).await;
    assert_eq!(claimed.len(), 139);
    assert!(claimed.iter().all(|id| *id > read_before[10] && *id < new[0]));
}

#[tokio::test]
async fn a_group_beyond_its_stream_is_set_back() {
    let server = RedisServer::start().await;
    let stream = filled(&server, 5).await;
    nothing(&stream).await;
    let future = [
        "XGROUP",
        "SETID",
        "orders_stream",
        "pipeline_workers",
        "99999999999999-0",
    ];
    server.command::<()>(&future).await;
    append(&stream, 5..7).await;
    let restored = stream.restore().await.unwrap();
    assert_eq!(one(&restored).1, 7);
    nothing(&stream).await;
    let new = append(&stream, 7..9).await;
    assert_eq!(read(&stream, "worker-1", 100).await, new);
    // So is one that was moved before the process came.
    server.command::<()>(&future).await;
    let started = open(&server.config());
    nothing(&started).await;
    let new = append(&stream, 9..10).await;
    assert_eq!(read(&stream, "worker-1", 100).await, new);
}

/// All that the service itself does.
#[tokio::test]
async fn ordinary_operation_raises_no_alarm() {
    let server = RedisServer::start().await;
    let stream = open(&server.config());
    let others = open(&server.config());
    nothing(&stream).await;
    stream.ensure_group().await.unwrap();
    let ids = append(&stream, 0..60).await;
    let looks = async || {
        nothing(&stream).await;
        nothing(&others).await;
    };
    looks().await;
    // Read, acked, taken over.
    for consumer in ["a", "b", "c"] {
        read(&stream, consumer, 10).await;
    }
    looks().await;
    stream
        .claim("b", Claim::Stale(Duration::ZERO), StreamId::MIN, 10)
        .await
        .unwrap();
    stream.ack(&ids[..30], &[]).await.unwrap();
    // Gone right after their last ack: nothing was seen of it by then.
    let mut removed = stream.remove_silent_consumers(Duration::ZERO).await.unwrap();
    removed.sort();
    assert_eq!(removed, ["a", "b", "c"]);
    looks().await;
    // Back under the same name, and gone again.
    read(&stream, "a", 10).await;
    looks().await;
    stream.ack(&ids[30..40], &[]).await.unwrap();
    assert_eq!(stream.remove_silent_consumers(Duration::ZERO).await.unwrap(), ["a"]);
    looks().await;
    // A replay, and its end.
    assert_eq!(
        stream.make_pending("pipeline_workers", &ids[20..30]).await.unwrap(),
        Some(10)
    );
    looks().await;
    assert_eq!(stale(&stream).await, ids[20..30]);
    stream.ack(&ids[20..30], &[]).await.unwrap();
    stream.remove_silent_consumers(Duration::ZERO).await.unwrap();
    looks().await;
}

/// What others may do, with its own consequences, takes nothing off the group.
#[tokio::test]
async fn what_others_do_beside_it_raises_no_alarm() {
    let server = RedisServer::start().await;
    let config = StreamConfig {
        retain_acked: 2,
        ..stream_config()
    };
    let stream = RedisStream::new(&server.config(), &config, Metrics::new()).unwrap();
    let others = open(&server.config());
    stream.ensure_group().await.unwrap();
    let ids = append(&stream, 0..60).await;
    let looks = async || {
        nothing(&stream).await;
        nothing(&others).await;
    };
    let first = read(&stream, "a", 40).await;
    stream.ack(&first, &[]).await.unwrap();
    looks().await;
    // Trimmed, and removed one by one.
    read(&stream, "d", 5).await;
    looks().await;
    stream.trim(0).await.unwrap();
    server
        .command::<()>(&["XDEL", "orders_stream", &ids[39].to_string(), &ids[50].to_string()])
        .await;
    stream.ack(&ids[40..45], &[]).await.unwrap();
    looks().await;
    // Another group of another reader, moved about.
    server
        .command::<()>(&["XGROUP", "CREATE", "orders_stream", "reports", "0"])
        .await;
    server
        .command::<()>(&["XGROUP", "SETID", "orders_stream", "reports", "$"])
        .await;
    looks().await;
    // Moved back to read again.
    server
        .command::<()>(&["XGROUP", "SETID", "orders_stream", "pipeline_workers", "0"])
        .await;
    looks().await;
    let again = read(&stream, "d", 100).await;
    looks().await;
    stream.ack(&again, &[]).await.unwrap();
    // Made anew, and read again at once.
    read(&stream, "e", 100).await;
    append(&stream, 60..70).await;
    read(&stream, "e", 100).await;
    looks().await;
    server
        .command::<()>(&["XGROUP", "DESTROY", "orders_stream", "pipeline_workers"])
        .await;
    assert!(stream.ensure_group().await.unwrap());
    let all = read(&stream, "f", 100).await;
    stream.ack(&all, &[]).await.unwrap();
    looks().await;
    // Emptied.
    read(&stream, "f", 100).await;
    append(&stream, 70..80).await;
    read(&stream, "f", 5).await;
    looks().await;
    server.command::<()>(&["FLUSHALL"]).await;
    looks().await;
    stream.ensure_group().await.unwrap();
    append(&stream, 80..90).await;
    read(&stream, "g", 5).await;
    looks().await;
}
