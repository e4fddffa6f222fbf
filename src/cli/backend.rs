//! Where an operator's command is carried out: here, over the stores themselves, or by the process that has the data
//! folder, over its admin API. Either way the same requests get the same answers.
//!
//! Owns that choice. Invariant: a file is opened only in a folder that nobody runs on, but for a spool, which is only
//! looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::embedded::{Access, enter};
use super::instance::nearby;
use crate::config::{Config, Secret, local};
use crate::folder::{self, Folder};
use crate::ingest::SpoolReader;
use crate::metrics::Metrics;
use crate::nodes::NodeList;
use crate::operations::{
    Action, Actor, DeadLetterGroups, DeadLetterPage, DeadLetterQuery, DeadLetterView, DeliveryQuery, DeliveryReport,
    HistoryStep, Operations, OperationsError, RebuildRequest, ReplayRequest, ResolveRequest, ResolveStep,
    SecretUsageReport, Trace, TraceQuery,
};
use crate::stream::embedded::EmbeddedStream;
use crate::stream::redis::RedisStream;
use crate::stream::{Stream, StreamId};
use crate::warehouse::Warehouse;
use crate::warehouse::embedded::EmbeddedWarehouse;
use crate::warehouse::postgres::PostgresWarehouse;

/// Bound on one answer of a running process: a step takes about two seconds, and stores may be slow.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a command looks into the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Only the stream.
    Stream,
    /// Both, the warehouse where there is one.
    Both,
}

/// Carries out requests.
pub(super) enum Backend {
    /// Over the stores.
    Local {
        operations: Operations,
        /// Ours meanwhile, where it is a matter of files.
        _folder: Option<Folder>,
    },
    /// By a running process.
    Remote(Remote),
}

/// A running process' admin API.
pub(super) struct Remote {
    client: reqwest::Client,
    admin: SocketAddr,
    token: Secret,
}

impl Backend {
    /// Opens what is configured, or finds who has it.
    ///
    /// # Errors
    /// There is nothing to look at, or it cannot be had.
    pub(super) async fn open(config: &Config, command: &str, needs: Needs) -> Result<Self, Failure> {
        let stream_file = config.redis.is_none();
        let file = config.data_dir.join(folder::STREAM);
        if stream_file && !file.exists() {
            return Err(Failure::Unavailable(format!(
                "nothing to look at: REDIS_URL is not set, and there is no {} either, which `orderstream run` makes",
                file.display()
            )));
        }
        let warehouse_file =
            needs == Needs::Both && config.database.is_none() && config.data_dir.join(folder::WAREHOUSE).exists();
        let mut folder = None;
        if stream_file || warehouse_file {
            match enter(config, command).await? {
                Access::Ours(ours) => folder = Some(ours),
                Access::Theirs(_, admin) => return Ok(Self::Remote(Remote::new(config, admin)?)),
            }
        }
        let stream = stream(config, folder.as_ref())?;
        let warehouse = match needs {
            Needs::Stream => None,
            Needs::Both => warehouse(config, folder.as_ref().filter(|_| warehouse_file))?,
        };
        let operations = Operations::new(stream, warehouse, &config.intake, Actor::Cli).with_spool(spool(config));
        Ok(Self::Local {
            operations,
            _folder: folder,
        })
    }

    pub(super) async fn dead_letters(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, Failure> {
        match self {
            Self::Local { operations, .. } => Ok(operations.dead_letters(query).await?),
            Self::Remote(remote) => {
                let (to, count) = (
                    query.to.map(|id| id.to_string()),
                    query.count.map(|count| count.to_string()),
                );
                let pairs = [("fingerprint", query.fingerprint.clone()), ("to", to), ("count", count)];
                remote.get("/api/dead-letters", &pairs).await
            }
        }
    }

    pub(super) async fn dead_letter_groups(&self) -> Result<DeadLetterGroups, Failure> {
        match self {
            Self::Local { operations, .. } => Ok(operations.dead_letter_groups().await?),
            Self::Remote(remote) => remote.get("/api/dead-letters/groups", &[]).await,
        }
    }

    pub(super) async fn dead_letter(&self, id: StreamId) -> Result<DeadLetterView, Failure> {
        match self {
            Self::Local { operations, .. } => Ok(operations.dead_letter(id).await?),
            Self::Remote(remote) => remote.get(&format!("/api/dead-letters/{id}"), &[]).await,
        }
    }

    pub(super) async fn resolve(&self, action: Action, request: &ResolveRequest) -> Result<ResolveStep, Failure> {
        match (self, action) {
            (Self::Local { operations, .. }, _) => Ok(operations.resolve(action, request).await?),
            (Self::Remote(remote), Action::Replay) => remote.post("/api/dead-letters/replay", request).await,
            (Self::Remote(remote), Action::Discard) => remote.post("/api/dead-letters/discard", request).await,
        }
    }

    pub(super) async fn trace(&self, query: &TraceQuery) -> Result<Trace, Failure> {
        match self {
            Self::Local { operations, .. } => Ok(operations.trace(query).await?),
            Self::Remote(remote) => {
                let pairs = [("order", Some(query.order.clone())), ("shop", query.shop.clone())];
                remote.get("/api/trace", &pairs).await
            }
        }
    }

    pub(super) async fn landed(&self, landing: &DeliveryQuery) -> Result<DeliveryReport, Failure> {
        match self {
            Self::Local { operations, .. } => Ok(operations.landed(landing).await?),
            Self::Remote(remote) => remote.post("/api/landed", landing).await,
        }
    }

    pub(super) async fn replay(&self, request: &ReplayRequest) -> Result<HistoryStep, Failure> {
        match self {
            Self::Local { operations, .. } => Ok(operations.replay(request).await?),
            Self::Remote(remote) => remote.post("/api/replay", request).await,
        }
    }

    pub(super) async fn rebuild(&self, request: RebuildRequest) -> Result<HistoryStep, Failure> {
        match self {
            Self::Local { operations, .. } => Ok(operations.rebuild(request).await?),
            Self::Remote(remote) => remote.post("/api/rebuild", &request).await,
        }
    }
}

fn stream(config: &Config, folder: Option<&Folder>) -> Result<Arc<dyn Stream>, Failure> {
    match (&config.redis, folder) {
        (Some(redis), _) => Ok(Arc::new(RedisStream::new(redis, &config.stream, Metrics::new())?)),
        (None, Some(folder)) => {
            let file = folder.file(folder::STREAM)?;
            EmbeddedStream::check_file(&file)?;
            Ok(Arc::new(EmbeddedStream::open(
                &file,
                &config.stream,
                None,
                Metrics::new(),
            )?))
        }
        (None, None) => Err(Failure::Unavailable("the data folder is not open".to_owned())),
    }
}

/// Beside a server, the data folder's, whoever has that: it is only looked at.
fn spool(config: &Config) -> Option<SpoolReader> {
    config.spool_limit?;
    let file = config.data_dir.join(folder::SPOOL);
    file.exists().then(|| SpoolReader::at(file))
}

/// `folder` where the warehouse is a file in it.
fn warehouse(config: &Config, folder: Option<&Folder>) -> Result<Option<Arc<dyn Warehouse>>, Failure> {
    Ok(match (&config.database, folder) {
        (Some(database), _) => Some(Arc::new(PostgresWarehouse::new(database)?)),
        (None, Some(folder)) => Some(Arc::new(EmbeddedWarehouse::open(&folder.file(folder::WAREHOUSE)?))),
        (None, None) => None,
    })
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
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
        Ok(Self {
            client: client.map_err(|error| Failure::Unavailable(error.to_string()))?,
            admin: nearby(admin),
            token,
        })
    }

    pub(super) async fn nodes(&self) -> Result<NodeList, Failure> {
        self.get("/api/nodes", &[]).await
    }

    pub(super) async fn secrets(&self) -> Result<SecretUsageReport, Failure> {
        self.get("/api/secrets", &[]).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, pairs: &[(&str, Option<String>)]) -> Result<T, Failure> {
        let mut url = self.url(path)?;
        for (name, value) in pairs {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        self.answer(self.client.get(url)).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T, Failure> {
        self.answer(self.client.post(self.url(path)?).json(request)).await
    }

    fn url(&self, path: &str) -> Result<url::Url, Failure> {
        let url = url::Url::parse(&format!("http://{}{path}", self.admin));
        url.map_err(|error| Failure::Unavailable(error.to_string()))
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Failure> {
        let no_answer = |error: reqwest::Error| {
            Failure::Unavailable(format!(
                "no answer from the process at {}: {}",
                self.admin,
                error.without_url()
            ))
        };
        let answer = request
            .bearer_auth(self.token.expose_secret())
            .send()
            .await
            .map_err(no_answer)?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(no_answer);
        }
        let problem: serde_json::Value = answer.json().await.unwrap_or_default();
        match problem["code"].as_str() {
            Some("no_such_cause") => return Err(OperationsError::NoSuchCause.into()),
            Some("ambiguous_fingerprint") => return Err(OperationsError::AmbiguousCause.into()),
            _ => {}
        }
        let detail = match status.as_u16() {
            401 => "it does not know this token: set ORDERSTREAM_ADMIN_TOKEN to its own",
            404 => "there is no such thing",
            _ => problem["detail"].as_str().unwrap_or("it does not say why"),
        };
        Err(Failure::Unavailable(format!(
            "the process at {} answers {status}: {detail}",
            self.admin
        )))
    }
}

impl From<OperationsError> for Failure {
    fn from(error: OperationsError) -> Self {
        match error {
            OperationsError::Stream(error) => error.into(),
            OperationsError::Warehouse(error) => error.into(),
            OperationsError::NoSuchCause | OperationsError::AmbiguousCause => Self::NotFound(error.to_string()),
            OperationsError::Invalid(text) => Self::Usage(format!("error: {text}\n")),
            OperationsError::NotFound(_) | OperationsError::NoWarehouse | OperationsError::CutShort => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}
