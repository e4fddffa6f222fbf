//! Which files are open, and whether their names still lead to them.
//!
//! A file that is removed or replaced while it is open takes writes as before, and nobody finds them afterwards: neither
//! SQLite nor the system looks at the name again.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::damage::beside;

/// Device and inode.
type Identity = (u64, u64);

/// An open file and its open log, by their identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenFile {
    path: PathBuf,
    log: PathBuf,
    file: Identity,
    /// `None` where the log was not there yet.
    log_file: Option<Identity>,
}

/// How a name no longer leads to the file that is open under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The file has another name or none.
    Removed,
    /// Another file has its name.
    Replaced,
    /// Its log has another name or none.
    LogRemoved,
    /// Another file has the name of its log.
    LogReplaced,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removed => "the file was removed or renamed while it is in use",
            Self::Replaced => "the file was replaced by another one while it is in use",
            Self::LogRemoved => "the file's write-ahead log (-wal) was removed while it is in use",
            Self::LogReplaced => "the file's write-ahead log (-wal) was replaced while it is in use",
        })
    }
}

impl OpenFile {
    /// The files that the names lead to, right after they were opened.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let log = beside(path, "-wal");
        Ok(Self {
            path: path.to_owned(),
            file: identity(&fs::metadata(path)?),
            log_file: fs::metadata(&log).ok().as_ref().map(identity),
            log,
        })
    }

    /// Whether the names still lead to them; two calls to the system.
    pub(crate) fn moved(&self) -> Option<Moved> {
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) == self.file => {}
            Ok(_) => return Some(Moved::Replaced),
            Err(_) => return Some(Moved::Removed),
        }
        let expected = self.log_file?;
        match fs::metadata(&self.log) {
            Ok(found) if identity(&found) == expected => None,
            Ok(_) => Some(Moved::LogReplaced),
            Err(_) => Some(Moved::LogRemoved),
        }
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}
