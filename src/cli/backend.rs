//! Where a command's operations are carried out, with the same requests and answers: in this
//! process, over the configured stores (Redis and PostgreSQL, or the files of the data folder), or
//! by the process that owns the data folder, over its admin API.
//!
//! A command owns the folder for as long as it reads. A spool alone is read without owning it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::Failure;
use super::remote::Remote;
use crate::config::Config;
use crate::folder::{self, Folder, FolderError, Owner};
use crate::ingest::SpoolReader;
use crate::metrics::Metrics;
use crate::operations::{Actor, Operation, Operations, OperationsError};
use crate::stream::Stream;
use crate::stream::embedded::EmbeddedStream;
use crate::stream::redis::RedisStream;
use crate::warehouse::Warehouse;
use crate::warehouse::embedded::EmbeddedWarehouse;
use crate::warehouse::postgres::PostgresWarehouse;

/// Whether a command reads the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Only the stream.
    Stream,
    /// Both, the warehouse where there is one.
    Both,
}

pub(super) enum Backend {
    /// In this process.
    Local {
        operations: Operations,
        /// Owned meanwhile, where a store is a file.
        folder: Option<Folder>,
    },
    /// By the process that owns the data folder.
    Remote(Remote),
}

impl Backend {
    /// Opens the configured stores, or finds the process that owns them.
    pub(super) async fn open(config: &Config, command: &str, needs: Needs) -> Result<Self, Failure> {
        let reads_warehouse = needs == Needs::Both;
        let has_file = config.database.is_none() && config.data_dir.join(folder::WAREHOUSE).exists();
        let warehouse_is_file = reads_warehouse && has_file;
        if config.redis.is_none() {
            stream_file(config)?;
        }
        let mut folder = None;
        if config.redis.is_none() || warehouse_is_file {
            match enter(config, command).await? {
                Access::Owned(owned) => folder = Some(owned),
                Access::Running(_, admin) => return Ok(Self::Remote(Remote::new(config, admin)?)),
            }
        }
        let stream = open_stream(config, folder.as_ref()).await?;
        let warehouse: Option<Arc<dyn Warehouse>> = match (&config.database, &folder) {
            _ if !reads_warehouse => None,
            (Some(database), _) => Some(Arc::new(PostgresWarehouse::new(database)?)),
            (None, Some(folder)) if warehouse_is_file => {
                Some(Arc::new(EmbeddedWarehouse::open(&folder.file(folder::WAREHOUSE)?)))
            }
            (None, _) => None,
        };
        let operations = Operations::new(stream, warehouse, &config.intake, Actor::Cli);
        Ok(Self::Local {
            operations: operations.with_spool(spool(config)),
            folder,
        })
    }

    /// Whether no process runs on the files that are read, so that nothing new comes.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Local { folder: Some(_), .. })
    }

    /// Carries out a request.
    pub(super) async fn call<O: Operation>(&self, request: O) -> Result<O::Answer, Failure> {
        match self {
            Self::Local { operations, .. } => Ok(request.run(operations).await?),
            Self::Remote(remote) => remote.call(&request).await,
        }
    }
}

/// The configured stream; `folder` is the data folder, where the stream is a file of it.
pub(super) async fn open_stream(config: &Config, folder: Option<&Folder>) -> Result<Arc<dyn Stream>, Failure> {
    match (&config.redis, folder) {
        (Some(redis), _) => Ok(Arc::new(
            RedisStream::open(redis, &config.stream, Metrics::new()).await?,
        )),
        (None, Some(folder)) => Ok(Arc::new(embedded_stream(config, folder)?)),
        (None, None) => Err(Failure::Unavailable("the data folder is not open".to_owned())),
    }
}

/// How a command gets at what is in the data folder.
pub(super) enum Access {
    /// This process owns it.
    Owned(Folder),
    /// A process runs on it, whose private listener is there.
    Running(Box<Owner>, SocketAddr),
}

/// Owns the folder, or finds its owner.
///
/// # Errors
/// It is not usable, or its owner has no private listener (yet).
pub(super) async fn enter(config: &Config, command: &str) -> Result<Access, Failure> {
    match Folder::own(&config.data_dir, command).await {
        Ok(folder) => Ok(Access::Owned(folder)),
        Err(FolderError::Owned {
            owner: Some(owner),
            path,
        }) => match owner.admin {
            Some(admin) => Ok(Access::Running(owner, admin)),
            None => Err(FolderError::Owned {
                owner: Some(owner),
                path,
            }
            .into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The file of the embedded stream, which `orderstream run` makes.
pub(super) fn stream_file(config: &Config) -> Result<PathBuf, Failure> {
    let file = config.data_dir.join(folder::STREAM);
    match file.try_exists() {
        Ok(true) => return Ok(file),
        Ok(false) => {}
        Err(error) => {
            let text = format!("{}: {error}; run this as the user whose folder it is", file.display());
            return Err(Failure::Unavailable(text));
        }
    }
    Err(Failure::Unavailable(format!(
        "there is no stream to read: REDIS_URL is not set, and {} does not exist; `orderstream run` makes it",
        file.display()
    )))
}

/// Opens the embedded stream of a folder that this process owns. A damaged file is left to the
/// process that runs on it.
pub(super) fn embedded_stream(config: &Config, folder: &Folder) -> Result<EmbeddedStream, Failure> {
    let file = folder.file(folder::STREAM)?;
    EmbeddedStream::check_file(&file)?;
    Ok(EmbeddedStream::open(&file, &config.stream, None, Metrics::new())?)
}

/// The spool of the data folder, whoever owns that.
fn spool(config: &Config) -> Option<SpoolReader> {
    config.spool_limit?;
    let file = config.data_dir.join(folder::SPOOL);
    file.exists().then(|| SpoolReader::at(file))
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
