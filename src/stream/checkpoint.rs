//! The checkpoint of a producer that resumes where it was: its record is replaced in the same
//! atomic step that appends its entries.

use async_trait::async_trait;

use super::Destination;
use super::entry::NewEntry;
use super::error::StreamError;

/// What is stored beside the stream for one producer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Counts the replacements of the record; 0 where there is none.
    pub version: u64,
    /// The producer's own record; empty where there is none.
    pub record: String,
    /// What operators asked the producer to do last; empty where there is nothing.
    pub request: String,
}

/// The outcome of an append with a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointedAppend {
    /// Entries and record are stored.
    Stored,
    /// Another process has replaced the record: nothing is stored, and this one must read it again.
    Moved,
    /// That log has no room for all of them: nothing is stored.
    Full(Destination),
}

/// Appends of one producer, each with its new record. Laws, which `tests/suite/stream/laws/` holds
/// on both stores:
/// - entries and record are stored together or not at all;
/// - of two appends with the same `expected` version at most one is stored.
#[async_trait]
pub trait CheckpointedWriter: Send {
    /// The checkpoint as it is.
    ///
    /// # Errors
    /// The store's.
    async fn read(&mut self) -> Result<Checkpoint, StreamError>;

    /// Appends `entries` without dedupe, and makes `record` the one of version `expected + 1`,
    /// where the version is `expected` now and the stream has room: up to `fill` percent of its
    /// cap.
    ///
    /// # Errors
    /// Where [`StreamError::is_refused`] nothing is stored. Otherwise the outcome is unknown:
    /// [`Self::read`] tells.
    async fn append(
        &mut self,
        entries: &[NewEntry],
        expected: u64,
        record: &str,
        fill: u8,
    ) -> Result<CheckpointedAppend, StreamError>;

    /// Leaves a request for the producer.
    ///
    /// # Errors
    /// The store's.
    async fn request(&mut self, request: &str) -> Result<(), StreamError>;

    /// Removes checkpoint and request.
    ///
    /// # Errors
    /// The store's.
    async fn remove(&mut self) -> Result<(), StreamError>;
}
