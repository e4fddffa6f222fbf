//! Why the stream's file cannot be used, and what that means for a call: the remedy that goes with
//! each cause.
//!
//! SQLite's own texts name tables and columns, never content.

use std::path::Path;
use std::time::Duration;

use crate::sqlite::{ErrorCause, FileError, Moved, cause};
use crate::stream::StreamError;

/// Why the file cannot be used right now.
#[derive(Debug, thiserror::Error)]
pub(super) enum EmbeddedError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{0}, and nothing more is taken: put it back, or save what it holds and restart orderstream (OPERATIONS.md, \
         \"A file was removed\")"
    )]
    Moved(Moved),
    #[error("it cannot be used and is tried again within {within:?}: {why}")]
    Resting { why: String, within: Duration },
}

impl From<rusqlite::Error> for EmbeddedError {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(error.into())
    }
}

impl EmbeddedError {
    /// What it means for a call that it prevented.
    pub(super) fn stream_error(&self, path: &Path) -> StreamError {
        let text = || format!("{}: {self}", path.display());
        let refused = |code: &str| StreamError::Refused {
            code: code.to_owned(),
            message: text(),
        };
        match self {
            Self::File(FileError::Sql(error)) => stream_error(path, error),
            Self::File(FileError::Damaged(_) | FileError::Lost(_)) => refused("DAMAGED"),
            Self::File(FileError::Io { .. }) => StreamError::Denied(self.to_string()),
            Self::File(FileError::Owned | FileError::NoWal(_) | FileError::Foreign(_)) => StreamError::Unusable(text()),
            Self::Moved(_) => refused("MOVED"),
            Self::Resting { .. } => refused("RESTING"),
        }
    }
}

/// What a failed call means. After all causes but one it certainly did not happen, since a
/// transaction is atomic.
pub(super) fn stream_error(path: &Path, error: &rusqlite::Error) -> StreamError {
    let place = path.display();
    let refused = |code: &str, remedy: &str| StreamError::Refused {
        code: code.to_owned(),
        message: format!("{place}: {error} ({remedy})"),
    };
    match cause(error) {
        ErrorCause::Unsynced => StreamError::Unreachable {
            server: place.to_string(),
            message: format!("{error} (the disk does not confirm writes: check it)"),
        },
        ErrorCause::Damaged => refused("DAMAGED", "the file is being set aside"),
        ErrorCause::Full => refused("FULL", "free some disk space; this passes by itself then"),
        ErrorCause::Disk => refused("IOERR", "the disk is full, over quota or failing"),
        ErrorCause::ReadOnly => refused("READONLY", "make the file and its folder writable"),
        ErrorCause::Memory => refused("NOMEM", "give the process more memory"),
        ErrorCause::Busy => refused("BUSY", "another process writes to the file: end it"),
        ErrorCause::CannotOpen => {
            StreamError::Denied(format!("{place}: {error} (make the file and its folder writable)"))
        }
        ErrorCause::Rejected | ErrorCause::Statement | ErrorCause::Interrupted | ErrorCause::Internal => {
            StreamError::Unusable(format!("{place}: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;
    use crate::retryability::Retryability;

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
            assert_eq!(error.retryability(), Retryability::Transient);
            assert!(error.to_string().contains("stream.db"), "{error}");
        }
    }

    #[test]
    fn a_failed_fsync_is_an_unknown_outcome() {
        let error = error(ffi::SQLITE_IOERR_FSYNC);
        assert!(!error.is_refused(), "{error:?}");
        assert_eq!(error.retryability(), Retryability::Transient);
    }

    #[test]
    fn a_mistake_of_ours_is_a_bug() {
        assert_eq!(error(ffi::SQLITE_MISUSE).retryability(), Retryability::Bug);
    }
}
