//! The tally: what the file holds that is still owed to our group, written beside it after each commit.
//!
//! Owns `NAME-tally-a` and `NAME-tally-b`, written in turn, and the lock that makes one process the file's writer. What a
//! damaged file has lost is known by it, exactly: it names what was pending and counts what was unread. It is written
//! before a commit is answered but not forced to the disk: it outlives the process, and where the machine dies it may be
//! older than the file, which is then noticed and it is not believed.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::error::FileError;
use super::stats::{CommitStats, count};
use crate::folder;

/// The lock of a process that was killed, or of a stream that was just dropped, is let go within moments.
const TRIES: u32 = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

const PENDING: &str = "SELECT id FROM pending WHERE group_id = ?1 ORDER BY id";
const UNREAD: &str = "SELECT COUNT(*) FROM entries WHERE id > ?1 AND id <= ?2";
const IS_THERE: &str = "SELECT 1 FROM entries WHERE id = ?1";
const LETTERS: &str = "SELECT COUNT(*) FROM dead_letters";

/// What is owed after one commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Number of the commit.
    pub(super) commit: i64,
    /// Newest id of either log.
    pub(super) last_id: i64,
    /// Whose tally it is: the [`mark`] of our group.
    pub(super) group: i64,
    /// Our group's place.
    pub(super) last_delivered: i64,
    /// Entries above that place. Their number is enough: until they are read nothing removes one, and none can join them
    /// below the newest id.
    pub(super) unread: i64,
    /// Entries of the dead letters.
    pub(super) letters: i64,
    /// What our group has pending.
    pub(super) pending: Arc<[i64]>,
}

impl Tally {
    /// The tally of a group's figures; what is pending is taken from `before`, where it cannot have changed since.
    pub(super) fn read(
        connection: &Connection,
        group: &str,
        figures: &CommitStats,
        before: Option<&Self>,
    ) -> rusqlite::Result<Self> {
        let is_same = |before: &&Self| {
            figures.last_delivered == before.last_delivered && figures.pending == before.pending.len() as u64
        };
        let pending = match before.filter(is_same) {
            Some(before) => Arc::clone(&before.pending),
            None => {
                let mut query = connection.prepare_cached(PENDING)?;
                let ids = query.query_map([figures.group], |row| row.get(0))?;
                ids.collect::<Result<_, _>>()?
            }
        };
        Ok(Self {
            commit: figures.commit,
            last_id: figures.newest,
            group: mark(group),
            last_delivered: figures.last_delivered,
            unread: figures.unread,
            letters: figures.letters,
            pending,
        })
    }

    /// Whether it is that group's.
    pub(super) fn is_of(&self, group: &str) -> bool {
        self.group == mark(group)
    }

    /// How much of what is owed the file does not hold.
    pub(super) fn missing(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let unread: i64 = connection.query_row(UNREAD, [self.last_delivered, self.last_id], |row| row.get(0))?;
        let letters: i64 = connection.query_row(LETTERS, [], |row| row.get(0))?;
        let mut missing = count(self.unread - unread) + count(self.letters - letters);
        let mut is_there = connection.prepare_cached(IS_THERE)?;
        for id in &*self.pending {
            let found: Option<i64> = is_there.query_row([id], |row| row.get(0)).optional()?;
            missing += u64::from(found.is_none());
        }
        Ok(missing)
    }

    fn encode(&self) -> Vec<u8> {
        let length = i64::try_from(self.pending.len()).unwrap_or(i64::MAX);
        let head = [
            self.commit,
            self.last_id,
            self.group,
            self.last_delivered,
            self.unread,
            self.letters,
            length,
        ];
        let numbers = head.iter().chain(&*self.pending);
        let mut bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// `None` where it was cut off while it was written, or never was.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = bytes.get(8 * at..8 * at + 8)?;
            Some(i64::from_le_bytes(bytes.try_into().ok()?))
        };
        let pending = usize::try_from(number(6)?).ok()?;
        let end = pending.checked_add(7)?.checked_mul(8)?;
        let checksum = bytes.get(end..end.checked_add(4)?)?;
        if crc32fast::hash(bytes.get(..end)?).to_le_bytes() != *checksum {
            return None;
        }
        Some(Self {
            commit: number(0)?,
            last_id: number(1)?,
            group: number(2)?,
            last_delivered: number(3)?,
            unread: number(4)?,
            letters: number(5)?,
            pending: (7..7 + pending).map_while(number).collect(),
        })
    }
}

/// What stands for a group's name, which may have any length.
fn mark(group: &str) -> i64 {
    crc32fast::hash(group.as_bytes()).into()
}

/// The two files, the first of which is locked.
pub(super) struct TallyFiles {
    files: [File; 2],
    turn: usize,
    failing: bool,
}

impl TallyFiles {
    /// Opens them beside the file, and answers the newest tally with them. Waits a second for the lock.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<Tally>), FileError> {
        let [a, b] = ["-tally-a", "-tally-b"].map(|suffix| beside(path, suffix));
        let open = |path: &Path| folder::open_file(path).map_err(fault(path));
        let (mut a, mut b) = (open(&a)?, open(&b)?);
        lock(&a, path)?;
        let tallies = [read(&mut a, path)?, read(&mut b, path)?];
        let newest = tallies.into_iter().flatten().max_by_key(|tally| tally.commit);
        let files = Self {
            files: [a, b],
            turn: 0,
            failing: false,
        };
        Ok((files, newest))
    }

    /// Writes into the older of the two.
    pub(super) fn write(&mut self, tally: &Tally) {
        let written = self.files[self.turn].write_all_at(&tally.encode(), 0);
        self.turn = 1 - self.turn;
        match written {
            Ok(()) => self.failing = false,
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                tracing::warn!(%error, "the tally cannot be written: what a damaged file loses will not be counted");
            }
            Err(_) => {}
        }
    }
}

/// The path of a file beside another: its name, and that at the end.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn read(file: &mut File, path: &Path) -> Result<Option<Tally>, FileError> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(fault(path))?;
    Ok(Tally::decode(&bytes))
}

#[allow(
    clippy::disallowed_methods,
    reason = "opening a stream blocks its thread and says so"
)]
fn lock(file: &File, path: &Path) -> Result<(), FileError> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
            Err(TryLockError::Error(error)) => return Err(fault(path)(error)),
        }
    }
    Err(FileError::Owned)
}

fn fault(path: &Path) -> impl Fn(io::Error) -> FileError {
    let file = path.to_owned();
    move |source| FileError::Io {
        file: file.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_whole_or_none() {
        let tally = Tally {
            commit: 7,
            last_id: i64::MAX,
            group: 9,
            last_delivered: 3,
            unread: 2,
            letters: 1,
            pending: [1, 2, 5].into(),
        };
        let bytes = tally.encode();
        assert_eq!(Tally::decode(&bytes), Some(tally.clone()));
        let longer = [&bytes[..], &[9; 40]].concat();
        assert_eq!(
            Tally::decode(&longer),
            Some(tally),
            "the rest of a longer one stays behind it"
        );
        for end in 0..bytes.len() {
            assert_eq!(Tally::decode(&bytes[..end]), None);
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert_eq!(Tally::decode(&flipped), None);
        }
        assert_eq!(Tally::decode(&[0; 64]), None);
    }
}
