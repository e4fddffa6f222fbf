//! How a command prints its result.
//!
//! Invariants: a line of the result is one line on the terminal, whatever it contains: characters
//! that a terminal acts on are shown as `�`, in JSON as escapes. A reader that closed its end
//! (`status | head`) is no failure.

use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind, Write};

use clap::Args;

use super::exit::Failure;
use crate::terminal::{is_acted_on, one_line, own_lines};

/// Arguments of commands that print a report.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OutputArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Prints lines, each of which may hold text from outside.
///
/// # Errors
/// They cannot be written: a full disk, a closed stdout.
pub(super) fn print_lines(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Result<(), Failure> {
    let lines = Vec::from_iter(lines.into_iter().map(|line| one_line(line.as_ref())));
    write(&lines.join("\n"))
}

/// Prints a text whose line ends are its own.
///
/// # Errors
/// As [`print_lines`].
pub(super) fn print(text: impl Display) -> Result<(), Failure> {
    write(&own_lines(&text.to_string()))
}

/// Prints a result as one line of JSON.
///
/// # Errors
/// As [`print_lines`].
pub(super) fn print_json(result: &impl serde::Serialize) -> Result<(), Failure> {
    write(&json(result).map_err(|error| Failure::Unavailable(error.to_string()))?)
}

/// Such characters can only be in strings, where an escape means the same.
fn json(result: &impl serde::Serialize) -> serde_json::Result<String> {
    let written = serde_json::to_string(result)?;
    let mut shown = String::with_capacity(written.len());
    for c in written.chars() {
        if is_acted_on(c) {
            // All of them have four digits.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Ok(shown)
}

fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Unavailable(format!("cannot write the result: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_means_the_same_and_does_nothing_on_a_terminal() {
        let name = "#1\n\r\x1b[2J\u{7f}\u{85}\u{2028}\u{202E}\u{2066} é";
        let shown = json(&name).unwrap();
        assert!(!shown.contains(is_acted_on), "{shown:?}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), name);
    }
}
