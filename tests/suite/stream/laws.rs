//! The laws of the seam.

use std::time::Duration;

use orderstream::config::StreamConfig;
use orderstream::stream::{Appended, Claim, Delivered, Destination, Fields, NewEntry, Stream, StreamId};
use tokio_util::sync::CancellationToken;

use super::Store;
use crate::harness::redis::stream_config;

const SOON: Duration = Duration::from_millis(1);
const START: StreamId = StreamId { ms: 0, seq: 0 };

/// An entry whose key, body and digest follow from its number.
fn entry(n: u32) -> NewEntry {
    let mut fields = Fields::default();
    fields.push("event_type", "order.created");
    fields.push("event_id", n.to_string());
    fields.push("timestamp", "2026-01-02T03:04:05Z");
    fields.push("payload", format!("{{\"n\":{n}}}"));
    NewEntry {
        destination: Destination::Stream,
        dedupe_key: format!("key-{n}"),
        digest: [n.to_be_bytes()[3]; 16],
        fields,
    }
}

async fn append(stream: &dyn Stream, numbers: impl IntoIterator<Item = u32>) -> Vec<StreamId> {
    let entries: Vec<_> = numbers.into_iter().map(entry).collect();
    let outcomes = stream.writer().append(&entries).await.unwrap();
    outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Appended::Accepted(id) => id,
            other => panic!("not accepted: {other:?}"),
        })
        .collect()
}

async fn read(stream: &dyn Stream, consumer: &str, count: usize) -> Vec<Delivered> {
    let mut reader = stream.reader(consumer);
    reader.read(count, SOON, &CancellationToken::new()).await.unwrap()
}

fn ids(delivered: &[Delivered]) -> Vec<StreamId> {
    delivered.iter().map(|one| one.entry.id).collect()
}

pub async fn what_is_appended_is_read_in_order_and_acked(store: &dyn Store) {
    let stream = store.open(&stream_config());
    assert!(stream.ensure_group().await.unwrap(), "had to be created");
    assert!(!stream.ensure_group().await.unwrap(), "is there already");
    let appended = append(&*stream, 0..600).await;
    assert!(appended.is_sorted(), "ids follow the order of a flush");

    let delivered = read(&*stream, "a", 500).await;
    assert_eq!(ids(&delivered), appended[..500]);
    assert_eq!(delivered[7].entry.fields, entry(7).fields);
    assert_eq!(delivered[7].deliveries, 1);

    let claimed = stream.claim("a", Claim::Own, START, 100).await.unwrap();
    assert_eq!(ids(&claimed.entries), appended[..100]);
    assert_eq!(claimed.entries[0].deliveries, 2);
    let rest = stream.claim("a", Claim::Own, claimed.next.unwrap(), 500).await.unwrap();
    assert_eq!((ids(&rest.entries), rest.next), (appended[100..500].to_vec(), None));

    assert_eq!(stream.ack(&appended[..500], &[]).await.unwrap(), 500);
    assert_eq!(stream.ack(&appended[..500], &[]).await.unwrap(), 0, "safe to repeat");
    assert_eq!(ids(&read(&*stream, "a", 500).await), appended[500..]);
}
