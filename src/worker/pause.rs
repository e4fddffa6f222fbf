//! Role: follows the pause of the group, which an operator sets beside the stream.
//!
//! Invariants: while it lasts no entry is read or claimed, and what is in flight is finished. A mark
//! that cannot be read counts as it was last read, and where it never was, the group is not paused.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::outage_log::{OutageLog, sleep_or_stop};
use crate::stream::{Stream, StreamError};

/// From one look at the mark to the next.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bound on one look: a server that hangs holds up no others' partitions for longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether the group is paused, as this process last read it.
pub(super) struct GroupPause {
    /// While the group is not paused, what fires when it is.
    running: watch::Sender<Option<CancellationToken>>,
}

impl GroupPause {
    /// Not known before the first look: nothing is read until then.
    pub(super) fn unknown() -> Self {
        Self {
            running: watch::Sender::new(None),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.running.borrow().is_none()
    }

    /// Waits until the group is not paused. What is answered fires when it is, or `stop` does;
    /// `None` where that fired.
    pub(super) async fn running(&self, stop: &CancellationToken) -> Option<CancellationToken> {
        let mut running = self.running.subscribe();
        let is_running = running.wait_for(Option::is_some);
        stop.run_until_cancelled(is_running).await?.ok()?.clone()
    }

    fn set(&self, is_paused: bool, stop: &CancellationToken) {
        self.running.send_if_modified(|running| {
            let is_changed = is_paused == running.is_some();
            if is_changed {
                if let Some(running) = running.take() {
                    running.cancel();
                }
                *running = (!is_paused).then(|| stop.child_token());
            }
            is_changed
        });
    }
}

/// Looks at the mark until `stop` fires.
pub(super) async fn run(stream: Arc<dyn Stream>, pause: Arc<GroupPause>, stop: CancellationToken) {
    let mut outage = OutageLog::of("reading whether the group is paused");
    let mut was_paused = false;
    loop {
        let look = tokio::time::timeout(PATIENCE, stream.paused_since());
        let Some(look) = stop.run_until_cancelled(look).await else {
            return;
        };
        match look {
            Ok(Ok(since)) => {
                outage.over();
                let is_paused = since.is_some();
                if let Some(since) = since.filter(|_| !was_paused) {
                    warn!(since, "the group is paused: nothing is read until `orderstream resume`");
                } else if was_paused && !is_paused {
                    info!("the group is not paused any more");
                }
                was_paused = is_paused;
            }
            Ok(Err(error)) => drop(outage.failed(&error)),
            Err(_) => drop(outage.failed(&StreamError::Unconfirmed(format!("no answer within {PATIENCE:?}")))),
        }
        pause.set(was_paused, &stop);
        if !sleep_or_stop(LOOK_EVERY, &stop).await {
            return;
        }
    }
}
