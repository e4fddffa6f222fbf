//! The schema in the file: its state, and one migration in a transaction that holds the file's
//! write lock.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::error::WarehouseFileError;
use super::file::DatabaseFile;
use super::microseconds;
use crate::warehouse::migration::{Installed, Migration, SchemaFault, SchemaStore};

#[async_trait]
impl SchemaStore for &DatabaseFile {
    type Failure = WarehouseFileError;

    fn fault(&self, fault: SchemaFault) -> WarehouseFileError {
        WarehouseFileError::Schema(fault)
    }

    async fn installed(&self) -> Result<Installed, WarehouseFileError> {
        self.run(|connection| installed(connection)).await
    }

    async fn relations(&self) -> Result<Vec<String>, WarehouseFileError> {
        let names = |connection: &mut Connection| {
            let mut names = connection.prepare("SELECT name FROM sqlite_schema")?;
            Ok(names.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?)
        };
        self.run(names).await
    }

    async fn apply(&mut self, step: &'static Migration) -> Result<(), WarehouseFileError> {
        self.run(move |connection| apply(connection, step)).await?;
        let (version, name) = (step.version, step.name);
        tracing::info!(file = %self.path().display(), version, name, "warehouse file migrated");
        Ok(())
    }
}

fn apply(connection: &mut Connection, step: &Migration) -> Result<(), WarehouseFileError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another program may have been here while this one waited.
    if installed(&transaction)?.version < step.version {
        transaction.execute_batch(&microseconds::write_out(step.sqlite))?;
        transaction.execute(
            "INSERT INTO schema_migrations (version, name, compatible_from, applied_at) \
             VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z')",
            (step.version, step.name, step.compatible_from),
        )?;
    }
    Ok(transaction.commit()?)
}

fn installed(connection: &Connection) -> Result<Installed, WarehouseFileError> {
    let there = connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations'",
            (),
            |_| Ok(()),
        )
        .optional()?;
    if there.is_none() {
        return Ok(Installed::default());
    }
    Ok(connection.query_row(
        "SELECT COALESCE(max(version), 0), COALESCE(max(compatible_from), 0) FROM schema_migrations",
        (),
        |row| {
            Ok(Installed {
                version: row.get(0)?,
                compatible_from: row.get(1)?,
            })
        },
    )?)
}
