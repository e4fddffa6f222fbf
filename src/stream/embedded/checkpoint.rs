//! The room that the file takes on the disk: what is free in it is given back, and its log is kept short.
//!
//! Invariant: appends do not wait for readers here, save for a moment now and then where overlapping readers have let
//! the log outgrow its bound.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::schema::{BUSY, LOG_LIMIT};
use super::tally::beside;

/// Free pages are given back to the system in steps of so many, once they are more than that and more than are in use.
const PAGES_GIVEN_BACK: i64 = 1024;
const GIVE_BACK: &str = "PRAGMA incremental_vacuum(1024)";
/// What is in the log goes into the file, as far as readers let it.
const FOLD: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// The log begins anew, which it cannot by itself as long as readers overlap; waits for those there are.
const RESTART: &str = "PRAGMA wal_checkpoint(RESTART)";
/// How long that waits at most, twice at that, and how long until it is tried again where that was in vain.
const PATIENCE: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_secs(2);

/// The file's room.
pub(super) struct Checkpointer {
    log: PathBuf,
    /// When it was in vain last to restart the log.
    vain: Option<Instant>,
}

impl Checkpointer {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            log: beside(path, "-wal"),
            vain: None,
        }
    }

    /// Restarts a log that has outgrown its bound. Called after each commit.
    pub(super) fn bound_log(&mut self, connection: &Connection) {
        let bytes = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        if bytes <= LOG_LIMIT || self.vain.is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        match restart(connection) {
            Ok(true) => self.vain = None,
            failed => {
                self.vain = Some(Instant::now());
                tracing::warn!(bytes, ?failed, log = %self.log.display(), "the log grows: somebody reads the file for long");
            }
        }
    }
}

/// Answers whether it could.
fn restart(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(PATIENCE)?;
    let is_busy = connection.query_row(RESTART, [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(BUSY)?;
    Ok(!is_busy?)
}

/// Makes room in the log where the disk has none: from its start it can be used again once it is folded into the file.
pub(super) fn fold(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row(FOLD, [], |_| Ok(()))
}

/// Gives free pages back to the system, a few at a time. The file shrinks when its log is folded into it.
pub(super) fn give_back(connection: &Connection) -> rusqlite::Result<()> {
    let pages = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (free, all) = (pages("freelist_count")?, pages("page_count")?);
    if free > PAGES_GIVEN_BACK && 2 * free > all {
        let mut step = connection.prepare_cached(GIVE_BACK)?;
        let mut pages = step.query([])?;
        while pages.next()?.is_some() {}
        drop(pages);
        fold(connection)?;
    }
    Ok(())
}
