//! Address and health of the running process that a command talks to: the configured address, else
//! that of the data folder's owner, else the default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::ValueEnum;

use super::Failure;
use crate::config::Config;
use crate::folder;
use crate::health::HealthReport;

/// Bound on one answer; below the usual probe timeouts of 3 to 5 s.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// Bound on an answer for which the process observes its stores anew, which takes up to 2.5 s.
const FRESH: Duration = Duration::from_secs(5);

/// A command that runs a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProcessRole {
    Run,
    Serve,
    Work,
}

/// Where it listens, as this machine reaches it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instance {
    pub(super) public: SocketAddr,
    /// `None` where no address is known: it need not have one.
    pub(super) admin: Option<SocketAddr>,
}

impl Instance {
    /// The one of this configuration, running or not.
    pub(super) async fn of(config: &Config) -> Self {
        // A folder that cannot be read names no owner.
        let owner = folder::owner(&config.data_dir).await.ok().flatten();
        let public = owner.as_ref().and_then(|owner| owner.public);
        // With port 0 the system chooses one, which only the owner's record names.
        let is_told = config.public.chosen && config.public.addr.port() != 0;
        let public = public.filter(|_| !is_told).unwrap_or(config.public.addr);
        let admin = config.admin.addr.or(owner.and_then(|owner| owner.admin));
        Self {
            public: nearby(public),
            admin: admin.map(nearby),
        }
    }
}

/// A client of a process on this machine; `timeout` bounds one answer.
pub(super) fn client(timeout: Duration) -> Result<reqwest::Client, Failure> {
    let client = reqwest::Client::builder().timeout(timeout).no_proxy().build();
    client.map_err(|error| Failure::Unavailable(error.to_string()))
}

/// The health report of the process with that private listener, observed from now on.
pub(super) async fn report(admin: SocketAddr) -> Result<HealthReport, Failure> {
    let url = format!("http://{}/health", nearby(admin));
    let fresh = client(FRESH)?.get(format!("{url}?fresh=true"));
    let asking = async { fresh.send().await?.json().await };
    asking.await.map_err(|error: reqwest::Error| {
        Failure::Unavailable(format!("no health report at {url}: {}", error.without_url()))
    })
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
