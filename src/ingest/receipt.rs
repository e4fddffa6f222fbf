//! The answer to an append: durable, or not confirmed and why.

use crate::stream::{Appended, StreamError, StreamId};

/// Proof that an append is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// Stored in the stream as this entry.
    Accepted(StreamId),
    /// Stored before: in the stream as this entry, or in the spool.
    Duplicate(Option<StreamId>),
    /// The key was stored before with another body. Nothing was appended: the caller quarantines.
    Conflict,
    /// On this machine's disk, from where it goes to the stream.
    Spooled,
}

/// Why an append was not confirmed. The sender must send again; dedupe absorbs what was stored
/// nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The queue is full; nothing was sent.
    #[error("too many appends are waiting")]
    Overloaded,
    /// The destination is at its cap.
    #[error("the stream is at its cap")]
    Full,
    /// The stream does not take it, and the spool is at its limit.
    #[error("the stream does not confirm, and the spool is at its limit")]
    SpoolFull,
    /// No confirmation in time, or the store is away.
    #[error("the stream did not confirm: {0}")]
    Unavailable(String),
    /// The process is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}

impl Receipt {
    /// What the stream's outcome means to the sender.
    pub(super) fn of_stream(outcome: Appended) -> Result<Self, AppendError> {
        match outcome {
            Appended::Accepted(id) => Ok(Self::Accepted(id)),
            Appended::Duplicate(id) => Ok(Self::Duplicate(Some(id))),
            Appended::Conflict(_) => Ok(Self::Conflict),
            Appended::Full => Err(AppendError::Full),
            Appended::Refused(reason) | Appended::TooLarge(reason) | Appended::Unavailable(reason) => {
                Err(AppendError::Unavailable(reason))
            }
            Appended::Failed(error) => Err(AppendError::from(&*error)),
        }
    }

    /// What the spool's outcome means to the sender, who never learns a place in the spool.
    pub(super) fn of_spool(outcome: Appended) -> Result<Self, AppendError> {
        match Self::of_stream(outcome) {
            Ok(Self::Accepted(_)) => Ok(Self::Spooled),
            Ok(Self::Duplicate(_)) => Ok(Self::Duplicate(None)),
            Err(AppendError::Full) => Err(AppendError::SpoolFull),
            answer => answer,
        }
    }
}

impl From<&StreamError> for AppendError {
    fn from(error: &StreamError) -> Self {
        if let StreamError::Full(_) = error {
            Self::Full
        } else {
            Self::Unavailable(error.to_string())
        }
    }
}
