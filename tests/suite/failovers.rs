//! The whole pipeline over Redis Sentinel: planned and unplanned failovers under load.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::future::join_all;

use crate::harness::eventually;
use crate::harness::postgres::Database;
use crate::harness::redis::RedisOptions;
use crate::harness::sentinels::Sentinels;
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;

const CLIENTS: usize = 4;

/// Sends new orders until it is told to stop.
struct Load<'a> {
    service: &'a Service,
    next: Cell<u64>,
    acknowledged: RefCell<BTreeSet<u64>>,
    is_over: Cell<bool>,
}

impl Load<'_> {
    async fn run(&self) {
        while !self.is_over.get() {
            let id = self.next.get() + 1;
            self.next.set(id);
            if self.service.deliver_order(id).await == Some(200) {
                self.acknowledged.borrow_mut().insert(id);
            } else {
                // The stream is away, and there is no spool.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }

    /// Waits until orders that are sent from now on are acknowledged again.
    async fn goes_on(&self, after: &str) {
        let (began, sent) = (Instant::now(), self.next.get() + CLIENTS as u64);
        eventually(&format!("orders are taken after {after}"), PATIENCE, async || {
            self.acknowledged.borrow().range(sent..).nth(10).map(drop)
        })
        .await;
        eprintln!("orders are taken {:?} after {after}", began.elapsed());
    }
}

#[tokio::test]
async fn no_failover_loses_or_doubles_what_replicas_confirmed() {
    let (database, mut redis) = tokio::join!(Database::migrated(), Sentinels::start(RedisOptions::default(), None));
    let settings = Settings::new(&format!("redis+sentinel://{}", redis.hosts()), &database.url());
    let service = Service::start("run", &settings.with("ORDERSTREAM_DURABILITY", "replicated:1")).await;
    let load = Load {
        service: &service,
        next: Cell::new(0),
        acknowledged: RefCell::default(),
        is_over: Cell::new(false),
    };
    let failing_over = async {
        load.goes_on("the start").await;
        redis.fail_over().await;
        load.goes_on("SENTINEL FAILOVER").await;

        let primary = redis.primary().await;
        redis.servers[primary].kill();
        redis.name(1 - primary).await;
        // It has no replica until the other one is back, so that nothing is confirmed.
        redis.servers[primary].restart().await;
        redis.servers[primary].follow(&redis.servers[1 - primary]).await;
        load.goes_on("SIGKILL of the primary").await;
        load.is_over.set(true);
    };
    tokio::join!(join_all((0..CLIENTS).map(|_| load.run())), failing_over);

    let acknowledged = load.acknowledged.take();
    eventually("every order is in the warehouse", PATIENCE, async || {
        let stored = database.sql("SELECT order_id FROM orderstream.order_events");
        let stored: BTreeSet<u64> = stored.lines().map(|id| id.parse().unwrap()).collect();
        acknowledged.is_subset(&stored).then_some(())
    })
    .await;
    let doubled = "SELECT count(*) - count(DISTINCT order_id) FROM orderstream.order_events";
    assert_eq!(database.sql(doubled), "0");
    let metrics = service.get(&service.admin_url("/metrics")).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let changes = metrics
        .lines()
        .find_map(|line| line.strip_prefix("orderstream_owner_changes_total "));
    assert!(changes.unwrap().parse::<u64>().unwrap() >= 2, "{metrics}");
}
