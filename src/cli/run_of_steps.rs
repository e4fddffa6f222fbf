//! What a command shows while it does one step after the other: a bar on a terminal, nothing elsewhere. Ctrl-C ends the
//! run after the step that is under way, and the summary says what was done.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Failure;

/// A bar for so many; hidden where stderr is no terminal.
pub(super) fn bar(total: u64) -> ProgressBar {
    if !io::stderr().is_terminal() || total < 2 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  eta {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Takes steps until one says that it was the last, or somebody presses Ctrl-C. Answers whether it came to the end.
pub(super) async fn all(mut step: impl AsyncFnMut() -> Result<bool, Failure>) -> Result<bool, Failure> {
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let mut interrupted = false;
    loop {
        let mut stepping = pin!(step());
        let goes_on = loop {
            tokio::select! {
                goes_on = &mut stepping => break goes_on?,
                _ = &mut interrupt, if !interrupted => interrupted = true,
            }
        };
        if !goes_on || interrupted {
            return Ok(!goes_on);
        }
    }
}

/// Asks on the terminal; without one, only `--yes` answers.
///
/// # Errors
/// Nobody can be asked, or the answer is no.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::Usage(format!(
            "error: {question} Give --yes where nobody can be asked\n"
        )));
    }
    let unreadable = |error: io::Error| Failure::Unavailable(error.to_string());
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")
        .and_then(|()| stderr.flush())
        .map_err(unreadable)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(unreadable)?;
    if answer.trim().eq_ignore_ascii_case("y") || answer.trim().eq_ignore_ascii_case("yes") {
        Ok(())
    } else {
        Err(Failure::Unavailable("nothing was done".to_owned()))
    }
}
