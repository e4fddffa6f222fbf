//! The write-ahead log: moved into the file, kept short, and compared with SQLite's index of it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::paths::beside;

/// Bytes of a write-ahead log; it stays well below that unless reads of other programs overlap
/// without a gap.
const LOG_LIMIT: u64 = 64 << 20;

/// Longest wait of a checkpoint for readers.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(100);
/// Time between two attempts to restart a log, and between two warnings that it cannot be
/// restarted.
const RETRY_AFTER: Duration = Duration::from_secs(2);
const WARN_AFTER: Duration = Duration::from_secs(30);

/// Restarts a log that has outgrown [`LOG_LIMIT`].
#[derive(Debug)]
pub(crate) struct LogBound {
    log: PathBuf,
    busy: Duration,
    /// When a restart failed last.
    failed: Option<Instant>,
    warned: Option<Instant>,
}

impl LogBound {
    /// `busy` is the connection's usual wait for locks.
    pub(crate) fn new(path: &Path, busy: Duration) -> Self {
        Self {
            log: beside(path, "-wal"),
            busy,
            failed: None,
            warned: None,
        }
    }

    /// To be called after each commit. Ordinary checkpoints cannot restart a log as long as reads
    /// overlap, so this waits for readers, for [`CHECKPOINT_WAIT`] at most, where the log is too
    /// long.
    pub(crate) fn enforce(&mut self, connection: &Connection) {
        let bytes = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        let is_recent = |at: Option<Instant>, limit| at.is_some_and(|at: Instant| at.elapsed() < limit);
        if bytes <= LOG_LIMIT || is_recent(self.failed, RETRY_AFTER) {
            return;
        }
        match wait_and_checkpoint(connection, self.busy, "PRAGMA wal_checkpoint(RESTART)") {
            Ok(true) => (self.failed, self.warned) = (None, None),
            failed => {
                self.failed = Some(Instant::now());
                if !is_recent(self.warned, WARN_AFTER) {
                    self.warned = self.failed;
                    tracing::warn!(
                        bytes, ?failed, log = %self.log.display(),
                        "the write-ahead log grows: another program keeps a transaction open; end it"
                    );
                }
            }
        }
    }
}

/// Moves all of the log into the file, so that nothing is lost with the log. Returns false while
/// another connection reads.
pub(crate) fn empty_log(connection: &Connection, busy: Duration) -> rusqlite::Result<bool> {
    wait_and_checkpoint(connection, busy, "PRAGMA wal_checkpoint(TRUNCATE)")
}

fn wait_and_checkpoint(connection: &Connection, busy: Duration, checkpoint: &str) -> rusqlite::Result<bool> {
    connection.busy_timeout(CHECKPOINT_WAIT)?;
    let is_busy = connection.query_row(checkpoint, [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(busy)?;
    Ok(!is_busy?)
}

/// Moves what is in the log into the file, as far as readers allow. Makes room in the log where the
/// disk has none.
pub(crate) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Bytes of the header of an index.
const HEADER: usize = 48;
/// Version of the index, in every SQLite since 3.7.0.
const VERSION: u32 = 3_007_000;
/// Where the log has its two salts, which a log that is restarted changes.
const LOG_SALT: usize = 16;

/// SQLite's index of a log: what a process that was killed had committed to the log.
///
/// The format is <https://sqlite.org/walformat.html#the_wal_index_file_format>: two copies of a
/// header of 48 bytes, then the checkpoint's record, all in the machine's byte order. SQLite writes
/// the header after a commit was synced, so a header never says more than was on the disk. A
/// process that ends properly removes the file; one that is killed leaves it, and the next one to
/// open the database rebuilds it from what it finds in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogIndex {
    /// Frames (pages) of the log that are committed.
    frames: u32,
    /// How many of them are in the database file as well.
    checkpointed: u32,
    /// Pages of the database, with those in the log.
    pages: u32,
    salt: [u8; 8],
}

impl LogIndex {
    /// The index beside a database file; `None` where there is none, or none that is whole.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let bytes: [u8; 2 * HEADER + 4] = first_bytes(&beside(path, "-shm"))?;
        let number = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let is_whole = bytes.get(..HEADER) == bytes.get(HEADER..2 * HEADER);
        let is_made = bytes.get(12) == Some(&1) && number(0)? == VERSION;
        (is_whole && is_made).then_some(Self {
            frames: number(16)?,
            checkpointed: number(2 * HEADER)?,
            pages: number(20)?,
            salt: bytes.get(32..40)?.try_into().ok()?,
        })
    }

    /// Whether the log has commits that are not in the database file.
    pub(super) fn is_needed(&self) -> bool {
        self.checkpointed < self.frames
    }

    /// Whether the database was not empty.
    pub(super) fn has_pages(&self) -> bool {
        self.pages > 0
    }

    /// Whether commits are gone, where `found` frames of the log can be read now.
    pub(super) fn exceeds(&self, found: u32, path: &Path) -> bool {
        let salt = || {
            Some(
                first_bytes::<{ LOG_SALT + 8 }>(&beside(path, "-wal"))?
                    .split_at(LOG_SALT)
                    .1
                    .to_vec(),
            )
        };
        match found {
            0 => self.is_needed(),
            // The index is of an older log and says nothing of this one.
            _ if salt().as_deref() != Some(&self.salt) => false,
            _ => found < self.frames,
        }
    }
}

fn first_bytes<const N: usize>(path: &Path) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    File::open(path).ok()?.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
