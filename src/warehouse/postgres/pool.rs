//! Connections to one server: made with bounds, kept, and thrown away as soon as they are in doubt.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, RecyclingMethod, Runtime};

use super::error::PostgresError;
use crate::postgres::{Connector, Target};
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
        let connector = Connector::new(target);
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
