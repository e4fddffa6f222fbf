//! How the schema is brought up to date, whatever store it is in.
//!
//! Owns the list of migrations, their runner, and what is said of a schema that this program cannot
//! load into. A store reads its state and applies one migration ([`SchemaStore`]). A migration only
//! adds (tables, nullable columns, views at their end), so that the previous release goes on
//! working beside it; where one cannot, `compatible_from` shuts older programs out. Tables that
//! were dropped are named and never made again: neither a migration nor a load brings back what
//! they held.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::{Migrated, WarehouseError};

/// One step.
pub(super) struct Migration {
    pub(super) version: u32,
    pub(super) name: &'static str,
    /// Version that a program must know to go on loading after this step.
    pub(super) compatible_from: u32,
    /// With `{schema}` for the quoted schema.
    pub(super) postgres: &'static str,
    /// Makes the same tables; with `{micros time AS x}` for the microseconds of a time.
    pub(super) sqlite: &'static str,
}

/// All steps, oldest first.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "tables",
        compatible_from: 1,
        postgres: include_str!("postgres/migrations/0001_tables.sql"),
        sqlite: include_str!("embedded/migrations/0001_tables.sql"),
    },
    Migration {
        version: 2,
        name: "ledger",
        compatible_from: 1,
        postgres: include_str!("postgres/migrations/0002_ledger.sql"),
        sqlite: include_str!("embedded/migrations/0002_ledger.sql"),
    },
    Migration {
        version: 3,
        name: "details",
        compatible_from: 1,
        postgres: include_str!("postgres/migrations/0003_details.sql"),
        sqlite: include_str!("embedded/migrations/0003_details.sql"),
    },
    Migration {
        version: 4,
        name: "views",
        compatible_from: 1,
        postgres: include_str!("postgres/migrations/0004_views.sql"),
        sqlite: include_str!("embedded/migrations/0004_views.sql"),
    },
    Migration {
        version: 5,
        name: "tips",
        compatible_from: 1,
        postgres: include_str!("postgres/migrations/0005_tips.sql"),
        sqlite: include_str!("embedded/migrations/0005_tips.sql"),
    },
    Migration {
        version: 6,
        name: "daily_sales",
        compatible_from: 1,
        postgres: include_str!("postgres/migrations/0006_daily_sales.sql"),
        sqlite: include_str!("embedded/migrations/0006_daily_sales.sql"),
    },
    Migration {
        version: 7,
        name: "refund_reversals",
        compatible_from: 1,
        postgres: include_str!("postgres/migrations/0007_refund_reversals.sql"),
        sqlite: include_str!("embedded/migrations/0007_refund_reversals.sql"),
    },
    Migration {
        version: 8,
        name: "forgotten",
        compatible_from: 1,
        postgres: include_str!("postgres/migrations/0008_forgotten.sql"),
        sqlite: include_str!("embedded/migrations/0008_forgotten.sql"),
    },
    Migration {
        version: 9,
        name: "exact_sales",
        compatible_from: 1,
        postgres: include_str!("postgres/migrations/0009_exact_sales.sql"),
        sqlite: include_str!("embedded/migrations/0009_exact_sales.sql"),
    },
    Migration {
        version: 10,
        name: "reconciliations",
        compatible_from: 1,
        postgres: include_str!("postgres/migrations/0010_reconciliations.sql"),
        sqlite: include_str!("embedded/migrations/0010_reconciliations.sql"),
    },
];

/// What this program knows.
pub(super) const KNOWN: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// The state of a schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Installed {
    /// 0: none.
    pub(super) version: u32,
    /// Version that a program must know to load into it.
    pub(super) compatible_from: u32,
}

/// Why this program cannot load into a schema.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SchemaFault {
    /// It is at this version, below what we know.
    Outdated(u32),
    /// It lacks these tables.
    Incomplete(Vec<&'static str>),
    /// It needs a newer program.
    TooNew(Installed),
}

impl SchemaFault {
    /// As the outside hears it. `place` names the schema or the file.
    pub(super) fn at(self, place: String) -> WarehouseError {
        match self {
            Self::Outdated(version) => WarehouseError::Outdated {
                place,
                version,
                known: KNOWN,
            },
            Self::Incomplete(tables) => WarehouseError::Incomplete { place, tables },
            Self::TooNew(installed) => WarehouseError::Unusable(format!(
                "{place} is at version {} and needs a program that knows version {}; this one knows {KNOWN}: upgrade it",
                installed.version, installed.compatible_from,
            )),
        }
    }
}

/// A schema that can be migrated.
#[async_trait]
pub(super) trait SchemaStore: Send {
    type Failure;

    /// The store's failure that says this.
    fn fault(&self, fault: SchemaFault) -> Self::Failure;

    /// Reads the version; changes nothing.
    async fn installed(&self) -> Result<Installed, Self::Failure>;

    /// Names of all tables and views.
    async fn relations(&self) -> Result<Vec<String>, Self::Failure>;

    /// Applies one step in a transaction that holds a lock against other processes. Changes nothing
    /// where one of them was here meanwhile.
    async fn apply(&mut self, step: &'static Migration) -> Result<(), Self::Failure>;
}

/// Runs what is missing.
pub(super) async fn migrate<S: SchemaStore + Sync>(store: &mut S) -> Result<Migrated, S::Failure> {
    let before = store.installed().await?;
    refuse_incomplete(store, before).await?;
    for step in MIGRATIONS.iter().filter(|step| step.version > before.version) {
        store.apply(step).await?;
    }
    let after = store.installed().await?;
    refuse_newer(store, after)?;
    Ok(Migrated {
        from: before.version,
        to: after.version,
    })
}

/// The version of a schema that this program can load into; fails where it cannot.
pub(super) async fn inspect<S: SchemaStore + Sync>(store: &S) -> Result<u32, S::Failure> {
    let installed = store.installed().await?;
    refuse_newer(store, installed)?;
    refuse_incomplete(store, installed).await?;
    if installed.version < KNOWN {
        return Err(store.fault(SchemaFault::Outdated(installed.version)));
    }
    Ok(installed.version)
}

/// An older program goes on working beside a newer one as long as the newer schema allows it.
fn refuse_newer<S: SchemaStore>(store: &S, installed: Installed) -> Result<(), S::Failure> {
    if installed.compatible_from > KNOWN {
        return Err(store.fault(SchemaFault::TooNew(installed)));
    }
    Ok(())
}

/// Another process may migrate between the two readings: only what is missing from a version that
/// stands is missing.
async fn refuse_incomplete<S: SchemaStore + Sync>(store: &S, mut installed: Installed) -> Result<(), S::Failure> {
    loop {
        let tables = missing(MIGRATIONS, installed.version, &store.relations().await?);
        if tables.is_empty() {
            return Ok(());
        }
        let now = store.installed().await?;
        if now == installed {
            return Err(store.fault(SchemaFault::Incomplete(tables)));
        }
        installed = now;
    }
}

/// Which tables of that version are not among those present. A schema of no version that has none
/// of those which the migrations would create lacks nothing: it is made at the first start.
fn missing(migrations: &[Migration], version: u32, present: &[String]) -> Vec<&'static str> {
    let applied = |step: &&Migration| version == 0 || step.version <= version;
    let tables: Vec<&str> = migrations.iter().filter(applied).flat_map(Migration::tables).collect();
    let is_present = |table: &&str| present.iter().any(|name| name == table);
    if version == 0 && !tables.iter().any(is_present) {
        return Vec::new();
    }
    tables.into_iter().filter(|table| !is_present(table)).collect()
}

impl Migration {
    /// Names of the tables that it creates.
    fn tables(&self) -> impl Iterator<Item = &'static str> {
        let lines = self.postgres.lines();
        let names = lines.filter_map(|line| line.strip_prefix("CREATE TABLE {schema}."));
        names.map(|name| name.split([' ', '(']).next().unwrap_or(name))
    }
}

/// Whether the tables were there at some time: where a load has to make them again, what they held
/// is lost.
#[derive(Default)]
pub(super) struct SeenTables(AtomicBool);

impl SeenTables {
    /// They are there.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Read it before a load: a check that runs beside a first load may find the new tables
    /// meanwhile.
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Logs the loss of what tables held that were seen before and had to be created by a load.
pub(super) fn warn_of_loss(seen_before: bool, migrated: &Migrated, place: &str) {
    if seen_before && migrated.from < migrated.to {
        tracing::warn!(
            warehouse = place,
            version = migrated.to,
            "the tables were missing and have been created again: what they held is gone"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn step(version: u32, postgres: &'static str) -> Migration {
        Migration {
            version,
            name: "step",
            compatible_from: 1,
            postgres,
            sqlite: "",
        }
    }

    const STEPS: [Migration; 2] = [
        step(
            1,
            "CREATE TABLE {schema}.a (\n    x text\n);\nCREATE INDEX i ON a (x);\nCREATE TABLE {schema}.b(x text);",
        ),
        step(2, "CREATE TABLE {schema}.c (x text);"),
    ];

    #[test]
    fn what_is_missing_depends_on_the_version() {
        for (version, present, expected) in [
            (0, &["other"][..], &[][..]),
            (0, &["b"], &["a", "c"]),
            (1, &["a", "b", "other"], &[]),
            (1, &["a"], &["b"]),
            (1, &[], &["a", "b"]),
            (2, &["a", "b"], &["c"]),
        ] {
            let present = Vec::from_iter(present.iter().map(|name: &&str| (*name).to_owned()));
            assert_eq!(missing(&STEPS, version, &present), expected, "{version} {present:?}");
        }
    }

    #[test]
    fn both_stores_get_the_same_tables() {
        for (place, step) in (1..).zip(MIGRATIONS) {
            assert_eq!(step.version, place, "dense, and in order");
            let sqlite = step.sqlite.replace("CREATE TABLE ", "CREATE TABLE {schema}.");
            let sqlite = Migration {
                postgres: sqlite.leak(),
                ..*step
            };
            assert!(step.tables().eq(sqlite.tables()), "{}", step.name);
        }
    }
}
