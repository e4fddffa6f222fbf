//! The warehouse: the tables and views that an analyst reads, in PostgreSQL or in one SQLite file.
//!
//! # Layout
//! A load goes down through shared, pure modules and then into one store:
//!
//! - [`fold`] works out which rows a batch of events changes, by [`version`] and [`status`].
//! - `ledger` splits an order into sales as Shopify's reports count them; `ledger/dated` dates the
//!   sales of an order that was changed later, one by one.
//! - `rows` says which part of an event goes into which column, `upsert` what an insert does to a
//!   row that is there, `payload` whether a known event is the same.
//! - [`postgres`] and [`embedded`] bind these columns and run the statements. They are the only
//!   modules with a driver.
//! - `forgotten` knows whom the warehouse has forgotten, and takes out of each load what is personal
//!   about them.
//! - [`history`], [`people`], [`reconciliations`], [`retention`] and [`sales`] have the statements of operators, one text for both stores; `migration`
//!   the list of migrations and their one runner. The SQL of each step stands in
//!   `postgres/migrations/` and `embedded/migrations/`.
//!
//! # Invariants
//! - An event has one row in `order_events`, by its id, written in the same transaction as all its
//!   effects.
//! - Effects are idempotent and independent of the order of arrival: the row of an order is its
//!   newest state (`updated_at` to the microsecond, then `triggered_at`, then the event id
//!   bytewise), a refund's its newest statement.
//! - `daily_sales` is the sum of `order_sales`. Usual orders have their sums in columns of
//!   `orders`; only those with `has_sale_rows` have rows of their own, worked out again from all
//!   their events by every load that touches them.
//! - Amounts are exact decimals in the shop's currency: `numeric`, or the written digits as text in
//!   the file, whose views answer floats rounded to the 6th decimal. Times are UTC; `local_date` is
//!   the day as the shop wrote it.
//! - A migration only adds, so that workers of the release before it go on loading.
//! - Rows are locked in the order of their keys, and no wait is unbounded.
//!
//! # What is absent, and why
//! Streams and HTTP: a worker calls [`Warehouse::load`], which says what was committed. Schema
//! changes outside migrations: tables that were dropped are reported, since making them again would
//! hide a loss; only an empty store is set up by a load. A mark of how far loads came: it could be
//! lost or restored apart from the data, so that ids are compared instead.

pub mod embedded;
pub mod fold;
mod forgotten;
pub mod history;
mod ledger;
mod migration;
mod payload;
pub mod people;
pub mod postgres;
pub mod reconciliations;
pub mod retention;
mod rows;
pub mod sales;
pub mod status;
mod upsert;
pub mod version;

use async_trait::async_trait;

use crate::event::EventRecord;

pub use self::error::WarehouseError;
pub use self::forgotten::ForgottenSubject;
use self::reconciliations::ReconciliationRecord;

mod error;

/// What a load did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Events that were new.
    pub inserted: u64,
    /// Events that were there already.
    pub known: u64,
    /// Events that were not loaded, by their index: their id belongs to another entry with another
    /// payload.
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
pub trait Warehouse: ReconciliationRecord + 'static {
    /// Loads the events and all their effects in one transaction, all or none; committed when it
    /// answers. An event that is known has its effects on the state tables once more, under the
    /// version rule as ever: that changes nothing, unless something was amiss there. One that is
    /// known with another payload has none; it is a conflict unless the stored row came from the
    /// same stream entry (a row that was edited since, as for an erasure, stays as it is).
    ///
    /// # Errors
    /// Nothing was loaded, or (transient only) the commit's outcome is unknown; sending it again is
    /// safe.
    async fn load(&self, events: &[EventRecord<'_>]) -> Result<Loaded, WarehouseError>;

    /// Notes that these are forgotten: whatever is loaded from now on, by any process, is without
    /// what is personal about them, an event that is known loses it when it is loaded again. Waits for
    /// loads under way.
    ///
    /// # Errors
    /// Nothing was noted; [`WarehouseError::Unusable`] where there is no key for it, or another one
    /// than before.
    async fn forget(&self, subjects: &[ForgottenSubject]) -> Result<(), WarehouseError>;

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
