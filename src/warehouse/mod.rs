//! The seam to the warehouse: tables that an analyst reads, whatever stores them.
//!
//! Owns what loading promises; `postgres/` and `embedded/` implement it, `rows.rs` knows the columns of both. Invariants that every implementation keeps: an event has
//! one row, in the same transaction as its effects, and these are the same however often they are applied; the state of an order is the newest one it ever had
//! whatever the order of arrival; nothing here knows streams or HTTP.

pub mod embedded;
pub mod fold;
pub mod history;
mod ledger;
mod migration;
mod payload;
pub mod postgres;
mod rows;
pub mod status;
mod upsert;
pub mod version;

use async_trait::async_trait;

use crate::event::EventRecord;

pub use self::error::WarehouseError;
use self::history::History;

mod error;

/// What a load did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Events that were new.
    pub inserted: u64,
    /// Events that were there already.
    pub known: u64,
    /// Events that were not loaded, by their index: their id belongs to another entry with another payload.
    pub conflicts: Vec<usize>,
}

/// What a migration run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Schema version before; 0 where there was none.
    pub from: u32,
    /// Schema version now.
    pub to: u32,
}

/// Tables of events and orders. All calls are safe to repeat.
#[async_trait]
pub trait Warehouse: History + 'static {
    /// Loads the events and all their effects in one transaction, all or none; committed when it answers. An event that
    /// is known has its effects on the state tables once more, under the version rule as ever: that changes nothing,
    /// unless something was amiss there. One that is known with another payload has none; it is a conflict unless the
    /// stored row came from the same stream entry (a row that was edited since, as for an erasure, stays as it is).
    ///
    /// # Errors
    /// Nothing was loaded, or (transient only) the commit's outcome is unknown; sending it again is safe.
    async fn load(&self, events: &[EventRecord<'_>]) -> Result<Loaded, WarehouseError>;

    /// Brings the schema up to date, under a lock against other processes.
    ///
    /// # Errors
    /// Nothing was changed beyond the last whole migration.
    async fn migrate(&self) -> Result<Migrated, WarehouseError>;

    /// Reaches the warehouse and makes sure that its schema is one this program can load into.
    ///
    /// # Errors
    /// What stands in the way.
    async fn check(&self) -> Result<String, WarehouseError>;
}
