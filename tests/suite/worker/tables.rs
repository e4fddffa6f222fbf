//! What a worker says where tables of the warehouse are missing.

use super::*;
use crate::harness::postgres::Database;
use crate::harness::site::Store;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_of_several_workers_raises_no_alarm() {
    let site = Site {
        redis: RedisServer::start().await,
        store: Store::Shared(Database::empty().await),
    };
    for id in 1..=50 {
        site.produce(&event(id)).await;
    }
    // A statement that takes too long is an alarm, and on a busy machine one may.
    let settings = site
        .settings()
        .with("ORDERSTREAM_READ_COUNT", "10")
        .with("ORDERSTREAM_CLAIM_IDLE", "60s")
        .with("ORDERSTREAM_STATEMENT_TIMEOUT", "30s");
    let start = |name: &str| {
        let settings = settings.with("CONSUMER_NAME", name);
        async move { Service::start("work", &settings).await }
    };
    let (first, second, third) = tokio::join!(start("first"), start("second"), start("third"));
    site.has_rows(50).await;
    site.is_settled().await;
    for worker in [first, second, third] {
        let log = worker.says("connected to the warehouse").await;
        let alarms: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("WARN") || line.contains("ERROR") || line.contains("missing"))
            .filter(|line| !line.contains("DEBUG"))
            .filter(|line| line.contains("table") || line.contains("schema") || line.contains("warehouse"))
            .collect();
        assert!(alarms.is_empty(), "{alarms:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_is_named_wherever_an_operator_looks() {
    let site = Site::new().await;
    let service = Service::start("run", &site.settings()).await;
    service.says("connected to the warehouse").await;
    site.sql("DROP TABLE orderstream.order_items CASCADE");
    assert_eq!(service.deliver_order(1).await, Some(200));
    let detail = eventually("health names the table", PATIENCE, async || {
        let check = service.health_check("warehouse").await?;
        let detail = check["detail"].as_str()?;
        detail.contains("order_items").then(|| detail.to_owned())
    })
    .await;
    assert!(
        detail.contains("rebuild") && detail.contains("docs/OPERATIONS.md"),
        "{detail}"
    );
    let log = service.says("missing tables: order_items").await;
    assert!(!log.contains("created again"), "{log}");
    let patient = site
        .settings()
        .with("ORDERSTREAM_CLAIM_IDLE", "60s")
        .with("ORDERSTREAM_STATEMENT_TIMEOUT", "30s");
    for command in ["check", "migrate"] {
        let output = patient.command(&[command]).output().unwrap();
        let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        let said = out + &errors;
        assert!(said.contains("missing tables: order_items"), "{command}: {said}");
        assert_eq!(output.status.code(), Some(78), "{command}: {said}");
    }
    assert_eq!(site.dead_letters().await, 0);

    // The steps of docs/OPERATIONS.md.
    site.sql("ALTER SCHEMA orderstream RENAME TO orderstream_old");
    assert!(site.settings().command(&["migrate"]).status().unwrap().success());
    site.has_rows(1).await;
    site.is_settled().await;
    assert_eq!(site.sql("SELECT count(*) FROM orderstream.order_items"), "1");
}
