//! What concerns the embedded stream alone: its death, its disk, damage to its file, and who may open that.

mod damage;
mod disk;
mod loss;
mod moved;
mod survival;

use std::collections::BTreeSet;
use std::path::Path;

use orderstream::config::StreamConfig;
use orderstream::metrics::Metrics;
use orderstream::stream::embedded::EmbeddedStream;
use orderstream::stream::{
    Appended, Claim, Destination, Entry, Fields, NewEntry, Range, ReadOrder, Stream, StreamError, StreamId,
};
use tokio_util::sync::CancellationToken;

use super::TryAppend;
use crate::harness::redis::stream_config;

fn open(path: &Path) -> EmbeddedStream {
    try_open(path, &stream_config()).unwrap()
}

fn try_open(path: &Path, config: &StreamConfig) -> Result<EmbeddedStream, StreamError> {
    EmbeddedStream::open(path, config, None, Metrics::new())
}

/// An entry that shows by its number what must be in it.
fn entry(n: u32, bytes: usize) -> NewEntry {
    NewEntry {
        destination: Destination::Stream,
        dedupe_key: format!("key-{n}"),
        digest: [7; 16],
        spread: 0,
        fields: fields(n, bytes),
    }
}

fn fields(n: u32, bytes: usize) -> Fields {
    let mut fields = Fields::default();
    fields.push("event_id", n.to_string());
    fields.push("payload", n.to_string().repeat(bytes / n.to_string().len()));
    fields
}

async fn append(stream: &EmbeddedStream, numbers: std::ops::Range<u32>, bytes: usize) -> Vec<StreamId> {
    let flush: Vec<_> = numbers.map(|n| entry(n, bytes)).collect();
    let outcomes = stream.writer().try_append(&flush).await.unwrap();
    outcomes.iter().map(accepted).collect()
}

fn accepted(outcome: &Appended) -> StreamId {
    match outcome {
        Appended::Accepted(id) => *id,
        other => panic!("not accepted: {other:?}"),
    }
}

/// All that stands in a log.
async fn all(stream: &EmbeddedStream, log: Destination) -> Vec<Entry> {
    let (mut entries, mut next) = (Vec::new(), Some(Range::all(log, ReadOrder::OldestFirst, 1000)));
    while let Some(range) = next {
        let page = stream.range(range).await.unwrap();
        entries.extend(page.entries);
        next = page.next;
    }
    entries
}

/// Reads and claims as a worker that starts, until there is nothing more; answers the numbers of what it got, each of
/// which must be what was appended. Entries that were handed out and are gone count as lost here.
async fn drain(stream: &EmbeddedStream, bytes: usize) -> (BTreeSet<u32>, u64) {
    let (mut got, mut gone, mut refusals) = (BTreeSet::new(), 0, 0);
    for which in [Claim::Own(&[]), Claim::Stale(std::time::Duration::ZERO)] {
        let mut start = Some(StreamId::MIN);
        while let Some(from) = start {
            match stream.claim("drain", which, from, 500).await {
                Ok(page) => {
                    got.extend(page.entries.iter().map(|one| number(&one.entry, bytes)));
                    gone += page.deleted.len() as u64;
                    start = page.next;
                }
                Err(error) => refused(&error, &mut refusals),
            }
        }
    }
    let mut reader = stream.reader("drain", 0);
    loop {
        match reader
            .read(500, std::time::Duration::ZERO, &CancellationToken::new())
            .await
        {
            Ok(delivered) if delivered.is_empty() => break,
            Ok(delivered) => got.extend(delivered.iter().map(|one| number(&one.entry, bytes))),
            Err(error) => refused(&error, &mut refusals),
        }
    }
    (got, gone)
}

/// Damage that shows while the file is in use is a refusal, and gone with the next call.
fn refused(error: &StreamError, refusals: &mut u32) {
    assert!(error.is_refused(), "{error}");
    *refusals += 1;
    assert!(*refusals < 10, "refused for ever: {error}");
}

fn number(entry: &Entry, bytes: usize) -> u32 {
    let text = std::str::from_utf8(entry.fields.get("event_id").unwrap()).unwrap();
    let n = text.parse().unwrap();
    assert_eq!(entry.fields, fields(n, bytes), "delivered, but not what was appended");
    n
}
