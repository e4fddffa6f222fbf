//! The connection that only reads: what changes nothing never holds up appends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::watch;

use super::error::EmbeddedError;
use super::schema;
use super::stats::Stats;
use super::writer_handle::WriterHandle;
use crate::sqlite::{self, Cause, FileError, cause};
use crate::stream::StreamError;

/// A connection of its own, made at first use and again when the file was replaced.
#[derive(Clone)]
pub(super) struct ReadConnection {
    path: Arc<PathBuf>,
    open: Arc<Mutex<Option<Open>>>,
    writer: WriterHandle,
    stats: watch::Receiver<Stats>,
}

struct Open {
    connection: Connection,
    /// Which file it is, counted from the start of the process.
    file: u64,
}

impl ReadConnection {
    pub(super) fn new(path: PathBuf, writer: WriterHandle, stats: watch::Receiver<Stats>) -> Self {
        Self {
            path: Arc::new(path),
            open: Arc::default(),
            writer,
            stats,
        }
    }

    /// Runs `read` in one snapshot, off the runtime's threads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        let connection = self.clone();
        let file = self.stats.borrow().file;
        let outcome = tokio::task::spawn_blocking(move || connection.run_now(read)).await;
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let failed = Err(error.stream_error(&self.path));
                if let EmbeddedError::File(FileError::Sql(error)) = error
                    && cause(&error) == Cause::Damaged
                    && self.stats.borrow().file == file
                {
                    // For the thread that writes to find, which replaces the file.
                    let _ = self.writer.call::<()>(0, |_| Err(error)).await;
                }
                failed
            }
            Err(_) => Err(StreamError::Unusable(format!(
                "{}: reading panicked",
                self.path.display()
            ))),
        }
    }

    fn run_now<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, EmbeddedError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.stats.borrow().file;
        let connection = match open.take().filter(|open| open.file == file) {
            Some(open) => open.connection,
            None => match self.stats.borrow().moved {
                // The name leads to another file, if to any.
                Some(moved) => return Err(EmbeddedError::Moved(moved)),
                None => sqlite::open_read_only(&self.path, schema::BUSY)?,
            },
        };
        connection.execute_batch("BEGIN")?;
        let outcome = read(&connection);
        // A connection that failed is closed.
        connection.execute_batch("COMMIT")?;
        if outcome.is_ok() {
            *open = Some(Open { connection, file });
        }
        Ok(outcome?)
    }
}
