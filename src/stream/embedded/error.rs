//! What a failure of SQLite means: one table from its codes to [`StreamError`].
//!
//! Owns that table and the remedy that goes with each code. SQLite's own texts name tables and columns, never content.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{ErrorCode, ffi};

use crate::stream::StreamError;

/// Why the file cannot be used right now.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error("the file is of a newer release (schema {0}): run that release, or choose another data folder")]
    Newer(i64),
    #[error("the file is another program's database: choose another data folder")]
    Foreign,
    #[error("the file system cannot hold a write-ahead log (journal mode is {0}): choose a local disk")]
    NoWal(String),
    #[error("the file is in use by another process")]
    Owned,
    #[error("the file's tables are not what they were made as")]
    Tables,
    #[error("commits that were confirmed are missing from the file")]
    Behind,
    #[error("the file does not say of the group what was confirmed")]
    CommitStats,
    #[error("it cannot be used and is tried again within {within:?}: {why}")]
    Resting { why: String, within: Duration },
    #[error("{file}: {source}", file = .file.display())]
    Io { file: PathBuf, source: std::io::Error },
}

impl FileError {
    /// Whether the file itself is broken, which neither waiting nor an operator mends.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Sql(error) => is_damage(error),
            Self::Tables | Self::Behind | Self::CommitStats => true,
            Self::Newer(_) | Self::Foreign | Self::NoWal(_) | Self::Owned | Self::Resting { .. } | Self::Io { .. } => {
                false
            }
        }
    }

    /// What it means for a call.
    pub(super) fn stream_error(&self, path: &Path) -> StreamError {
        match self {
            Self::Sql(error) => stream_error(path, error),
            Self::Newer(_)
            | Self::Foreign
            | Self::NoWal(_)
            | Self::Owned
            | Self::Tables
            | Self::Behind
            | Self::CommitStats => StreamError::Unusable(format!("{}: {self}", path.display())),
            Self::Resting { .. } => StreamError::Refused {
                code: "RESTING".to_owned(),
                message: format!("{}: {self}", path.display()),
            },
            Self::Io { .. } => StreamError::Denied(self.to_string()),
        }
    }
}

/// Whether an error says that the file is broken: to SQLite, or to us, since a row that is always there is missing or
/// holds what its column cannot.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::QueryReturnedNoRows
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
    ) || matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Whether a failure to read says nothing of the file: rights, descriptors, memory, room or a lock were wanting.
pub(super) fn is_passing(error: &rusqlite::Error) -> bool {
    const OF_THE_FILE: [i32; 4] = [
        ffi::SQLITE_IOERR_READ,
        ffi::SQLITE_IOERR_SHORT_READ,
        ffi::SQLITE_IOERR_DATA,
        ffi::SQLITE_IOERR_CORRUPTFS,
    ];
    match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => error
            .sqlite_extended_error_code()
            .is_none_or(|code| !OF_THE_FILE.contains(&code)),
        code => matches!(
            code,
            Some(
                ErrorCode::CannotOpen
                    | ErrorCode::PermissionDenied
                    | ErrorCode::ReadOnly
                    | ErrorCode::OutOfMemory
                    | ErrorCode::DiskFull
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::FileLockingProtocolFailed
            )
        ),
    }
}

/// What a failed call means. All but one are certain not to have happened, since a transaction is whole or not at all.
pub(super) fn stream_error(path: &Path, error: &rusqlite::Error) -> StreamError {
    let place = path.display();
    let extended = error.sqlite_extended_error_code();
    if extended == Some(ffi::SQLITE_IOERR_FSYNC) {
        // The commit is written, and nobody knows whether it reached the disk.
        return StreamError::Unreachable {
            server: place.to_string(),
            message: format!("{error} (the disk does not confirm writes: check it)"),
        };
    }
    let refused = |code: &str, remedy: &str| StreamError::Refused {
        code: code.to_owned(),
        message: format!("{place}: {error} ({remedy})"),
    };
    if is_damage(error) {
        return refused("DAMAGED", "the file is being set aside");
    }
    let Some(code) = error.sqlite_error_code() else {
        return StreamError::Unusable(format!("{place}: {error}"));
    };
    match code {
        ErrorCode::DiskFull => refused("FULL", "free some disk space; this passes by itself then"),
        ErrorCode::SystemIoFailure => refused("IOERR", "the disk is full, over quota or failing"),
        ErrorCode::ReadOnly => refused("READONLY", "make the file and its folder writable"),
        ErrorCode::OutOfMemory => refused("NOMEM", "give the process more memory"),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            refused("BUSY", "another process writes to the file: end it")
        }
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
            StreamError::Denied(format!("{place}: {error} (make the file and its folder writable)"))
        }
        ErrorCode::InternalMalfunction
        | ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::OperationAborted
        | ErrorCode::OperationInterrupted
        | ErrorCode::NotFound
        | ErrorCode::SchemaChanged
        | ErrorCode::TooBig
        | ErrorCode::ConstraintViolation
        | ErrorCode::TypeMismatch
        | ErrorCode::ApiMisuse
        | ErrorCode::NoLargeFileSupport
        | ErrorCode::AuthorizationForStatementDenied
        | ErrorCode::ParameterOutOfRange
        | ErrorCode::Unknown
        | _ => StreamError::Unusable(format!("{place}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;

    fn error(code: i32) -> StreamError {
        stream_error(
            Path::new("stream.db"),
            &rusqlite::Error::SqliteFailure(ffi::Error::new(code), None),
        )
    }

    #[test]
    fn a_refusal_is_known_not_to_have_happened() {
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_CANTOPEN,
        ] {
            let error = error(code);
            assert!(error.is_refused(), "{error:?}");
            assert_eq!(error.class(), Class::Transient);
            assert!(error.to_string().contains("stream.db"), "{error}");
        }
    }

    #[test]
    fn a_failed_fsync_is_an_unknown_outcome() {
        let error = error(ffi::SQLITE_IOERR_FSYNC);
        assert!(!error.is_refused(), "{error:?}");
        assert_eq!(error.class(), Class::Transient);
    }

    #[test]
    fn a_mistake_of_ours_is_a_bug() {
        assert_eq!(error(ffi::SQLITE_MISUSE).class(), Class::Bug);
    }
}
