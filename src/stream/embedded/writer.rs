//! The writing thread and its handle: calls that come in while it commits share the next commit.
//!
//! Invariants: a call is answered after its transaction has reached the disk, in a file that its
//! name led to at that time, or failed as a whole; an error of one call does not affect its
//! neighbours (each has a savepoint); one transaction is bounded in calls and in bytes; an answer
//! comes in bounded time; a caller that is cancelled cancels nothing.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::clock::{self, SteadyClock};
use super::error::{self, EmbeddedError};
use super::logs::Session;
use super::stats::Stats;
use super::writer_file::{Commit, WriterFile};
use crate::metrics::Metrics;
use crate::sqlite::{self, ErrorCause, cause};
use crate::stream::StreamError;

/// Calls in the queue; further callers wait for a place in it.
const QUEUE: usize = 1024;
/// Calls of one transaction.
const MOST_CALLS: usize = 256;
/// Bytes of one transaction.
const MOST_BYTES: usize = 16 << 20;
/// Bytes that a call writes which stores no entries, about.
const SMALL: usize = 256;
/// Longest wait for an answer: a disk that hangs must not hang its callers.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Free pages are returned to the system, this many at a time, where there are more of them than
/// this and than pages in use.
const PAGES_RETURNED: i64 = 1024;
const RETURN_PAGES: &str = "PRAGMA incremental_vacuum(1024)";

type Act = Box<dyn FnOnce(&Session<'_>) -> rusqlite::Result<()> + Send>;

/// A call in the queue.
struct QueuedCall {
    bytes: usize,
    /// Whether the caller relies on it that what it writes is found again.
    stores: bool,
    act: Act,
    answer: oneshot::Sender<Result<(), StreamError>>,
}

/// The handle of the thread, which ends with the last of these, or when it is closed.
#[derive(Clone)]
pub(super) struct WriterHandle {
    /// `None` asks the thread to end.
    queue: mpsc::Sender<Option<QueuedCall>>,
    pub(super) path: Arc<Path>,
    pub(super) stats: watch::Receiver<Stats>,
    pub(super) clock: SteadyClock,
}

impl WriterHandle {
    /// Opens the file and starts the thread. While the disk is full or failing, calls are refused
    /// and the file is tried again: the process may take events elsewhere, or wait.
    pub(super) fn start(path: &Path, group: &str, metrics: Metrics) -> Result<Self, EmbeddedError> {
        let (sender, stats) = watch::channel(Stats::default());
        let file = WriterFile::start(path, group, sender, metrics)?;
        let clock = file.clock.clone();
        let (queue, calls) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("embedded stream".to_owned());
        thread.spawn(move || run(file, calls)).map_err(sqlite::io(path))?;
        Ok(Self {
            queue,
            path: path.into(),
            stats,
            clock,
        })
    }

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
        let (answer, answered) = oneshot::channel();
        let (found, value) = oneshot::channel();
        let act = move |session: &Session<'_>| {
            // A caller that was cancelled does not listen; what was done stays done.
            let _ = found.send(act(session)?);
            Ok(())
        };
        let call = QueuedCall {
            bytes,
            stores,
            act: Box::new(act),
            answer,
        };
        let ended = || StreamError::Unreachable {
            server: self.path.display().to_string(),
            message: "the writing thread has ended, see the log".to_owned(),
        };
        let answered = async {
            self.queue.send(Some(call)).await.map_err(|_| ended())?;
            answered.await.map_err(|_| ended())??;
            value.await.map_err(|_| ended())
        };
        let timeout = StreamError::Timeout {
            server: self.path.display().to_string(),
            after: ANSWER_LIMIT,
        };
        tokio::time::timeout(ANSWER_LIMIT, answered)
            .await
            .unwrap_or(Err(timeout))
    }

    /// Ends the thread after the calls that are in the queue, and waits until its file is closed.
    pub(super) async fn close(&self) {
        let _ = self.queue.send(None).await;
        // The sender is dropped after the connection.
        let mut stats = self.stats.clone();
        while stats.changed().await.is_ok() {}
    }
}

fn run(mut file: WriterFile, mut queue: mpsc::Receiver<Option<QueuedCall>>) {
    while let Some(calls) = next_calls(&mut queue) {
        serve(&mut file, calls);
        if queue.is_empty()
            && let Some(connection) = &file.connection
            && let Err(error) = return_pages(connection)
        {
            // What is really wrong shows in the next call.
            tracing::debug!(%error, "free pages cannot be returned to the system");
        }
    }
    file.end();
}

/// The calls of the next transaction; `None` after the last one.
fn next_calls(queue: &mut mpsc::Receiver<Option<QueuedCall>>) -> Option<Vec<QueuedCall>> {
    let (mut calls, mut bytes) = (Vec::new(), 0);
    while calls.len() < MOST_CALLS && bytes < MOST_BYTES {
        let next = match calls.is_empty() {
            true => queue.blocking_recv(),
            false => queue.try_recv().ok(),
        };
        match next {
            Some(Some(call)) => {
                bytes += call.bytes;
                calls.push(call);
            }
            // What is in the queue is still served.
            Some(None) => queue.close(),
            None => break,
        }
    }
    (!calls.is_empty()).then_some(calls)
}

/// Runs calls in one transaction, and answers them. A caller that was cancelled does not listen.
fn serve(file: &mut WriterFile, calls: Vec<QueuedCall>) {
    let moved = file.still_moved();
    let (mut acts, mut answers) = (Vec::new(), Vec::new());
    for call in calls {
        match moved.filter(|_| call.stores) {
            Some(moved) => {
                let refusal = EmbeddedError::Moved(moved).stream_error(&file.path);
                let _ = call.answer.send(Err(refusal));
            }
            None => {
                acts.push(call.act);
                answers.push((call.stores, call.answer));
            }
        }
    }
    if acts.is_empty() {
        return;
    }
    let outcomes = transact(file, acts);
    if let Err(error) = &outcomes {
        file.mend(error);
    }
    // After the commit, so that what is confirmed was in a file that can be found.
    let moved = file.check_moved();
    // The commit went to a file that has no name any more. It takes effect again where the file is
    // put back.
    let unfindable = moved.map(|moved| EmbeddedError::Moved(moved).to_string());
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(error) => answers.iter().map(|_| Err(error.stream_error(&file.path))).collect(),
    };
    for ((stores, answer), outcome) in answers.into_iter().zip(outcomes) {
        let outcome = match &unfindable {
            Some(message) if stores && outcome.is_ok() => Err(StreamError::Unreachable {
                server: file.path.display().to_string(),
                message: message.clone(),
            }),
            _ => outcome,
        };
        let _ = answer.send(outcome);
    }
}

/// The outcome of each call of a transaction.
type CallOutcomes = Vec<Result<(), StreamError>>;

/// One transaction. An error is that of all calls: nothing of it happened.
fn transact(file: &mut WriterFile, acts: Vec<Act>) -> Result<CallOutcomes, EmbeddedError> {
    let connection = file.take()?;
    let ran = connection.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
        let ran = run_all(file, &connection, acts)?;
        connection.execute_batch("COMMIT")?;
        Ok(ran)
    });
    if ran.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    file.put(connection, ran.is_ok());
    let (outcomes, commit) = ran?;
    if let Some(commit) = commit {
        file.committed(commit);
    }
    Ok(outcomes)
}

/// Returns what the commit will leave behind, unless nothing was changed.
fn run_all(
    file: &WriterFile,
    connection: &Connection,
    acts: Vec<Act>,
) -> rusqlite::Result<(CallOutcomes, Option<Commit>)> {
    let session = Session {
        connection,
        now: file.clock.now(),
        wall: clock::wall(),
        damaged: RefCell::default(),
        created_groups: RefCell::default(),
    };
    let changes = connection.total_changes();
    let mut outcomes = Vec::with_capacity(acts.len());
    for act in acts {
        session.execute("SAVEPOINT call", [])?;
        outcomes.push(match act(&session) {
            Ok(()) => Ok(()),
            // Where SQLite itself rolled back, or the file is damaged, the neighbours' work is gone
            // too.
            Err(error) if connection.is_autocommit() || cause(&error) == ErrorCause::Damaged => return Err(error),
            Err(error) => {
                session.execute("ROLLBACK TO call", [])?;
                Err(error::stream_error(&file.path, &error))
            }
        });
        session.execute("RELEASE call", [])?;
    }
    if connection.total_changes() == changes {
        return Ok((outcomes, None));
    }
    session.execute("UPDATE commits SET number = number + 1", [])?;
    let commit = Commit {
        stats: Stats::read(connection, &file.group)?,
        damaged: session.damaged.take(),
        created_groups: session.created_groups.take(),
    };
    Ok((outcomes, Some(commit)))
}

/// Returns free pages to the system, a few at a time. The file shrinks when its log is moved into
/// it.
fn return_pages(connection: &Connection) -> rusqlite::Result<()> {
    let pages = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (free, all) = (pages("freelist_count")?, pages("page_count")?);
    if free > PAGES_RETURNED && 2 * free > all {
        let mut step = connection.prepare_cached(RETURN_PAGES)?;
        let mut pages = step.query([])?;
        while pages.next()?.is_some() {}
        drop(pages);
        sqlite::checkpoint(connection)?;
    }
    Ok(())
}
