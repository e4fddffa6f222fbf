//! How a command prints its result: lines, tables or JSON on stdout, progress on stderr.
//!
//! Invariants: a line of the result is one line on the terminal, whatever it contains: characters
//! that a terminal acts on are shown as `�`, in JSON as escapes. A reader that closed its end
//! (`status | head`) is no failure.

use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::time::Duration;

use clap::Args;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use super::exit::Failure;
use crate::terminal::{is_acted_on, one_line, own_lines};

/// Arguments of commands that print a report.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OutputArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl OutputArgs {
    /// Prints the result as JSON, or as lines, each of which may hold text from outside.
    ///
    /// # Errors
    /// It cannot be written: a full disk, a closed stdout.
    pub(super) fn print(self, result: &impl Serialize, lines: impl FnOnce() -> Vec<String>) -> Result<(), Failure> {
        print_one(self, result, lines).map(|_| ())
    }
}

/// Prints lines, each of which may hold text from outside.
pub(super) fn print_lines(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Result<(), Failure> {
    write(&joined(lines)).map(|_| ())
}

fn joined(lines: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let lines = Vec::from_iter(lines.into_iter().map(|line| one_line(line.as_ref())));
    lines.join("\n")
}

/// Prints one of many results; breaks where there is no reader any more.
pub(super) fn print_one(
    output: OutputArgs,
    result: &impl Serialize,
    lines: impl FnOnce() -> Vec<String>,
) -> Result<ControlFlow<()>, Failure> {
    if output.json {
        write(&json(result).map_err(|error| Failure::Unavailable(error.to_string()))?)
    } else {
        write(&joined(lines()))
    }
}

/// Returns once the reader of a piped stdout closed its end, which a command that waits for something
/// to print would notice at its next line only. A file or terminal has no such reader: it waits on.
pub(super) async fn reader_closed() {
    // epoll reports EPOLLERR for a pipe without a reader, and refuses regular files. Unchecked: the
    // checked one makes stdout non-blocking, and a line for a full pipe would fail.
    if let Ok(stdout) = io::stdout().as_fd().try_clone_to_owned()
        && let Ok(pipe) = Sender::from_owned_fd_unchecked(stdout)
        && pipe.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Prints a text whose line ends are its own.
pub(super) fn print(text: impl Display) -> Result<(), Failure> {
    write(&own_lines(&text.to_string())).map(|_| ())
}

/// Such characters can only be in strings, where an escape means the same.
fn json(result: &impl Serialize) -> serde_json::Result<String> {
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

fn write(text: &str) -> Result<ControlFlow<()>, Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::Unavailable(format!("cannot write the result: {error}"))),
    }
}

/// Lines of a table without borders, two blanks between columns. Cells may hold text from outside.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(heading);
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| one_line(&cell))));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt().lines().map(str::to_owned).collect()
}

/// A value that may be absent, as a cell.
pub(super) fn cell(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// `0.4s`, `12s`, `3m 5s`, `2h 4m`, `9d 1h`: two units are enough for a person.
pub(super) fn span(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", age.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Says something on stderr while a command goes on; a closed stderr is no failure.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "orderstream: {}", one_line(text));
}

/// A progress bar on stderr up to `total`, or a count where that is not known; hidden where stderr
/// is no terminal or the command ends at once.
pub(super) fn progress(total: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() || total.is_some_and(|total| total < 2) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let template = match total {
        Some(_) => "{bar:40} {pos}/{len}  {per_sec}  eta {eta}  {msg}",
        None => "{spinner} {pos}  {per_sec}",
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
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

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["1".to_owned(), "long cell".to_owned()], ["äöü".to_owned(), cell(None)]];
        assert_eq!(table(["id", "why"], rows), ["id   why", "1    long cell", "äöü  -"]);
    }

    #[test]
    fn spans_have_two_units() {
        for (millis, shown) in [
            (400, "0.4s"),
            (12_000, "12s"),
            (185_000, "3m 5s"),
            (7_440_000, "2h 4m"),
            (781_200_000, "9d 1h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), shown);
        }
    }
}
