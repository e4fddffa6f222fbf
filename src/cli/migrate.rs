//! `migrate`: brings the warehouse schema up to date.

use super::Failure;
use crate::config::Config;
use crate::warehouse::postgres::PostgresWarehouse;
use crate::warehouse::{Warehouse, WarehouseError};

/// Migrates and prints from which version to which.
///
/// # Errors
/// The database cannot be reached, or refuses.
pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let Some(database) = &config.database else {
        return Err(Failure::Unavailable("DATABASE_URL is not set".to_owned()));
    };
    let failed = |error: WarehouseError| Failure::Unavailable(error.to_string());
    let migrated = PostgresWarehouse::new(database)
        .map_err(failed)?
        .migrate()
        .await
        .map_err(failed)?;
    let schema = &database.schema;
    if migrated.from == migrated.to {
        println!("schema {schema} is at version {}: nothing to do", migrated.to);
    } else {
        println!("schema {schema}: version {} → {}", migrated.from, migrated.to);
    }
    Ok(())
}
