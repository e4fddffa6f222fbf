//! The stores of this process: servers where they are configured, files in the data folder where
//! not, and the spool beside a server. Invariant: a file is opened only in a folder that this
//! process owns.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::info;

use super::error::AppError;
use crate::config::{Config, Durability, Purpose, RedisConfig};
use crate::folder::{self, Folder, FolderError};
use crate::ingest::{Breaker, Spool, SpoolFallback};
use crate::live::Stores;
use crate::metrics::Metrics;
use crate::stream::embedded::EmbeddedStream;
use crate::stream::redis::RedisStream;
use crate::stream::{Stream, StreamError};
use crate::warehouse::Warehouse;
use crate::warehouse::embedded::EmbeddedWarehouse;
use crate::warehouse::postgres::PostgresWarehouse;

/// The opened stores.
pub(super) struct Storage {
    pub(super) stream: Arc<dyn Stream>,
    /// `None` in a process without workers, which never opens it.
    pub(super) warehouse: Option<Arc<dyn Warehouse>>,
    /// The stream once more, where it is on a server whose URL may change.
    pub(super) redis: Option<Arc<RedisStream>>,
    /// The warehouse once more, likewise.
    pub(super) postgres: Option<Arc<PostgresWarehouse>>,
    /// The stream once more, where it is a file.
    embedded: Option<EmbeddedStream>,
    /// The spool, where there is one.
    pub(super) fallback: Option<SpoolFallback>,
    /// The last field: its lock is released after the files in it are closed.
    pub(super) folder: Option<Folder>,
}

impl Storage {
    /// Servers are reached at the first call, files are opened here.
    pub(super) async fn open(config: &Config, purpose: Purpose, metrics: &Metrics) -> Result<Self, AppError> {
        let mut folder = None;
        let (mut redis, mut embedded) = (None, None);
        let stream: Arc<dyn Stream> = match &config.redis {
            Some(server) => redis
                .insert(Arc::new(
                    RedisStream::open(server, &config.stream, metrics.clone()).await?,
                ))
                .clone(),
            None => {
                let file = own_folder(&mut folder, config, purpose).await?.file(folder::STREAM)?;
                info!(file = %file.display(), "REDIS_URL is not set: the stream is a file");
                let stream = EmbeddedStream::open(&file, &config.stream, None, metrics.clone())?;
                Arc::new(embedded.insert(stream).clone())
            }
        };
        if purpose.ingests() {
            refuse_unusable(config, &*stream).await?;
        }
        let mut postgres = None;
        let warehouse: Option<Arc<dyn Warehouse>> = match &config.database {
            _ if !purpose.works() => None,
            Some(server) => {
                let server = PostgresWarehouse::new(server)?.counted(metrics);
                Some(postgres.insert(Arc::new(server)).clone())
            }
            None => {
                let file = own_folder(&mut folder, config, purpose)
                    .await?
                    .file(folder::WAREHOUSE)?;
                info!(file = %file.display(), "DATABASE_URL is not set: the warehouse is a file");
                Some(Arc::new(EmbeddedWarehouse::open(&file).counted(metrics)))
            }
        };
        let fallback = match config.spool_limit {
            Some(limit) if purpose.ingests() => {
                let folder = own_folder(&mut folder, config, purpose).await?;
                Some(spool(folder, limit, config, metrics)?)
            }
            _ => {
                if purpose.ingests() && config.redis.is_some() {
                    info!(
                        "there is no spool: while Redis is away, events are answered 503; set ORDERSTREAM_DATA_DIR to a \
                         volume that outlives the process"
                    );
                }
                None
            }
        };
        Ok(Self {
            stream,
            warehouse,
            redis,
            postgres,
            embedded,
            fallback,
            folder,
        })
    }

    /// Closes the files of stream and spool, so that no write-ahead log stays beside them.
    pub(super) async fn close(&self) {
        if let Some(stream) = &self.embedded {
            stream.close().await;
        }
        if let Some(fallback) = &self.fallback {
            fallback.spool.close().await;
        }
    }

    /// The kind of each store.
    pub(super) fn stores(&self) -> Stores {
        let kind = |on_server, server| if on_server { server } else { "embedded" };
        let warehouse = kind(self.postgres.is_some(), "postgres");
        Stores {
            stream: kind(self.redis.is_some(), "redis"),
            warehouse: self.warehouse.as_ref().map(|_| warehouse),
        }
    }

    /// The file of the spool, where there is one.
    pub(super) fn spool_file(&self) -> Option<PathBuf> {
        let folder = self.folder.as_ref().filter(|_| self.fallback.is_some());
        folder.map(|folder| folder.path().join(folder::SPOOL))
    }

    /// Records in the data folder where its owner listens, for other commands.
    pub(super) fn announce(
        &mut self,
        public: Option<SocketAddr>,
        private: Option<SocketAddr>,
    ) -> Result<(), FolderError> {
        match &mut self.folder {
            Some(folder) => folder.announce(public, private),
            None => Ok(()),
        }
    }
}

fn spool(folder: &Folder, limit: u64, config: &Config, metrics: &Metrics) -> Result<SpoolFallback, AppError> {
    let file = folder.file(folder::SPOOL)?;
    let dedupe = config.stream.dedupe_window.is_some();
    let spool = Spool::open(&file, limit, dedupe, metrics.clone())?;
    let events = spool.report().depth;
    info!(file = %file.display(), limit, events, "while Redis is away, events go to the spool");
    Ok(SpoolFallback {
        breaker: Breaker::closed(metrics.clone()),
        spool,
    })
}

/// The data folder, which is locked when it is first needed.
async fn own_folder<'a>(
    folder: &'a mut Option<Folder>,
    config: &Config,
    purpose: Purpose,
) -> Result<&'a Folder, FolderError> {
    match folder {
        Some(folder) => Ok(folder),
        None => Ok(folder.insert(Folder::own(&config.data_dir, purpose.name()).await?)),
    }
}

/// Refuses a server that can never be as durable as is asked for. One that is away is waited for,
/// and asked when it is back.
async fn refuse_unusable(config: &Config, stream: &dyn Stream) -> Result<(), StreamError> {
    let asks = |redis: &RedisConfig| redis.durability != Durability::Received;
    if !config.redis.as_ref().is_some_and(asks) {
        return Ok(());
    }
    match stream.inspect().await {
        Err(error @ StreamError::Unusable(_)) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
