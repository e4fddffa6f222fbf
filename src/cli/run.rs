//! `run`, `serve`, `work`: load the configuration, start the logs, run the roles.

use super::Failure;
use super::greeting::Greeting;
use crate::app;
use crate::config::{Config, Inputs, Purpose};
use crate::{spans, telemetry};

/// Runs until it is signalled to stop. `program` is the name by which the user called it.
pub(super) async fn run(program: String, purpose: Purpose, inputs: Inputs) -> Result<(), Failure> {
    let mut config = Config::load(purpose, inputs)?;
    let local = config.adopt_local()?;
    let logs = telemetry::start(&config.log);
    for warning in config.warnings.iter().chain(&config.unknown_names) {
        tracing::warn!("{warning}");
    }
    spans::start(&config);
    let greeting = local.map(|_| Greeting::new(program, &config));
    let greet = |at| greeting.iter().for_each(|greeting| greeting.say(at));
    let ended = app::run(config, purpose, greet).await;
    let dropped = logs.dropped_lines();
    if dropped > 0 {
        tracing::warn!("{dropped} log lines were dropped, since stderr did not take them in time");
    }
    Ok(ended?)
}
