//! Exit codes, and the failures that lead to them.

use std::io::{self, Write};
use std::process::ExitCode;

use super::output::{one_line, own_lines};
use crate::app::AppError;
use crate::config::ConfigErrors;
use crate::config::local::LocalError;
use crate::folder::FolderError;
use crate::stream::StreamError;
use crate::warehouse::WarehouseError;

/// How the program ends (the codes of sysexits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// What was named is not there, or is not the only one of that name.
    NotFound = 1,
    /// The command line is wrong.
    Usage = 64,
    /// A service cannot be reached, or does not do what was asked.
    Unavailable = 69,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked. Texts say what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong usage; the text is complete and ends its own line.
    #[error("{0}")]
    Usage(String),
    /// What was named is not there, or is not the only one of that name.
    #[error("{0}")]
    NotFound(String),
    /// A service is away, or refused.
    #[error("{0}")]
    Unavailable(String),
    /// A service answers, and nothing but another configuration or other rights there will make it usable.
    #[error("{0}")]
    Misconfigured(String),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// Local mode has no secrets.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A process did not start, or part of it died.
    #[error(transparent)]
    App(#[from] AppError),
    /// Everything is printed already.
    #[error("{0:?}")]
    Reported(Exit),
}

impl Failure {
    fn of(exit: Exit, text: String) -> Self {
        match exit {
            Exit::Config => Self::Misconfigured(text),
            Exit::Done | Exit::NotFound | Exit::Usage | Exit::Unavailable => Self::Unavailable(text),
        }
    }

    /// The exit code it means.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NotFound(_) => Exit::NotFound,
            Self::Unavailable(_) => Exit::Unavailable,
            Self::Misconfigured(_) | Self::Config(_) | Self::Local(_) | Self::App(AppError::Config(_)) => Exit::Config,
            Self::App(AppError::Bind { .. } | AppError::Signals(_) | AppError::Role(_)) => Exit::Unavailable,
            Self::Folder(error) | Self::App(AppError::Folder(error)) => of_folder(error),
            Self::App(AppError::Stream(error)) => of_stream(error),
            Self::App(AppError::Warehouse(error)) => of_warehouse(error),
            Self::Reported(exit) => *exit,
        }
    }

    /// Says it on stderr, unless that is closed: then there is nobody to tell.
    pub(super) fn print(&self) {
        let text = match self {
            Self::Usage(text) => own_lines(text),
            Self::Reported(_) => return,
            // Several problems, each on a line of its own.
            Self::Config(_) | Self::App(AppError::Config(_)) => own_lines(&format!("orderstream: {self}\n")),
            // A server's words may stand in them.
            Self::NotFound(_)
            | Self::Unavailable(_)
            | Self::Misconfigured(_)
            | Self::Local(_)
            | Self::Folder(_)
            | Self::App(_) => one_line(&format!("orderstream: {self}")) + "\n",
        };
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Self::of(of_stream(&error), error.to_string())
    }
}

impl From<WarehouseError> for Failure {
    fn from(error: WarehouseError) -> Self {
        Self::of(of_warehouse(&error), error.to_string())
    }
}

fn of_stream(error: &StreamError) -> Exit {
    match error {
        StreamError::Unreachable { .. }
        | StreamError::Timeout { .. }
        | StreamError::Unconfirmed(_)
        | StreamError::Refused { .. }
        | StreamError::Full(_) => Exit::Unavailable,
        StreamError::Denied(_) | StreamError::UnusableKey(_) | StreamError::Unusable(_) => Exit::Config,
    }
}

fn of_warehouse(error: &WarehouseError) -> Exit {
    match error {
        WarehouseError::Unreachable { .. }
        | WarehouseError::Unavailable { .. }
        | WarehouseError::Rejected { .. }
        | WarehouseError::Refused { .. } => Exit::Unavailable,
        WarehouseError::Outdated { .. } | WarehouseError::Incomplete { .. } | WarehouseError::Unusable(_) => {
            Exit::Config
        }
    }
}

fn of_folder(error: &FolderError) -> Exit {
    match error {
        FolderError::Owned { .. } => Exit::Unavailable,
        FolderError::Io { .. } => Exit::Config,
    }
}
