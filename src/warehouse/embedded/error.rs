//! What the failure of a call means: from its cause to [`WarehouseError`].
//!
//! SQLite's texts name tables and columns, never values, but for what a trigger or a function
//! raises, which is left out.

use std::path::Path;

use rusqlite::{Error, ffi};

use crate::sqlite::{ErrorCause, FileError, Moved, cause};
use crate::warehouse::WarehouseError;
use crate::warehouse::migration::SchemaFault;

/// Why a call failed, before it is said for the outside.
#[derive(Debug)]
pub(super) enum WarehouseFileError {
    /// SQLite, the system, or the crate around them.
    File(FileError),
    /// The file is damaged, and the next load sets it aside.
    Damaged(String),
    /// The name does not lead to the file that is open.
    Moved(Moved),
    /// A value that cannot be kept exactly; names the column.
    Unfit(&'static str),
    /// The tables are none that we can load into.
    Schema(SchemaFault),
    /// Nothing that waiting would change; the text says what to do.
    Operator(String),
    /// The process is about to end.
    Stopping,
}

impl From<Error> for WarehouseFileError {
    fn from(error: Error) -> Self {
        Self::File(error.into())
    }
}

impl WarehouseFileError {
    /// Our tables are not there.
    pub(super) fn is_schema_missing(&self) -> bool {
        matches!(self, Self::File(FileError::Sql(error)) if error.to_string().contains("no such table"))
    }

    /// The file is to be set aside.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }

    /// Whether the connection may serve the next call. Where the disk or the file is at fault, only
    /// a new one sees that it is well again.
    pub(super) fn leaves_connection_sound(&self) -> bool {
        match self {
            Self::File(FileError::Sql(error)) => {
                matches!(
                    cause(error),
                    ErrorCause::Busy | ErrorCause::Rejected | ErrorCause::Statement
                )
            }
            Self::Moved(_) | Self::Unfit(_) | Self::Schema(_) | Self::Operator(_) => true,
            Self::File(_) | Self::Damaged(_) | Self::Stopping => false,
        }
    }

    /// As the outside hears it.
    pub(super) fn at(self, path: &Path) -> WarehouseError {
        let file = path.display();
        match self {
            Self::File(FileError::Sql(error)) => of_sqlite(&error, path),
            Self::File(FileError::NoWal(_)) => WarehouseError::Unusable(format!(
                "{file}: this file system cannot share memory between programs, which SQLite's WAL needs (a network \
                 drive?): put ORDERSTREAM_DATA_DIR on a local disk"
            )),
            Self::File(FileError::Foreign(text)) => WarehouseError::Unusable(format!("{file}: {text}")),
            Self::File(error @ (FileError::Owned | FileError::Io { .. })) => WarehouseError::Unreachable {
                server: file.to_string(),
                message: error.to_string(),
            },
            Self::File(error @ (FileError::Damaged(_) | FileError::Lost(_))) => damaged(path, &error.to_string()),
            Self::Damaged(what) => damaged(path, &what),
            Self::Moved(moved) => WarehouseError::Unreachable {
                server: file.to_string(),
                message: format!(
                    "{moved}, and nothing more is loaded: put it back, or save what it holds and restart orderstream \
                     (OPERATIONS.md, \"A file was removed\")"
                ),
            },
            Self::Unfit(column) => WarehouseError::Rejected {
                code: "out of range".to_owned(),
                message: format!(
                    "{column}: the embedded warehouse keeps amounts below 10^18, also price times quantity, \
                     and the years 0 to 9999"
                ),
            },
            Self::Schema(fault) => fault.at(file.to_string()),
            Self::Operator(text) => WarehouseError::Unusable(text),
            Self::Stopping => WarehouseError::Unreachable {
                server: file.to_string(),
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
    let operator = |remedy: &str| WarehouseError::Unusable(format!("{file}: {message}; {remedy}"));
    match cause(error) {
        ErrorCause::Busy => unavailable("SQLITE_BUSY: another program holds a write lock on the file"),
        ErrorCause::Full => unavailable("SQLITE_FULL"),
        ErrorCause::Disk | ErrorCause::Unsynced => unavailable("SQLITE_IOERR"),
        ErrorCause::Memory => unavailable("SQLITE_NOMEM"),
        ErrorCause::Interrupted => unavailable("SQLITE_ABORT"),
        ErrorCause::Rejected if error.sqlite_extended_error_code() == Some(ffi::SQLITE_CONSTRAINT_TRIGGER) => {
            WarehouseError::Rejected {
                code: "SQLITE_CONSTRAINT_TRIGGER".to_owned(),
                message: "a trigger refuses it".to_owned(),
            }
        }
        ErrorCause::Rejected => WarehouseError::Rejected {
            code: "SQLITE_CONSTRAINT".to_owned(),
            message,
        },
        ErrorCause::Damaged => damaged(path, &message),
        ErrorCause::CannotOpen => WarehouseError::Unreachable {
            server: file.to_string(),
            message,
        },
        ErrorCause::ReadOnly => operator("make the file and its folder writable for the user that orderstream runs as"),
        ErrorCause::Statement if message.contains("no such ") || message.contains("has no column") => {
            operator("the tables are missing or older than this program: run `orderstream migrate`")
        }
        ErrorCause::Statement => WarehouseError::Refused {
            code: "SQLITE_ERROR".to_owned(),
            message: "a trigger or a function fails".to_owned(),
        },
        // A bug of ours or SQLite's: no entry's fault.
        ErrorCause::Internal => unavailable("SQLITE_INTERNAL"),
    }
}

fn damaged(path: &Path, what: &str) -> WarehouseError {
    WarehouseError::Unusable(format!(
        "the warehouse file {} is damaged ({what}): `orderstream run` sets it aside when it loads next, goes on with a \
         new one, and says how much is lost",
        path.display()
    ))
}
