//! `health`: asks the process of this configuration how it is, and answers with the exit code. For HEALTHCHECK.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Failure;
use crate::config::Config;

/// Below the usual probe timeouts of 3 to 5 s.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Arguments of `health`.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct HealthArgs {
    /// Which process to judge; without it, whichever answers: the public listener's, else a worker's
    #[arg(value_enum)]
    process: Option<Process>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Process {
    Run,
    Serve,
    Work,
}

/// Succeeds where the process says that it is well.
///
/// # Errors
/// It is not, or nothing answers.
pub(super) async fn run(args: HealthArgs, config: Config) -> Result<(), Failure> {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .build()
        .map_err(|error| Failure::Unavailable(error.to_string()))?;
    let public = format!("http://{}/health", nearby(config.public.addr));
    let worker = config.admin.addr.map(|addr| format!("http://{}/livez", nearby(addr)));
    let urls = match args.process {
        Some(Process::Run | Process::Serve) => vec![public],
        Some(Process::Work) => vec![worker.ok_or_else(|| {
            Failure::Unavailable("a worker answers only where ORDERSTREAM_ADMIN_ADDR is set".to_owned())
        })?],
        None => [Some(public), worker].into_iter().flatten().collect(),
    };
    let mut silence = String::new();
    for url in urls {
        match client.get(&url).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => return Err(Failure::Unavailable(format!("{url} answers {}", answer.status()))),
            Err(error) if error.is_connect() => silence = format!("nothing listens at {url}"),
            Err(_) => return Err(Failure::Unavailable(format!("no answer from {url} within {TIMEOUT:?}"))),
        }
    }
    Err(Failure::Unavailable(silence))
}

/// The address by which this machine reaches a listener: loopback where it listens everywhere.
pub(super) fn nearby(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, addr.port())
}
