//! Redis is killed, stalled, and shared with plain Python programs.

use std::process::Command;

use orderstream::stream::{CheckpointedAppend, Claim, Stream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::harness::eventually;
use crate::harness::python::python;
use crate::harness::redis::RedisOptions;

#[tokio::test]
async fn what_was_confirmed_survives_sigkill() {
    let mut server = RedisServer::start_with(RedisOptions {
        durable: true,
        ..RedisOptions::default()
    })
    .await;
    let stream = open(&server.config());
    let (mut writer, mut reader) = (stream.writer(), stream.reader("a", 0));
    let never = CancellationToken::new();
    stream.ensure_group().await.unwrap();
    let first = accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
    assert_eq!(
        reader.read(10, Duration::from_millis(10), &never).await.unwrap().len(),
        1
    );

    server.kill();
    let error = writer.try_append(&[entry(1)]).await.unwrap_err();
    assert!(!error.is_refused(), "what became of it is unknown: {error:?}");
    reader.read(10, Duration::from_millis(10), &never).await.unwrap_err();
    stream.confirm_writable(0).await.unwrap_err();

    server.restart().await;
    let outcomes = writer.try_append(&[entry(1), entry(2)]).await.unwrap();
    assert_eq!(outcomes[0], Appended::Duplicate(first));
    let own = stream
        .claim("a", Claim::Own(&[]), StreamId::default(), 10)
        .await
        .unwrap();
    assert_eq!(own.entries[0].entry.id, first);
    let delivered = reader.read(10, Duration::from_millis(10), &never).await.unwrap();
    assert_eq!(delivered[0].entry.id, accepted(&outcomes[1]));
}

/// Redis itself leaves the beginning of a torn transaction in its file, and carries it out at a later start, or throws
/// away what was written after it.
#[tokio::test]
async fn what_a_crash_tore_comes_back_at_no_later_start_and_takes_nothing_along() {
    let mut server = RedisServer::start_with(RedisOptions {
        durable: true,
        ..RedisOptions::default()
    })
    .await;
    let batch = Vec::from_iter((2..7).map(entry));
    let mut producer = open(&server.config()).checkpointed("shopdb");
    for (version, entries) in [(0, &[entry(1)][..]), (1, &batch)] {
        let stored = producer.append(entries, version, "record", 100).await.unwrap();
        assert_eq!(stored, CheckpointedAppend::Stored);
    }
    server.kill();
    server.tear(60);
    server.restart().await;
    let stream = open(&server.config());
    accepted(&stream.writer().try_append(&[entry(10)]).await.unwrap()[0]);
    server.restart().await;

    let mut producer = open(&server.config()).checkpointed("shopdb");
    assert_eq!(
        producer.read().await.unwrap().version,
        1,
        "of the torn batch nothing is there"
    );
    let stored = producer.append(&batch, 1, "record", 100).await.unwrap();
    assert_eq!(stored, CheckpointedAppend::Stored);
    server.restart().await;
    let entries: redis::streams::StreamRangeReply = server.command(&["XRANGE", "orders_stream", "-", "+"]).await;
    let events = entries.ids.iter().map(|one| one.get::<String>("event_id").unwrap());
    let expected = ["1", "10", "2", "3", "4", "5", "6"];
    assert_eq!(Vec::from_iter(events), expected);
}

#[tokio::test]
async fn a_kill_during_a_blocking_read_is_noticed() {
    let mut server = RedisServer::start().await;
    let stream = open(&server.config());
    stream.ensure_group().await.unwrap();
    let mut reader = stream.reader("a", 0);
    let never = CancellationToken::new();
    let waits = async {
        eventually("the reader waits", Duration::from_secs(20), async || {
            let blocked = server.command::<String>(&["INFO", "clients"]).await;
            blocked.contains("blocked_clients:1").then_some(())
        })
        .await;
        server.kill();
    };
    let (read, ()) = tokio::join!(reader.read(1, Duration::from_secs(300), &never), waits);
    assert!(matches!(read.unwrap_err(), StreamError::Unreachable { .. }));
}

#[tokio::test]
async fn a_stalled_server_is_a_timeout_and_a_resend_is_absorbed() {
    let server = RedisServer::start().await;
    let config = RedisConfig {
        response_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(2),
        ..server.config()
    };
    let stream = open(&config);
    let mut writer = stream.writer();
    accepted(&writer.try_append(&[entry(0)]).await.unwrap()[0]);
    server.stall();
    let error = writer.try_append(&[entry(1)]).await.unwrap_err();
    assert!(
        matches!(error, StreamError::Timeout { .. }) && !error.is_refused(),
        "{error:?}"
    );
    assert!(stream.confirm_writable(0).await.is_err());
    server.resume();
    let id = eventually(
        "the server answers again",
        Duration::from_secs(20),
        async || match writer.try_append(&[entry(1)]).await.ok()?.first()? {
            Appended::Accepted(id) | Appended::Duplicate(id) => Some(*id),
            other => panic!("{other:?}"),
        },
    )
    .await;
    assert_eq!(writer.try_append(&[entry(1)]).await.unwrap(), [Appended::Duplicate(id)]);
    assert_eq!(stream.report().await.unwrap().length, 2);
}

/// What the stream was seen to have lost: how often, and how many entries.
async fn lost(stream: &RedisStream) -> (u64, u64) {
    let lost = stream.report().await.unwrap().lost;
    (lost.times, lost.entries)
}

async fn append(stream: &RedisStream, numbers: std::ops::Range<u32>) -> Vec<StreamId> {
    let entries: Vec<_> = numbers.map(entry).collect();
    let outcomes = stream.writer().try_append(&entries).await.unwrap();
    outcomes.iter().map(accepted).collect()
}

#[tokio::test]
async fn a_crash_that_loses_everything_is_noticed_though_appends_follow_at_once() {
    let mut server = RedisServer::start().await;
    let stream = open(&server.config());
    stream.ensure_group().await.unwrap();
    let acked = append(&stream, 0..4).await;
    let never = CancellationToken::new();
    stream.reader("a", 0).read(4, Duration::ZERO, &never).await.unwrap();
    stream.ack(&acked, &[]).await.unwrap();
    append(&stream, 4..7).await;
    assert_eq!(lost(&stream).await, (0, 0));
    append(&stream, 7..9).await;
    server.kill();
    server.restart().await;
    eventually("appends are taken again", Duration::from_secs(20), async || {
        let entries: Vec<_> = (9..60).map(entry).collect();
        stream.writer().try_append(&entries).await.ok()
    })
    .await;
    assert_eq!(lost(&stream).await, (1, 3 + 2), "not acked, and confirmed since");
    append(&stream, 60..62).await;
    assert_eq!(lost(&stream).await, (1, 5), "once");
    // Without a new run of the server.
    let newest = *append(&stream, 62..64).await.last().unwrap();
    server.command::<()>(&["FLUSHALL"]).await;
    // An emptied stream gives the ids of the same millisecond anew: what has them then looks like what was lost.
    eventually("the server's clock goes on", Duration::from_secs(20), async || {
        let (seconds, micros): (u64, u64) = server.command(&["TIME"]).await;
        (seconds * 1000 + micros / 1000 > newest.ms).then_some(())
    })
    .await;
    append(&stream, 64..200).await;
    assert_eq!(lost(&stream).await, (2, 5 + 53 + 2));
}

#[tokio::test]
async fn a_failover_to_a_replica_that_lagged_is_noticed_though_appends_follow_at_once() {
    let tcp = || RedisOptions {
        tcp: true,
        ..RedisOptions::default()
    };
    let (primary, replica) = (
        RedisServer::start_with(tcp()).await,
        RedisServer::start_with(tcp()).await,
    );
    let stream = open(&primary.config());
    stream.ensure_group().await.unwrap();
    append(&stream, 0..10).await;
    replica.follow(&primary).await;
    assert_eq!(lost(&stream).await, (0, 0));
    replica.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    let last = append(&stream, 10..13).await[2];
    // A failover takes longer than a millisecond: the new primary gives out no id a second time.
    eventually("the clock moves on", Duration::from_secs(20), async || {
        let (seconds, micros): (u64, u64) = replica.command(&["TIME"]).await;
        (seconds * 1000 + micros / 1000 > last.ms).then_some(())
    })
    .await;
    stream.prepare(&replica.url().into()).unwrap()();
    append(&stream, 13..50).await;
    assert_eq!(lost(&stream).await, (1, 3));
    // One that has it all.
    primary.follow(&replica).await;
    append(&stream, 50..52).await;
    primary.has_all_of(&replica).await;
    primary.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    stream.prepare(&primary.url().into()).unwrap()();
    append(&stream, 52..54).await;
    assert_eq!(lost(&stream).await, (1, 3));
}

#[tokio::test]
async fn what_was_trimmed_in_good_order_is_no_loss() {
    let mut server = RedisServer::start_with(RedisOptions {
        durable: true,
        ..RedisOptions::default()
    })
    .await;
    let config = StreamConfig {
        retain_acked: 0,
        ..stream_config()
    };
    let stream = RedisStream::new(&server.config(), &config, Metrics::new()).unwrap();
    stream.ensure_group().await.unwrap();
    let never = CancellationToken::new();
    let mut reader = stream.reader("a", 0);
    for round in 0..4 {
        let ids = append(&stream, round * 20..round * 20 + 20).await;
        reader.read(20, Duration::ZERO, &never).await.unwrap();
        stream.ack(&ids, &[]).await.unwrap();
        assert_eq!(lost(&stream).await, (0, 0));
        assert_eq!(stream.trim(0).await.unwrap().prefix, 20);
        assert_eq!(lost(&stream).await, (0, 0));
    }
    server.kill();
    server.restart().await;
    eventually("the server is back", Duration::from_secs(20), async || {
        stream.report().await.ok()
    })
    .await;
    assert_eq!(lost(&stream).await, (0, 0));
}

const READ: &str = r#"
import json, redis, sys
client = redis.Redis(unix_socket_path=sys.argv[1], decode_responses=True)
client.xgroup_create("orders_stream", "python", id="0")
[[name, entries]] = client.xreadgroup("python", "me", {"orders_stream": ">"}, count=10)
assert name == "orders_stream"
for id, fields in entries:
    order = json.loads(fields["payload"])
    assert fields["event_type"] == "order.created" and fields["timestamp"], fields
    assert order["n"] == int(fields["event_id"]) and order["name"] == "Zo\u00eb", order
    assert client.xack("orders_stream", "python", id) == 1
print(len(entries))
"#;

const WRITE: &str = r#"
import json, redis, sys
client = redis.Redis(unix_socket_path=sys.argv[1], decode_responses=True)
print(client.xadd("orders_stream", {
    "event_type": "order.created", "event_id": "from-python", "timestamp": "2026-01-02T03:04:05Z",
    "payload": json.dumps({"order_id": "1", "total_amount": 12.5}),
}))
"#;

/// Runs a script against the server's socket; answers what it printed.
fn run_python(python: &std::path::Path, script: &str, server: &RedisServer) -> String {
    let url = server.url();
    let socket = url.trim_start_matches("unix://");
    let output = Command::new(python).args(["-c", script, socket]).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn plain_redis_py_reads_and_writes_the_stream() {
    let Some(python) = python() else { return };
    let server = RedisServer::start().await;
    let stream = open(&server.config());
    let flush: Vec<_> = (0..3).map(entry).collect();
    stream.writer().try_append(&flush).await.unwrap();
    assert_eq!(run_python(python, READ, &server), "3");

    let id = run_python(python, WRITE, &server);
    stream.ensure_group().await.unwrap();
    let never = CancellationToken::new();
    let delivered = stream
        .reader("a", 0)
        .read(10, Duration::from_millis(10), &never)
        .await
        .unwrap();
    let theirs = &delivered[3].entry;
    assert_eq!(theirs.id.to_string(), id);
    assert_eq!(theirs.fields.get("event_id").unwrap(), "from-python");
    assert_eq!(theirs.fields.0.len(), 4);
}
