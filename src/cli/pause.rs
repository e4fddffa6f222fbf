//! `pause` and `resume`.

use super::Failure;
use super::backend::{Backend, Needs};
use super::output::OutputArgs;
use crate::config::Config;
use crate::operations::PauseRequest;

/// Pauses our group, or ends that.
///
/// # Errors
/// The stream does not answer.
pub(super) async fn run(paused: bool, output: OutputArgs, config: Config) -> Result<(), Failure> {
    let command = if paused { "pause" } else { "resume" };
    let backend = Backend::open(&config, command, Needs::Stream).await?;
    let state = backend.call(PauseRequest { paused }).await?;
    output.print(&state, || {
        vec![match &state.paused_since {
            Some(since) => format!("paused since {since}: workers stop reading within seconds"),
            None => "not paused: workers read on within seconds".to_owned(),
        }]
    })
}
