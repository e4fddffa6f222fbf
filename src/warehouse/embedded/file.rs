//! The file: opened when it is needed, one connection, one job at a time on a thread that may block.
//!
//! Invariants: what was committed is on disk (`synchronous=FULL`); a file that was replaced or removed under us is
//! noticed before the next job; waits for other programs' locks end; the write-ahead log is brought back to nothing as
//! soon as no reader needs it.

use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Mutex;

use super::error::{Failure, damaged};
use crate::folder;
use crate::telemetry::PanicPlace;

/// Longest wait for another program's write lock; after it the entries stay pending, and the load is tried again.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// Bytes of write-ahead log from which it is emptied with some force; ordinary checkpoints keep it at 4 MiB.
const WAL_LIMIT: u64 = 64 << 20;
const WAL_PATIENCE: Duration = Duration::from_millis(200);
const WAL_AGAIN: Duration = Duration::from_secs(30);

/// Largest file that is looked through at each opening: about a second's work.
const LOOK_THROUGH: u64 = 256 << 20;

/// A file, and its connection as soon as there is one.
pub(super) struct File {
    path: PathBuf,
    slot: Arc<Mutex<Option<Open>>>,
}

impl File {
    /// Touches nothing yet.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            slot: Arc::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs the job with the connection. It runs to its end even where the caller does not wait for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut slot = Arc::clone(&self.slot).lock_owned().await;
        let path = self.path.clone();
        let running = tokio::task::spawn_blocking(move || -> Result<Result<T, Failure>, PanicPlace> {
            let kept = slot.take().filter(|open| open.is_at(&path));
            let mut open = match kept.map_or_else(|| Open::new(&path), Ok) {
                Ok(open) => open,
                Err(failure) => return Ok(Err(failure)),
            };
            let ended = catch_unwind(AssertUnwindSafe(|| job(&mut open.connection)));
            let outcome = ended.map_err(|panic| PanicPlace::of(&*panic))?;
            if outcome.as_ref().err().is_none_or(Failure::leaves_connection_sound) {
                open.bound_log(&path);
                *slot = Some(open);
            }
            Ok(outcome)
        });
        match running.await {
            Ok(Ok(outcome)) => outcome,
            // Whoever asked for the job panics, as if it had run there.
            Ok(Err(place)) => resume_unwind(Box::<PanicPlace>::new(place)),
            Err(_) => Err(Failure::Stopping),
        }
    }
}

/// An open file.
struct Open {
    connection: Connection,
    /// Device and inode.
    identity: (u64, u64),
    log_forced: Option<Instant>,
}

impl Open {
    fn new(path: &Path) -> Result<Self, Failure> {
        // What is wrong with it, SQLite finds too. Only where there is none: closing one that it has open ends its locks.
        if !path.exists() {
            let _ = folder::open_file(path);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_LIMIT)?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
        if mode != "wal" {
            return Err(Failure::Operator(format!(
                "{}: this file system cannot share memory between programs, which SQLite's WAL needs (a network \
                 drive?): put ORDERSTREAM_DATA_DIR on a local disk",
                path.display()
            )));
        }
        connection.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON; PRAGMA journal_size_limit = 4194304; \
             PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY",
        )?;
        let metadata =
            std::fs::metadata(path).map_err(|error| Failure::Operator(format!("{}: {error}", path.display())))?;
        if metadata.len() <= LOOK_THROUGH {
            let found: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
            if found != "ok" {
                return Err(Failure::Operator(damaged(path, &found)));
            }
        }
        Ok(Self {
            connection,
            identity: (metadata.dev(), metadata.ino()),
            log_forced: None,
        })
    }

    /// Whether the path still leads to this file: what is written into a removed one is lost.
    fn is_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }

    /// Empties a log that has grown behind other programs' long reads. Ordinary checkpoints never restart it while
    /// reads overlap without a gap.
    fn bound_log(&mut self, path: &Path) {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let size = std::fs::metadata(log).map_or(0, |metadata| metadata.len());
        if size < WAL_LIMIT || self.log_forced.is_some_and(|at| at.elapsed() < WAL_AGAIN) {
            return;
        }
        self.log_forced = Some(Instant::now());
        let empty = || {
            self.connection.busy_timeout(WAL_PATIENCE)?;
            let busy: bool = self
                .connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
            self.connection.busy_timeout(BUSY_LIMIT)?;
            Ok::<bool, rusqlite::Error>(!busy)
        };
        if !matches!(empty(), Ok(true)) {
            tracing::warn!(
                bytes = size,
                "the warehouse's write-ahead log grows: a program has had the file open in one transaction for long"
            );
        }
    }
}
