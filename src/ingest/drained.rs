//! The result of draining: counts of entries, and why it cannot go on.

use crate::stream::StreamError;

/// Counts of entries that left the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Drained {
    /// New to the stream, or to the dead letters where those were their destination.
    pub accepted: u64,
    /// Already there: their first append was stored after all, or they were sent again meanwhile.
    pub duplicate: u64,
    /// In the dead letters, since their id was used for another body.
    pub quarantined: u64,
    /// In the dead letters, since the stream refuses them.
    pub dead_lettered: u64,
}

/// Why the spool cannot be drained now.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The stream or the spool failed.
    #[error(transparent)]
    Store(#[from] StreamError),
    /// The stream does not take entries for now.
    #[error("{0}")]
    Unavailable(String),
    /// The spool reports entries that it does not hand out.
    #[error("some are there and cannot be read")]
    Unreadable,
}
