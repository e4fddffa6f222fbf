//! The processes on a stream, in a file: the one that has it open. Its record is in memory; others ask that process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::writer_handle::Session;
use super::{EmbeddedStream, SMALL, group};
use crate::stream::{Heartbeat, NodeRegistry, StreamError};

/// Records by node, and when each was written.
#[derive(Debug, Default)]
pub(super) struct Records(Mutex<HashMap<String, (String, Instant)>>);

impl Records {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (String, Instant)>> {
        // No operation leaves the map half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Heartbeat> {
        let heartbeat = |(node, (record, written)): (&String, &(String, Instant))| Heartbeat {
            node: node.clone(),
            record: record.clone(),
            age: written.elapsed(),
        };
        self.lock().iter().map(heartbeat).collect()
    }
}

#[async_trait]
impl NodeRegistry for EmbeddedStream {
    async fn heartbeat(&self, node: &str, record: &str, forget_after: Duration) -> Result<Vec<Heartbeat>, StreamError> {
        let records = &self.file.nodes;
        let written = (record.to_owned(), Instant::now());
        records.lock().insert(node.to_owned(), written);
        records
            .lock()
            .retain(|_, (_, written)| written.elapsed() < forget_after);
        Ok(records.all())
    }

    async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StreamError> {
        Ok(self.file.nodes.all())
    }

    async fn leave(&self, node: &str, consumers: &[String]) -> Result<(), StreamError> {
        self.file.nodes.lock().remove(node);
        if consumers.is_empty() {
            return Ok(());
        }
        let (group, consumers) = (self.group(), consumers.to_vec());
        let is_ours = move |consumer: &str, _| consumers.iter().any(|ours| ours == consumer);
        let remove = move |session: &Session<'_>| group::remove_silent(session, &group, is_ours);
        for consumer in self.file.writer.call(SMALL, remove).await? {
            self.file.forget(&self.config.group, &consumer);
        }
        Ok(())
    }
}
