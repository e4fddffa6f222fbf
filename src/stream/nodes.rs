//! Heartbeats of the nodes on one stream, and their history by the minute. A record is text here;
//! `crate::nodes` and `crate::live` have its content.

use std::time::Duration;

use async_trait::async_trait;

use super::error::StreamError;

/// Records of minutes that are kept: a day of them.
pub(super) const MINUTES_KEPT: u64 = 24 * 60;

/// The record of one node, and its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its node.
    pub node: String,
    /// The text that was written.
    pub record: String,
    /// Age by the store's clock.
    pub age: Duration,
}

/// The nodes on a stream. All calls are safe to repeat.
#[async_trait]
pub trait NodeRegistry: Send + Sync {
    /// Writes the record of a node and returns those of all, this one's included. Records that were
    /// not written for `forget_after` are removed. Works also where the store's memory is full.
    async fn heartbeat(&self, node: &str, record: &str, forget_after: Duration) -> Result<Vec<Heartbeat>, StreamError>;

    /// The records of all nodes; changes nothing. Of an embedded stream: that of the process that
    /// has it open.
    async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StreamError>;

    /// Keeps the record of a minute (Unix time) in place of one of the same minute, or of the same
    /// minute of a day before. All nodes keep them; the last one stands.
    async fn keep_minute(&self, minute: u64, record: &str) -> Result<(), StreamError>;

    /// The records of minutes that are kept, in no order; older ones may be among them.
    async fn minutes(&self) -> Result<Vec<String>, StreamError>;

    /// Removes the record of a node that ends, and those of its consumers that have nothing
    /// pending.
    async fn leave(&self, node: &str, consumers: &[String]) -> Result<(), StreamError>;
}
