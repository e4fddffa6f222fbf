//! What the processes on one stream keep beside it: a record of each, and the end of their membership.
//!
//! Owns the words for that. A record is text here; what is in it is `nodes.rs`' of the crate.

use std::time::Duration;

use async_trait::async_trait;

use super::StreamError;

/// The record of one process, and how long ago it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whose it is.
    pub node: String,
    /// As it was written.
    pub record: String,
    /// By the store's clock.
    pub age: Duration,
}

/// The processes on a stream. All calls are safe to repeat.
#[async_trait]
pub trait NodeRegistry: Send + Sync {
    /// Writes the record of a process and answers those of all, this one's included. Records that were not written for
    /// `forget_after` are removed. Works where the store's memory is full, too.
    async fn heartbeat(&self, node: &str, record: &str, forget_after: Duration) -> Result<Vec<Heartbeat>, StreamError>;

    /// The records of all processes; changes nothing. Where the stream is a file: those of the process that has it open.
    async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StreamError>;

    /// Removes the record of a process that ends, and those of its consumers that have nothing pending.
    async fn leave(&self, node: &str, consumers: &[String]) -> Result<(), StreamError>;
}
