//! The client of a running process' admin API.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;

use super::Failure;
use super::instance::{client, nearby};
use crate::config::{Config, Secret, local};
use crate::operations::{Carrier, Operation, OperationsError};

/// Bound on one answer: a step takes about two seconds, and stores may be slow.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Remote {
    client: reqwest::Client,
    admin: SocketAddr,
    token: Secret,
}

impl Remote {
    /// # Errors
    /// Its token is not known.
    pub(super) fn new(config: &Config, admin: SocketAddr) -> Result<Self, Failure> {
        let token = match &config.admin.token {
            Some(token) => Some(token.clone()),
            None => local::find(&config.data_dir)?.map(|local| local.admin_token),
        };
        let token = token.ok_or_else(|| {
            Failure::Usage(format!(
                "error: a process runs on {}; set ORDERSTREAM_ADMIN_TOKEN to its token, so that it can be asked\n",
                config.data_dir.display()
            ))
        })?;
        Ok(Self {
            client: client(TIMEOUT)?,
            admin: nearby(admin),
            token,
        })
    }

    /// Has the process carry out a request.
    pub(super) async fn call<O: Operation>(&self, request: &O) -> Result<O::Answer, Failure> {
        let url = self.url(&request.path());
        self.answer(match O::CARRIER {
            Carrier::Query => self.client.get(url).query(request),
            Carrier::Path => self.client.get(url),
            Carrier::Body => self.client.post(url).json(request),
        })
        .await
    }

    /// What the process says of itself at `path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.client.get(self.url(path))).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Failure> {
        let admin = self.admin;
        let no_answer = |error: reqwest::Error| {
            Failure::Unavailable(format!(
                "no answer from the process at {admin}: {}",
                error.without_url()
            ))
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
            (404, _) => "what was asked for does not exist",
            _ => problem["detail"].as_str().unwrap_or("it gives no reason"),
        };
        Err(Failure::Unavailable(format!(
            "the process at {admin} answers {status}: {detail}"
        )))
    }
}
