//! `run`, `serve`, `work`: load, start the logs, hand over to `app`.

use super::Failure;
use crate::app;
use crate::config::{Config, Inputs, Purpose};
use crate::telemetry;

/// Runs until it is told to stop.
///
/// # Errors
/// The configuration is wrong, or what it names cannot be used.
pub(super) async fn run(purpose: Purpose, inputs: Inputs) -> Result<(), Failure> {
    let mut config = Config::load(purpose, inputs)?;
    let local = config.adopt_local()?;
    let logs = telemetry::start(&config.log);
    for warning in config.warnings.iter().chain(&config.unknown_names) {
        tracing::warn!("{warning}");
    }
    if local.is_some() {
        greet(&config);
    }
    let ended = app::run(config, purpose).await;
    let dropped = logs.dropped_lines();
    if dropped > 0 {
        tracing::warn!("{dropped} log lines were dropped, since stderr did not take them in time");
    }
    Ok(ended?)
}

fn greet(config: &Config) {
    let folder = config.data_dir.display();
    let url = super::health::nearby(config.public.addr);
    tracing::info!(target: telemetry::START, "local mode: no secret is configured, so one was made and is kept in {folder}");
    tracing::info!(target: telemetry::START, "send a first order:  orderstream send --data-dir {folder} --url http://{url}");
}
