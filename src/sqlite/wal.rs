//! The write-ahead log: moved into the file, kept short, and compared with SQLite's index of it.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;

use super::paths::{Identity, beside, identity};

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
        let bytes = fs::metadata(&self.log).map_or(0, |log| log.len());
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

/// What a killed process left of a file's log.
///
/// The index is read before this process opens the file, since SQLite rebuilds it from the log with
/// the first read. It is kept while attempts to open the file fail, so that the one that succeeds
/// still sees a loss.
#[derive(Debug, Default)]
pub(crate) enum LeftLog {
    /// This process has not tried to open the file.
    #[default]
    Unseen,
    /// The index as it was found; not compared with the log yet.
    Index(LogIndex),
    /// The log has all that was committed to it, or there is no index to tell.
    Whole,
    /// The log has lost its end: an unknown number of commits that were confirmed is gone.
    Cut,
}

impl LeftLog {
    /// Reads the index, at the first attempt only: to close it ends the locks of a connection that
    /// this process has.
    pub(super) fn look(&mut self, path: &Path) {
        if matches!(self, Self::Unseen) {
            *self = LogIndex::of(path).map_or(Self::Whole, Self::Index);
        }
    }

    /// Whether the index tells of a database that was not empty.
    pub(super) fn has_pages(&self) -> bool {
        matches!(self, Self::Index(index) if index.pages > 0)
    }

    /// Compares the index with the `found` frames of the log that can be read now.
    pub(super) fn compare(&mut self, found: u32, path: &Path) {
        if let Self::Index(index) = self {
            *self = if index.exceeds(found, path) {
                Self::Cut
            } else {
                Self::Whole
            };
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        matches!(self, Self::Cut)
    }

    /// Whether the log has lost its end; true once.
    pub(crate) fn take_cut(&mut self) -> bool {
        let is_cut = self.is_cut();
        if is_cut {
            *self = Self::Whole;
        }
        is_cut
    }
}

/// SQLite's index of a log: what a process that was killed had committed to the log.
///
/// The format is <https://sqlite.org/walformat.html#the_wal_index_file_format>: two copies of a
/// header of 48 bytes, then the checkpoint's record, all in the machine's byte order. SQLite writes
/// the header after a commit was synced, so a header never says more than was on the disk. A
/// process that ends properly removes the file; one that is killed leaves it, and the next one to
/// open the database rebuilds it from what it finds in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogIndex {
    identity: Option<IndexIdentity>,
    /// Frames (pages) of the log that are committed.
    frames: u32,
    /// How many of them are in the database file as well.
    checkpointed: u32,
    /// Pages of the database, with those in the log.
    pages: u32,
    salt: [u8; 8],
}

/// Which file an index is, with its time of creation where the file system has it: an inode is
/// given anew.
type IndexIdentity = (Identity, Option<SystemTime>);

fn index_identity(path: &Path) -> Option<IndexIdentity> {
    let metadata = fs::metadata(beside(path, "-shm")).ok()?;
    Some((identity(&metadata), metadata.created().ok()))
}

impl LogIndex {
    /// The index beside a database file; `None` where there is none, or none that is whole.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let identity = index_identity(path);
        let bytes: [u8; 2 * HEADER + 4] = first_bytes(&beside(path, "-shm"))?;
        let number = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let is_whole = bytes.get(..HEADER) == bytes.get(HEADER..2 * HEADER);
        let is_made = bytes.get(12) == Some(&1) && number(0)? == VERSION;
        (is_whole && is_made).then_some(Self {
            identity,
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

    /// Whether commits are gone, where `found` frames of the log can be read now.
    fn exceeds(&self, found: u32, path: &Path) -> bool {
        // The last of other programs to close the file has moved the log into it, and removed both.
        if index_identity(path) != self.identity {
            return false;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn is_cut(path: &Path, index: LogIndex) -> bool {
        let connection = Connection::open(path).unwrap();
        let found = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1));
        index.exceeds(found.unwrap(), path)
    }

    #[test]
    fn a_log_that_another_program_moved_into_the_file_lost_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.db");
        let other = Connection::open(&path).unwrap();
        other
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE numbers (number)")
            .unwrap();
        let index = LogIndex::of(&path).unwrap();
        assert!(index.is_needed());
        // Its inode is not given again, so that coarse times of creation do not matter.
        fs::hard_link(beside(&path, "-shm"), folder.path().join("linked")).unwrap();
        drop(other);
        assert!(!is_cut(&path, index));
    }

    #[test]
    fn a_log_that_was_removed_lost_its_commits() {
        let folder = tempfile::tempdir().unwrap();
        let [live, left] = ["live.db", "left.db"].map(|name| folder.path().join(name));
        let killed = Connection::open(&live).unwrap();
        killed
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE numbers (number)")
            .unwrap();
        for suffix in ["", "-shm"] {
            fs::copy(beside(&live, suffix), beside(&left, suffix)).unwrap();
        }
        let index = LogIndex::of(&left).unwrap();
        assert!(is_cut(&left, index));
    }
}
