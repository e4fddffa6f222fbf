//! Whose fault it is when the server does not load, and what outlives its crash.

use std::time::Duration;

use orderstream::metrics::{Metrics, Service, ServiceLabels};
use orderstream::retryability::Retryability;
use orderstream::warehouse::postgres::PostgresWarehouse;
use orderstream::warehouse::{Warehouse, WarehouseError};

use super::super::events::{order, records};
use crate::harness::eventually;
use crate::harness::postgres::{Cluster, Database, database_config};

#[tokio::test]
async fn a_locked_table_is_the_warehouses_fault_and_is_waited_for_only_so_long() {
    let database = Database::migrated().await;
    let mut config = database_config(&database.url());
    config.statement_timeout = Duration::from_secs(3);
    let warehouse = PostgresWarehouse::new(&config).unwrap();
    let batch = [order("e1", "1", 1, 0).into()];
    let session = database.session("BEGIN; LOCK TABLE orderstream.orders").await;
    let error = warehouse.load(&records(&batch)).await.unwrap_err();
    assert!(
        matches!(&error, WarehouseError::Unavailable { code, .. } if code == "SQLSTATE 55P03"),
        "{error}"
    );
    assert_eq!(error.retryability(), Retryability::Transient);
    drop(session);
    eventually("the lock is gone", Duration::from_secs(30), || async {
        warehouse.load(&records(&batch)).await.ok()
    })
    .await;
}

#[tokio::test]
async fn what_was_confirmed_outlives_a_crash_and_the_pool_comes_back() {
    let cluster = Cluster::start(&[], &[]).await;
    let metrics = Metrics::new();
    let warehouse = PostgresWarehouse::new(&database_config(&cluster.url("postgres"))).unwrap();
    let warehouse = warehouse.counted(&metrics);
    warehouse.migrate().await.unwrap();
    for n in 0..3 {
        let batch = [order(&format!("e{n}"), "1", 1 + n, n).into()];
        warehouse.load(&records(&batch)).await.unwrap();
        if n == 1 {
            cluster.stop()
        } else {
            cluster.kill()
        }
        let error = warehouse.load(&records(&batch)).await.unwrap_err();
        assert_eq!(error.retryability(), Retryability::Transient, "{error}");
        cluster.restart().await;
        let again = eventually("loads again", Duration::from_secs(30), || async {
            warehouse.load(&records(&batch)).await.ok()
        })
        .await;
        assert_eq!(again.known, 1);
    }
    let broken = metrics.reconnects.get_or_create_owned(&ServiceLabels {
        service: Service::Warehouse,
    });
    assert!(broken.get() > 0, "broken connections are counted");
    assert_eq!(
        cluster.sql("postgres", "SELECT item_count FROM orderstream.orders"),
        "3"
    );
}
