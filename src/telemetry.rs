//! Logs: lines for people or JSON for collectors, on stderr.
//!
//! Owns the subscriber and the panic hook. Invariants: an event is one line of text, in which
//! characters that a terminal acts on are escaped (JSON escapes by itself); logging never delays a
//! request: a reader of stderr that stops blocks only the logging thread, and lines that do not fit
//! its queue are dropped and counted; of a panic only the place is logged, since its message may
//! quote content.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::config::{LogConfig, LogFormat};
use crate::terminal::is_acted_on;

/// Lines waiting for stderr. At a few hundred bytes each this stays within some megabytes.
const QUEUED_LINES: usize = 8192;

/// Target of the start line, which is logged unless `RUST_LOG` has a directive for this very
/// target.
pub const START: &str = "orderstream::start";

/// Target under which the driver logs notices of PostgreSQL, which may quote a row. It is never
/// written.
const NOTICES: &str = "tokio_postgres::connection";

/// Flushes the queued lines when it is dropped.
#[must_use = "logs end when this is dropped"]
#[derive(Debug)]
pub struct Logs {
    dropped: ErrorCounter,
    _worker: WorkerGuard,
}

impl Logs {
    /// Lines dropped so far because stderr did not take them in time.
    #[must_use]
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

/// Starts logging for this process, panics included. A second call changes nothing.
pub fn start(config: &LogConfig) -> Logs {
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .lossy(true)
        .finish(io::stderr());
    let dropped = writer.error_counter();
    let filter = EnvFilter::builder().parse_lossy(format!("{START}=info,{},{NOTICES}=off", config.filter));
    let lines = tracing_subscriber::fmt::layer();
    let registry = tracing_subscriber::registry().with(filter);
    let _ = match config.format {
        LogFormat::Text => registry
            .with(
                lines
                    .compact()
                    .with_ansi(io::stderr().is_terminal())
                    .with_writer(move || OneLine(writer.clone())),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(lines.json().flatten_event(true).with_ansi(false).with_writer(writer))
            .try_init(),
    };
    std::panic::set_hook(Box::new(log_panic));
    Logs {
        dropped,
        _worker: worker,
    }
}

/// Writes each event as one line. The subscriber writes an event at once.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(escaped(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The event with escapes for what a terminal acts on, but for its end and the colours that the
/// subscriber gave it.
fn escaped(event: &str) -> Cow<'_, str> {
    let (line, end) = match event.strip_suffix('\n') {
        Some(line) => (line, "\n"),
        None => (event, ""),
    };
    if !line.contains(is_acted_on) {
        return Cow::Borrowed(event);
    }
    let mut shown = String::with_capacity(event.len() + 16);
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let taken = colour(rest).unwrap_or(c.len_utf8());
        if taken > c.len_utf8() || !is_acted_on(c) {
            shown.push_str(&rest[..taken]);
        } else {
            shown.extend(c.escape_default());
        }
        rest = &rest[taken..];
    }
    shown.push_str(end);
    Cow::Owned(shown)
}

/// Bytes of the colour that the text begins with: `ESC [ 2 ; 31 m`. In values the subscriber itself
/// escapes them.
fn colour(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("\x1b[")?;
    let end = inner.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    inner[end..]
        .starts_with('m')
        .then_some(text.len() - inner.len() + end + 1)
}

thread_local! {
    /// Where the last panic of this thread began.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// The place of a panic, which replaces its message in errors and when it is resumed in another
/// thread.
#[derive(Debug, Clone)]
pub struct PanicPlace(Option<String>);

impl PanicPlace {
    /// Of a panic that was just caught in this thread, or that was resumed with its place.
    #[must_use]
    pub fn of(panic: &(dyn Any + Send)) -> Self {
        let carried = panic.downcast_ref::<Self>().cloned();
        carried.unwrap_or_else(|| Self(PLACE.take()))
    }

    /// `src/file.rs:1:2`; `None` where this process does not log.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Logs the place of a panic, and with `RUST_BACKTRACE` its backtrace; its message may quote
/// content.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    PLACE.set(place.clone());
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        tracing::error!(place, %trace, "a panic: this is a bug");
    } else {
        tracing::error!(place, "a panic: this is a bug");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        for (event, line) in [
            ("INFO a: b=1\n", "INFO a: b=1\n"),
            ("INFO a: b=x\nWARN c\r\u{202E}\n", "INFO a: b=x\\nWARN c\\r\\u{202e}\n"),
            (
                "\x1b[2m12:00\x1b[0m \x1b[1;31mERROR\x1b[0m a\n",
                "\x1b[2m12:00\x1b[0m \x1b[1;31mERROR\x1b[0m a\n",
            ),
            ("\x1b[2mé\u{2028}\x1b[2J\x1b[0m", "\x1b[2mé\\u{2028}\\u{1b}[2J\x1b[0m"),
        ] {
            assert_eq!(escaped(event), line);
        }
    }
}
