//! Killed at any moment and started again: nothing lost, nothing doubled.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{join, join_all};

use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

/// Taken orders after which each process is killed: at once, and well into the load.
const KILLS: [usize; 6] = [1, 40, 150, 7, 90, 300];

#[tokio::test(flavor = "multi_thread")]
async fn at_any_moment_and_started_again() {
    let local = Local::new();
    let settings = local.settings().with("ORDERSTREAM_READ_COUNT", "20");
    let next = AtomicU64::new(1);
    // Orders that were sent and not (yet) confirmed: each is sent again to the next process, as Shopify does.
    let unconfirmed = Mutex::new(BTreeSet::new());
    let take = || {
        unconfirmed
            .lock()
            .unwrap()
            .pop_first()
            .unwrap_or_else(|| next.fetch_add(1, Ordering::Relaxed))
    };
    for after in KILLS {
        let service = Service::start("run", &settings).await;
        let taken = AtomicU64::new(0);
        let client = async || {
            loop {
                let id = take();
                match service.deliver_order(id).await {
                    Some(200) => {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(_) => {
                        unconfirmed.lock().unwrap().insert(id);
                    }
                    None => {
                        unconfirmed.lock().unwrap().insert(id);
                        return;
                    }
                }
            }
        };
        let killer = async {
            eventually("enough orders are taken", PATIENCE, async || {
                (taken.load(Ordering::Relaxed) as usize >= after).then_some(())
            })
            .await;
            service.signal(nix::sys::signal::Signal::SIGKILL);
        };
        join(join_all((0..8).map(|_| client())), killer).await;
    }

    let service = Service::start("run", &settings).await;
    for id in unconfirmed.into_inner().unwrap() {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    let sent = next.load(Ordering::Relaxed) - 1;
    local.has_rows(usize::try_from(sent).unwrap()).await;
    let report = service.settled(sent).await;
    assert_eq!(report["dead_letters"], 0);
    let orders: BTreeSet<u64> = local
        .sql("SELECT order_id FROM orders")
        .iter()
        .map(|id| id.parse().unwrap())
        .collect();
    assert_eq!(orders, (1..=sent).collect::<BTreeSet<u64>>());
    assert_eq!(local.sql("SELECT count(*) FROM order_items"), [sent.to_string()]);
    assert_eq!(local.rows(), usize::try_from(sent).unwrap(), "no event twice");
}
