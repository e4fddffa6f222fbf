//! What must hold whatever comes, in whatever order, from however many loaders.

use std::time::Duration;

use orderstream::class::Class;
use orderstream::metrics::{Metrics, Service, ServiceLabels};
use orderstream::warehouse::{Warehouse, WarehouseError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use time::macros::datetime;

use super::events::{Sample, order, records};
use crate::harness::postgres::{Cluster, Database, database_config};

const STATE: &str = "SELECT o FROM orderstream.orders o ORDER BY shop, order_id; \
                     SELECT i FROM orderstream.order_items i ORDER BY shop, order_id, line_no; \
                     SELECT r FROM orderstream.order_refunds r ORDER BY shop, refund_id";

/// Any event out of few orders, refunds and moments, so that they collide and tie.
fn any_event() -> impl Strategy<Value = Sample> {
    let trigger = prop::option::of(0..2_i64);
    // A tenth of a microsecond apart: the same time to a table.
    let at = (0..3_i64, 0..3_i64);
    let flags = (any::<bool>(), any::<bool>());
    (0..4_u8, 1..4_u8, 1..4_i64, at, trigger, any::<u16>(), flags).prop_map(
        |(kind, order_id, qty, (second, nano), trigger, id, (upper, test))| {
            let id = if upper { format!("E{id}") } else { format!("e{id}") };
            let mut event = order(&id, &order_id.to_string(), qty, 0);
            event["timestamp"] = json!(format!("2026-01-31T09:30:0{second}.0000001{nano}Z"));
            match kind {
                0 | 1 => {}
                2 => {
                    event = json!({"event_type": "order.deleted", "event_id": id, "timestamp": event["timestamp"],
                                   "order_id": event["order_id"], "shop": event["shop"]});
                }
                _ => event["event_type"] = json!("refund.created"),
            }
            if test {
                event["test"] = json!(true);
            }
            if kind != 2 && qty > 1 {
                event["refunds"] = json!([{"refund_id": format!("r{}", qty + second), "amount": qty}]);
            }
            Sample {
                payload: event.to_string(),
                triggered_at: trigger.map(|s| datetime!(2026-01-31 09:31:00 UTC) + time::Duration::seconds(s)),
            }
        },
    )
}

/// Events, and an order of arrival with repetitions, cut into batches.
fn any_arrival() -> impl Strategy<Value = (Vec<Sample>, Vec<Vec<usize>>)> {
    let events = prop::collection::vec(any_event(), 1..12).prop_map(|mut events| {
        // An id stands for one event.
        let id =
            |sample: &Sample| serde_json::from_str::<serde_json::Value>(&sample.payload).unwrap()["event_id"].clone();
        let mut seen = Vec::new();
        events.retain(|event| {
            !seen.contains(&id(event)) && {
                seen.push(id(event));
                true
            }
        });
        events
    });
    events.prop_flat_map(|events| {
        let all: Vec<usize> = (0..events.len()).collect();
        let repeated = prop::collection::vec(0..events.len(), 0..6);
        let arrival = repeated
            .prop_map(move |more| [all.clone(), more].concat())
            .prop_shuffle();
        let batches =
            (arrival, 1..6_usize).prop_map(|(arrival, size)| arrival.chunks(size).map(<[usize]>::to_vec).collect());
        (Just(events), batches)
    })
}

#[test]
fn any_arrival_ends_in_the_same_state() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let database = runtime.block_on(Database::migrated());
    let warehouse = database.warehouse();
    let empty = || {
        database.sql(
            "TRUNCATE orderstream.order_events, orderstream.orders, orderstream.order_items, orderstream.order_refunds",
        );
    };
    let law = |(events, batches): (Vec<Sample>, Vec<Vec<usize>>)| {
        empty();
        runtime.block_on(warehouse.load(&records(&events))).unwrap();
        let expected = database.sql(STATE);
        empty();
        for batch in &batches {
            let batch: Vec<Sample> = batch.iter().map(|at| events[*at].clone()).collect();
            runtime.block_on(warehouse.load(&records(&batch))).unwrap();
        }
        prop_assert_eq!(database.sql(STATE), expected);
        prop_assert_eq!(
            database.sql("SELECT count(*) FROM orderstream.order_events"),
            events.len().to_string()
        );
        Ok(())
    };
    let config = Config {
        cases: 48,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new(config).run(&any_arrival(), law).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_loaders_of_the_same_batches_load_each_event_once() {
    let database = Database::migrated().await;
    let samples: Vec<Sample> = (0..240)
        .map(|n| {
            let order_id = (n % 20).to_string();
            match n % 6 {
                5 => json!({"event_type": "order.deleted", "event_id": format!("e{n}"), "order_id": order_id,
                            "timestamp": "2026-01-31T09:30:00Z", "shop": "one.myshopify.com"}),
                _ => order(&format!("e{n}"), &order_id, 1 + n % 3, n),
            }
            .into()
        })
        .collect();
    let loader = |turn: usize| {
        let warehouse = database.warehouse();
        let mut own = samples.clone();
        async move {
            own.rotate_left(turn * 37);
            let mut inserted = 0;
            for batch in own.chunks(24) {
                inserted += warehouse.load(&records(batch)).await.unwrap().inserted;
            }
            inserted
        }
    };
    let tasks = tokio_util::task::TaskTracker::new();
    let running: Vec<_> = (0..6).map(|turn| tasks.spawn(loader(turn))).collect();
    let mut inserted = 0;
    for task in running {
        inserted += task.await.unwrap();
    }
    assert_eq!(inserted, 240);
    let state = database.sql(STATE);
    database.sql(
        "TRUNCATE orderstream.order_events, orderstream.orders, orderstream.order_items, orderstream.order_refunds",
    );
    database.warehouse().load(&records(&samples)).await.unwrap();
    assert_eq!(state, database.sql(STATE));
}

#[tokio::test]
async fn poison_fails_its_batch_whole_and_names_no_content() {
    let database = Database::migrated().await;
    let warehouse = database.warehouse();
    let mut nul = order("nul", "1", 1, 0);
    nul["unknown"] = json!("secret\u{0}");
    let long = order(&"secret".repeat(1_000_000), "1", 1, 0);
    for (what, poison) in [("nul", Sample::from(nul)), ("long", long.into())] {
        let batch = [order("good", "2", 1, 0).into(), poison];
        let error = warehouse.load(&records(&batch)).await.unwrap_err();
        assert!(matches!(error, WarehouseError::Rejected { .. }), "{what}: {error}");
        assert_eq!(error.class(), Class::Poison);
        assert!(!error.to_string().contains("secret"), "{what}: {error}");
        assert_eq!(
            database.sql("SELECT count(*) FROM orderstream.order_events"),
            "0",
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_locked_table_is_the_warehouses_fault_and_is_waited_for_only_so_long() {
    let database = Database::migrated().await;
    let mut config = database_config(&database.url());
    config.statement_timeout = Duration::from_millis(400);
    let warehouse = orderstream::warehouse::postgres::PostgresWarehouse::new(&config).unwrap();
    let batch = [order("e1", "1", 1, 0).into()];
    let session = database.session("BEGIN; LOCK TABLE orderstream.orders").await;
    let error = warehouse.load(&records(&batch)).await.unwrap_err();
    assert!(
        matches!(&error, WarehouseError::Unavailable { code, .. } if code == "SQLSTATE 55P03"),
        "{error}"
    );
    assert_eq!(error.class(), Class::Transient);
    drop(session);
    crate::harness::eventually("the lock is gone", Duration::from_secs(30), || async {
        warehouse.load(&records(&batch)).await.ok()
    })
    .await;
}

#[tokio::test]
async fn what_was_confirmed_outlives_a_crash_and_the_pool_comes_back() {
    let cluster = Cluster::start(&[], &[]).await;
    let metrics = Metrics::new();
    let warehouse =
        orderstream::warehouse::postgres::PostgresWarehouse::new(&database_config(&cluster.url("postgres"))).unwrap();
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
        assert_eq!(error.class(), Class::Transient, "{error}");
        cluster.restart().await;
        let again = crate::harness::eventually("loads again", Duration::from_secs(30), || async {
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
