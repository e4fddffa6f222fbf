//! The running process that a command talks to.
//!
//! Owns where it is found: at the address that was set, else where the owner of the data folder says that it listens,
//! else at the default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::Failure;
use crate::config::Config;
use crate::folder;
use crate::health::HealthReport;

/// Bound on one answer; below the usual probe timeouts of 3 to 5 s.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// Bound on an answer for which the process looks anew: it takes 2.5 s for that.
const FRESH: Duration = Duration::from_secs(5);

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
        // A folder that cannot be looked into has no owner that could be asked.
        let owner = folder::owner(&config.data_dir).await.ok().flatten();
        let public = owner.as_ref().and_then(|owner| owner.public);
        // Port 0 lets the system choose: nobody listens there.
        let is_told = config.public.chosen && config.public.addr.port() != 0;
        let public = public.filter(|_| !is_told).unwrap_or(config.public.addr);
        let admin = config.admin.addr.or(owner.and_then(|owner| owner.admin));
        Self {
            public: nearby(public),
            admin: admin.map(nearby),
        }
    }
}

/// The client that asks it.
///
/// # Errors
/// TLS cannot be set up.
pub(super) fn client() -> Result<reqwest::Client, Failure> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
    client.map_err(|error| Failure::Unavailable(error.to_string()))
}

/// The health report of the process whose private listener that is, of a look that it takes from now on.
///
/// # Errors
/// It does not answer, or not with a report.
pub(super) async fn report(admin: SocketAddr) -> Result<HealthReport, Failure> {
    let url = format!("http://{}/health", nearby(admin));
    let client = client()?;
    let fresh = client.get(format!("{url}?fresh=true")).timeout(FRESH);
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
