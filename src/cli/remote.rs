//! The running process that a command talks to: its address (the configured one, else that of the
//! data folder's owner, else the default), its health, and a client of its admin API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::ValueEnum;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;

use super::Failure;
use crate::config::{Config, Secret, local};
use crate::folder;
use crate::health::HealthReport;
use crate::operations::{Carrier, Operation, OperationsError};

/// Bound on one answer; below the usual probe timeouts of 3 to 5 s.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bound on an answer for which the process observes its stores anew, which takes up to 2.5 s.
const FRESH: Duration = Duration::from_secs(5);
/// Bound on one answer: a step takes about two seconds, and stores may be slow.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// A command that runs a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProcessRole {
    Run,
    Serve,
    Work,
    Capture,
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

/// A client of a process' admin API.
pub(super) struct Remote {
    client: reqwest::Client,
    /// Of its private listener, without a slash at the end.
    base: String,
    token: Secret,
}

impl Remote {
    /// # Errors
    /// Its token is not known.
    pub(super) fn new(config: &Config, admin: SocketAddr) -> Result<Self, Failure> {
        Self::at(config, format!("http://{}", nearby(admin)))
    }

    /// As [`Remote::new`], by the base URL of its private listener.
    pub(super) fn at(config: &Config, base: String) -> Result<Self, Failure> {
        let token = match &config.admin.token {
            Some(token) => Some(token.clone()),
            None => local::find(&config.data_dir)?.map(|local| local.admin_token),
        };
        let token = token.ok_or_else(|| {
            Failure::Usage(format!(
                "error: set ORDERSTREAM_ADMIN_TOKEN to the token of the process at {base}, so that it can be asked\n"
            ))
        })?;
        Ok(Self {
            client: client(STEP_TIMEOUT)?,
            base,
            token,
        })
    }

    /// Has the process carry out a request.
    pub(super) async fn call<O: Operation>(&self, request: &O) -> Result<O::Answer, Failure> {
        let url = self.url(O::PATH);
        self.answer(match O::CARRIER {
            Carrier::Query => self.client.get(url).query(request),
            Carrier::Path => {
                let fields = serde_json::to_value(request).unwrap_or_default();
                self.client
                    .get(url.replace("{id}", fields["id"].as_str().unwrap_or_default()))
            }
            Carrier::Body => self.client.post(url).json(request),
        })
        .await
    }

    /// What the process says of itself at `path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.client.get(self.url(path))).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Failure> {
        let base = &self.base;
        let no_answer = |error: reqwest::Error| {
            Failure::Unavailable(format!("no answer from the process at {base}: {}", error.without_url()))
        };
        let request = request.bearer_auth(self.token.expose_secret());
        let answer = request.send().await.map_err(no_answer)?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(no_answer);
        }
        let problem: serde_json::Value = answer.json().await.unwrap_or_default();
        let detail = match (status.as_u16(), problem["code"].as_str()) {
            (_, Some("no_such_cause")) => return Err(OperationsError::NoSuchCause.into()),
            (_, Some("ambiguous_fingerprint")) => return Err(OperationsError::AmbiguousCause.into()),
            (401, _) => "it does not know this token: set ORDERSTREAM_ADMIN_TOKEN to its own",
            (404, _) => {
                let text = format!("the process at {base} has nothing of that name");
                return Err(Failure::Unavailable(text));
            }
            _ => problem["detail"].as_str().unwrap_or("it gives no reason"),
        };
        Err(Failure::Unavailable(format!(
            "the process at {base} answers {status}: {detail}"
        )))
    }
}
