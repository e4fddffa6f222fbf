//! Errors of a file, and what an error of SQLite means: one table from its result codes to causes.
//!
//! SQLite's own texts name tables and columns, never values.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Error, ErrorCode, ffi};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Sql(#[from] Error),
    /// What a check found.
    #[error("{0}")]
    Damaged(String),
    /// Damaged, and what is left is older than what was confirmed, or nothing: it does not tell how
    /// much is lost.
    #[error("{0}")]
    Lost(String),
    /// The file is another program's or a newer release's; says what to do.
    #[error("{0}")]
    Foreign(String),
    #[error("the file is in use by another process")]
    Owned,
    #[error("the file system cannot hold a write-ahead log (journal mode is {0}): choose a local disk")]
    NoWal(String),
    #[error("{file}: {source}", file = .file.display())]
    Io { file: PathBuf, source: io::Error },
}

impl FileError {
    /// Whether the file itself is damaged: neither waiting nor a change of rights repairs it.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Sql(error) => cause(error) == ErrorCause::Damaged,
            Self::Damaged(_) | Self::Lost(_) => true,
            Self::Foreign(_) | Self::Owned | Self::NoWal(_) | Self::Io { .. } => false,
        }
    }

    /// Damage becomes [`Self::Lost`] where the log has lost commits.
    pub(crate) fn beyond_count(self, log_was_cut: bool) -> Self {
        if log_was_cut && self.is_damage() {
            Self::Lost(format!(
                "the write-ahead log has lost commits, and what is left is damaged: {self}"
            ))
        } else {
            self
        }
    }
}

/// Adds the path to an error of the system.
pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let file = path.to_owned();
    move |source| FileError::Io { file, source }
}

/// Why SQLite failed, by what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorCause {
    /// The file is damaged: to SQLite, or because a row that is always there is missing or of
    /// another type.
    Damaged,
    /// No space on the disk.
    Full,
    /// The disk failed, or is over its quota.
    Disk,
    /// A commit was written, and the disk did not confirm it: whether it happened is unknown.
    Unsynced,
    /// The file or its folder cannot be written to.
    ReadOnly,
    /// The file cannot be opened: rights, descriptors, or a missing folder.
    CannotOpen,
    /// No memory.
    Memory,
    /// Another program holds a lock.
    Busy,
    /// The values were refused: a constraint, their size or their type.
    Rejected,
    /// A table or column is missing, or the statement is wrong.
    Statement,
    /// The statement was interrupted, or the schema changed under it.
    Interrupted,
    /// A mistake of this program or of SQLite.
    Internal,
}

/// The cause of an error.
pub(crate) fn cause(error: &Error) -> ErrorCause {
    let Some(code) = error.sqlite_error_code() else {
        let is_damage = matches!(
            error,
            Error::QueryReturnedNoRows
                | Error::InvalidColumnType(..)
                | Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::Utf8Error(..)
        );
        return if is_damage {
            ErrorCause::Damaged
        } else {
            ErrorCause::Internal
        };
    };
    match code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => ErrorCause::Damaged,
        ErrorCode::SystemIoFailure => match error.sqlite_extended_error_code() {
            Some(ffi::SQLITE_IOERR_FSYNC) => ErrorCause::Unsynced,
            Some(ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS) => ErrorCause::Damaged,
            _ => ErrorCause::Disk,
        },
        ErrorCode::DiskFull => ErrorCause::Full,
        ErrorCode::ReadOnly => ErrorCause::ReadOnly,
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => ErrorCause::CannotOpen,
        ErrorCode::OutOfMemory => ErrorCause::Memory,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => ErrorCause::Busy,
        ErrorCode::ConstraintViolation
        | ErrorCode::TooBig
        | ErrorCode::TypeMismatch
        | ErrorCode::ParameterOutOfRange => ErrorCause::Rejected,
        ErrorCode::Unknown => ErrorCause::Statement,
        ErrorCode::OperationAborted | ErrorCode::OperationInterrupted | ErrorCode::SchemaChanged => {
            ErrorCause::Interrupted
        }
        ErrorCode::InternalMalfunction
        | ErrorCode::NotFound
        | ErrorCode::ApiMisuse
        | ErrorCode::NoLargeFileSupport
        | ErrorCode::AuthorizationForStatementDenied
        | _ => ErrorCause::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_no_damage() {
        let of = |code| cause(&Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_PERM,
        ] {
            assert_ne!(of(code), ErrorCause::Damaged, "{code}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_IOERR_SHORT_READ] {
            assert_eq!(of(code), ErrorCause::Damaged, "{code}");
        }
        assert_eq!(cause(&Error::QueryReturnedNoRows), ErrorCause::Damaged);
    }
}
