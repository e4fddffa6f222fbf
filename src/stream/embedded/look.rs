//! A look at a file by a command that is not going to run on it.
//!
//! Invariant: nothing of the stream is changed. A damaged file is set aside by the process that runs on it, which counts
//! and says what is lost; a command that did so on its way would take the news with it.

use std::path::Path;

use super::fault::Fault;
use super::tally::TallyFiles;
use super::{EmbeddedStream, recovery, schema};
use crate::stream::StreamError;

const QUICK_CHECK: &str = "PRAGMA quick_check(1)";

impl EmbeddedStream {
    /// Whether [`open`](Self::open) would take the file as it is. Blocks the thread while it reads all of it.
    ///
    /// # Errors
    /// What is wrong with it, and what will become of it.
    pub fn look_over(path: &Path) -> Result<(), StreamError> {
        look_over(path).map_err(|fault| match fault {
            damage if damage.is_damage() => StreamError::Unusable(format!(
                "{} is damaged ({damage}): `orderstream run` sets it aside, goes on with what can be read of it, and says \
                 how much is lost",
                path.display()
            )),
            fault => fault.stream_error(path),
        })
    }
}

fn look_over(path: &Path) -> Result<(), Fault> {
    let (_lock, tally) = TallyFiles::open(path)?;
    let connection = schema::connect_reading(path)?;
    let is_new = schema::recognize(&connection)?;
    let verdict: String = connection.query_row(QUICK_CHECK, [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Fault::Tables);
    }
    let confirmed = tally.map_or(0, |tally| tally.commit);
    if confirmed > if is_new { 0 } else { recovery::commit(&connection)? } {
        return Err(Fault::Behind);
    }
    Ok(())
}
