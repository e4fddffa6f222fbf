//! The reader: sleeps until a commit brings entries.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::stats::Stats;
use super::{File, SMALL, group};
use crate::stream::{Delivered, Reader, StreamError};

/// How long a reader sleeps at most before it shows again that it is there.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

pub(super) struct EmbeddedReader {
    pub(super) file: Arc<File>,
    pub(super) group: String,
    pub(super) consumer: String,
    pub(super) stats: watch::Receiver<Stats>,
}

/// What changes when there is something new to read.
fn newest(stats: &Stats) -> (u64, i64) {
    (stats.file, stats.last_id)
}

impl EmbeddedReader {
    /// `None` where there was nothing and waiting may help.
    async fn read_now(&self, count: usize) -> Result<Option<Vec<Delivered>>, StreamError> {
        self.file.asks(&self.group, &self.consumer);
        let (group, consumer) = (self.group.clone(), self.consumer.clone());
        let read = self
            .file
            .writer
            .call(SMALL, move |session| group::read(session, &group, &consumer, count))
            .await?;
        if read.created {
            self.file.group_was_missing(&self.group);
            return Ok(Some(Vec::new()));
        }
        Ok((!read.delivered.is_empty()).then_some(read.delivered))
    }
}

#[async_trait]
impl Reader for EmbeddedReader {
    async fn read(
        &mut self,
        count: usize,
        block: Duration,
        cancel: &CancellationToken,
    ) -> Result<Vec<Delivered>, StreamError> {
        let deadline = Instant::now() + block;
        while !cancel.is_cancelled() {
            // Before the look, so that what is appended meanwhile wakes.
            let seen = newest(&self.stats.borrow_and_update());
            // Awaited whatever the token says: what is handed out must have somebody to take it.
            if let Some(delivered) = self.read_now(count).await? {
                return Ok(delivered);
            }
            if Instant::now() >= deadline {
                break;
            }
            let until = deadline.min(Instant::now() + LONGEST_SLEEP);
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep_until(until) => {}
                arrived = self.stats.wait_for(|stats| newest(stats) != seen) => drop(arrived),
            }
        }
        Ok(Vec::new())
    }
}
