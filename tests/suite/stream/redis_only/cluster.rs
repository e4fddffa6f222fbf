//! Redis Cluster: where keys lie, how slots that move and failovers are followed, and what is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use orderstream::shutdown::Roles;
use orderstream::stream::{Claim, DeadLetter, Delivered, Range, ReadOrder, Reader, Stream, spread_of_key};
use tokio_util::sync::CancellationToken;

use super::connections::{EVERYTHING, documented, use_everything};
use super::*;
use crate::harness::cluster::Cluster;
use crate::harness::eventually;
use crate::harness::ports::reserved_port;
use crate::harness::redis::RedisOptions;
use crate::harness::site::PATIENCE;

const LOGS: [&str; 4] = [
    "orders_stream",
    "{orders_stream:1.204}",
    "{orders_stream:2.440}",
    "{orders_stream:3.426}",
];

/// On another of three primaries than the first log.
const DEAD_LETTERS: &str = "dead_letters_b";

fn config(url: String) -> RedisConfig {
    RedisConfig {
        url: url.into(),
        ca_file: None,
        pool_size: 8,
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(2),
        durability: orderstream::config::Durability::Received,
    }
}

fn open_spread(url: String, partitions: Option<u16>) -> RedisStream {
    let stream = StreamConfig {
        partitions,
        dead_letters: DEAD_LETTERS.to_owned(),
        ..stream_config()
    };
    RedisStream::new(&config(url), &stream, Metrics::new()).unwrap()
}

/// An entry of an order of its own.
fn spread_entry(n: u32) -> NewEntry {
    NewEntry {
        spread: spread_of_key(&format!("order-{n}")),
        ..entry(n)
    }
}

async fn read(stream: &RedisStream, partition: u16) -> Vec<Delivered> {
    let never = CancellationToken::new();
    let mut reader = stream.reader("a", partition);
    reader.read(1000, Duration::ZERO, &never).await.unwrap()
}

/// Sends them until each has an id; answers the ids.
async fn append_all(stream: &RedisStream, entries: &[NewEntry]) -> Vec<StreamId> {
    let mut writer = stream.writer();
    eventually("all entries are taken", PATIENCE, async || {
        let outcomes = writer.append(entries).await;
        let id = |outcome: Appended| match outcome {
            Appended::Accepted(id) | Appended::Duplicate(id) => Some(id),
            Appended::Failed(_) | Appended::Unavailable(_) => None,
            other => panic!("{other:?}"),
        };
        outcomes.into_iter().map(id).collect()
    })
    .await
}

#[tokio::test]
async fn a_cluster_is_used_with_the_documented_rights_and_its_moves_are_followed() {
    let rows = [
        EVERYTHING,
        "`ORDERSTREAM_PARTITIONS` is set, or `redis+cluster://`",
        "`redis+cluster://`, on every node",
    ];
    let options = RedisOptions {
        acl: vec![
            "user default on nopass ~* &* +@all".to_owned(),
            format!("user app on >secret {}", rows.map(documented).join(" ")),
        ],
        ..RedisOptions::default()
    };
    let cluster = Cluster::start(3, true, options).await;
    // A seed that is nobody, and replicas first.
    let url = format!(
        "redis+cluster://app:secret@127.0.0.1:{},{}",
        reserved_port(),
        cluster.hosts()
    );
    each_call_works_with_one_partition(&cluster, &url).await;
    for node in &cluster.nodes[..3] {
        node.command::<()>(&["FLUSHALL"]).await;
    }
    let stream = Arc::new(open_spread(url, Some(4)));
    let roles = Roles::new();
    roles.spawn("lookout", Arc::clone(&stream).look_out(roles.stop_token()));
    entries_are_on_their_nodes(&cluster, &stream).await;
    a_slot_moves_while_it_is_written_and_read(&cluster, &stream).await;
    a_failover_is_followed(&cluster, &stream).await;
}

/// As with one server, in two slots.
async fn each_call_works_with_one_partition(cluster: &Cluster, url: &str) {
    let stream = open_spread(url.to_owned(), None);
    let owner = cluster.owner(LOGS[0]).await;
    assert_ne!(
        owner,
        cluster.owner(DEAD_LETTERS).await,
        "dead letters are on another node"
    );
    use_everything(&cluster.nodes[owner], &stream).await;
    let found = stream.inspect().await.unwrap();
    assert!(found.address.starts_with("the cluster of 127.0.0.1:"), "{found:?}");
    let idle = found.warnings.iter().filter(|text| text.contains("own no partition"));
    assert_eq!(idle.count(), 1, "{found:?}");
    let mut capture = stream.checkpointed("shop");
    let letter = NewEntry {
        destination: Destination::DeadLetters,
        ..entry(7)
    };
    for (version, entries) in [(0, vec![entry(8), letter.clone()]), (1, vec![letter])] {
        let stored = capture.append(&entries, version, "record", 90).await.unwrap();
        assert_eq!(stored, orderstream::stream::CheckpointedAppend::Stored);
    }
    assert_eq!(capture.read().await.unwrap().version, 2);
    let letters = Range::all(Destination::DeadLetters, ReadOrder::OldestFirst, 10);
    assert_eq!(
        stream.range(letters).await.unwrap().entries.len(),
        2,
        "one is poison, one is of the capture"
    );
}

async fn entries_are_on_their_nodes(cluster: &Cluster, stream: &RedisStream) {
    stream.ensure_group().await.unwrap();
    let entries = Vec::from_iter((0..200).map(spread_entry));
    let letter = NewEntry {
        destination: Destination::DeadLetters,
        ..entry(1)
    };
    let mut writer = stream.writer();
    assert_eq!(writer.partition_of(&letter), None);
    let all = [entries.clone(), vec![letter]].concat();
    let ids = Vec::from_iter(writer.append(&all).await.iter().map(accepted));
    let again = writer.append(&all).await;
    assert_eq!(again, Vec::from_iter(ids.iter().copied().map(Appended::Duplicate)));
    let mut nodes = BTreeSet::new();
    for (partition, log) in (0..).zip(LOGS) {
        let owner = cluster.owner(log).await;
        nodes.insert(owner);
        let length: usize = cluster.nodes[owner].command(&["XLEN", log]).await;
        let here = Vec::from_iter(ids[..200].iter().filter(|id| id.part == partition));
        assert_eq!(length, here.len(), "{log}");
        let lanes = BTreeSet::from_iter(
            entries
                .iter()
                .zip(&ids)
                .filter(|(_, id)| id.part == partition)
                .map(|(entry, _)| stream.lane(entry)),
        );
        assert_eq!(lanes.len(), 1);
        let delivered = read(stream, partition).await;
        assert_eq!(delivered.len(), length);
        let dead = DeadLetter {
            entry: delivered[0].entry.clone(),
            error: "poison".to_owned(),
            attempts: 3,
            consumer: "a".to_owned(),
        };
        assert!(stream.dead_letter(&dead).await.unwrap());
        stream.confirm_writable(partition).await.unwrap();
        stream.trim(partition).await.unwrap();
    }
    assert!(nodes.len() > 1, "partitions are on several nodes");
    let lanes = BTreeSet::from_iter(entries.iter().map(|entry| stream.lane(entry)));
    assert_eq!(lanes.len(), nodes.len());
    // All but the four that are dead letters.
    assert_eq!(stream.ack(&ids[..200], &ids[..10]).await.unwrap(), 196);
    let report = stream.report().await.unwrap();
    assert_eq!(
        (report.length, report.dead_letters, report.groups[0].pending),
        (200, 5, 0)
    );
    let whole = Range::all(Destination::Stream, ReadOrder::OldestFirst, 300);
    assert_eq!(stream.range(whole).await.unwrap().entries.len(), 200);
}

/// Of partition 1, the old way: first the ids are on the other node, then the stream too, then the slot is that node's.
async fn a_slot_moves_while_it_is_written_and_read(cluster: &Cluster, stream: &Arc<RedisStream>) {
    let log = LOGS[1];
    let of_partition = |from: u32| (from..from + 200).map(spread_entry);
    let mut writer = stream.writer();
    let own = |writer: &dyn orderstream::stream::Writer, from| {
        Vec::from_iter(of_partition(from).filter(|entry| writer.partition_of(entry) == Some(1)))
    };
    let former = cluster.owner(log).await;
    let to = (former + 1) % 3;
    let never = CancellationToken::new();
    let mut reader = stream.reader("a", 1);
    let mut read = Vec::new();

    let moving = cluster.open_move(log, to).await;
    let mut keys = moving.keys().await;
    keys.retain(|key| key != log);
    assert!(!keys.is_empty());
    moving.carry(&keys).await;
    let warned = stream.inspect().await.unwrap().warnings;
    let of_slot = format!(
        "Hash slot {}, which the stream uses, is migrating",
        cluster.slot(log).await
    );
    assert!(warned.iter().any(|text| text.contains(&of_slot)), "{warned:?}");
    let mut sent = own(&*writer, 1000);
    let mut ids = Vec::from_iter(writer.append(&sent).await.iter().map(accepted));
    read.extend(reader.read(1000, Duration::from_secs(10), &never).await.unwrap());

    // The reader waits on the former node while its stream is carried away.
    let (came, more) = tokio::join!(reader.read(1000, Duration::from_secs(60), &never), async {
        eventually("the reader waits", PATIENCE, async || {
            let clients: String = cluster.nodes[former].command(&["INFO", "clients"]).await;
            clients.contains("blocked_clients:1").then_some(())
        })
        .await;
        moving.carry(&[log.to_owned()]).await;
        let more = own(&*writer, 2000);
        let outcomes = writer.append(&more).await;
        (more, outcomes)
    });
    read.extend(came.unwrap());
    sent.extend(more.0);
    ids.extend(more.1.iter().map(accepted));
    stream.confirm_writable(1).await.unwrap();
    let expected = ids.len();
    while read.len() < expected {
        read.extend(reader.read(1000, Duration::from_secs(10), &never).await.unwrap());
    }
    // A repeat takes the script, whose keys are not all there yet.
    for outcome in writer.append(&sent[..3]).await {
        let is_refused = match &outcome {
            Appended::Unavailable(_) => true,
            Appended::Failed(error) => error.is_refused(),
            _ => false,
        };
        assert!(is_refused, "{outcome:?}");
    }

    moving.finish().await;
    let warned = stream.inspect().await.unwrap().warnings;
    assert!(!warned.iter().any(|text| text.contains("Hash slot")), "{warned:?}");
    let last = own(&*writer, 3000);
    ids.extend(writer.append(&last).await.iter().map(accepted));
    sent.extend(last);
    read_on(stream, &mut *reader, &mut read, ids.len()).await;
    let delivered = BTreeSet::from_iter(read.iter().map(|one| one.entry.id));
    assert_eq!(delivered, BTreeSet::from_iter(ids.iter().copied()));
    assert_eq!(append_all(stream, &sent).await, ids);
    assert_eq!(stream.ack(&ids, &[]).await.unwrap() as usize, ids.len());
    assert_eq!(
        stream.report().await.unwrap().lost.entries,
        0,
        "a slot that moved is no loss"
    );
}

/// Reads partition 1 until there are so many.
async fn read_on(stream: &RedisStream, reader: &mut dyn Reader, read: &mut Vec<Delivered>, count: usize) {
    let never = CancellationToken::new();
    while read.len() < count {
        // What was being delivered when the connection was left is the consumer's.
        match reader.read(1000, Duration::from_secs(10), &never).await {
            Ok(came) => read.extend(came),
            Err(_) => {
                let start = StreamId::MIN.with_part(1);
                let own = stream.claim("a", Claim::Own(&[]), start, 1000).await.unwrap();
                *read = own.entries;
            }
        }
    }
}

/// A reader waits on the primary that is replaced, and goes on at the new one.
async fn a_failover_is_followed(cluster: &Cluster, stream: &Arc<RedisStream>) {
    let never = CancellationToken::new();
    let mut reader = stream.reader("a", 0);
    let entries = Vec::from_iter((5000..5100).map(spread_entry));
    let (came, ids) = tokio::join!(
        async {
            loop {
                match reader.read(1000, Duration::from_secs(60), &never).await {
                    Ok(came) if came.is_empty() => {}
                    Ok(came) => return came,
                    Err(_) => {
                        let own = stream.claim("a", Claim::Own(&[]), StreamId::MIN, 1000).await;
                        if let Some(own) = own.ok().filter(|own| !own.entries.is_empty()) {
                            return own.entries;
                        }
                    }
                }
            }
        },
        async {
            cluster.fail_over(LOGS[0]).await;
            append_all(stream, &entries).await
        }
    );
    assert!(!came.is_empty());
    let here = BTreeSet::from_iter(ids.iter().filter(|id| id.part == 0));
    assert!(
        came.iter().all(|one| here.contains(&one.entry.id)),
        "an old one came again"
    );
    assert_eq!(BTreeSet::from_iter(&ids).len(), ids.len());
}

#[tokio::test]
async fn what_cannot_be_a_cluster_is_refused_with_its_remedy() {
    let options = RedisOptions {
        tcp: true,
        ..RedisOptions::default()
    };
    let single = RedisServer::start_with(options).await;
    let of_nodes = |hosts: &str| format!("redis+cluster://{hosts}");
    let error = open_spread(of_nodes(&single.tcp_address()), None).ensure_group().await;
    let error = error.unwrap_err();
    assert!(matches!(error, StreamError::Unusable(_)), "{error:?}");
    assert!(error.to_string().contains("use redis://"), "{error}");

    let nobody = format!("127.0.0.1:{}", reserved_port());
    let error = open_spread(of_nodes(&nobody), None)
        .confirm_writable(0)
        .await
        .unwrap_err();
    assert!(matches!(error, StreamError::Unreachable { .. }), "{error:?}");

    // A node that belongs to no slots, with the wrong scheme and with the right one.
    let options = RedisOptions {
        tcp: true,
        config: vec![
            "cluster-enabled yes".to_owned(),
            format!("cluster-port {}", reserved_port()),
        ],
        ..RedisOptions::default()
    };
    let node = RedisServer::start_with(options).await;
    let error = open_spread(of_nodes(&node.tcp_address()), None)
        .report()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("CLUSTERDOWN"), "{error}");
    node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "100"]).await;
    let plain = open_spread(format!("redis://{}", node.tcp_address()), None);
    let error = eventually("the node refuses", PATIENCE, async || plain.ensure_group().await.err()).await;
    assert!(error.is_refused(), "{error:?}");
}
