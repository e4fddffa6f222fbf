//! Where a command's result goes.
//!
//! Invariants: what others wrote (fields, bodies) moves no cursor: control characters are shown as `�`; a reader that
//! closed its end (`status | head`) has what it wanted; that is no failure, and ends nothing.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use super::Failure;

/// Prints a result and a line end to stdout.
///
/// # Errors
/// It cannot be written: a full disk, a closed stdout.
pub(super) fn print(result: impl Display) -> Result<(), Failure> {
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let result = result.to_string().replace(is_control, "\u{FFFD}");
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{result}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Unavailable(format!("cannot write the result: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a result as one line of JSON.
///
/// # Errors
/// As [`print`].
pub(super) fn print_json(result: &impl serde::Serialize) -> Result<(), Failure> {
    print(serde_json::to_string(result).map_err(|error| Failure::Unavailable(error.to_string()))?)
}
