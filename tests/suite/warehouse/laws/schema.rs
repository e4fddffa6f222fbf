//! How the tables come to be, and come back.

use orderstream::retryability::Retryability;
use orderstream::warehouse::{Migrated, WarehouseError};
use serde_json::json;

use super::super::events::{order, records};
use super::{Store, load, rows};

fn unusable(error: &WarehouseError) -> String {
    assert!(matches!(error, WarehouseError::Unusable(_)), "{error}");
    error.to_string()
}

pub async fn many_at_once_migrate_once_and_a_current_schema_is_left_alone(store: &dyn Store) {
    store.drop_tables().await;
    let tasks = tokio_util::task::TaskTracker::new();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let warehouse = store.open();
            tasks.spawn(async move { warehouse.migrate().await.unwrap() })
        })
        .collect();
    for run in runs {
        assert_eq!(run.await.unwrap().to, 10);
    }
    let migrations = "SELECT version, name, compatible_from FROM schema_migrations ORDER BY 1";
    assert_eq!(
        rows(store, migrations).await,
        "1|tables|1\n2|ledger|1\n3|details|1\n4|views|1\n5|tips|1\n6|daily_sales|1\n7|refund_reversals|1\n8|forgotten|1\n9|exact_sales|1\n10|reconciliations|1"
    );
    let again = store.open().migrate().await.unwrap();
    assert_eq!(again, Migrated { from: 10, to: 10 });
    assert!(store.open().check().await.unwrap().contains("version 10"));
}

pub async fn check_says_that_tables_are_missing(store: &dyn Store) {
    store.drop_tables().await;
    let error = store.open().check().await.unwrap_err();
    let is_outdated = matches!(
        error,
        WarehouseError::Outdated {
            version: 0,
            known: 10,
            ..
        }
    );
    assert!(is_outdated, "{error}");
    assert!(error.to_string().contains("orderstream migrate"), "{error}");
}

pub async fn tables_that_vanished_are_made_again(store: &dyn Store) {
    let warehouse = store.open();
    let batch = [order("e1", "1", 1, 0).into()];
    for _ in 0..2 {
        assert_eq!(warehouse.load(&records(&batch)).await.unwrap().inserted, 1);
        store.drop_tables().await;
    }
}

pub async fn a_table_that_was_dropped_is_named(store: &dyn Store) {
    load(store, &[order("e1", "1", 1, 0).into()]).await;
    for table in ["order_refunds", "order_items", "schema_migrations"] {
        store.drop_table(table).await;
        let warehouse = store.open();
        let mut refunded = order("e2", "1", 2, 1);
        refunded["refunds"] = json!([{"refund_id": "r", "amount": 1}]);
        let batch = [refunded.into()];
        let failures = [
            warehouse.load(&records(&batch)).await.map(drop),
            warehouse.check().await.map(drop),
            warehouse.migrate().await.map(drop),
        ];
        for (place, failure) in failures.into_iter().enumerate() {
            let error = failure.unwrap_err();
            assert!(matches!(error, WarehouseError::Incomplete { .. }), "{place}: {error}");
            assert!(error.to_string().contains(table), "{place}: {error}");
            assert_eq!(
                error.retryability(),
                Retryability::Transient,
                "the events stay in the stream"
            );
        }
    }
    assert_eq!(
        rows(store, "SELECT count(*) FROM order_events").await,
        "1",
        "nothing was made anew"
    );
}

pub async fn a_newer_schema_is_taken_as_long_as_it_says_so(store: &dyn Store) {
    let warehouse = store.open();
    let newer = |version: u32, compatible_from: u32| {
        format!("INSERT INTO schema_migrations VALUES ({version}, 'newer', {compatible_from}, '2026-01-01T00:00:00Z')")
    };
    store.change(&newer(98, 1)).await;
    assert_eq!(warehouse.migrate().await.unwrap(), Migrated { from: 98, to: 98 });
    warehouse.check().await.unwrap();
    let batch = [order("e1", "1", 1, 0).into()];
    assert_eq!(warehouse.load(&records(&batch)).await.unwrap().inserted, 1);
    store.change(&newer(99, 99)).await;
    assert!(unusable(&warehouse.check().await.unwrap_err()).contains("upgrade"));
    assert!(unusable(&warehouse.migrate().await.unwrap_err()).contains("upgrade"));
}
