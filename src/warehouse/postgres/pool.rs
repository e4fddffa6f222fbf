//! Connections to one server: made with bounds, kept, and thrown away as soon as they are in doubt.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{ConfigConnectImpl, Connect, Manager, ManagerConfig, Object, RecyclingMethod, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Config, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::PostgresError;
use super::url::Target;
use crate::warehouse::WarehouseError;

/// A pool of connections; a cheap clone.
#[derive(Clone)]
pub(super) struct Pool {
    inner: deadpool_postgres::Pool,
    server: Arc<str>,
}

impl Pool {
    /// Connects when first asked.
    pub(super) fn new(target: &Target, size: usize, connect_timeout: Duration) -> Result<Self, WarehouseError> {
        let connector = Connector {
            inner: ConfigConnectImpl {
                tls: target.tls().clone(),
            },
            second_try: target.second_try(),
        };
        let fast = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let inner = deadpool_postgres::Pool::builder(Manager::from_connect(target.config().clone(), connector, fast))
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(connect_timeout))
            .create_timeout(Some(connect_timeout))
            .recycle_timeout(Some(connect_timeout))
            .build()
            .map_err(|error| WarehouseError::Unusable(error.to_string()))?;
        Ok(Self {
            inner,
            server: target.server().into(),
        })
    }

    /// A connection, at the latest after the connect timeout.
    pub(super) async fn get(&self) -> Result<Object, PostgresError> {
        self.inner.get().await.map_err(PostgresError::Pool)
    }

    /// Address without credentials.
    pub(super) fn server(&self) -> &str {
        &self.server
    }
}

/// Connects, and where `sslmode` allows both ways tries the other one too.
struct Connector {
    inner: ConfigConnectImpl<MakeRustlsConnect>,
    second_try: Option<SslMode>,
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl Connect for Connector {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let first = self.inner.connect(config);
        let mut other = config.clone();
        Box::pin(async move {
            let refused = match first.await {
                // What pg_hba.conf answers where it has a line only for the other way.
                Err(error) if error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => error,
                outcome => return outcome,
            };
            match self.second_try {
                Some(mode) => self.inner.connect(other.ssl_mode(mode)).await,
                None => Err(refused),
            }
        })
    }
}
