//! The data folder: one process owns it, by a lock with a record of the owner.
//!
//! Owns the lock (`flock` on `owner.lock`), the record in that file, and the modes of what is
//! created in the folder: only its user may read that. Must not know what the files hold.
//! Invariants: the kernel releases the lock when its process dies, however it dies; the record is
//! valid only while the lock is held.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// File of the embedded stream.
pub const STREAM: &str = "stream.db";
/// File of the embedded warehouse.
pub const WAREHOUSE: &str = "warehouse.db";
/// File of the spool.
pub const SPOOL: &str = "spool.db";
/// File in which an import gathers orders; its own lock tells whether one runs.
pub const IMPORT: &str = "import.db";
/// File in which a reconciliation gathers the orders of one bulk operation.
pub const RECONCILE: &str = "reconcile.db";

/// The file that is locked. It has the owner's record, one line of JSON, and is never removed.
const LOCK: &str = "owner.lock";
/// How often, and after which pause, the lock is tried: a look for the owner takes it for an
/// instant, and a process that was killed keeps it for one.
const TRIES: u32 = 15;
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a record; far more than one needs.
const RECORD_LIMIT: usize = 4096;

/// A data folder that this process owns until the value is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: File,
    owner: Owner,
}

/// The process that owns a data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its process id.
    pub pid: u32,
    /// The command it was started as: `run`, `migrate`, ...
    pub command: String,
    /// When it took the folder, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Its public listener, once it is bound.
    pub public: Option<SocketAddr>,
    /// Its private listener, once it is bound.
    pub admin: Option<SocketAddr>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.truncate_to_second().format(&Rfc3339).unwrap_or_default();
        write!(f, "process {}, `orderstream {}` since {since}", self.pid, self.command)?;
        self.admin
            .map_or(Ok(()), |admin| write!(f, ", admin listener http://{admin}"))
    }
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process owns it.
    #[error(
        "the data folder {path} is in use by {}: stop it, or set ORDERSTREAM_DATA_DIR to another folder",
        .owner.as_ref().map_or_else(|| "another process".to_owned(), |owner| format!("another process ({owner})"))
    )]
    Owned {
        /// The folder.
        path: PathBuf,
        /// The owner; `None` where it has no record.
        owner: Option<Box<Owner>>,
    },
    /// An operation of the system failed.
    #[error("{path}: {source}; make the data folder writable, or set ORDERSTREAM_DATA_DIR to one that is")]
    Io {
        /// The folder, or a file in it.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Folder {
    /// Takes the folder for this process, which was started as `command`; creates it where it is
    /// missing.
    ///
    /// # Errors
    /// Another process owns it, or it cannot be written to.
    pub async fn own(path: &Path, command: &str) -> Result<Self, FolderError> {
        let path = absolute(path);
        make(&path).map_err(at(&path))?;
        let name = path.join(LOCK);
        let lock = private().create(true).open(&name).map_err(at(&name))?;
        for attempt in 1..=TRIES {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < TRIES => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::WouldBlock) => {
                    let owner = read(&lock).map(Box::new);
                    return Err(FolderError::Owned { path, owner });
                }
                Err(TryLockError::Error(source)) => return Err(FolderError::Io { path: name, source }),
            }
        }
        let owner = Owner {
            pid: std::process::id(),
            command: command.to_owned(),
            since: OffsetDateTime::now_utc(),
            public: None,
            admin: None,
        };
        write(&lock, &owner).map_err(at(&name))?;
        Ok(Self { path, lock, owner })
    }

    /// Records where this process listens, for other commands to find it.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn announce(&mut self, public: Option<SocketAddr>, admin: Option<SocketAddr>) -> Result<(), FolderError> {
        self.owner.public = public;
        self.owner.admin = admin;
        write(&self.lock, &self.owner).map_err(at(&self.path.join(LOCK)))
    }

    /// The path of a file in it, which is created (empty, readable by its user alone) where it is
    /// missing.
    ///
    /// # Errors
    /// It cannot be created or opened.
    pub fn file(&self, name: &str) -> Result<PathBuf, FolderError> {
        let path = self.path.join(name);
        open_file(&path).map_err(at(&path))?;
        Ok(path)
    }

    /// The path of a file that is in it already; `None` where it is missing.
    #[must_use]
    pub fn existing(&self, name: &str) -> Option<PathBuf> {
        let path = self.path.join(name);
        path.exists().then_some(path)
    }

    /// Its absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The process that owns that folder right now, if any.
///
/// # Errors
/// The folder cannot be read, or has an owner without a record.
pub async fn owner(path: &Path) -> Result<Option<Owner>, FolderError> {
    let path = absolute(path);
    let name = path.join(LOCK);
    let lock = match File::open(&name) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FolderError::Io { path: name, source }),
    };
    for _ in 0..TRIES {
        match lock.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(FolderError::Io { path: name, source }),
            Err(TryLockError::WouldBlock) => {}
        }
        if let Some(owner) = read(&lock) {
            return Ok(Some(owner));
        }
        // The owner has taken the lock and is about to write its record.
        tokio::time::sleep(PAUSE).await;
    }
    Err(FolderError::Owned { path, owner: None })
}

/// Creates the folder where it is missing, closed to other users.
///
/// # Errors
/// The system's error.
pub fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a file for reading and writing; creates it where it is missing, for its user alone. SQLite
/// gives the files beside it the same mode.
///
/// # Errors
/// The system's error.
pub fn open_file(path: &Path) -> io::Result<File> {
    private().create(true).open(path)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).truncate(false).mode(0o600);
    options
}

fn write(lock: &File, owner: &Owner) -> io::Result<()> {
    let mut line = serde_json::to_vec(owner)?;
    line.push(b'\n');
    lock.set_len(0)?;
    lock.write_all_at(&line, 0)
}

/// `None` where there is no whole record.
fn read(lock: &File) -> Option<Owner> {
    let mut record = [0; RECORD_LIMIT];
    let length = lock.read_at(&mut record, 0).ok()?;
    serde_json::from_slice(record.get(..length)?).ok()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    |source| FolderError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn has_one_owner_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder");
        assert_eq!(owner(&path).await.unwrap(), None);

        let mut folder = Folder::own(&path, "run").await.unwrap();
        let admin = SocketAddr::from(([127, 0, 0, 1], 9090));
        folder.announce(None, Some(admin)).unwrap();
        let seen = owner(&path).await.unwrap().unwrap();
        assert_eq!(
            (seen.pid, seen.admin, seen.public),
            (std::process::id(), Some(admin), None)
        );

        let error = Folder::own(&path, "migrate").await.unwrap_err().to_string();
        for part in [
            &std::process::id().to_string(),
            "`orderstream run` since 2",
            "http://127.0.0.1:9090",
            "folder is in use",
        ] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }

    #[tokio::test]
    async fn a_record_without_lock_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::own(dir.path(), "a command with a long name").await.unwrap();
        drop(folder);
        assert!(
            std::fs::read_to_string(dir.path().join(LOCK))
                .unwrap()
                .contains("long name")
        );
        assert_eq!(owner(dir.path()).await.unwrap(), None);

        let _folder = Folder::own(dir.path(), "run").await.unwrap();
        assert_eq!(owner(dir.path()).await.unwrap().unwrap().command, "run");
    }

    #[tokio::test]
    async fn one_that_does_not_say_who_it_is_has_it_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::own(dir.path(), "run").await.unwrap();
        folder.lock.set_len(0).unwrap();
        assert!(matches!(
            owner(dir.path()).await,
            Err(FolderError::Owned { owner: None, .. })
        ));
        assert!(matches!(
            Folder::own(dir.path(), "run").await,
            Err(FolderError::Owned { owner: None, .. })
        ));
    }

    #[tokio::test]
    async fn a_look_does_not_keep_an_owner_out() {
        let dir = tempfile::tempdir().unwrap();
        drop(Folder::own(dir.path(), "run").await.unwrap());
        let look = File::open(dir.path().join(LOCK)).unwrap();
        look.lock_shared().unwrap();
        // Polled in this order: the owner finds the lock taken first.
        let (owned, ()) = tokio::join!(Folder::own(dir.path(), "run"), async { drop(look) });
        owned.unwrap();
    }

    #[tokio::test]
    async fn is_closed_to_other_users() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder");
        let folder = Folder::own(&path, "run").await.unwrap();
        let file = folder.file("x.db").unwrap();
        std::fs::write(&file, "kept").unwrap();
        assert_eq!(std::fs::read(folder.file("x.db").unwrap()).unwrap(), b"kept");
        assert_eq!(
            (mode(&path), mode(&path.join(LOCK)), mode(&file)),
            (0o700, 0o600, 0o600)
        );
    }
}
