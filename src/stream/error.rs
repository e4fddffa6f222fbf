//! Failed calls to the stream, and whether they can be repeated.

use std::time::Duration;

use crate::retryability::Retryability;

/// A failed call to the stream. Texts name server, command and remedy, never content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The server cannot be reached, or the connection broke: a write may or may not have happened.
    #[error("stream unreachable at {server}: {message}")]
    Unreachable {
        /// Address without credentials.
        server: String,
        /// The transport's error.
        message: String,
    },
    /// No answer in time: a write may or may not have happened.
    #[error("no answer from the stream at {server} within {after:?}")]
    Timeout {
        /// Address without credentials.
        server: String,
        /// The timeout.
        after: Duration,
    },
    /// It is stored, but not proven to be as durable as `ORDERSTREAM_DURABILITY` asks for.
    #[error("stored, but not confirmed to be durable: {0}")]
    Unconfirmed(String),
    /// The server refused the command for its own reasons (LOADING, OOM, READONLY, MISCONF, ...):
    /// it did not happen.
    #[error("the stream refuses commands for now: {code}: {message}")]
    Refused {
        /// First word of the server's reply.
        code: String,
        /// The reply.
        message: String,
    },
    /// The stream is at its cap.
    #[error("the stream is at its cap of {0} entries")]
    Full(u64),
    /// Wrong credentials or missing rights: only an operator can correct it.
    #[error("the stream denies access: {0}")]
    Denied(String),
    /// The key of the log accepts no entry: it holds another type, or its ids are used up. Nothing
    /// was appended, and only an operator can correct it.
    #[error("no entry can be appended: {0}")]
    UnusableKey(String),
    /// The server is too old, or its answer is not one that any version gives.
    #[error("unusable stream: {0}")]
    Unusable(String),
}

impl StreamError {
    /// Whether the call certainly did not take effect.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Full(_) | Self::Denied(_) | Self::UnusableKey(_) => true,
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Unconfirmed(_) | Self::Unusable(_) => false,
        }
    }

    /// Its retryability. No error of a stream is ever an entry's fault.
    #[must_use]
    pub fn retryability(&self) -> Retryability {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Unconfirmed(_)
            | Self::Refused { .. }
            | Self::Full(_)
            | Self::Denied(_)
            | Self::UnusableKey(_) => Retryability::Transient,
            Self::Unusable(_) => Retryability::Bug,
        }
    }
}
