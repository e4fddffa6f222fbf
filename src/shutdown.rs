//! Shutdown: signals, and the roles (background tasks) that end with the process.
//!
//! Invariants: every task is tracked; a role that panics or ends early ends the process, with its
//! name in the error, since a process that lost a role looks healthy from outside.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Background roles that are stopped together; a cheap clone.
#[derive(Debug, Clone)]
pub struct Roles {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: watch::Sender<Option<&'static str>>,
}

impl Default for Roles {
    fn default() -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            failed: watch::Sender::new(None),
        }
    }
}

impl Roles {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Roles that are stopped apart from those of `self`, but whose failure is reported with
    /// theirs.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            failed: self.failed.clone(),
            ..Self::new()
        }
    }

    /// The token that a role watches to end.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a role, which ends only after [`Roles::stop_token`] fired.
    pub fn spawn(&self, name: &'static str, role: impl Future<Output = ()> + Send + 'static) {
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        self.tracker.spawn(async move {
            let ended = AssertUnwindSafe(role).catch_unwind().await;
            if ended.is_err() || !stop.is_cancelled() {
                failed.send_if_modified(|first| first.replace(name).is_none());
            }
        });
    }

    /// Starts a task that may end by itself; it is dropped when the roles are stopped.
    pub fn spawn_task(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            if stop.run_until_cancelled(task).await.is_some() {
                stop.cancelled().await;
            }
        });
    }

    /// Waits until a role has failed; answers its name.
    pub async fn failed(&self) -> &'static str {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await.map(|name| *name) {
            Ok(Some(name)) => name,
            // Cannot happen, since `self` holds a sender; waits as if no role fails.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Tells all to end and waits until they have.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// The request that a signal makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalRequest {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP: read secrets and URLs again.
    Reload,
}

/// The signals of this process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP, which no longer end the process from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next request.
    pub async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            _ = self.terminate.recv() => SignalRequest::Stop,
            _ = self.interrupt.recv() => SignalRequest::Stop,
            _ = self.hangup.recv() => SignalRequest::Reload,
        }
    }

    /// Waits for a request to stop and ignores others.
    pub async fn stop(&mut self) {
        while self.next().await != SignalRequest::Stop {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_role_that_panics_or_ends_early_is_named() {
        let front = Roles::new();
        let back = front.beside();
        let stop = back.stop_token();
        back.spawn("well-behaved", async move { stop.cancelled().await });
        front.spawn_task("done early", async {});
        assert!(front.failed().now_or_never().is_none());
        back.spawn("early", async {});
        assert_eq!(front.failed().await, "early");
        front.spawn("panics", async { panic!("as a test") });
        back.stop().await;
        front.stop().await;

        let alone = Roles::new();
        alone.spawn("panics", async { panic!("as a test") });
        assert_eq!(alone.failed().await, "panics");
    }
}
