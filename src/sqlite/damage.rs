//! A damaged file: renamed, and opened to see what it still tells.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use rusqlite::{Connection, OpenFlags};

use super::error::{FileError, io as at};

/// How much is lost with a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Exactly(u64),
    AtMost(u64),
    Unknown,
}

impl Count {
    /// The number, or its bound; 0 where there is none.
    pub(crate) fn entries(self) -> u64 {
        match self {
            Self::Exactly(entries) | Self::AtMost(entries) => entries,
            Self::Unknown => 0,
        }
    }

    /// Whether [`Self::entries`] is not the number.
    pub(crate) fn is_unknown(self) -> bool {
        match self {
            Self::Exactly(_) => false,
            Self::AtMost(_) | Self::Unknown => true,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(count) => count.fmt(f),
            Self::AtMost(count) => write!(f, "at most {count}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The path of a file beside another: its name, and that at the end.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Renames a file, its log and its index of the log, as far as they are there. Answers the new name of the file.
///
/// The file goes first: a process that ends between two names leaves a log without a file, which the next one sets aside
/// too. A file without its log would be taken for an older state.
///
/// # Errors
/// It cannot be renamed, and is still there.
pub(crate) fn set_aside(path: &Path) -> Result<PathBuf, FileError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let names = (now.as_secs()..).map(|second| beside(path, &format!(".damaged-{second}")));
    let is_free = |name: &PathBuf| ["", "-wal"].iter().all(|suffix| !beside(name, suffix).exists());
    let aside = { names }.find(is_free).unwrap_or_default();
    for suffix in ["", "-wal", "-shm"] {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
            _ => {}
        }
    }
    Ok(aside)
}

/// A connection that reads what can be read of a damaged file and changes nothing. `writable_schema` lets a file be read
/// that is shorter than it says.
pub(crate) fn open_damaged(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch("PRAGMA writable_schema = ON; PRAGMA cell_size_check = ON;")?;
    Ok(connection)
}
