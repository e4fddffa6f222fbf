//! The way to the thread that writes: what is called, and its answer.
//!
//! Invariants: an answer comes in bounded time; a caller that is cancelled cancels nothing.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Params};
use tokio::sync::{mpsc, oneshot};

use crate::stream::{StreamError, StreamId};

/// Bound on one answer: a disk that hangs must not hang its callers.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What a call has while its transaction is open.
pub(super) struct Session<'a> {
    /// The writing connection.
    pub(super) connection: &'a Connection,
    /// The steady clock's reading.
    pub(super) now: u64,
    /// Unix time, milliseconds.
    pub(super) wall: u64,
    /// Entries that turned out unreadable and that no caller is told of.
    pub(super) damaged: RefCell<Vec<StreamId>>,
}

impl Session<'_> {
    /// Runs a statement, prepared once.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(params)
    }
}

/// Something to be done in a transaction.
pub(super) trait Job: Send {
    fn bytes(&self) -> usize;
    /// Whether somebody relies on it that what it writes is found again.
    fn stores(&self) -> bool;
    fn run(&mut self, session: &Session<'_>) -> rusqlite::Result<()>;
    /// It alone failed.
    fn fail(&mut self, error: StreamError);
    /// The transaction ended; with an error where nothing of it happened.
    fn answer(self: Box<Self>, failed: Option<StreamError>);
}

struct Call<T, F> {
    bytes: usize,
    stores: bool,
    act: Option<F>,
    value: Option<Result<T, StreamError>>,
    answer: oneshot::Sender<Result<T, StreamError>>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send,
{
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn stores(&self) -> bool {
        self.stores
    }

    fn run(&mut self, session: &Session<'_>) -> rusqlite::Result<()> {
        if let Some(act) = self.act.take() {
            self.value = Some(Ok(act(session)?));
        }
        Ok(())
    }

    fn fail(&mut self, error: StreamError) {
        self.value = Some(Err(error));
    }

    fn answer(self: Box<Self>, failed: Option<StreamError>) {
        // Nobody listens where the caller was cancelled; what was done stays done.
        match (failed, self.value) {
            (Some(error), _) => drop(self.answer.send(Err(error))),
            (None, Some(value)) => drop(self.answer.send(value)),
            (None, None) => {}
        }
    }
}

/// The way to the thread; it ends with the last of these.
#[derive(Clone)]
pub(super) struct WriterHandle {
    pub(super) queue: mpsc::Sender<Box<dyn Job>>,
    pub(super) path: Arc<Path>,
}

impl WriterHandle {
    /// Runs `act` in a transaction and answers when that is on the disk. `bytes` is about what it writes.
    ///
    /// # Errors
    /// Nothing of it happened, but for [`StreamError::Timeout`] and [`StreamError::Unreachable`]: unknown.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        bytes: usize,
        act: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        self.enqueue(bytes, false, act).await
    }

    /// As [`Self::call`], for what must be found again: it is refused while the file's name does not lead to the file. All
    /// else goes on then, so that what the file holds is still worked off.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(super) async fn store<T: Send + 'static>(
        &self,
        bytes: usize,
        act: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        self.enqueue(bytes, true, act).await
    }

    async fn enqueue<T: Send + 'static>(
        &self,
        bytes: usize,
        stores: bool,
        act: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        let (answer, receiver) = oneshot::channel();
        let call = Call {
            bytes,
            stores,
            act: Some(act),
            value: None,
            answer,
        };
        let answered = async {
            self.queue.send(Box::new(call)).await.map_err(|_| self.ended())?;
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
