//! From an event in memory to an event that is durable.
//!
//! Owns the path between HTTP and the stream: admission, the appender and its outcomes. Must not know HTTP or Shopify.
//! Invariant: `Ok` only after the stream confirmed the append.

pub mod admission;
pub mod appender;
mod appends;
mod moment;
mod writer;

pub use self::admission::{Admission, Admitted, Share, Shed};
pub use self::appender::Appender;
pub use self::appends::Appends;
pub use self::moment::Moment;

use crate::stream::StreamId;

/// Proof that an append is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// Stored as this entry.
    Accepted(StreamId),
    /// Stored before, as this entry.
    Duplicate(StreamId),
    /// The key was stored before with another body, as this entry. Nothing was appended: the caller quarantines.
    Conflict(StreamId),
}

/// Why an append was not confirmed. The sender must send again; dedupe absorbs what was stored all the same.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The queue is full; nothing was sent.
    #[error("too many appends are waiting")]
    Overloaded,
    /// The destination is at its cap.
    #[error("the stream is at its cap")]
    Full,
    /// No confirmation in time, or the store is away.
    #[error("the stream did not confirm: {0}")]
    Unavailable(String),
    /// The process is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}
