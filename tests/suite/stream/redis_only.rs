//! What concerns Redis alone: connections as users have them, its ways to refuse, its death, and plain Python clients.

mod cluster;
mod connections;
mod durability;
mod foreign_commands;
mod interleavings;
mod partitions;
mod refusals;
mod reservations;
mod sentinel;
mod survival;

use std::time::Duration;

use orderstream::config::{RedisConfig, StreamConfig};
use orderstream::metrics::Metrics;
use orderstream::stream::redis::RedisStream;
use orderstream::stream::{Appended, Destination, Fields, NewEntry, StreamError, StreamId};

use super::TryAppend;
use crate::harness::redis::{RedisServer, stream_config};

fn open(config: &RedisConfig) -> RedisStream {
    RedisStream::new(config, &stream_config(), Metrics::new()).unwrap()
}

fn entry(n: u32) -> NewEntry {
    let mut fields = Fields::default();
    fields.push("event_type", "order.created");
    fields.push("event_id", n.to_string());
    fields.push("timestamp", "2026-01-02T03:04:05Z");
    fields.push(
        "payload",
        format!("{{\"n\":{n},\"total_amount\":0.10,\"name\":\"Zoë\"}}"),
    );
    NewEntry {
        destination: Destination::Stream,
        dedupe_key: format!("key-{n}"),
        digest: [7; 16],
        spread: 0,
        fields,
    }
}

/// The hash of the ids that are appended now.
async fn ids_key(server: &RedisServer) -> String {
    let (seconds, _): (u64, u64) = server.command(&["TIME"]).await;
    let window = stream_config().dedupe_window.unwrap();
    format!(
        "orders_stream:ids:{}:{}",
        window.as_millis(),
        seconds / window.as_secs()
    )
}

fn accepted(outcome: &Appended) -> StreamId {
    match outcome {
        Appended::Accepted(id) => *id,
        other => panic!("not accepted: {other:?}"),
    }
}
