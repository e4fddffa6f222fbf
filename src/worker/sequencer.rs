//! The order of a processor's jobs: each waits for its turn, however the job before it ended.

use tokio::sync::oneshot;
use tokio::task::JoinError;

/// One job's turn.
pub(super) struct Ticket {
    before: Option<oneshot::Receiver<()>>,
    _end: oneshot::Sender<()>,
}

/// Hands out tickets.
pub(super) struct Sequencer(Option<oneshot::Receiver<()>>);

impl Ticket {
    /// Waits until the job before has ended.
    pub(super) async fn wait(&mut self) {
        if let Some(before) = self.before.take() {
            // Nothing is ever sent: the job before drops its end.
            let _ = before.await;
        }
    }
}

impl Sequencer {
    pub(super) fn new() -> Self {
        Self(None)
    }

    pub(super) fn next(&mut self) -> Ticket {
        let (end, ended) = oneshot::channel();
        Ticket {
            before: self.0.replace(ended),
            _end: end,
        }
    }
}

/// Passes a task's panic on to whoever joins it.
pub(super) fn take_output<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}
