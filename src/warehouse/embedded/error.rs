//! What SQLite's errors mean.
//!
//! Owns the table from result code to [`WarehouseError`]. SQLite's texts name tables and columns, never values, but for
//! what a trigger or a function raises, which is left out.

use std::path::Path;

use rusqlite::{Error, ErrorCode, ffi};

use super::migrations::KNOWN;
use crate::warehouse::WarehouseError;

/// Why a call failed, before it is said for the outside.
#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite, or the crate around it.
    Sqlite(Error),
    /// A value that cannot be kept exactly; names the column.
    Unfit(&'static str),
    /// The file is at this version, below what we know.
    Outdated(u32),
    /// The file lacks these tables.
    Incomplete(Vec<&'static str>),
    /// Nothing that waiting would change; the text says what to do.
    Operator(String),
    /// The process is about to end.
    Stopping,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Failure {
    /// Our tables are not there.
    pub(super) fn is_schema_missing(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.to_string().contains("no such table"))
    }

    /// Whether the connection may serve the next call. Where the disk or the file is at fault, only a new one sees
    /// that it is well again.
    pub(super) fn leaves_connection_sound(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::Unknown)
            ),
            Self::Unfit(_) | Self::Outdated(_) | Self::Incomplete(_) | Self::Operator(_) => true,
            Self::Stopping => false,
        }
    }

    /// As the outside hears it.
    pub(super) fn at(self, path: &Path) -> WarehouseError {
        match self {
            Self::Sqlite(error) => of_sqlite(&error, path),
            Self::Unfit(column) => WarehouseError::Rejected {
                code: "out of range".to_owned(),
                message: format!(
                    "{column}: the embedded warehouse keeps amounts below 10^18, also price times quantity, \
                     and the years 0 to 9999"
                ),
            },
            Self::Outdated(version) => WarehouseError::Outdated {
                place: path.display().to_string(),
                version,
                known: KNOWN,
            },
            Self::Incomplete(tables) => WarehouseError::Incomplete {
                place: path.display().to_string(),
                tables,
            },
            Self::Operator(text) => WarehouseError::Unusable(text),
            Self::Stopping => WarehouseError::Unreachable {
                server: path.display().to_string(),
                message: "the process is stopping; whether a commit took effect is unknown".to_owned(),
            },
        }
    }
}

fn of_sqlite(error: &Error, path: &Path) -> WarehouseError {
    let file = path.display();
    let message = error.to_string();
    let unavailable = |code: &str| WarehouseError::Unavailable {
        code: code.to_owned(),
        message: message.clone(),
    };
    let rejected = |code: &str| WarehouseError::Rejected {
        code: code.to_owned(),
        message: message.clone(),
    };
    let operator = |remedy: &str| WarehouseError::Unusable(format!("{file}: {message}; {remedy}"));
    let Some(code) = error.sqlite_error_code() else {
        return unavailable("rusqlite");
    };
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            unavailable("SQLITE_BUSY: another program holds a write lock on the file")
        }
        ErrorCode::DiskFull => unavailable("SQLITE_FULL"),
        ErrorCode::SystemIoFailure => unavailable("SQLITE_IOERR"),
        ErrorCode::OutOfMemory => unavailable("SQLITE_NOMEM"),
        ErrorCode::FileLockingProtocolFailed => unavailable("SQLITE_PROTOCOL"),
        ErrorCode::SchemaChanged => unavailable("SQLITE_SCHEMA"),
        ErrorCode::OperationAborted | ErrorCode::OperationInterrupted => unavailable("SQLITE_ABORT"),
        ErrorCode::ConstraintViolation if is_trigger(error) => WarehouseError::Rejected {
            code: "SQLITE_CONSTRAINT_TRIGGER".to_owned(),
            message: "a trigger refuses it".to_owned(),
        },
        ErrorCode::ConstraintViolation => rejected("SQLITE_CONSTRAINT"),
        ErrorCode::TooBig => rejected("SQLITE_TOOBIG"),
        ErrorCode::TypeMismatch | ErrorCode::ParameterOutOfRange => rejected("SQLITE_MISMATCH"),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => WarehouseError::Unusable(damaged(path, &message)),
        ErrorCode::CannotOpen => WarehouseError::Unreachable {
            server: file.to_string(),
            message,
        },
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            operator("make the file and its folder writable for the user that orderstream runs as")
        }
        ErrorCode::NoLargeFileSupport => operator("the file has grown beyond what this system can open"),
        ErrorCode::Unknown if message.contains("no such ") || message.contains("has no column") => {
            operator("the tables are missing or older than this program: run `orderstream migrate`")
        }
        ErrorCode::Unknown => WarehouseError::Refused {
            code: "SQLITE_ERROR".to_owned(),
            message: "a trigger or a function fails".to_owned(),
        },
        // Bugs of ours or SQLite's, and codes of a later SQLite: no entry's fault.
        ErrorCode::InternalMalfunction | ErrorCode::NotFound | ErrorCode::ApiMisuse | _ => {
            unavailable("SQLITE_INTERNAL")
        }
    }
}

fn is_trigger(error: &Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == ffi::SQLITE_CONSTRAINT_TRIGGER)
}

/// What an operator does about a file that is not well.
pub(super) fn damaged(path: &Path, what: &str) -> String {
    let file = path.display();
    format!(
        "the warehouse file {file} is damaged ({what}), and nothing is loaded: stop orderstream, move the file and \
         its -wal and -shm aside, then put a backup in its place, or what `sqlite3 {file} .recover` saves, or nothing \
         to begin anew; events that were not loaded yet are still in the stream"
    )
}
