//! The connection that only reads: what changes nothing never holds up appends.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::error::{EmbeddedError, stream_error};
use super::schema;
use super::writer_handle::WriterHandle;
use crate::sqlite::{self, ErrorCause, FileError, cause};
use crate::stream::StreamError;

/// A connection of its own, opened at first use and again when the file was replaced.
#[derive(Clone)]
pub(super) struct ReadConnection {
    /// The connection, and which file it is (a count of openings).
    open: Arc<Mutex<Option<(Connection, u64)>>>,
    writer: WriterHandle,
}

impl ReadConnection {
    pub(super) fn new(writer: WriterHandle) -> Self {
        Self {
            open: Arc::default(),
            writer,
        }
    }

    /// Runs `read` in one snapshot, off the runtime's threads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        let connection = self.clone();
        let path = &self.writer.path;
        let file = self.writer.stats.borrow().file;
        let Ok(outcome) = tokio::task::spawn_blocking(move || connection.run_now(read)).await else {
            return Err(StreamError::Unusable(format!("{}: reading panicked", path.display())));
        };
        match outcome {
            Err(EmbeddedError::File(FileError::Sql(error))) if cause(&error) == ErrorCause::Damaged => {
                let failed = Err(stream_error(path, &error));
                if self.writer.stats.borrow().file == file {
                    // For the writing thread to meet, which replaces the file.
                    let _ = self.writer.call::<()>(|_| Err(error)).await;
                }
                failed
            }
            outcome => outcome.map_err(|error| error.stream_error(path)),
        }
    }

    fn run_now<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, EmbeddedError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, moved) = {
            let stats = self.writer.stats.borrow();
            (stats.file, stats.moved)
        };
        let connection = match (open.take().filter(|(_, of)| *of == file), moved) {
            (Some((connection, _)), _) => connection,
            // The name leads to another file, or to none.
            (None, Some(moved)) => return Err(EmbeddedError::Moved(moved)),
            (None, None) => sqlite::open_read_only(&self.writer.path, schema::BUSY)?,
        };
        connection.execute_batch("BEGIN")?;
        let outcome = read(&connection);
        // A connection that failed is closed.
        connection.execute_batch("COMMIT")?;
        if outcome.is_ok() {
            *open = Some((connection, file));
        }
        Ok(outcome?)
    }
}
