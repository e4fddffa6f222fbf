//! What must hold whatever comes, in whatever order, from however many loaders.

use orderstream::retryability::Retryability;
use orderstream::warehouse::WarehouseError;
use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::json;
use time::macros::datetime;

use super::super::events::{Sample, order, records};
use super::{Store, empty, load, rows};
use crate::harness::seeded;

async fn state(store: &dyn Store) -> String {
    let orders = rows(store, "SELECT * FROM orders ORDER BY shop, order_id").await;
    let items = rows(store, "SELECT * FROM order_items ORDER BY shop, order_id, line_no").await;
    let refunds = rows(store, "SELECT * FROM order_refunds ORDER BY shop, refund_id").await;
    let transactions = "SELECT * FROM order_transactions ORDER BY shop, transaction_id";
    let transactions = rows(store, transactions).await;
    [orders, items, refunds, transactions].join("\n\n")
}

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
                let transaction =
                    |status| json!({"transaction_id": format!("t{qty}"), "status": status, "amount": nano});
                let status = if nano == 0 { "pending" } else { "success" };
                event["refunds"] = json!([{"refund_id": format!("r{}", qty + second), "amount": qty}]);
                // A transaction belongs to one refund, if to any.
                match second {
                    0 => event["transactions"] = json!([transaction(status)]),
                    _ => {
                        event["refunds"] = json!([{"refund_id": format!("r{qty}"), "amount": qty,
                                                    "transactions": [transaction(status)]}])
                    }
                }
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

pub async fn any_arrival_ends_in_the_same_state(store: &dyn Store) {
    let warehouse = store.open();
    let handle = tokio::runtime::Handle::current();
    let law = |(events, batches): (Vec<Sample>, Vec<Vec<usize>>)| {
        handle.block_on(async {
            empty(store).await;
            load(store, &events).await;
            let expected = state(store).await;
            empty(store).await;
            for batch in &batches {
                let batch: Vec<Sample> = batch.iter().map(|at| events[*at].clone()).collect();
                warehouse.load(&records(&batch)).await.unwrap();
            }
            prop_assert_eq!(state(store).await, expected);
            let count = rows(store, "SELECT count(*) FROM order_events").await;
            prop_assert_eq!(count, events.len().to_string());
            Ok(())
        })
    };
    let config = Config {
        cases: 48,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let run = || seeded(config).run(&any_arrival(), law);
    tokio::task::block_in_place(run).unwrap();
}

pub async fn concurrent_loaders_of_the_same_batches_load_each_event_once(store: &dyn Store) {
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
        let warehouse = store.open();
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
    let concurrent = state(store).await;
    empty(store).await;
    load(store, &samples).await;
    assert_eq!(concurrent, state(store).await);
}

pub async fn poison_fails_its_batch_whole_and_names_no_content(store: &dyn Store) {
    for poison in store.poison() {
        let batch = [order("good", "2", 1, 0).into(), poison];
        let error = store.open().load(&records(&batch)).await.unwrap_err();
        assert!(matches!(error, WarehouseError::Rejected { .. }), "{error}");
        assert_eq!(error.retryability(), Retryability::Poison);
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(rows(store, "SELECT count(*) FROM order_events").await, "0", "{error}");
    }
}
