//! Where a command's result goes.
//!
//! Invariant: a reader that closed its end (`status | head`) has what it wanted; that is no failure, and ends nothing.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use super::Failure;

/// Prints a result and a line end to stdout.
///
/// # Errors
/// It cannot be written: a full disk, a closed stdout.
pub(super) fn print(result: impl Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{result}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Unavailable(format!("cannot write the result: {error}")))
        }
        _ => Ok(()),
    }
}
