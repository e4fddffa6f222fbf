//! The write-ahead log: moved into the file, and kept short.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::damage::beside;

/// Bytes of a write-ahead log, which stays well below that unless reads of other programs overlap without a gap.
const LOG_LIMIT: u64 = 64 << 20;

/// How long a restart of the log waits for readers at most, and how long until it is tried again.
const PATIENCE: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is said that the log cannot be restarted.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// Restarts a log that has outgrown [`LOG_LIMIT`].
#[derive(Debug)]
pub(crate) struct LogBound {
    log: PathBuf,
    busy: Duration,
    /// When a restart failed last.
    failed: Option<Instant>,
    said: Option<Instant>,
}

impl LogBound {
    /// `busy` is the connection's usual wait for locks.
    pub(crate) fn new(path: &Path, busy: Duration) -> Self {
        Self {
            log: beside(path, "-wal"),
            busy,
            failed: None,
            said: None,
        }
    }

    /// Called after each commit. Commits do not wait for readers here, but for a moment where the log is too long:
    /// ordinary checkpoints cannot restart it as long as reads overlap.
    pub(crate) fn enforce(&mut self, connection: &Connection) {
        let bytes = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        let is_recent = |at: Option<Instant>, limit| at.is_some_and(|at: Instant| at.elapsed() < limit);
        if bytes <= LOG_LIMIT || is_recent(self.failed, AGAIN) {
            return;
        }
        match restart(connection, self.busy) {
            Ok(true) => (self.failed, self.said) = (None, None),
            failed => {
                self.failed = Some(Instant::now());
                if !is_recent(self.said, SAY_AGAIN) {
                    self.said = self.failed;
                    tracing::warn!(
                        bytes, ?failed, log = %self.log.display(),
                        "the write-ahead log grows: another program has had one transaction open for long"
                    );
                }
            }
        }
    }
}

/// Answers whether it could.
fn restart(connection: &Connection, busy: Duration) -> rusqlite::Result<bool> {
    patiently(connection, busy, "PRAGMA wal_checkpoint(RESTART)")
}

/// Moves all that is in the log into the file, so that nothing is lost with the log. Answers whether it could: not as long
/// as somebody reads.
pub(crate) fn empty_log(connection: &Connection, busy: Duration) -> rusqlite::Result<bool> {
    patiently(connection, busy, "PRAGMA wal_checkpoint(TRUNCATE)")
}

fn patiently(connection: &Connection, busy: Duration, checkpoint: &str) -> rusqlite::Result<bool> {
    connection.busy_timeout(PATIENCE)?;
    let is_busy = connection.query_row(checkpoint, [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(busy)?;
    Ok(!is_busy?)
}

/// Moves what is in the log into the file, as far as readers let it. Makes room in the log where the disk has none.
pub(crate) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
