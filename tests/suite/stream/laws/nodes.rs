//! Processes and their records: written, read by all, forgotten, and gone at the end.

use super::*;
use crate::harness::eventually;

const HOUR: Duration = Duration::from_secs(3600);

pub async fn every_node_sees_the_records_of_all(store: &dyn Store) {
    let stream = store.open(&stream_config());
    assert_eq!(stream.heartbeats().await.unwrap(), []);
    stream.heartbeat("a", r#"{"n":1}"#, HOUR).await.unwrap();
    stream.heartbeat("b", "two lines\nand a  blank", HOUR).await.unwrap();
    let seen = stream.heartbeat("a", r#"{"n":2}"#, HOUR).await.unwrap();
    let mut records = Vec::from_iter(seen.iter().map(|one| (one.node.as_str(), one.record.as_str())));
    records.sort_unstable();
    assert_eq!(records, [("a", r#"{"n":2}"#), ("b", "two lines\nand a  blank")]);
    assert!(seen.iter().all(|one| one.age < Duration::from_secs(30)), "{seen:?}");
    assert_eq!(stream.heartbeats().await.unwrap().len(), 2, "a look writes nothing");
    let report = stream.report().await.unwrap();
    assert_eq!((report.length, report.dead_letters), (0, 0), "no entries");
}

pub async fn a_record_that_is_not_renewed_is_forgotten(store: &dyn Store) {
    let stream = store.open(&stream_config());
    stream.heartbeat("a", "old", HOUR).await.unwrap();
    let short = Duration::from_millis(50);
    eventually("the silent one is forgotten", Duration::from_secs(30), async || {
        let seen = stream.heartbeat("b", "new", short).await.unwrap();
        (seen.len() == 1 && seen[0].node == "b").then_some(())
    })
    .await;
}

pub async fn who_leaves_takes_its_consumers_unless_they_hold_entries(store: &dyn Store) {
    let config = stream_config();
    let stream = store.open(&config);
    stream.leave("nobody", &["nobody".to_owned()]).await.unwrap();
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..3).await;
    for consumer in ["a", "a-2", "b"] {
        read(&*stream, consumer, 1).await;
    }
    stream.ack(&[appended[0], appended[2]], &[]).await.unwrap();
    stream.heartbeat("node-a", "{}", HOUR).await.unwrap();
    stream.heartbeat("node-b", "{}", HOUR).await.unwrap();
    for _ in 0..2 {
        let consumers = ["a".to_owned(), "a-2".to_owned()];
        stream.leave("node-a", &consumers).await.unwrap();
        let left = Vec::from_iter(stream.heartbeats().await.unwrap().into_iter().map(|one| one.node));
        assert_eq!(left, ["node-b"]);
        let report = stream.report().await.unwrap();
        let members = Vec::from_iter(report.consumers.iter().map(|one| (one.name.as_str(), one.pending)));
        assert_eq!(members, [("a-2", 1), ("b", 0)]);
    }
}

pub async fn the_consumer_of_a_replay_is_shown_nowhere(store: &dyn Store) {
    let config = stream_config();
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..2).await;
    read(&*stream, "a", 2).await;
    stream.ack(&appended, &[]).await.unwrap();
    stream.make_pending(&config.group, &appended).await.unwrap();
    let report = stream.report().await.unwrap();
    assert_eq!(report.groups[0].pending, 2);
    let members = Vec::from_iter(report.consumers.iter().map(|one| one.name.as_str()));
    assert_eq!(members, ["a"]);
}
