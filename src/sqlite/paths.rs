//! Names of the files: those beside a file, whether a name still leads to the open file, and the
//! name of a damaged one.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::{FileError, io as at};

/// How much is lost with a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LossCount {
    Exactly(u64),
    AtMost(u64),
    Unknown,
}

impl LossCount {
    /// The number, or its bound; 0 where there is none.
    pub(crate) fn entries(self) -> u64 {
        match self {
            Self::Exactly(entries) | Self::AtMost(entries) => entries,
            Self::Unknown => 0,
        }
    }

    /// Whether [`Self::entries`] is not the number.
    pub(crate) fn is_unknown(self) -> bool {
        !matches!(self, Self::Exactly(_))
    }
}

impl fmt::Display for LossCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(count) => count.fmt(f),
            Self::AtMost(count) => write!(f, "at most {count}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The path of a file beside another: the same name with `suffix` at its end.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Renames a damaged file, its log and its index of the log, as far as they exist. Returns the new
/// name of the file.
///
/// The file goes first: a process that ends between two renames leaves a log without a file, which
/// the next one sets aside too. A file without its log would be taken for an older state.
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

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// An open file and its open log, by their identities.
///
/// A file that is removed or replaced while it is open takes writes as before, and they are lost
/// when it is closed: neither SQLite nor the system looks at the name again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenFile {
    path: PathBuf,
    log: PathBuf,
    file: Identity,
    /// `None` where the log did not exist yet.
    log_file: Option<Identity>,
}

/// How a name no longer leads to the file that is open under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Moved {
    #[error("the file was removed or renamed while it is in use")]
    Removed,
    #[error("the file was replaced by another one while it is in use")]
    Replaced,
    #[error("the file's write-ahead log (-wal) was removed while it is in use")]
    LogRemoved,
    #[error("the file's write-ahead log (-wal) was replaced while it is in use")]
    LogReplaced,
}

impl OpenFile {
    /// The files that the names lead to; to be called right after they were opened.
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

pub(super) fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}
