//! Connections as users have them: TLS, passwords, poolers, and servers that fall silent.

use std::time::Duration;

use orderstream::retryability::Retryability;
use orderstream::warehouse::postgres::PostgresWarehouse;
use orderstream::warehouse::{Warehouse, WarehouseError};

use super::super::events::{Sample, order, records};
use crate::harness::eventually;
use crate::harness::pgbouncer::PgBouncer;
use crate::harness::postgres::{Cluster, Database, database_config};
use crate::harness::postgres_tls::{PASSWORD, tls_cluster};

#[tokio::test]
async fn tls_is_verified_as_sslmode_says() {
    let (cluster, files) = tls_cluster(&["127.0.0.1"], &[]).await;
    let (strange, strange_files) = tls_cluster(&["db.example.com"], &[]).await;
    let file = |files: &tempfile::TempDir, name: &str| files.path().join(name).display().to_string();
    let (ca, other) = (file(&files, "ca.pem"), file(&files, "other.pem"));
    let strange_ca = file(&strange_files, "ca.pem");
    for (server, parameters, works) in [
        (&cluster, String::new(), true),
        (&cluster, "sslmode=allow".into(), true),
        (&cluster, "sslmode=require&channel_binding=require".into(), true),
        (&cluster, format!("sslmode=verify-full&sslrootcert={ca}"), true),
        (&cluster, format!("sslmode=verify-ca&sslrootcert={ca}"), true),
        (&cluster, "sslmode=disable".into(), false),
        (&cluster, "sslmode=verify-full".into(), false),
        (&cluster, format!("sslmode=verify-full&sslrootcert={other}"), false),
        (&cluster, format!("sslmode=verify-ca&sslrootcert={other}"), false),
        (&cluster, format!("sslmode=require&sslrootcert={other}"), false),
        (&strange, format!("sslmode=verify-ca&sslrootcert={strange_ca}"), true),
        (&strange, format!("sslmode=verify-full&sslrootcert={strange_ca}"), false),
    ] {
        let url = format!(
            "postgres://app:{PASSWORD}@127.0.0.1:{}/postgres?{parameters}",
            server.port
        );
        let answer = match PostgresWarehouse::new(&database_config(&url)) {
            Ok(warehouse) => warehouse.migrate().await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert_eq!(answer.is_ok(), works, "{parameters}: {answer:?}");
        if let Err(error) = answer {
            assert_eq!(error.retryability(), Retryability::Transient, "{parameters}: {error}");
            assert!(!error.to_string().contains("ss/w"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_the_operators_and_a_new_url_mends_it() {
    let (cluster, _files) = tls_cluster(&["127.0.0.1"], &[]).await;
    let url = |password: &str| format!("postgres://app:{password}@127.0.0.1:{}/postgres", cluster.port);
    let warehouse = PostgresWarehouse::new(&database_config(&url("hush"))).unwrap();
    let error = warehouse.migrate().await.unwrap_err();
    assert!(matches!(error, WarehouseError::Unusable(_)), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");
    assert!(
        warehouse
            .prepare(&"postgres://nonsense".to_owned().into(), None)
            .is_err()
    );
    warehouse.prepare(&url(PASSWORD).into(), None).unwrap()();
    warehouse.migrate().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_is_given_up_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for url in [
        format!("postgres://u:hush@127.0.0.1:{port}/db"),
        "postgres://u@/db?host=/nowhere".into(),
    ] {
        let mut config = database_config(&url);
        config.connect_timeout = Duration::from_millis(300);
        let warehouse = PostgresWarehouse::new(&config).unwrap();
        let error = warehouse.check().await.unwrap_err();
        assert!(matches!(error, WarehouseError::Unreachable { .. }), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_goes_dead_amid_a_load_costs_only_itself() {
    let cluster = Cluster::start(&[], &[]).await;
    let mut config = database_config(&cluster.url("postgres"));
    config.statement_timeout = Duration::from_secs(3);
    let warehouse = PostgresWarehouse::new(&config).unwrap();
    warehouse.migrate().await.unwrap();
    let batch = [order("e1", "1", 1, 0).into()];
    warehouse.load(&records(&batch)).await.unwrap();
    cluster.freeze();
    let error = warehouse.load(&records(&batch)).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Unreachable { .. }), "{error}");
    cluster.thaw();
    eventually("loads again", Duration::from_secs(30), || async {
        warehouse.load(&records(&batch)).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pgbouncer_in_transaction_mode_may_stand_between() {
    let database = Database::empty().await;
    let Some(bouncer) = PgBouncer::start(&database.url(), database.name()).await else {
        return;
    };
    let warehouse = std::sync::Arc::new(PostgresWarehouse::new(&database_config(&bouncer.url())).unwrap());
    warehouse.migrate().await.unwrap();
    warehouse.check().await.unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    // More connections than PgBouncer has servers: transactions change servers all the time.
    let running: Vec<_> = (0..6)
        .map(|n| {
            let warehouse = warehouse.clone();
            tasks.spawn(async move {
                let samples: Vec<Sample> = (0..20)
                    .map(|m| order(&format!("e{n}-{m}"), &m.to_string(), 1, n).into())
                    .collect();
                for sample in samples.chunks(4) {
                    warehouse.load(&records(sample)).await.unwrap();
                }
            })
        })
        .collect();
    for task in running {
        task.await.unwrap();
    }
    assert_eq!(database.sql("SELECT count(*) FROM orderstream.order_events"), "120");
    assert_eq!(
        database.sql("SELECT count(*), min(last_event_id) FROM orderstream.orders"),
        "20|e5-0"
    );
}
