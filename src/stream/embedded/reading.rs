//! The connection that only reads: what changes nothing never holds up appends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::watch;

use super::calls::Calls;
use super::standing::Standing;
use super::{fault, schema};
use crate::stream::StreamError;

/// A connection of its own, made at first use and again when the file was replaced.
#[derive(Clone)]
pub(super) struct Reading {
    path: Arc<PathBuf>,
    open: Arc<Mutex<Option<Open>>>,
    calls: Calls,
    standing: watch::Receiver<Standing>,
}

struct Open {
    connection: Connection,
    /// Which file it is, counted from the start of the process.
    file: u64,
}

impl Reading {
    pub(super) fn new(path: PathBuf, calls: Calls, standing: watch::Receiver<Standing>) -> Self {
        Self {
            path: Arc::new(path),
            open: Arc::default(),
            calls,
            standing,
        }
    }

    /// Runs `look` in one snapshot, off the runtime's threads.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StreamError> {
        let reading = self.clone();
        let file = self.standing.borrow().file;
        let looked = tokio::task::spawn_blocking(move || reading.look_now(look)).await;
        match looked {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let failed = Err(fault::stream_error(&self.path, &error));
                if fault::is_damage(&error) && self.standing.borrow().file == file {
                    // For the thread that writes to find, which replaces the file.
                    let _ = self.calls.call::<()>(0, |_| Err(error)).await;
                }
                failed
            }
            Err(_) => Err(StreamError::Unusable(format!(
                "{}: reading panicked",
                self.path.display()
            ))),
        }
    }

    fn look_now<T>(&self, look: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.standing.borrow().file;
        let connection = match open.take().filter(|open| open.file == file) {
            Some(open) => open.connection,
            None => schema::connect_reading(&self.path)?,
        };
        connection.execute_batch("BEGIN")?;
        let looked = look(&connection);
        // A connection that failed is closed.
        connection.execute_batch("COMMIT")?;
        if looked.is_ok() {
            *open = Some(Open { connection, file });
        }
        looked
    }
}
