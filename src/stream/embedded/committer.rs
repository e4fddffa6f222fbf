//! The thread that writes: calls that come in while it commits share the next commit.
//!
//! Owns the writing connection. Invariants: a call is answered after its transaction has reached the disk, or failed as a
//! whole; what is wrong with one call does not touch its neighbours (each has a savepoint); one transaction is bounded in
//! calls and in bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Params};
use tokio::sync::{mpsc, oneshot, watch};

use super::clock::{self, Clock};
use super::fault::{self, Fault};
use super::standing::Standing;
use crate::stream::StreamError;

/// Calls that wait; beyond them callers wait to get in.
const QUEUE: usize = 1024;
/// Calls of one transaction.
const MOST_CALLS: usize = 256;
/// Bytes of one transaction.
const MOST_BYTES: usize = 16 << 20;
/// Bound on one answer: a disk that hangs must not hang its callers.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Free pages are given back to the system in steps of so many, once they are more than that and more than are in use.
const PAGES_GIVEN_BACK: i64 = 1024;

/// What a call has while its transaction is open.
pub(super) struct Session<'a> {
    /// The writing connection.
    pub(super) connection: &'a Connection,
    /// The steady clock's reading.
    pub(super) now: u64,
    /// Unix time, milliseconds.
    pub(super) wall: u64,
}

impl Session<'_> {
    /// Runs a statement, prepared once.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(params)
    }
}

/// Something to be done in a transaction.
trait Job: Send {
    fn bytes(&self) -> usize;
    fn run(&mut self, session: &Session<'_>) -> rusqlite::Result<()>;
    /// It alone failed.
    fn fail(&mut self, error: StreamError);
    /// The transaction ended; with an error where nothing of it happened.
    fn answer(self: Box<Self>, failed: Option<StreamError>);
}

struct Call<T, F> {
    bytes: usize,
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
pub(super) struct Calls {
    queue: mpsc::Sender<Box<dyn Job>>,
    path: Arc<Path>,
}

impl Calls {
    /// Runs `act` in a transaction and answers when that is on the disk. `bytes` is about what it writes.
    ///
    /// # Errors
    /// Nothing of it happened, but for [`StreamError::Timeout`] and [`StreamError::Unreachable`]: unknown.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        bytes: usize,
        act: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        let (answer, receiver) = oneshot::channel();
        let call = Call {
            bytes,
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

/// The thread's own.
pub(super) struct Committer {
    pub(super) path: PathBuf,
    /// Our group.
    pub(super) group: String,
    pub(super) connection: Connection,
    pub(super) clock: Clock,
    pub(super) standing: watch::Sender<Standing>,
}

impl Committer {
    /// Starts the thread.
    pub(super) fn start(self) -> Result<Calls, Fault> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let path = self.path.clone();
        std::thread::Builder::new()
            .name("embedded stream".to_owned())
            .spawn(move || self.run(queue))
            .map_err(|source| Fault::Io {
                file: path.clone(),
                source,
            })?;
        Ok(Calls {
            queue: sender,
            path: path.into(),
        })
    }

    fn run(mut self, mut queue: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = queue.blocking_recv() {
            let mut jobs = vec![first];
            let mut bytes = jobs[0].bytes();
            while jobs.len() < MOST_CALLS && bytes < MOST_BYTES {
                let Ok(job) = queue.try_recv() else { break };
                bytes += job.bytes();
                jobs.push(job);
            }
            self.commit(jobs);
            if queue.is_empty() {
                self.give_back();
            }
        }
    }

    fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        match self.transact(&mut jobs) {
            Ok(()) => {
                for job in jobs {
                    job.answer(None);
                }
            }
            Err(error) => {
                for job in jobs {
                    job.answer(Some(fault::stream_error(&self.path, &error)));
                }
            }
        }
    }

    /// One transaction. An error is that of all jobs: nothing of it happened.
    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
        let ran = self.connection.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
            let standing = self.run_all(jobs)?;
            self.connection.execute_batch("COMMIT")?;
            Ok(standing)
        });
        if ran.is_err() && !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        if let Some(standing) = ran? {
            self.standing.send_replace(standing);
        }
        Ok(())
    }

    /// Answers where things stand afterwards, unless nothing was changed.
    fn run_all(&self, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<Option<Standing>> {
        let session = Session {
            connection: &self.connection,
            now: self.clock.now(),
            wall: clock::wall(),
        };
        let changes = self.connection.total_changes();
        for job in jobs {
            session.execute("SAVEPOINT call", [])?;
            if let Err(error) = job.run(&session) {
                // Where SQLite itself rolled back, or the file is broken, the neighbours' work is gone too.
                if self.connection.is_autocommit() || fault::is_damage(&error) {
                    return Err(error);
                }
                job.fail(fault::stream_error(&self.path, &error));
                session.execute("ROLLBACK TO call", [])?;
            }
            session.execute("RELEASE call", [])?;
        }
        if self.connection.total_changes() == changes {
            return Ok(None);
        }
        session.execute("UPDATE commits SET number = number + 1", [])?;
        Standing::read(&self.connection, &self.group).map(Some)
    }

    /// Gives free pages back to the system, a few at a time.
    fn give_back(&mut self) {
        let pages = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let given = (|| {
            let (free, all) = (pages("freelist_count")?, pages("page_count")?);
            if free > PAGES_GIVEN_BACK && 2 * free > all {
                let step = format!("PRAGMA incremental_vacuum({PAGES_GIVEN_BACK})");
                self.connection.execute_batch(&step)?;
            }
            Ok::<_, rusqlite::Error>(())
        })();
        if let Err(error) = given {
            // Not needed to go on; what is really wrong shows in the next call.
            tracing::debug!(%error, "free pages cannot be given back");
        }
    }
}
