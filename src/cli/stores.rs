//! The stores of a configuration, as commands open them: Redis and PostgreSQL, or the files of the
//! data folder.
//!
//! A command owns the folder for as long as it reads; where a process runs on it, that process is
//! asked instead. A spool alone is read without owning it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::Failure;
use crate::config::Config;
use crate::folder::{self, Folder, FolderError, Owner};
use crate::ingest::SpoolReader;
use crate::metrics::Metrics;
use crate::stream::Stream;
use crate::stream::embedded::EmbeddedStream;
use crate::stream::redis::RedisStream;
use crate::warehouse::Warehouse;
use crate::warehouse::embedded::EmbeddedWarehouse;
use crate::warehouse::postgres::PostgresWarehouse;

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
    if file.exists() {
        return Ok(file);
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

/// Opens the configured stream; `folder` is needed without Redis.
pub(super) fn stream(config: &Config, folder: Option<&Folder>) -> Result<Arc<dyn Stream>, Failure> {
    match (&config.redis, folder) {
        (Some(redis), _) => Ok(Arc::new(RedisStream::new(redis, &config.stream, Metrics::new())?)),
        (None, Some(folder)) => Ok(Arc::new(embedded_stream(config, folder)?)),
        (None, None) => Err(Failure::Unavailable("the data folder is not open".to_owned())),
    }
}

/// Opens the configured warehouse; without `folder` only PostgreSQL.
pub(super) fn warehouse(config: &Config, folder: Option<&Folder>) -> Result<Option<Arc<dyn Warehouse>>, Failure> {
    Ok(match (&config.database, folder) {
        (Some(database), _) => Some(Arc::new(PostgresWarehouse::new(database)?)),
        (None, Some(folder)) => Some(Arc::new(EmbeddedWarehouse::open(&folder.file(folder::WAREHOUSE)?))),
        (None, None) => None,
    })
}

/// The spool of the data folder, whoever owns that.
pub(super) fn spool(config: &Config) -> Option<SpoolReader> {
    config.spool_limit?;
    let file = config.data_dir.join(folder::SPOOL);
    file.exists().then(|| SpoolReader::at(file))
}
