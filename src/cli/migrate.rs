//! `migrate`: brings the warehouse schema up to date.

use super::{Failure, output};
use crate::config::Config;
use crate::warehouse::Warehouse;
use crate::warehouse::postgres::PostgresWarehouse;

/// Migrates and prints from which version to which.
///
/// # Errors
/// The database cannot be reached, or refuses.
pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let Some(database) = &config.database else {
        return Err(Failure::Misconfigured("DATABASE_URL is not set".to_owned()));
    };
    let migrated = PostgresWarehouse::new(database)?.migrate().await?;
    let schema = &database.schema;
    output::print(if migrated.from == migrated.to {
        format!("schema {schema} is at version {}: nothing to do", migrated.to)
    } else {
        format!("schema {schema}: version {} → {}", migrated.from, migrated.to)
    })
}
