//! The writing thread: calls that come in while it commits share the next commit.
//!
//! Invariants: a call is answered after its transaction has reached the disk, in a file that its
//! name led to at that time, or failed as a whole; an error of one call does not affect its
//! neighbours (each has a savepoint); one transaction is bounded in calls and in bytes.

use std::cell::RefCell;
use std::path::Path;

use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::clock;
use super::error::{self, EmbeddedError};
use super::logs::Session;
use super::stats::Stats;
use super::writer_file::{Commit, WriterFile};
use super::writer_handle::{QueuedCall, WriterHandle};
use crate::metrics::Metrics;
use crate::sqlite::{self, ErrorCause, cause};
use crate::stream::StreamError;

/// Calls in the queue; further callers wait for a place in it.
const QUEUE: usize = 1024;
/// Calls of one transaction.
const MOST_CALLS: usize = 256;
/// Bytes of one transaction.
const MOST_BYTES: usize = 16 << 20;

/// Free pages are returned to the system, this many at a time, where there are more of them than
/// this and than pages in use.
const PAGES_RETURNED: i64 = 1024;
const RETURN_PAGES: &str = "PRAGMA incremental_vacuum(1024)";

/// Opens the file and starts the thread. While the disk is full or failing, calls are refused and
/// the file is tried again: the process may take events elsewhere, or wait.
pub(super) fn start(path: &Path, group: &str, metrics: Metrics) -> Result<WriterHandle, EmbeddedError> {
    let (sender, stats) = watch::channel(Stats::default());
    let mut file = WriterFile::start(path, group, sender, metrics)?;
    let clock = file.clock.clone();
    let (queue, calls) = mpsc::channel(QUEUE);
    let thread = std::thread::Builder::new().name("embedded stream".to_owned());
    let run = move || run(&mut file, calls);
    thread.spawn(run).map_err(sqlite::io(path))?;
    Ok(WriterHandle {
        queue,
        path: path.into(),
        stats,
        clock,
    })
}

fn run(file: &mut WriterFile, mut queue: mpsc::Receiver<QueuedCall>) {
    while let Some(first) = queue.blocking_recv() {
        let mut bytes = first.bytes;
        let mut calls = vec![first];
        while calls.len() < MOST_CALLS && bytes < MOST_BYTES {
            let Ok(call) = queue.try_recv() else { break };
            bytes += call.bytes;
            calls.push(call);
        }
        serve(file, calls);
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

/// Runs calls in one transaction, and answers them.
fn serve(file: &mut WriterFile, calls: Vec<QueuedCall>) {
    let moved = file.still_moved();
    let (refused, mut calls): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| moved.is_some() && call.stores);
    for call in refused {
        call.answer(moved.map(|moved| EmbeddedError::Moved(moved).stream_error(&file.path)));
    }
    if calls.is_empty() {
        return;
    }
    let failed = transact(file, &mut calls).err();
    if let Some(error) = &failed {
        file.mend(error);
    }
    // After the commit, so that what is confirmed was in a file that can be found.
    let moved = file.check_moved();
    // The commit went to a file that has no name any more. It takes effect again where the file is
    // put back.
    let unfindable = moved.map(|moved| EmbeddedError::Moved(moved).to_string());
    for call in calls {
        let error = match (&failed, &unfindable) {
            (Some(error), _) => Some(error.stream_error(&file.path)),
            (None, Some(message)) if call.stores => Some(StreamError::Unreachable {
                server: file.path.display().to_string(),
                message: message.clone(),
            }),
            (None, _) => None,
        };
        call.answer(error);
    }
}

/// One transaction. An error is that of all calls: nothing of it happened.
fn transact(file: &mut WriterFile, calls: &mut [QueuedCall]) -> Result<(), EmbeddedError> {
    let connection = file.take()?;
    let ran = connection.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
        let commit = run_all(file, &connection, calls)?;
        connection.execute_batch("COMMIT")?;
        Ok(commit)
    });
    if ran.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    file.put(connection, ran.is_ok());
    if let Some(commit) = ran? {
        file.committed(commit);
    }
    Ok(())
}

/// Returns what the commit will leave behind, unless nothing was changed.
fn run_all(file: &WriterFile, connection: &Connection, calls: &mut [QueuedCall]) -> rusqlite::Result<Option<Commit>> {
    let session = Session {
        connection,
        now: file.clock.now(),
        wall: clock::wall(),
        damaged: RefCell::default(),
        created_groups: RefCell::default(),
    };
    let changes = connection.total_changes();
    for call in calls {
        session.execute("SAVEPOINT call", [])?;
        if let Err(error) = call.run(&session) {
            // Where SQLite itself rolled back, or the file is damaged, the neighbours' work is gone
            // too.
            if connection.is_autocommit() || cause(&error) == ErrorCause::Damaged {
                return Err(error);
            }
            call.fail(error::stream_error(&file.path, &error));
            session.execute("ROLLBACK TO call", [])?;
        }
        session.execute("RELEASE call", [])?;
    }
    if connection.total_changes() == changes {
        return Ok(None);
    }
    session.execute("UPDATE commits SET number = number + 1", [])?;
    Ok(Some(Commit {
        stats: Stats::read(connection, &file.group)?,
        damaged: session.damaged.take(),
        created_groups: session.created_groups.take(),
    }))
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
