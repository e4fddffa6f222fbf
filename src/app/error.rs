//! The error of a process that does not start, or that ends by itself.

use std::io;
use std::net::SocketAddr;

use crate::capture::CaptureError;
use crate::folder::FolderError;
use crate::stream::StreamError;
use crate::warehouse::WarehouseError;

/// Why a process did not start, or ended by itself. Texts say what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// This process cannot own the data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The stream cannot work as it is configured.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The warehouse cannot work as it is configured.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// The source of the capture cannot work as it is configured.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// An address cannot be bound.
    #[error("cannot listen at {addr}: {source}; set {setting} to a free address")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The setting that decides it.
        setting: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The system refuses signal handlers.
    #[error("cannot listen for signals: {0}")]
    Signals(#[from] io::Error),
    /// Part of the process died; the rest was shut down in order.
    #[error("the {0} ended unexpectedly, which ends the process; the log above has the cause")]
    Role(&'static str),
}
