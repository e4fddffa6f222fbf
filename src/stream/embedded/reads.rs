//! Reads that change nothing: over the read connection of an open stream, and of a whole file for a
//! process that does not run on it (a command, or a trace of a spool).
//!
//! Invariant: neither appends nor the file's owner are held up. A damaged file is set aside only by
//! the process that runs on it, which counts and logs what is lost: after a command had done so,
//! the loss would go unreported.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};

use super::error::{EmbeddedError, stream_error};
use super::row::{id_of, row_from, row_up_to, unpack};
use super::schema;
use super::writer::WriterHandle;
use crate::sqlite::{self, ErrorCause, FileError, cause};
use crate::stream::{Destination, Entry, PAGE_BYTES, Page, Range, ReadOrder, StreamError};

/// Entries of a page of [`scan_file`].
const SCAN_PAGE: usize = 200;

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

    /// Closes the connection; the next read would open it again.
    pub(super) fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
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

/// A page of a log. Damaged entries are left out, and logged.
pub(super) fn range(connection: &Connection, range: Range) -> rusqlite::Result<Page> {
    let table = match range.log {
        Destination::Stream => "entries",
        Destination::DeadLetters => "dead_letters",
    };
    let order = match range.order {
        ReadOrder::OldestFirst => "ASC",
        ReadOrder::NewestFirst => "DESC",
    };
    let sql =
        format!("SELECT id, checksum, fields FROM {table} WHERE id BETWEEN ?1 AND ?2 ORDER BY id {order} LIMIT ?3");
    let mut query = connection.prepare_cached(&sql)?;
    let most = i64::try_from(range.page()).unwrap_or(i64::MAX);
    let mut rows = query.query(params![row_from(range.from), row_up_to(range.to), most])?;
    let mut page = Page::default();
    let (mut seen, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let (id, checksum, blob) = (row.get(0)?, row.get(1)?, row.get_ref(2)?.as_bytes()?);
        (seen, bytes) = (seen + 1, bytes + blob.len());
        match unpack(range.log, id, blob, checksum) {
            Some(entry) => page.entries.push(entry),
            None => tracing::error!(id = %id_of(id), "an entry is damaged on disk: left out of what is shown"),
        }
        if seen == most || bytes > PAGE_BYTES {
            page.next = range.behind(id_of(id));
            break;
        }
    }
    Ok(page)
}

/// Whether a process could run on the file as it is.
pub(super) fn check_file(path: &Path) -> Result<(), StreamError> {
    let check = || {
        let _lock = sqlite::lock(path)?;
        schema::recognize(&sqlite::inspect(path, schema::BUSY)?)
    };
    check().map(drop).map_err(|error: FileError| {
        if error.is_damage() {
            StreamError::Unusable(format!(
                "{} is damaged ({error}): `orderstream run` sets it aside, goes on with a new one, and says how much is \
                 lost",
                path.display()
            ))
        } else {
            EmbeddedError::File(error).stream_error(path)
        }
    })
}

/// Passes the entries of the file to `visit`, newest first, in one snapshot.
pub(super) fn scan_file(path: &Path, mut visit: impl FnMut(Entry) -> ControlFlow<()>) -> Result<(), EmbeddedError> {
    let connection = sqlite::open_read_only(path, schema::BUSY)?;
    // One snapshot: the file may be replaced, but not between two pages of it.
    connection.execute_batch("BEGIN")?;
    let is_new = schema::recognize(&connection)? == 0;
    let mut next = (!is_new).then(|| Range::all(Destination::Stream, ReadOrder::NewestFirst, SCAN_PAGE));
    while let Some(page) = next {
        let page = range(&connection, page)?;
        if page.entries.into_iter().try_for_each(&mut visit).is_break() {
            break;
        }
        next = page.next;
    }
    Ok(())
}
