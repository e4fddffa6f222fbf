//! Reads a spool's file beside its owner.
//!
//! Shows events as they were given to the spool, with their destination. Invariant: the drainer is
//! neither asked nor held up, and any process may own the file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::spool_entry::decode;
use crate::stream::embedded::EmbeddedStream;
use crate::stream::{Destination, Entry, StreamError};

/// Reads the file of a spool; a cheap clone.
#[derive(Debug, Clone)]
pub struct SpoolReader(Arc<Path>);

/// An event that waits in a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpooledEntry {
    /// Where it goes.
    pub destination: Destination,
    /// What goes there. Its id is its place in the spool, which tells when it was spooled.
    pub entry: Entry,
}

impl SpoolReader {
    /// Reads the file at `path`.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path.into())
    }

    /// Calls `visit` for each entry in one snapshot of the file, newest first, until it breaks;
    /// what it gathers in `seen` is the answer. Reads on a blocking thread.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn scan<T: Send + 'static>(
        &self,
        mut seen: T,
        mut visit: impl FnMut(&mut T, SpooledEntry) -> ControlFlow<()> + Send + 'static,
    ) -> Result<T, StreamError> {
        let file = self.clone();
        let scanned = tokio::task::spawn_blocking(move || {
            EmbeddedStream::scan_file(&file.0, |entry| visit(&mut seen, spooled(entry)))?;
            Ok(seen)
        });
        let panicked = |_| StreamError::Unusable(format!("{}: reading panicked", self.0.display()));
        scanned.await.unwrap_or_else(|error| Err(panicked(error)))
    }
}

/// What this release cannot read goes to the dead letters, as the drainer decides too.
fn spooled(Entry { id, fields }: Entry) -> SpooledEntry {
    let (destination, fields) = match decode(fields) {
        Ok(entry) => (entry.destination, entry.fields),
        Err(fields) => (Destination::DeadLetters, fields),
    };
    SpooledEntry {
        destination,
        entry: Entry { id, fields },
    }
}
