//! The laws of the seam, in the order of a delivery's life: append, read, claim, retry, dead letter, trim, report.

mod appending;
mod checkpoints;
mod figures;
mod nodes;
mod operating;
mod pending;
mod trimming;

pub use appending::*;
pub use checkpoints::*;
pub use figures::*;
pub use nodes::*;
pub use operating::*;
pub use pending::*;
pub use trimming::*;

use std::time::Duration;

use orderstream::config::StreamConfig;
use orderstream::stream::{
    Appended, AttemptStep, Claim, DeadLetter, Delivered, Destination, Fields, NewEntry, Range, ReadOrder, Refreshed,
    Stream, StreamId, Trimmed,
};
use tokio_util::sync::CancellationToken;

use super::{Store, TryAppend};
use crate::harness::redis::stream_config;

const START: StreamId = StreamId::new(0, 0);

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
        spread: 0,
        fields,
    }
}

/// Appends entries that must be new; answers their ids.
async fn append(stream: &dyn Stream, numbers: impl IntoIterator<Item = u32>) -> Vec<StreamId> {
    let entries: Vec<_> = numbers.into_iter().map(entry).collect();
    let outcomes = stream.writer().try_append(&entries).await.unwrap();
    outcomes.iter().map(accepted).collect()
}

fn accepted(outcome: &Appended) -> StreamId {
    match outcome {
        Appended::Accepted(id) => *id,
        other => panic!("not accepted: {other:?}"),
    }
}

/// Reads what is there, without waiting.
async fn read(stream: &dyn Stream, consumer: &str, count: usize) -> Vec<Delivered> {
    let mut reader = stream.reader(consumer, 0);
    let never = CancellationToken::new();
    reader.read(count, Duration::ZERO, &never).await.unwrap()
}

fn ids(delivered: &[Delivered]) -> Vec<StreamId> {
    delivered.iter().map(|one| one.entry.id).collect()
}

/// Ids that are still in the stream, as a group sees them that reads from the start.
async fn still_there(store: &dyn Store, config: &StreamConfig) -> Vec<StreamId> {
    let probe = StreamConfig {
        group: "probe".to_owned(),
        ..config.clone()
    };
    let stream = store.open(&probe);
    stream.ensure_group().await.unwrap();
    store.move_group(&probe, START).await;
    let found = ids(&read(&*stream, "probe", 10_000).await);
    store.drop_group(&probe).await;
    found
}
