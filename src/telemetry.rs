//! Logs: lines for people or JSON for collectors, on stderr.
//!
//! Owns the subscriber and the panic hook. Must not hold up a request: a terminal or collector that stops reading blocks
//! one thread of its own, and what does not fit the queue until then is dropped and counted, not waited for. Must not
//! repeat content: of a panic only the place is logged.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::config::{LogConfig, LogFormat};

/// Lines waiting for stderr. At a few hundred bytes each this stays within some megabytes.
const QUEUED_LINES: usize = 8192;

/// Target of what tells an operator that it is up and where. It is said whatever `RUST_LOG` says of all else; a
/// directive for this very target has the last word.
pub const START: &str = "orderstream::start";

/// Writes out what is queued when it is dropped.
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
    let filter = EnvFilter::builder().parse_lossy(format!("{START}=info,{}", config.filter));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let registry = tracing_subscriber::registry().with(filter);
    let _ = match config.format {
        LogFormat::Text => registry
            .with(lines.compact().with_ansi(io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => registry
            .with(lines.json().flatten_event(true).with_ansi(false))
            .try_init(),
    };
    std::panic::set_hook(Box::new(log_panic));
    Logs {
        dropped,
        _worker: worker,
    }
}

/// A panic's message may repeat content (a slice of a body, a value that did not fit); its place and its way there, which
/// `RUST_BACKTRACE` asks for, cannot.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        tracing::error!(place, %trace, "a panic: this is a bug");
    } else {
        tracing::error!(place, "a panic: this is a bug");
    }
}
