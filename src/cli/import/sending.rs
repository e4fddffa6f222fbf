//! Appends the orders that are gathered, batch by batch.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;

use crate::cli::Failure;
use crate::cli::backend::Backend;
use crate::import::Import;
use crate::operations::{ImportRequest, MOST_IMPORT_BYTES, MOST_IMPORT_EVENTS};

/// Pause while webhooks come first.
const YIELD: Duration = Duration::from_millis(500);

pub(super) struct ImportSender {
    /// Where orders go; none where they are only counted.
    backend: Option<Backend>,
    pace: Pace,
    /// Orders that were appended; without a backend, that would be.
    pub(super) orders: u64,
}

impl ImportSender {
    pub(super) fn new(backend: Option<Backend>, rate: Option<NonZeroU32>) -> Self {
        let pace = Pace::new(rate);
        Self {
            backend,
            pace,
            orders: 0,
        }
    }

    /// Sends a batch; answers whether more is left.
    pub(super) async fn batch(
        &mut self,
        path: &Path,
        import: &mut Import<'_>,
        bar: &ProgressBar,
    ) -> Result<bool, Failure> {
        let most = self.pace.portion(MOST_IMPORT_EVENTS);
        let batch = tokio::task::block_in_place(|| import.next(path, most, MOST_IMPORT_BYTES))?;
        if batch.is_end() {
            return Ok(false);
        }
        let count = batch.events.len() as u64;
        if let Some(backend) = self.backend.as_ref().filter(|_| count > 0) {
            let events = batch.events.clone();
            let step = backend.call(ImportRequest { events }).await?;
            if let Some(why) = step.waits {
                bar.set_message(why);
                tokio::time::sleep(YIELD).await;
                return Ok(true);
            }
        }
        tokio::task::block_in_place(|| import.settle(batch))?;
        self.orders += count;
        bar.set_message("");
        bar.inc(count);
        self.pace.pay(count).await;
        Ok(true)
    }
}

/// So many orders a second, or as fast as they are taken.
struct Pace {
    rate: Option<NonZeroU32>,
    due: Instant,
}

impl Pace {
    fn new(rate: Option<NonZeroU32>) -> Self {
        Self {
            rate,
            due: Instant::now(),
        }
    }

    /// Orders of a batch: of a slow run, those of about a second.
    fn portion(&self, most: usize) -> usize {
        let a_second = self.rate.and_then(|rate| usize::try_from(rate.get()).ok());
        a_second.unwrap_or(most).clamp(1, most)
    }

    async fn pay(&mut self, orders: u64) {
        if let Some(rate) = self.rate {
            self.due += Duration::from_secs_f64(orders as f64 / f64::from(rate.get()));
            tokio::time::sleep_until(self.due).await;
        }
    }
}
