//! `health`: the health of the process of this configuration, as an exit code. For HEALTHCHECK.

use clap::Args;

use super::Failure;
use super::remote::{self, Instance, PROBE_TIMEOUT, ProcessRole};
use crate::config::Config;

/// Arguments of `health`.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct HealthArgs {
    /// Which process to check; by default the public listener's, else a worker's
    #[arg(value_enum)]
    process: Option<ProcessRole>,
}

/// Succeeds where the process reports that it is healthy.
pub(super) async fn run(args: HealthArgs, config: Config) -> Result<(), Failure> {
    let client = remote::client(PROBE_TIMEOUT)?;
    let at = Instance::of(&config).await;
    let public = format!("http://{}/health", at.public);
    let worker = at.admin.map(|addr| format!("http://{addr}/livez"));
    let urls = match args.process {
        Some(ProcessRole::Run | ProcessRole::Serve) => vec![public],
        Some(ProcessRole::Work | ProcessRole::Capture) => vec![worker.ok_or_else(|| {
            Failure::Unavailable("a worker or a capture answers only where ORDERSTREAM_ADMIN_ADDR is set".to_owned())
        })?],
        None => [Some(public), worker].into_iter().flatten().collect(),
    };
    let mut silence = String::new();
    for url in urls {
        match client.get(&url).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => return Err(Failure::Unavailable(format!("{url} answers {}", answer.status()))),
            Err(error) if error.is_connect() => silence = format!("nothing listens at {url}"),
            Err(_) => {
                return Err(Failure::Unavailable(format!(
                    "no answer from {url} within {PROBE_TIMEOUT:?}"
                )));
            }
        }
    }
    Err(Failure::Unavailable(silence))
}
