//! Runs a command step by step: Ctrl-C ends it after the step under way, and its summary says what
//! was done. What cannot be undone is confirmed first.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;

use super::Failure;

/// Takes steps until one answers that it was the last, or until Ctrl-C. Answers whether the last
/// step was done.
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
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::Usage(format!(
            "error: {question} There is no terminal to confirm it on: give --yes\n"
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
