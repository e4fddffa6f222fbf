//! `migrate`: brings the warehouse schema up to date.

use super::backend::{Access, enter};
use super::{Failure, output};
use crate::config::Config;
use crate::folder;
use crate::warehouse::embedded::EmbeddedWarehouse;
use crate::warehouse::postgres::PostgresWarehouse;
use crate::warehouse::{Migrated, Warehouse};

/// Migrates and prints from which version to which.
pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let Some(database) = &config.database else {
        return embedded(&config).await;
    };
    let migrated = PostgresWarehouse::new(database)?.migrate().await?;
    say(&format!("schema {}", database.schema), migrated)
}

/// Makes no file: a forgotten DATABASE_URL must not look like a migrated warehouse.
async fn embedded(config: &Config) -> Result<(), Failure> {
    let file = config.data_dir.join(folder::WAREHOUSE);
    if !file.exists() {
        return Err(Failure::Misconfigured(format!(
            "DATABASE_URL is not set, and there is no {} either, which `orderstream run` makes",
            file.display()
        )));
    }
    match enter(config, "migrate").await? {
        Access::Owned(folder) => {
            let file = folder.file(folder::WAREHOUSE)?;
            let migrated = EmbeddedWarehouse::open(&file).migrate().await?;
            say(&file.display().to_string(), migrated)
        }
        Access::Running(owner, _) => output::print(format!(
            "{} is in use by {owner}, which brings it up to date itself: nothing to do",
            file.display()
        )),
    }
}

fn say(what: &str, migrated: Migrated) -> Result<(), Failure> {
    let Migrated { from, to } = migrated;
    output::print(if from == to {
        format!("{what} is at version {to}: nothing to do")
    } else {
        format!("{what}: version {from} → {to}")
    })
}
