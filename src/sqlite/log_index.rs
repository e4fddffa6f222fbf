//! SQLite's index of a write-ahead log: how much a process that was killed had committed to it.
//!
//! The format is <https://sqlite.org/walformat.html#the_wal_index_file_format>: two copies of a header of 48 bytes,
//! then the checkpoint's record, all in the machine's byte order. SQLite writes the header after a commit was synced, so
//! a header never says more than was on the disk. A process that ends properly removes the file; one that is killed
//! leaves it, and the next one to open the database makes it anew from what it finds in the log.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::damage::beside;

const HEADER: usize = 48;
/// The version of every release since 3.7.0.
const VERSION: u32 = 3_007_000;
/// Place of the two salts in the log, which a log that begins anew changes.
const LOG_SALT: usize = 16;

/// What an index says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        let mut bytes = [0; 2 * HEADER + 4];
        File::open(beside(path, "-shm")).ok()?.read_exact(&mut bytes).ok()?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8; 2 * HEADER + 4]) -> Option<Self> {
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

    /// Whether the database had anything in it.
    pub(super) fn is_of_content(&self) -> bool {
        self.pages > 0
    }

    /// Whether commits are gone, now that `found` frames of the log could be read.
    pub(super) fn exceeds(&self, found: u32, path: &Path) -> bool {
        match found {
            0 => self.is_needed(),
            // Of another log than the index, which is then older and says nothing.
            _ if salt_of_log(path) != Some(self.salt) => false,
            _ => found < self.frames,
        }
    }
}

fn salt_of_log(path: &Path) -> Option<[u8; 8]> {
    let mut bytes = [0; LOG_SALT + 8];
    File::open(beside(path, "-wal")).ok()?.read_exact(&mut bytes).ok()?;
    bytes.get(LOG_SALT..)?.try_into().ok()
}
