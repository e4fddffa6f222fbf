//! Several partitions on one server.

use std::collections::BTreeSet;

use orderstream::stream::{
    AttemptStep, Attempts, Claim, DeadLetter, Delivered, Range, ReadOrder, Refreshed, Stage, Stream, StreamAdmin as _,
    spread_of_key,
};
use tokio_util::sync::CancellationToken;

use super::connections::use_everything;
use super::*;
use crate::harness::eventually;
use crate::harness::ports::reserved_port;
use crate::harness::redis::RedisOptions;
use crate::harness::site::PATIENCE;

/// The logs of the first four.
const LOGS: [&str; 4] = [
    "orders_stream",
    "{orders_stream:1.204}",
    "{orders_stream:2.440}",
    "{orders_stream:3.426}",
];

fn four() -> StreamConfig {
    StreamConfig {
        partitions: Some(4),
        ..stream_config()
    }
}

fn open_four(server: &RedisServer) -> RedisStream {
    RedisStream::new(&server.config(), &four(), Metrics::new()).unwrap()
}

/// An entry of an order of its own.
fn spread_entry(n: u32) -> NewEntry {
    NewEntry {
        spread: spread_of_key(&format!("order-{n}")),
        ..entry(n)
    }
}

async fn read(stream: &RedisStream, consumer: &str, partition: u16) -> Vec<Delivered> {
    let never = CancellationToken::new();
    let mut reader = stream.reader(consumer, partition);
    reader.read(1000, Duration::ZERO, &never).await.unwrap()
}

#[tokio::test]
async fn entries_are_spread_and_every_key_carries_the_tag_of_its_log() {
    let server = RedisServer::start().await;
    let stream = open_four(&server);
    assert_eq!(stream.partitions(), 4);
    let mut writer = stream.writer();
    let entries: Vec<_> = (0..200).map(spread_entry).collect();
    let outcomes = writer.try_append(&entries).await.unwrap();
    for (entry, outcome) in entries.iter().zip(&outcomes) {
        assert_eq!(Some(accepted(outcome).part), writer.partition_of(entry));
    }
    for (partition, log) in LOGS.into_iter().enumerate() {
        let length: usize = server.command(&["XLEN", log]).await;
        let here = outcomes
            .iter()
            .filter(|one| usize::from(accepted(one).part) == partition);
        assert_eq!(length, here.count());
        assert!((30..80).contains(&length), "{log}: {length}");
    }
    let again = writer.try_append(&entries).await.unwrap();
    let firsts = outcomes.iter().map(|first| Appended::Duplicate(accepted(first)));
    assert_eq!(again, Vec::from_iter(firsts));
    let letter = NewEntry {
        destination: Destination::DeadLetters,
        ..entry(1)
    };
    assert_eq!(writer.partition_of(&letter), None);
    assert_eq!(accepted(&writer.try_append(&[letter]).await.unwrap()[0]).part, 0);
    stream.ensure_group().await.unwrap();
    stream.confirm_writable(3).await.unwrap();
    stream.note(&entry(9).fields).await.unwrap();
    let keys: Vec<String> = server.command(&["KEYS", "*"]).await;
    let logs = [&LOGS[..], &["dead_letters"]].concat();
    for key in keys.iter().filter(|key| !logs.contains(&key.as_str())) {
        let is_side = |tag: &str| key.starts_with(&format!("{tag}:"));
        let tags = ["{orders_stream}", LOGS[1], LOGS[2], LOGS[3], "{dead_letters}"];
        assert!(tags.into_iter().any(is_side), "{key}");
    }
}

/// The same time and sequence in two partitions: read, held, tried, claimed and acked apart.
#[tokio::test]
async fn equal_ids_in_two_partitions_are_two_entries() {
    let server = RedisServer::start().await;
    let stream = open_four(&server);
    stream.ensure_group().await.unwrap();
    for log in &LOGS[1..3] {
        let add = ["XADD", log, "7-1", "event_id", log, "payload", "{}"];
        server.command::<String>(&add).await;
    }
    let [one, two] = [1, 2].map(|partition| StreamId::new(7, 1).with_part(partition));
    for (id, log) in [(one, LOGS[1]), (two, LOGS[2])] {
        let delivered = read(&stream, "a", id.part).await;
        assert_eq!(delivered.len(), 1);
        assert_eq!(delivered[0].entry.id, id);
        assert_eq!(delivered[0].entry.fields.get("event_id").unwrap(), log);
    }
    let held = |held: Vec<StreamId>| Refreshed { held, gone: Vec::new() };
    assert_eq!(stream.refresh("a", &[one, two]).await.unwrap(), held(vec![one, two]));
    let failed = stream.record(one, AttemptStep::Failed(1)).await.unwrap();
    assert_eq!((failed.failed, failed.unfinished), (1, 0));
    let claimed = async |which: Claim<'_>, partition: u16| {
        let start = StreamId::MIN.with_part(partition);
        let claimed = stream.claim("b", which, start, 10).await.unwrap();
        let found = claimed.entries.into_iter().map(|one| (one.entry.id, one.attempts));
        Vec::from_iter(found)
    };
    assert_eq!(claimed(Claim::Stale(Duration::ZERO), 1).await, [(one, failed)]);
    assert_eq!(stream.refresh("a", &[one, two]).await.unwrap(), held(vec![two]));
    assert_eq!(
        claimed(Claim::Own(&[two]), 1).await,
        [(one, failed)],
        "two is another's number"
    );
    assert_eq!(claimed(Claim::Own(&[one]), 1).await, []);

    assert_eq!(stream.ack(&[one], &[one]).await.unwrap(), 1);
    let stages = async |id| {
        let states = stream.entry_states(id).await.unwrap();
        states.into_iter().map(|state| state.stage).next().unwrap()
    };
    assert_eq!(stages(one).await, Stage::Settled);
    assert!(matches!(stages(two).await, Stage::Pending { .. }));
    assert_eq!(stream.entry_states(two.with_part(9)).await.unwrap(), []);
    let group = &stream.report().await.unwrap().groups[0];
    assert_eq!((group.pending, group.lag), (1, Some(0)));
    let settled = stream.settled("pipeline_workers", &[one, two]).await.unwrap();
    assert_eq!(settled, Some(1));
    assert_eq!(
        stream.make_pending("pipeline_workers", &[one, two]).await.unwrap(),
        Some(1)
    );
    assert_eq!(
        claimed(Claim::Stale(Duration::from_secs(60)), 1).await,
        [(one, Attempts::default())]
    );

    becomes_a_dead_letter(&stream, two, LOGS[2]).await;
    assert_eq!(stages(two).await, Stage::Settled);
}

/// The letter of an entry has the name of its log, and its id there.
async fn becomes_a_dead_letter(stream: &RedisStream, id: StreamId, log: &str) {
    let letter = DeadLetter {
        entry: orderstream::stream::Entry {
            id,
            fields: entry(2).fields,
        },
        error: "a test".to_owned(),
        attempts: 1,
        consumer: "a".to_owned(),
    };
    assert!(stream.dead_letter(&letter).await.unwrap());
    let letters = Range::all(Destination::DeadLetters, ReadOrder::NewestFirst, 1);
    let letters = stream.range(letters).await.unwrap().entries;
    let field = |name| std::str::from_utf8(letters[0].fields.get(name).unwrap()).unwrap();
    let original = format!("{}-{}", id.ms, id.seq);
    assert_eq!((field("original_stream"), field("original_id")), (log, &*original));
    assert_eq!(stream.partition_named(log), id.part);
}

#[tokio::test]
async fn a_range_goes_over_all_partitions_in_order_of_ids() {
    let server = RedisServer::start().await;
    let stream = open_four(&server);
    let entries: Vec<_> = (0..300).map(spread_entry).collect();
    let outcomes = stream.writer().try_append(&entries).await.unwrap();
    let appended = BTreeSet::from_iter(outcomes.iter().map(accepted));
    for order in [ReadOrder::OldestFirst, ReadOrder::NewestFirst] {
        for count in [7, 1000] {
            let mut rest = Some(Range::all(Destination::Stream, order, count));
            let mut found = Vec::new();
            while let Some(range) = rest {
                let page = stream.range(range).await.unwrap();
                assert!(page.entries.len() <= count);
                found.extend(page.entries.iter().map(|entry| entry.id));
                rest = page.next;
            }
            if order == ReadOrder::NewestFirst {
                found.reverse();
            }
            assert_eq!(found, Vec::from_iter(appended.iter().copied()), "{order:?} {count}");
        }
    }
}

/// One is at its cap, and the key of another holds something else: the others' entries are taken.
#[tokio::test]
async fn a_partition_that_takes_nothing_refuses_its_own_entries_only() {
    let server = RedisServer::start().await;
    let config = StreamConfig {
        maxlen: 400,
        retain_acked: 0,
        ..four()
    };
    for dedupe_window in [config.dedupe_window, None] {
        server.command::<()>(&["FLUSHALL"]).await;
        let config = StreamConfig {
            dedupe_window,
            ..config.clone()
        };
        let stream = RedisStream::new(&server.config(), &config, Metrics::new()).unwrap();
        server.command::<()>(&["SET", LOGS[2], "a string"]).await;
        for _ in 0..100 {
            server.command::<String>(&["XADD", LOGS[1], "*", "a", "b"]).await;
        }
        let mut writer = stream.writer();
        let entries: Vec<_> = (0..100).map(spread_entry).collect();
        for _ in 0..2 {
            let outcomes = writer.append(&entries).await;
            for (entry, outcome) in entries.iter().zip(&outcomes) {
                match writer.partition_of(entry) {
                    Some(1) => assert_eq!(*outcome, Appended::Full),
                    Some(2) => assert!(
                        matches!(outcome, Appended::Failed(error) if matches!(**error, StreamError::UnusableKey(_))),
                        "{outcome:?}"
                    ),
                    _ => assert!(
                        matches!(outcome, Appended::Accepted(_) | Appended::Duplicate(_)),
                        "{outcome:?}"
                    ),
                }
            }
        }
        assert_eq!(stream.confirm_writable(1).await, Err(StreamError::Full(100)));
        assert!(matches!(
            stream.confirm_writable(2).await,
            Err(StreamError::UnusableKey(_))
        ));
        stream.confirm_writable(0).await.unwrap();
        stream.confirm_writable(3).await.unwrap();
        server.command::<()>(&["DEL", LOGS[1], LOGS[2]]).await;
        let outcomes = writer.try_append(&entries).await.unwrap();
        let is_stored = |one: &Appended| matches!(one, Appended::Accepted(_) | Appended::Duplicate(_));
        assert!(outcomes.iter().all(is_stored), "{outcomes:?}");
    }
}

#[tokio::test]
async fn the_report_is_of_all_and_of_each_and_each_is_trimmed() {
    let server = RedisServer::start().await;
    let config = StreamConfig {
        retain_acked: 8,
        ..four()
    };
    let stream = RedisStream::new(&server.config(), &config, Metrics::new()).unwrap();
    assert!(stream.ensure_group().await.unwrap());
    let entries: Vec<_> = (0..200).map(spread_entry).collect();
    let outcomes = stream.writer().try_append(&entries).await.unwrap();
    let read = read(&stream, "a", 1).await;
    let report = stream.report().await.unwrap();
    assert_eq!(
        (report.length, report.maxlen, report.entries_added),
        (200, 100_000, Some(200))
    );
    assert_eq!(report.last_id, outcomes.iter().map(accepted).max());
    let group = &report.groups[0];
    assert_eq!(group.pending, read.len() as u64);
    assert_eq!(group.lag, Some(200 - read.len() as u64));
    assert_eq!(report.consumers.len(), 1);
    let parts = &report.partitions;
    assert_eq!(Vec::from_iter(parts.iter().map(|one| one.stream.as_str())), LOGS);
    assert_eq!(parts.iter().filter_map(|one| one.length).sum::<u64>(), 200);
    assert_eq!((parts[1].pending, parts[1].lag), (Some(read.len() as u64), Some(0)));
    assert_eq!((parts[3].pending, parts[3].lag), (Some(0), parts[3].length));

    let ids = Vec::from_iter(read.iter().map(|one| one.entry.id));
    assert_eq!(stream.ack(&ids, &[]).await.unwrap(), ids.len() as u64);
    let mut removed = 0;
    for partition in 0..4 {
        removed += stream.trim(partition).await.unwrap().prefix;
    }
    assert_eq!(removed, ids.len() as u64 - 2, "a quarter of what is retained stays");
    server.command::<()>(&["DEL", LOGS[3]]).await;
    let lost = stream.report().await.unwrap().lost;
    assert_eq!((lost.times, Some(lost.entries)), (1, parts[3].length));
}

/// A node of a cluster refuses (CROSSSLOT) what a sharded proxy cannot carry out, also where it has all slots.
#[tokio::test]
async fn no_call_names_keys_of_two_slots() {
    let bus = format!("cluster-port {}", reserved_port());
    let server = RedisServer::start_with(RedisOptions {
        tcp: true,
        config: vec!["cluster-enabled yes".to_owned(), bus],
        ..RedisOptions::default()
    })
    .await;
    server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    eventually("the node serves all slots", PATIENCE, async || {
        let info: String = server.command(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok").then_some(())
    })
    .await;
    let stream = open_four(&server);
    use_everything(&server, &stream).await;

    let entries: Vec<_> = (100..140).map(spread_entry).collect();
    let outcomes = stream.writer().try_append(&entries).await.unwrap();
    let ids: Vec<_> = outcomes.iter().map(accepted).collect();
    for (partition, log) in (0..).zip(LOGS) {
        let delivered = read(&stream, "c", partition).await;
        assert!(!delivered.is_empty(), "{log}");
        becomes_a_dead_letter(&stream, delivered[0].entry.id, log).await;
        stream.trim(partition).await.unwrap();
        stream.confirm_writable(partition).await.unwrap();
    }
    assert_eq!(
        stream.refresh("c", &ids).await.unwrap().held.len(),
        ids.len() - LOGS.len()
    );
    assert_eq!(stream.ack(&ids, &ids).await.unwrap(), (ids.len() - LOGS.len()) as u64);
    assert_eq!(stream.report().await.unwrap().length, 42);
    stream.remove_silent_consumers(Duration::ZERO).await.unwrap();
    stream.bind_shop("shop.example", "7").await.unwrap();
}
