//! Exit codes, and the failures that lead to them.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::app::AppError;
use crate::capture::CaptureError;
use crate::config::ConfigErrors;
use crate::config::local::LocalError;
use crate::folder::FolderError;
use crate::shopify_admin::reconcile::ReconcileError;
use crate::shopify_admin::{AdminError, BulkError};
use crate::stream::StreamError;
use crate::terminal::{one_line, own_lines};
use crate::warehouse::WarehouseError;

/// How the program ends (the codes of sysexits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// What was named does not exist, or is ambiguous.
    NotFound = 1,
    /// The command line is wrong.
    Usage = 64,
    /// A service cannot be reached, or refuses.
    Unavailable = 69,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed. Texts say what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong usage; the text is complete, with its line ends.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong; one problem a line.
    #[error("{0}")]
    Config(String),
    /// What was named does not exist, or is ambiguous.
    #[error("{0}")]
    NotFound(String),
    /// A service cannot be reached, or refuses.
    #[error("{0}")]
    Unavailable(String),
    /// A service answers, and is unusable until its configuration or its rights are changed.
    #[error("{0}")]
    Misconfigured(String),
    /// The failure is printed already.
    #[error("{0:?}")]
    Reported(Exit),
}

impl Failure {
    /// The exit code it means.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NotFound(_) => Exit::NotFound,
            Self::Unavailable(_) => Exit::Unavailable,
            Self::Config(_) | Self::Misconfigured(_) => Exit::Config,
            Self::Reported(exit) => *exit,
        }
    }

    /// Prints it on stderr; a closed stderr is no failure.
    pub(super) fn print(&self) {
        let text = match self {
            Self::Usage(text) => own_lines(text),
            Self::Config(text) => own_lines(&format!("orderstream: {text}\n")),
            // These may quote a server.
            Self::NotFound(text) | Self::Unavailable(text) | Self::Misconfigured(text) => {
                one_line(&format!("orderstream: {text}")) + "\n"
            }
            Self::Reported(_) => return,
        };
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors.to_string())
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        Self::Misconfigured(error.to_string())
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Owned { .. } => Self::Unavailable(error.to_string()),
            FolderError::Io { .. } => Self::Misconfigured(error.to_string()),
        }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Config(text) => Self::Config(text),
            AppError::Folder(error) => error.into(),
            AppError::Stream(error) => error.into(),
            AppError::Warehouse(error) => error.into(),
            AppError::Capture(error) => error.into(),
            AppError::Bind { .. } | AppError::Signals(_) | AppError::Role(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Plan(_) | CaptureError::Source(_) => Self::Misconfigured(error.to_string()),
            CaptureError::Unavailable(_) => Self::Unavailable(error.to_string()),
            CaptureError::Stream(error) => error.into(),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        if error.is_configuration() {
            Self::Misconfigured(error.to_string())
        } else {
            Self::Unavailable(error.to_string())
        }
    }
}

impl From<BulkError> for Failure {
    fn from(error: BulkError) -> Self {
        match error {
            BulkError::Admin(error) => error.into(),
            BulkError::Download(_) => Self::Unavailable(format!("{error}; give the same command later, which goes on")),
            BulkError::NoFile(_) | BulkError::Disk { .. } => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<ReconcileError> for Failure {
    fn from(error: ReconcileError) -> Self {
        match error {
            ReconcileError::Admin(error) => error.into(),
            ReconcileError::Stream(error) => error.into(),
            ReconcileError::Warehouse(error) => error.into(),
            ReconcileError::Locked(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Unreachable { .. }
            | StreamError::Timeout { .. }
            | StreamError::Unconfirmed(_)
            | StreamError::Refused { .. }
            | StreamError::Full(_) => Self::Unavailable(error.to_string()),
            StreamError::Denied(_) | StreamError::UnusableKey(_) | StreamError::Unusable(_) => {
                Self::Misconfigured(error.to_string())
            }
        }
    }
}

impl From<WarehouseError> for Failure {
    fn from(error: WarehouseError) -> Self {
        match error {
            WarehouseError::Unreachable { .. }
            | WarehouseError::Unavailable { .. }
            | WarehouseError::Rejected { .. }
            | WarehouseError::Refused { .. } => Self::Unavailable(error.to_string()),
            WarehouseError::Outdated { .. } | WarehouseError::Incomplete { .. } | WarehouseError::Unusable(_) => {
                Self::Misconfigured(error.to_string())
            }
        }
    }
}
