//! The handle of the writing thread: what is called, and its answer.
//!
//! Invariants: an answer comes in bounded time; a caller that is cancelled cancels nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::clock::SteadyClock;
use super::logs::Session;
use super::stats::Stats;
use crate::stream::StreamError;

/// Longest wait for an answer: a disk that hangs must not hang its callers.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Bytes that a call writes which stores no entries, about.
const SMALL: usize = 256;

/// A call in the queue of the writing thread.
pub(super) struct QueuedCall {
    pub(super) bytes: usize,
    /// Whether the caller relies on it that what it writes is found again.
    pub(super) stores: bool,
    act: Box<dyn Act>,
    failed: Option<StreamError>,
}

impl QueuedCall {
    pub(super) fn run(&mut self, session: &Session<'_>) -> rusqlite::Result<()> {
        self.act.run(session)
    }

    /// This call alone failed.
    pub(super) fn fail(&mut self, error: StreamError) {
        self.failed = Some(error);
    }

    /// The transaction ended; with an error where nothing of it happened.
    pub(super) fn answer(self, failed: Option<StreamError>) {
        self.act.answer(failed.or(self.failed));
    }
}

trait Act: Send {
    fn run(&mut self, session: &Session<'_>) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, failed: Option<StreamError>);
}

struct Pending<T, F> {
    act: Option<F>,
    value: Option<T>,
    answer: oneshot::Sender<Result<T, StreamError>>,
}

impl<T, F> Act for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, session: &Session<'_>) -> rusqlite::Result<()> {
        if let Some(act) = self.act.take() {
            self.value = Some(act(session)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, failed: Option<StreamError>) {
        // A caller that was cancelled does not listen; what was done stays done.
        let _ = match (failed, self.value) {
            (Some(error), _) => self.answer.send(Err(error)),
            (None, Some(value)) => self.answer.send(Ok(value)),
            (None, None) => return,
        };
    }
}

/// The handle of the thread, which ends with the last of these.
#[derive(Clone)]
pub(super) struct WriterHandle {
    pub(super) queue: mpsc::Sender<QueuedCall>,
    pub(super) path: Arc<Path>,
    pub(super) stats: watch::Receiver<Stats>,
    pub(super) clock: SteadyClock,
}

impl WriterHandle {
    /// Runs `act` in a transaction and returns when that is on the disk.
    ///
    /// # Errors
    /// Nothing of it happened, but for [`StreamError::Timeout`] and [`StreamError::Unreachable`]:
    /// unknown.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        self.enqueue(SMALL, false, act).await
    }

    /// As [`Self::call`], for `bytes` that must be found again: it is refused while the file's name
    /// does not lead to the file. Other calls are served then, so that what the file holds is still
    /// delivered and acked.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(super) async fn store<T: Send + 'static>(
        &self,
        bytes: usize,
        act: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        self.enqueue(SMALL + bytes, true, act).await
    }

    async fn enqueue<T: Send + 'static>(
        &self,
        bytes: usize,
        stores: bool,
        act: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        let (answer, receiver) = oneshot::channel();
        let act = Box::new(Pending {
            act: Some(act),
            value: None,
            answer,
        });
        let call = QueuedCall {
            bytes,
            stores,
            act,
            failed: None,
        };
        let answered = async {
            self.queue.send(call).await.map_err(|_| self.ended())?;
            receiver.await.map_err(|_| self.ended())?
        };
        let timeout = StreamError::Timeout {
            server: self.path.display().to_string(),
            after: ANSWER_LIMIT,
        };
        tokio::time::timeout(ANSWER_LIMIT, answered)
            .await
            .unwrap_or(Err(timeout))
    }

    fn ended(&self) -> StreamError {
        StreamError::Unreachable {
            server: self.path.display().to_string(),
            message: "the writing thread has ended, see the log".to_owned(),
        }
    }
}
