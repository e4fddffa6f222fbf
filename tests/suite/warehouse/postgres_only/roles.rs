//! How the schema comes to be, and who may do what in it.

use orderstream::config::DatabaseConfig;
use orderstream::warehouse::postgres::PostgresWarehouse;
use orderstream::warehouse::{Migrated, Warehouse, WarehouseError};

use super::super::events::{order, records};
use crate::harness::postgres::{Database, database_config};

/// Two roles that no other database of the server knows.
fn roles(database: &Database) -> (DatabaseConfig, DatabaseConfig) {
    let (owner, loader) = (
        format!("{}_owner", database.name()),
        format!("{}_loader", database.name()),
    );
    database.sql(&format!("CREATE ROLE {owner} LOGIN"));
    database.sql(&format!("CREATE ROLE {loader} LOGIN"));
    let url = |role: &str| database.url().replace("postgres@", &format!("{role}@"));
    (database_config(&url(&owner)), database_config(&url(&loader)))
}

fn unusable(error: &WarehouseError) -> String {
    assert!(matches!(error, WarehouseError::Unusable(_)), "{error}");
    error.to_string()
}

#[tokio::test]
async fn many_at_once_migrate_once_and_a_current_schema_is_left_alone() {
    let database = Database::empty().await;
    database.sql(&format!(
        "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'",
        database.name()
    ));
    let tasks = tokio_util::task::TaskTracker::new();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let warehouse = database.warehouse();
            tasks.spawn(async move { warehouse.migrate().await.unwrap() })
        })
        .collect();
    for run in runs {
        assert_eq!(run.await.unwrap().to, 10);
    }
    assert_eq!(
        database.sql("SELECT version, name FROM orderstream.schema_migrations ORDER BY 1"),
        "1|tables\n2|ledger\n3|details\n4|views\n5|tips\n6|daily_sales\n7|refund_reversals\n8|forgotten\n9|exact_sales\n10|reconciliations"
    );
    let before = database.sql("SELECT max(xmin::text::bigint) FROM pg_class");
    let again = database.warehouse().migrate().await.unwrap();
    assert_eq!(again, Migrated { from: 10, to: 10 });
    assert_eq!(
        database.sql("SELECT max(xmin::text::bigint) FROM pg_class"),
        before,
        "no DDL"
    );
    assert!(database.warehouse().check().await.unwrap().contains("version 10"));
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let warehouse = Database::encoded(encoding).await.warehouse();
        for error in [
            warehouse.migrate().await.unwrap_err(),
            warehouse.check().await.unwrap_err(),
        ] {
            let shown = unusable(&error);
            assert!(shown.contains(encoding) && shown.contains("UTF8 is needed"), "{shown}");
        }
    }
}

#[tokio::test]
async fn check_says_what_is_missing() {
    let database = Database::empty().await;
    let (owner, mut loader) = roles(&database);
    let check = async |config: &DatabaseConfig| {
        let warehouse = PostgresWarehouse::new(config).unwrap();
        warehouse.check().await.unwrap_err()
    };
    let is_outdated = |error: &WarehouseError| {
        matches!(
            error,
            WarehouseError::Outdated {
                version: 0,
                known: 10,
                ..
            }
        )
    };
    let error = database.warehouse().check().await.unwrap_err();
    assert!(is_outdated(&error), "{error}");
    assert!(error.to_string().contains("orderstream migrate"), "{error}");

    let error = check(&loader).await;
    assert!(unusable(&error).contains("_loader lacks the rights"), "{error}");
    loader.migrate_url = Some(owner.url.clone());
    let error = check(&loader).await;
    assert!(unusable(&error).contains("_owner lacks the rights"), "{error}");
    database.sql(&format!(
        "CREATE SCHEMA orderstream AUTHORIZATION {}_owner",
        database.name()
    ));
    let error = check(&loader).await;
    assert!(is_outdated(&error), "{error}");
}

#[tokio::test]
async fn the_schema_is_the_configured_one_and_two_live_side_by_side() {
    let database = Database::migrated().await;
    let mut config = database_config(&database.url());
    config.schema = "second_shop".into();
    let second = PostgresWarehouse::new(&config).unwrap();
    second.migrate().await.unwrap();
    second.load(&records(&[order("e1", "1", 1, 0).into()])).await.unwrap();
    assert_eq!(database.sql("SELECT count(*) FROM second_shop.sales"), "1");
    assert_eq!(database.sql("SELECT count(*) FROM orderstream.sales"), "0");
    config.schema = "public".into();
    assert!(PostgresWarehouse::new(&config).is_err());
}

#[tokio::test]
async fn a_role_of_its_own_owns_the_schema() {
    let database = Database::empty().await;
    let (owner, mut loader) = roles(&database);
    let batch = [order("e1", "1", 1, 0).into()];
    let poor = PostgresWarehouse::new(&loader).unwrap();
    let error = poor.migrate().await.unwrap_err();
    assert!(unusable(&error).contains("orderstream migrate"), "{error}");
    let error = poor.load(&records(&batch)).await.unwrap_err();
    assert!(unusable(&error).contains("orderstream migrate"), "{error}");

    // The owner may have no right to create schemas, where the schema is there already.
    database.sql(&format!(
        "CREATE SCHEMA orderstream AUTHORIZATION {}_owner",
        database.name()
    ));
    loader.migrate_url = Some(owner.url.clone());
    let warehouse = PostgresWarehouse::new(&loader).unwrap();
    assert_eq!(warehouse.migrate().await.unwrap(), Migrated { from: 0, to: 10 });
    warehouse.check().await.unwrap();
    assert_eq!(warehouse.load(&records(&batch)).await.unwrap().inserted, 1);
    assert_eq!(
        database.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'orders'"),
        format!("{}_owner", database.name())
    );

    database.sql(&format!(
        "REVOKE INSERT ON orderstream.orders FROM {}_loader",
        database.name()
    ));
    assert!(unusable(&warehouse.check().await.unwrap_err()).contains("lacks rights"));
    let error = warehouse
        .load(&records(&[order("e2", "1", 1, 0).into()]))
        .await
        .unwrap_err();
    assert!(unusable(&error).contains("lacks rights"), "{error}");
    warehouse.migrate().await.unwrap();
    warehouse.check().await.unwrap();
}
