//! From an event in memory to an event that is durable.
//!
//! Owns the path between HTTP and the stream: admission, the appender and its outcomes, and the way around a stream that
//! is away: breaker, spool and drainer. Must not know HTTP or Shopify. Invariant: `Ok` only after the stream confirmed the
//! append, or the spool has it on its disk.
//!
//! To be read in the order of an event's way: `admission.rs` (its bytes find room), `appender.rs` (it queues), `flush.rs`
//! (with others), `writer.rs` (to the stream, or around it), `breaker.rs` (which of the two), `spool.rs` (the disk),
//! `drainer.rs` with `drain_batch.rs`, `retry_queue.rs` and `spool_level.rs` (from there to the stream). `append_stats.rs` is what health sees of it,
//! `spool_reader.rs` what an operator sees of the spool.

pub mod admission;
mod append_stats;
pub mod appender;
mod breaker;
mod drain_batch;
mod drainer;
mod flush;
mod last_event;
pub mod quarantine;
mod quarantine_log;
mod retry_queue;
mod spool;
mod spool_level;
mod spool_reader;
mod writer;

pub use self::admission::{Admission, ConversionPermit, MemoryPermit, SharedPermit, Shed};
pub use self::append_stats::AppendStats;
pub use self::appender::Appender;
pub use self::breaker::Breaker;
pub use self::drainer::{Drained, Drainer};
pub use self::last_event::AtomicInstant;
pub use self::quarantine_log::QuarantineLog;
pub use self::spool::{Spool, SpoolReport};
pub use self::spool_reader::{SpoolReader, SpooledEntry};

use std::time::Duration;

use crate::stream::StreamId;

/// The way around the stream; a cheap clone.
#[derive(Debug, Clone)]
pub struct SpoolFallback {
    /// Whether it is taken.
    pub breaker: Breaker,
    /// Where it leads.
    pub spool: Spool,
}

impl SpoolFallback {
    fn for_task(&self, after: Duration) -> writer::TaskFallback {
        writer::TaskFallback {
            after,
            breaker: self.breaker.clone(),
            spool: self.spool.writer(),
        }
    }
}

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

/// Why an append was not confirmed. The sender must send again; dedupe absorbs what was stored all the same.
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
