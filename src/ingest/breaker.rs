//! The circuit breaker: whether appends go to the stream or straight to the spool, for each
//! partition of the stream.
//!
//! Writers open it for a partition that did not confirm in time or refuses everything; the drainer
//! closes it once that answers promptly again. Invariant: a stream that flaps many times a minute
//! makes a handful of log lines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::spool::Spool;
use crate::metrics::Metrics;

/// Openings within so long of one that was logged are not logged.
const QUIET: Duration = Duration::from_secs(30);

/// Where appends go that the stream does not take; a cheap clone.
#[derive(Debug, Clone)]
pub struct SpoolFallback {
    /// Open while appends of a partition go to the spool.
    pub breaker: Breaker,
    /// The spool itself.
    pub spool: Spool,
}

/// For each partition closed (appends go to the stream) or open (to the spool); a cheap clone.
#[derive(Debug, Clone)]
pub struct Breaker {
    /// One bit a partition.
    open: watch::Sender<u128>,
    log: Arc<Mutex<BTreeMap<u16, Log>>>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Log {
    /// The last opening that was logged.
    logged: Option<Instant>,
    /// The present opening was logged.
    is_logged: bool,
    opened: Option<Instant>,
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn closed(metrics: Metrics) -> Self {
        Self {
            open: watch::Sender::new(0),
            log: Arc::default(),
            metrics,
        }
    }

    /// Whether appends of any partition go straight to the spool.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.open.borrow() != 0
    }

    /// Whether those of this partition do.
    #[must_use]
    pub fn is_open_for(&self, partition: u16) -> bool {
        *self.open.borrow() & bit(partition) != 0
    }

    /// The partitions whose appends do.
    pub(super) fn open_partitions(&self) -> Vec<u16> {
        let open = *self.open.borrow();
        (0..128).filter(|partition| open & bit(*partition) != 0).collect()
    }

    /// Opens it for that partition and reason.
    pub(super) fn open(&self, partition: u16, cause: &str) {
        if !self.set(partition, true) {
            return;
        }
        let mut logs = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let log = logs.entry(partition).or_default();
        log.opened = Some(Instant::now());
        if log.logged.is_some_and(|logged| logged.elapsed() < QUIET) {
            tracing::debug!(cause, partition, "the breaker is open again");
            return;
        }
        log.logged = Some(Instant::now());
        log.is_logged = true;
        tracing::warn!(
            cause,
            partition = further(partition),
            "the breaker is open: the stream does not confirm, events go to the spool"
        );
    }

    /// Closes it for that partition.
    pub(super) fn close(&self, partition: u16) {
        if !self.set(partition, false) {
            return;
        }
        let mut logs = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let log = logs.entry(partition).or_default();
        let seconds = log.opened.take().map(|opened| opened.elapsed().as_secs_f64());
        if std::mem::take(&mut log.is_logged) {
            tracing::info!(
                seconds,
                partition = further(partition),
                "the breaker is closed: the stream takes events again, new ones go to it"
            );
        } else {
            tracing::debug!(seconds, partition, "the breaker is closed again");
        }
    }

    /// Answers whether that changed it.
    fn set(&self, partition: u16, is_open: bool) -> bool {
        self.open.send_if_modified(|open| {
            let before = *open;
            *open = if is_open {
                before | bit(partition)
            } else {
                before & !bit(partition)
            };
            // Under the lock of the bits, so that the gauge is not left at an older state.
            self.metrics.spool.breaker_open.set((*open != 0).into());
            *open != before
        })
    }

    /// Waits until it is open for any partition.
    pub(super) async fn opened(&self) {
        let mut open = self.open.subscribe();
        // Fails only without a sender, and `self` is one.
        let _ = open.wait_for(|open| *open != 0).await;
    }
}

fn bit(partition: u16) -> u128 {
    1 << (partition % 128)
}

/// The log names a partition where it is not the first, which may be the only one.
fn further(partition: u16) -> Option<u16> {
    Some(partition).filter(|partition| *partition > 0)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn clones_share_it() {
        let breaker = Breaker::closed(Metrics::new());
        let clone = breaker.clone();
        assert!(clone.opened().now_or_never().is_none());
        breaker.open(0, "a test");
        breaker.open(0, "a test");
        assert!(clone.is_open());
        assert!(clone.opened().now_or_never().is_some());
        clone.open(127, "a test");
        assert_eq!(breaker.open_partitions(), [0, 127]);
        clone.close(0);
        assert!(breaker.is_open() && !breaker.is_open_for(0) && breaker.is_open_for(127));
        clone.close(127);
        assert!(!breaker.is_open());
    }
}
