//! Reads of a file by whoever does not run on it: commands, and a trace that looks into a spool.
//!
//! Invariant: nothing is changed, and the file's owner is not held up. A damaged file is set aside by the process that
//! runs on it, which counts and says what is lost; a command that did so on its way would take the news with it.

use std::ops::ControlFlow;
use std::path::Path;

use super::error::EmbeddedError;
use super::{EmbeddedStream, range, schema};
use crate::sqlite;
use crate::stream::{Destination, Entry, Order, Range, StreamError};

/// Entries that are in memory at once.
const AT_ONCE: usize = 200;

impl EmbeddedStream {
    /// Whether [`open`](Self::open) would take the file as it is. Blocks the thread while it reads all of it.
    ///
    /// # Errors
    /// What is wrong with it, and what will become of it.
    pub fn check_file(path: &Path) -> Result<(), StreamError> {
        check_file(path).map_err(|error| match error {
            damage if damage.is_damage() => StreamError::Unusable(format!(
                "{} is damaged ({damage}): `orderstream run` sets it aside, goes on with a new one, and says how much is \
                 lost",
                path.display()
            )),
            error => error.stream_error(path),
        })
    }

    /// Shows `visit` the entries of the file, newest first and as of one moment, until it breaks off. The file may be
    /// anybody's: this process', another's, or nobody's. Blocks the thread while it reads.
    ///
    /// # Errors
    /// The file cannot be read, or is not one that this release knows.
    pub fn scan_file(path: &Path, visit: impl FnMut(Entry) -> ControlFlow<()>) -> Result<(), StreamError> {
        scan_file(path, visit).map_err(|error| error.stream_error(path))
    }
}

fn check_file(path: &Path) -> Result<(), EmbeddedError> {
    let _lock = sqlite::lock(path)?;
    let connection = sqlite::inspect(path, schema::BUSY)?;
    schema::recognize(&connection)?;
    Ok(())
}

fn scan_file(path: &Path, mut visit: impl FnMut(Entry) -> ControlFlow<()>) -> Result<(), EmbeddedError> {
    let connection = sqlite::open_read_only(path, schema::BUSY)?;
    // The file may be replaced, but not between two pages of it.
    connection.execute_batch("BEGIN")?;
    let is_new = schema::recognize(&connection)?;
    let mut next = (!is_new).then(|| Range::all(Destination::Stream, Order::NewestFirst, AT_ONCE));
    while let Some(range) = next {
        let page = range::range(&connection, range)?;
        if page.entries.into_iter().try_for_each(&mut visit).is_break() {
            break;
        }
        next = page.next;
    }
    Ok(())
}
