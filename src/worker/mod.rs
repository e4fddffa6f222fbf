//! From the stream to a handler: read, decode, load, ack; and everything that goes wrong between.
//!
//! Owns the consumer side: processor, reclaimer, trimmer, one role a file. Must not know HTTP or SQL.
//! Invariant: an entry is acked only after its handler confirmed it or it is in the dead letters.

use async_trait::async_trait;

use crate::class::Class;
use crate::event::EventRecord;

/// What is done with events. The warehouse is one; a Rust user can put their own in its place.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Takes the events, all or none; answers when their effects are durable. Must be safe to repeat: after a crash
    /// the same events come again.
    ///
    /// # Errors
    /// By class: transient is retried as it is, poison makes the worker find the event at fault.
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError>;
}

/// What a handler did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handled {
    /// Events that were new.
    pub new: u64,
    /// Events it had already.
    pub known: u64,
}

/// Why a handler did not take its events.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct HandlerError {
    /// Whose fault it was.
    pub class: Class,
    /// For the operator; names no content.
    pub message: String,
}
