//! The handler that loads into the warehouse.
//!
//! Owns the joint of the two seams: retryability is passed on, and a warehouse whose tables are
//! missing (a first start, or a database that came back empty) is migrated.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tracing::info;

use super::{Handled, Handler, HandlerError};
use crate::event::EventRecord;
use crate::warehouse::{Loaded, Warehouse, WarehouseError};

/// Loads events into a warehouse.
pub struct Loader {
    warehouse: Arc<dyn Warehouse>,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}

impl Loader {
    /// Brings the schema up to date itself, where it is missing or older.
    #[must_use]
    pub fn new(warehouse: Arc<dyn Warehouse>) -> Self {
        Self { warehouse }
    }

    /// Migrates where that may mend it; answers the original error where there was nothing to
    /// migrate.
    async fn mend(&self, error: WarehouseError) -> Result<(), WarehouseError> {
        if !matches!(error, WarehouseError::Outdated { .. } | WarehouseError::Unusable(_)) {
            return Err(error);
        }
        let migrated = self.warehouse.migrate().await?;
        if migrated.from == migrated.to {
            // Another process may have been here meanwhile.
            let is_current = matches!(error, WarehouseError::Outdated { .. });
            return if is_current { Ok(()) } else { Err(error) };
        }
        info!(
            from = migrated.from,
            to = migrated.to,
            "brought the warehouse schema up to date"
        );
        Ok(())
    }
}

#[async_trait]
impl Handler for Loader {
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        let loaded = match self.warehouse.load(events).await {
            Ok(loaded) => loaded,
            Err(error) => {
                self.mend(error).await?;
                self.warehouse.load(events).await?
            }
        };
        let Loaded {
            inserted: new,
            known,
            conflicts,
        } = loaded;
        Ok(Handled { new, known, conflicts })
    }

    async fn ready(&self) -> Result<(), HandlerError> {
        if let Err(error) = self.warehouse.check().await {
            self.mend(error).await?;
            self.warehouse.check().await?;
        }
        Ok(())
    }
}

impl From<WarehouseError> for HandlerError {
    fn from(error: WarehouseError) -> Self {
        Self::new(error.retryability(), error)
    }
}
