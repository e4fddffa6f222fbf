//! Heartbeats in memory: only the process that has the file open can be a node of this stream.
//! Others ask that process.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::stream::EmbeddedStream;
use crate::stream::{Heartbeat, NodeRegistry, StreamError};

impl EmbeddedStream {
    fn nodes(&self) -> MutexGuard<'_, HashMap<String, (String, Instant)>> {
        // No operation leaves the map half-changed.
        self.file.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl NodeRegistry for EmbeddedStream {
    async fn heartbeat(&self, node: &str, record: &str, forget_after: Duration) -> Result<Vec<Heartbeat>, StreamError> {
        let written = (record.to_owned(), Instant::now());
        self.nodes().insert(node.to_owned(), written);
        self.nodes().retain(|_, (_, written)| written.elapsed() < forget_after);
        self.heartbeats().await
    }

    async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StreamError> {
        let heartbeat = |(node, (record, written)): (&String, &(String, Instant))| Heartbeat {
            node: node.clone(),
            record: record.clone(),
            age: written.elapsed(),
        };
        Ok(self.nodes().iter().map(heartbeat).collect())
    }

    async fn leave(&self, node: &str, consumers: &[String]) -> Result<(), StreamError> {
        self.nodes().remove(node);
        if !consumers.is_empty() {
            let consumers = consumers.to_vec();
            let is_ours = move |consumer: &str, _| consumers.iter().any(|ours| ours == consumer);
            self.remove_consumers(is_ours).await?;
        }
        Ok(())
    }
}
