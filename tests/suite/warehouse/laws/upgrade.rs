//! A warehouse of an earlier release, brought over while its workers still load.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use time::OffsetDateTime;

use super::super::events::{order, records};
use super::{Store, rows};

/// What a worker of version 2 runs for one order.
const LOAD: &str = include_str!("../../../fixtures/upgrade/version_2_load.sql");

/// Orders that are loaded before the upgrade begins, and after it has ended.
const BEFORE: usize = 50;
const AFTER: usize = 20;

const DAYS: &str = "SELECT local_date, orders, gross, reversals, net, tax, total FROM daily_sales \
                    WHERE shop = 'old.myshopify.com' ORDER BY 1";

pub async fn version_2_is_brought_over_while_its_workers_still_load(store: &dyn Store) {
    store.drop_tables().await;
    store.change(store.version_2()).await;
    let loaded = AtomicUsize::new(0);
    let last = AtomicUsize::new(usize::MAX);
    let old_worker = async {
        while loaded.load(Ordering::Relaxed) < last.load(Ordering::Relaxed) {
            let order = loaded.load(Ordering::Relaxed) + 1;
            store.change(&LOAD.replace("{n}", &order.to_string())).await;
            loaded.store(order, Ordering::Relaxed);
            // Whoever waits for a lock of the file polls for it: it must be free for a moment.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let warehouse = store.open();
    let upgrade = async {
        reaches(&loaded, BEFORE).await;
        let migrated = warehouse.migrate().await.unwrap();
        assert_eq!(migrated.from, 2);
        last.store(loaded.load(Ordering::Relaxed) + AFTER, Ordering::Relaxed);
    };
    tokio::join!(old_worker, upgrade);
    warehouse.check().await.unwrap();
    let orders = loaded.load(Ordering::Relaxed);
    for table in [
        "order_events",
        "orders",
        "order_items",
        "order_refunds",
        "order_refund_items",
    ] {
        let count = rows(store, &format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(count, orders.to_string(), "{table}");
    }
    let day = |day: &str, count: usize, tenths: [i64; 5]| {
        let of_all = |tenths: i64| Decimal::new(tenths * i64::try_from(orders).unwrap(), 1).normalize();
        let figures = tenths.map(|tenths| of_all(tenths).to_string());
        format!("{day}|{count}|{}", figures.join("|"))
    };
    let sold = day("2026-01-31", orders, [250, 0, 250, 50, 300]);
    let returned = day("2026-02-01", 0, [0, 125, -125, -25, -150]);
    let expected = format!("{sold}\n{returned}");
    assert_eq!(rows(store, DAYS).await, expected, "as the old workers left it");
    // What `rebuild` does: every event has its effects again, as this release works them out.
    let far = OffsetDateTime::now_utc() + Duration::from_secs(86_400);
    let start = orderstream::warehouse::history::EventPosition {
        received_at: OffsetDateTime::UNIX_EPOCH,
        event_id: String::new(),
    };
    let events = warehouse.events(&start, far, orders + 1).await.unwrap();
    let known: Vec<_> = events.iter().map(|event| event.record().unwrap()).collect();
    let again = warehouse.load(&known).await.unwrap();
    assert_eq!((again.known, again.inserted), (orders as u64, 0));
    assert_eq!(rows(store, DAYS).await, expected, "rebuilt");
    let batch = [order("new", "new", 1, 0).into()];
    assert_eq!(warehouse.load(&records(&batch)).await.unwrap().inserted, 1);
    // A step that a release has taken is never edited: no upgraded store would get the change.
    let upgraded = store.query(store.definitions()).await.rows;
    store.drop_tables().await;
    store.open().migrate().await.unwrap();
    let new = store.query(store.definitions()).await.rows;
    let differs = upgraded.iter().find(|row| !new.contains(row));
    assert_eq!(
        (upgraded.len(), differs),
        (new.len(), None),
        "an upgraded store is as a new one"
    );
}

async fn reaches(count: &AtomicUsize, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while count.load(Ordering::Relaxed) < wanted {
        assert!(Instant::now() < deadline, "{wanted} loads in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
