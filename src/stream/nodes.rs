//! Heartbeats of the nodes on one stream. A record is text here; `crate::nodes` has its content.

use std::time::Duration;

use async_trait::async_trait;

use super::error::StreamError;

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

    /// Removes the record of a node that ends, and those of its consumers that have nothing
    /// pending.
    async fn leave(&self, node: &str, consumers: &[String]) -> Result<(), StreamError>;
}
