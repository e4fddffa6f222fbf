//! The circuit breaker: whether appends go to the stream or straight to the spool.
//!
//! Writers open it when the stream did not confirm in time or refuses everything; the drainer
//! closes it once the stream answers promptly again. Invariant: a stream that flaps many times a
//! minute makes a handful of log lines.

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
    /// Open while appends go to the spool.
    pub breaker: Breaker,
    /// The spool itself.
    pub spool: Spool,
}

/// Closed (appends go to the stream) or open (to the spool); a cheap clone.
#[derive(Debug, Clone)]
pub struct Breaker {
    open: watch::Sender<bool>,
    log: Arc<Mutex<Log>>,
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
            open: watch::Sender::new(false),
            log: Arc::default(),
            metrics,
        }
    }

    /// Whether appends go straight to the spool.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Opens it, for that reason.
    pub(super) fn open(&self, cause: &str) {
        if self.open.send_replace(true) {
            return;
        }
        self.metrics.spool.breaker_open.set(1);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.opened = Some(Instant::now());
        if log.logged.is_some_and(|logged| logged.elapsed() < QUIET) {
            tracing::debug!(cause, "the breaker is open again");
            return;
        }
        log.logged = Some(Instant::now());
        log.is_logged = true;
        tracing::warn!(
            cause,
            "the breaker is open: the stream does not confirm, events go to the spool"
        );
    }

    /// Closes it.
    pub(super) fn close(&self) {
        if !self.open.send_replace(false) {
            return;
        }
        self.metrics.spool.breaker_open.set(0);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = log.opened.take().map(|opened| opened.elapsed().as_secs_f64());
        if std::mem::take(&mut log.is_logged) {
            tracing::info!(
                seconds,
                "the breaker is closed: the stream takes events again, new ones go to it"
            );
        } else {
            tracing::debug!(seconds, "the breaker is closed again");
        }
    }

    /// Waits until it is open.
    pub(super) async fn opened(&self) {
        let mut open = self.open.subscribe();
        // Fails only without a sender, and `self` is one.
        let _ = open.wait_for(|open| *open).await;
    }
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
        breaker.open("a test");
        breaker.open("a test");
        assert!(clone.is_open());
        assert!(clone.opened().now_or_never().is_some());
        clone.close();
        assert!(!breaker.is_open());
    }
}
