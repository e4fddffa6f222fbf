//! The warehouse on PostgreSQL 14 or newer. The only place that speaks its SQL.
//!
//! Owns connections, tables and views, all within one schema that every statement names: no search
//! path, no named prepared statement and no session state is relied on, so that PgBouncer may stand
//! between in transaction mode. Invariants: an event and all its effects are one transaction; no
//! wait is without a bound, on the server's side (`SET LOCAL` timeouts) and on ours (a peer that
//! went silent costs its connection, not the worker); no error text holds a value out of a row.

mod check;
mod columns;
mod encoded_effects;
mod error;
mod forgotten;
mod history;
mod ledger;
mod load;
mod migrations;
mod pool;
mod schema;

use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use deadpool_postgres::Object;
use prometheus_client::metrics::counter::Counter;
use secrecy::ExposeSecret;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use self::error::PostgresError;
use self::load::LoadOutcome;
use self::pool::Pool;
use self::schema::Schema;
use super::forgotten::{Forgotten, KeySource, erased};
use super::migration::{SchemaFault, SeenTables, warn_of_loss};
use super::{ForgottenSubject, Loaded, Migrated, Warehouse, WarehouseError};
use crate::config::{DatabaseConfig, Secret};
use crate::event::EventRecord;
use crate::metrics::{Metrics, Service, ServiceLabels};
use crate::postgres::Target;

/// Tries at one load before a deadlock or a serialization failure is passed on.
const LOAD_TRIES: u32 = 4;

/// Tables in a PostgreSQL schema.
pub struct PostgresWarehouse {
    pools: ArcSwap<Pools>,
    schema: Schema,
    config: DatabaseConfig,
    /// Pools that broke in use, each of which is made again when it is needed.
    reconnects: Counter,
    tables: SeenTables,
    forgotten: Forgotten,
}

/// What a new URL replaces.
struct Pools {
    pool: Pool,
    /// As the role that owns the schema, where it is another one.
    owner: Option<Pool>,
    /// Role of `pool`.
    reader: Option<String>,
}

impl Pools {
    fn new(url: &Secret, migrate_url: Option<&Secret>, config: &DatabaseConfig) -> Result<Self, WarehouseError> {
        let pool_of = |target: &Target, size| Pool::new(target, size, config.connect_timeout);
        let target = Target::parse(url.expose_secret(), config.connect_timeout)?;
        let owner = migrate_url.map(|url| Target::parse(url.expose_secret(), config.connect_timeout));
        Ok(Self {
            pool: pool_of(&target, config.pool_size)?,
            owner: owner.transpose()?.map(|owner| pool_of(&owner, 1)).transpose()?,
            reader: target.role().map(str::to_owned),
        })
    }
}

impl PostgresWarehouse {
    /// Reads the URLs and the CA file; connects only when it is used.
    ///
    /// # Errors
    /// [`WarehouseError::Unusable`] for a URL, CA file or schema name that cannot work; the text
    /// has no secret.
    pub fn new(config: &DatabaseConfig) -> Result<Self, WarehouseError> {
        Ok(Self {
            pools: ArcSwap::from_pointee(Pools::new(&config.url, config.migrate_url.as_ref(), config)?),
            schema: Schema::new(&config.schema)?,
            config: config.clone(),
            reconnects: Counter::default(),
            tables: SeenTables::default(),
            forgotten: Forgotten::new(KeySource::Setting(config.forget_key.clone())),
        })
    }

    /// The same, with its broken connections counted there.
    #[must_use]
    pub fn counted(self, metrics: &Metrics) -> Self {
        let service = Service::Warehouse;
        let reconnects = metrics.reconnects.get_or_create_owned(&ServiceLabels { service });
        Self { reconnects, ..self }
    }

    /// Makes ready to go over to other URLs (rotated passwords), which happens when the answer is
    /// called. Calls under way finish on the old connections.
    ///
    /// # Errors
    /// As [`PostgresWarehouse::new`].
    pub fn prepare<'a>(
        &'a self,
        url: &Secret,
        migrate_url: Option<&Secret>,
    ) -> Result<impl FnOnce() + use<'a>, WarehouseError> {
        let pools = Pools::new(url, migrate_url, &self.config)?;
        Ok(move || self.pools.store(pools.into()))
    }

    /// Where it connects to, without credentials.
    #[must_use]
    pub fn server(&self) -> String {
        self.pools.load().pool.server().to_owned()
    }

    fn call_limit(&self) -> Duration {
        call_limit(self.config.statement_timeout)
    }

    /// Gives the connection back if it is certainly idle and sound; closes it otherwise, which
    /// makes the server roll back what was open.
    fn settle<T>(
        &self,
        connection: Object,
        limit: Duration,
        outcome: Result<Result<T, PostgresError>, Elapsed>,
    ) -> Result<T, PostgresError> {
        let outcome = outcome.unwrap_or(Err(PostgresError::Silent(limit)));
        if outcome
            .as_ref()
            .is_err_and(|failure| !failure.leaves_connection_sound())
        {
            drop(Object::take(connection));
            self.reconnects.inc();
        }
        outcome
    }

    async fn try_load(&self, pool: &Pool, events: &[EventRecord<'_>]) -> Result<Loaded, PostgresError> {
        let limit = self.call_limit();
        let session = load::session(self.config.statement_timeout);
        loop {
            let newest = self.forgotten.newest();
            let payloads = self.forgotten.erase(events);
            let erased = payloads.as_ref().map(|payloads| erased(events, payloads));
            let events = erased.as_deref().unwrap_or(events);
            let mut connection = pool.get().await?;
            let loading = load::load(&mut connection, &self.schema, &session, events, &newest);
            let outcome = timeout(limit, loading).await;
            match self.settle(connection, limit, outcome)? {
                LoadOutcome::Committed(loaded) => return Ok(loaded),
                LoadOutcome::Forgotten(rows) => self.forgotten.learn(rows).map_err(PostgresError::Operator)?,
            }
        }
    }

    /// Adds tombstones, while no load is under way.
    async fn try_forget(&self, pool: &Pool, subjects: &[ForgottenSubject]) -> Result<(), PostgresError> {
        let limit = self.call_limit();
        let session = load::session_limits(self.config.statement_timeout);
        let mut connection = pool.get().await?;
        let forgetting = forgotten::forget(&mut connection, &self.schema, &session, &self.forgotten, subjects);
        let outcome = timeout(limit, forgetting).await;
        self.settle(connection, limit, outcome)
    }

    async fn migrate_as_owner(&self, pools: &Pools) -> Result<Migrated, PostgresError> {
        let reader = pools.owner.as_ref().and(pools.reader.as_deref());
        let mut connection = pools.owner.as_ref().unwrap_or(&pools.pool).get().await?;
        let outcome = timeout(
            migrations::LIMIT,
            migrations::run(&mut connection, &self.schema, reader),
        )
        .await;
        self.settle(connection, migrations::LIMIT, outcome)
    }

    /// Tells tables that we can bring up to date from those that only the operator can.
    async fn inspect(&self, pools: &Pools) -> Result<String, PostgresError> {
        let (limit, pool) = (self.call_limit(), &pools.pool);
        let mut connection = pool.get().await?;
        let outcome = timeout(limit, check::inspect(&mut connection, &self.schema, pool.server())).await;
        let found = self.settle(connection, limit, outcome);
        if matches!(
            found,
            Err(PostgresError::Schema {
                fault: SchemaFault::Outdated(_),
                ..
            })
        ) {
            let owner = pools.owner.as_ref().unwrap_or(pool);
            let connection = owner.get().await?;
            let asked = check::refuse_unless_migrator(&connection, &self.schema, owner.server());
            let outcome = timeout(limit, asked).await;
            self.settle(connection, limit, outcome)?;
        }
        found
    }
}

/// Longest a call may take on our side: longer than one statement, which the server bounds, and
/// still below the time after which another worker claims the entries (at least twice the
/// statement's).
fn call_limit(statement_timeout: Duration) -> Duration {
    statement_timeout * 3 / 2
}

#[async_trait]
impl Warehouse for PostgresWarehouse {
    async fn load(&self, events: &[EventRecord<'_>]) -> Result<Loaded, WarehouseError> {
        if events.is_empty() {
            return Ok(Loaded::default());
        }
        let pools = self.pools.load_full();
        let had_tables = self.tables.get();
        let mut tries = 1;
        loop {
            match self.try_load(&pools.pool, events).await {
                Err(failure) if tries < LOAD_TRIES && failure.is_conflict() => {
                    tracing::debug!(tries, "load collided with another; trying again");
                    // Out of step with whom it collided with.
                    tokio::time::sleep(Duration::from_millis(rand::random_range(5..50) * u64::from(tries))).await;
                }
                // A first start, or a database that came back empty: make the tables rather than
                // wait for an operator.
                Err(failure) if tries < LOAD_TRIES && failure.is_schema_missing() => {
                    let migrated = self.migrate().await?;
                    warn_of_loss(had_tables, &migrated, self.schema.name());
                }
                Ok(loaded) => {
                    self.tables.set();
                    let orders = self.forgotten.further_orders(events);
                    if !orders.is_empty() {
                        self.forget(&orders).await?;
                    }
                    return Ok(loaded);
                }
                outcome => return outcome.map_err(|failure| failure.at(pools.pool.server())),
            }
            tries += 1;
        }
    }

    async fn forget(&self, subjects: &[ForgottenSubject]) -> Result<(), WarehouseError> {
        let pools = self.pools.load_full();
        let forgotten = self.try_forget(&pools.pool, subjects).await;
        forgotten.map_err(|failure| failure.at(pools.pool.server()))
    }

    async fn migrate(&self) -> Result<Migrated, WarehouseError> {
        let pools = self.pools.load_full();
        let server = pools.owner.as_ref().unwrap_or(&pools.pool).server();
        let migrated = self.migrate_as_owner(&pools).await;
        migrated.map_err(|failure| failure.at(server))
    }

    async fn check(&self) -> Result<String, WarehouseError> {
        let pools = self.pools.load_full();
        let found = self.inspect(&pools).await;
        if found.is_ok() {
            self.tables.set();
        }
        found.map_err(|failure| failure.at(pools.pool.server()))
    }
}
