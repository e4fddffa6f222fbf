//! The warehouse in one SQLite file: what an orderstream without `DATABASE_URL` loads into.
//!
//! Owns the file, its tables and views: the same names, columns and figures as in PostgreSQL.
//! Anybody may read the file while it is loaded into (`sqlite3`, DuckDB); only this process loads.
//! Invariants: an event and all its effects are one transaction, on disk before it is answered;
//! amounts are text, so that none ever becomes a float; the file is opened when it is needed and
//! again after it failed, so that a disk or a file that comes back is used again.

mod average;
mod columns;
mod error;
mod file;
mod forgotten;
mod history;
mod ledger;
mod load;
mod microseconds;
mod migrations;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use time::OffsetDateTime;

use self::error::WarehouseFileError;
use self::file::DatabaseFile;
use super::forgotten::{Forgotten, KeySource, Tombstone, erased};
use super::migration::{self, SeenTables, warn_of_loss};
use super::rows::by_id;
use super::{ForgottenSubject, Loaded, Migrated, Warehouse, WarehouseError};
use crate::event::EventRecord;
use crate::metrics::Metrics;

/// The file beside it with the key of the tombstones.
const KEY: &str = "forget.key";

/// Tables in a SQLite file.
pub struct EmbeddedWarehouse {
    file: DatabaseFile,
    tables: SeenTables,
    forgotten: Arc<Forgotten>,
}

impl EmbeddedWarehouse {
    /// Names the file, which is made where it is missing, by the first call; its folder must be
    /// there. Nothing is touched before that.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        Self {
            file: DatabaseFile::new(path),
            tables: SeenTables::default(),
            forgotten: Arc::new(Forgotten::new(KeySource::File(path.with_file_name(KEY)))),
        }
    }

    /// Counts there what a damaged file loses.
    #[must_use]
    pub fn counted(self, metrics: &Metrics) -> Self {
        Self {
            file: self.file.counted(metrics),
            ..self
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    async fn try_load(&self, events: &[EventRecord<'_>]) -> Result<Loaded, WarehouseFileError> {
        loop {
            let newest = self.forgotten.newest();
            let payloads = self.forgotten.erase(events);
            let erased = payloads.as_ref().map(|payloads| erased(events, payloads));
            match self.write(erased.as_deref().unwrap_or(events), &newest).await? {
                Ok(loaded) => return Ok(loaded),
                Err(tombstones) => self.forgotten.learn(tombstones).map_err(WarehouseFileError::Operator)?,
            }
        }
    }

    /// Loads the events; answers the tombstones instead where there are others than known.
    async fn write(
        &self,
        events: &[EventRecord<'_>],
        newest: &Tombstone,
    ) -> Result<Result<Loaded, Vec<Tombstone>>, WarehouseFileError> {
        let mut rest = by_id(events);
        let mut conflicts = Vec::new();
        let mut inserted = 0;
        // Each turn finds fewer of them changed.
        while !rest.is_empty() {
            let records: Vec<&EventRecord<'_>> = rest.iter().map(|&index| &events[index]).collect();
            let batch = load::LoadBatch::of(&records, newest.clone(), OffsetDateTime::now_utc())?;
            let written = self.file.run(move |connection| load::write(connection, &batch)).await?;
            match written {
                load::Written::All { inserted: new } => {
                    inserted = new;
                    break;
                }
                load::Written::Forgotten(tombstones) => return Ok(Err(tombstones)),
                load::Written::Nothing { changed } => {
                    let index = |row: &usize| rest.get(*row).copied();
                    conflicts.extend(changed.conflicts.iter().filter_map(index));
                    let mut row = 0..;
                    rest.retain(|_| row.next().is_none_or(|row| !changed.contains(row)));
                }
            }
        }
        conflicts.sort_unstable();
        Ok(Ok(Loaded {
            inserted,
            known: (events.len() - conflicts.len()) as u64 - inserted,
            conflicts,
        }))
    }

    async fn try_migrate(&self) -> Result<Migrated, WarehouseFileError> {
        migration::migrate(&mut &self.file).await
    }
}

#[async_trait]
impl Warehouse for EmbeddedWarehouse {
    async fn load(&self, events: &[EventRecord<'_>]) -> Result<Loaded, WarehouseError> {
        let had_tables = self.tables.get();
        let outcome = match self.try_load(events).await {
            // Go on in a new file rather than wait for an operator.
            Err(failure) if failure.is_damage() => {
                self.migrate().await?;
                self.try_load(events).await
            }
            // A first start, or the file was removed.
            Err(failure) if failure.is_schema_missing() => {
                let migrated = self.migrate().await?;
                warn_of_loss(had_tables, &migrated, &self.path().to_string_lossy());
                self.try_load(events).await
            }
            outcome => outcome,
        };
        let loaded = outcome.map_err(|failure| failure.at(self.path()))?;
        self.tables.set();
        let orders = self.forgotten.further_orders(events);
        if !orders.is_empty() {
            self.forget(&orders).await?;
        }
        Ok(loaded)
    }

    async fn forget(&self, subjects: &[ForgottenSubject]) -> Result<(), WarehouseError> {
        let known = Arc::clone(&self.forgotten);
        let subjects = subjects.to_vec();
        let forgetting = self
            .file
            .run(move |connection| forgotten::forget(connection, &known, &subjects));
        forgetting.await.map_err(|failure| failure.at(self.path()))
    }

    async fn migrate(&self) -> Result<Migrated, WarehouseError> {
        let outcome = match self.try_migrate().await {
            Err(failure) if failure.is_damage() => match self.file.set_aside().await {
                Ok(()) => self.try_migrate().await,
                Err(failure) => Err(failure),
            },
            outcome => outcome,
        };
        outcome.map_err(|failure| failure.at(self.path()))
    }

    async fn check(&self) -> Result<String, WarehouseError> {
        let found = migration::inspect(&&self.file).await;
        if found.is_ok() {
            self.tables.set();
        }
        let version = found.map_err(|failure| failure.at(self.path()))?;
        let (sqlite, path) = (rusqlite::version(), self.path().display());
        Ok(format!("SQLite {sqlite} in {path}, version {version}"))
    }
}
