//! A spool as one who only looks sees it.
//!
//! Owns what of its file is shown: events as they were given to the spool, with where they go. Invariant: the drainer
//! is neither asked nor held up, and the file may be anybody's.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::spool::unwrapped;
use crate::stream::embedded::EmbeddedStream;
use crate::stream::{Destination, Entry, StreamError};

/// The file of a spool; a cheap clone.
#[derive(Debug, Clone)]
pub struct SpoolReader(Arc<Path>);

/// An event that waits in a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpooledEntry {
    /// Where it goes.
    pub destination: Destination,
    /// What goes there. Its id is its place in the spool, which tells when it was taken.
    pub entry: Entry,
}

impl SpoolReader {
    /// The one there.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path.into())
    }

    /// Shows `look` what waits there, newest first and as of one moment, until it breaks off; it gathers in `seen`,
    /// which is the answer. Reads off the runtime's threads.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn scan<T: Send + 'static>(
        &self,
        mut seen: T,
        mut look: impl FnMut(&mut T, SpooledEntry) -> ControlFlow<()> + Send + 'static,
    ) -> Result<T, StreamError> {
        let file = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            EmbeddedStream::scan_file(&file.0, |entry| look(&mut seen, spooled(entry)))?;
            Ok(seen)
        });
        let panicked = |_| StreamError::Unusable(format!("{}: reading panicked", self.0.display()));
        looked.await.unwrap_or_else(|error| Err(panicked(error)))
    }
}

/// What this release cannot read goes to the dead letters, as the drainer has it.
fn spooled(entry: Entry) -> SpooledEntry {
    let (id, found) = unwrapped(entry);
    let (destination, fields) = match found {
        Ok(entry) => (entry.destination, entry.fields),
        Err(fields) => (Destination::DeadLetters, fields),
    };
    SpooledEntry {
        destination,
        entry: Entry { id, fields },
    }
}
