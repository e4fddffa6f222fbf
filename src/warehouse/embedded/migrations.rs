//! Brings the file up to date.
//!
//! Owns the list of migrations. Each is one transaction that holds the file's write lock; a file that is current is only
//! read.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::error::Failure;
use super::microseconds;
use crate::warehouse::Migrated;
use crate::warehouse::migration::{self, Installed, Migration};

const MIGRATIONS: [Migration; 2] = [
    Migration {
        version: 1,
        name: "tables",
        compatible_from: 1,
        sql: include_str!("migrations/0001_tables.sql"),
    },
    Migration {
        version: 2,
        name: "ledger",
        compatible_from: 1,
        sql: include_str!("migrations/0002_ledger.sql"),
    },
];

/// What this program knows.
pub(super) const KNOWN: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Runs what is missing.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<Migrated, Failure> {
    let before = installed(connection)?;
    refuse_incomplete(connection, before)?;
    for migration in MIGRATIONS.iter().filter(|step| step.version > before.version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another program may have been here while this one waited.
        if installed(&transaction)?.version < migration.version {
            transaction.execute_batch(&microseconds::write_out(migration.sql))?;
            transaction.execute(
                "INSERT INTO schema_migrations (version, name, compatible_from, applied_at) \
                 VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z')",
                (migration.version, migration.name, migration.compatible_from),
            )?;
        }
        transaction.commit()?;
        tracing::info!(
            file = %path.display(),
            version = migration.version,
            name = migration.name,
            "warehouse file migrated"
        );
    }
    let after = installed(connection)?;
    refuse_newer(after, path)?;
    Ok(Migrated {
        from: before.version,
        to: after.version,
    })
}

/// Reads the state of the file; changes nothing.
pub(super) fn installed(connection: &Connection) -> Result<Installed, Failure> {
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

/// Tables that somebody dropped are named: neither a migration nor a load brings back what they held.
pub(super) fn refuse_incomplete(connection: &Connection, installed: Installed) -> Result<(), Failure> {
    let wanted = migration::tables(&MIGRATIONS, installed.version);
    let mut names = connection.prepare("SELECT name FROM sqlite_schema")?;
    let mut present: Vec<String> = names.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    present.retain(|name| wanted.contains(&name.as_str()));
    match migration::missing(&MIGRATIONS, installed.version, &present) {
        tables if tables.is_empty() => Ok(()),
        tables => Err(Failure::Incomplete(tables)),
    }
}

/// An older program goes on working on a newer file as long as that allows it.
pub(super) fn refuse_newer(installed: Installed, path: &Path) -> Result<(), Failure> {
    let refusal = installed.refusal(KNOWN, &format!("the warehouse file {}", path.display()));
    refusal.map_or(Ok(()), |text| Err(Failure::Operator(text)))
}
