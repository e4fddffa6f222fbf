//! The whole pipeline over Redis Sentinel and Redis Cluster: planned and unplanned failovers, and slots that move, under
//! load.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::future::join_all;

use crate::harness::cluster::Cluster;
use crate::harness::eventually;
use crate::harness::postgres::Database;
use crate::harness::redis::{RedisOptions, RedisServer};
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

impl<'a> Load<'a> {
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

    fn of(service: &'a Service) -> Self {
        Load {
            service,
            next: Cell::new(0),
            acknowledged: RefCell::default(),
            is_over: Cell::new(false),
        }
    }

    /// Waits until of orders that are sent from now on so many in a row are acknowledged, of whichever partition.
    async fn goes_on_everywhere(&self, after: &str) {
        const ROW: u64 = 40;
        let (began, sent) = (Instant::now(), self.next.get() + CLIENTS as u64);
        eventually(&format!("all orders are taken after {after}"), PATIENCE, async || {
            let acknowledged = self.acknowledged.borrow();
            let mut row = (sent, 0);
            for &id in acknowledged.range(sent..) {
                row = if id == row.0 { (id + 1, row.1 + 1) } else { (id + 1, 1) };
                if row.1 == ROW {
                    return Some(());
                }
            }
            None
        })
        .await;
        eprintln!("all orders are taken {:?} after {after}", began.elapsed());
    }

    /// Each acknowledged order is in the warehouse, and none twice.
    async fn is_loaded(&self, database: &Database) {
        let acknowledged = self.acknowledged.borrow().clone();
        eventually("every order is in the warehouse", PATIENCE, async || {
            acknowledged.is_subset(&stored(database)).then_some(())
        })
        .await;
        assert_eq!(database.sql(DOUBLED), "0");
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

const DOUBLED: &str = "SELECT count(*) - count(DISTINCT order_id) FROM orderstream.order_events";

/// The orders in the warehouse.
fn stored(database: &Database) -> BTreeSet<u64> {
    let stored = database.sql("SELECT order_id FROM orderstream.order_events");
    stored.lines().map(|id| id.parse().unwrap()).collect()
}

#[tokio::test]
async fn no_failover_loses_or_doubles_what_replicas_confirmed() {
    let (database, mut redis) = tokio::join!(Database::migrated(), Sentinels::start(RedisOptions::default(), None));
    let settings = Settings::new(&format!("redis+sentinel://{}", redis.hosts()), &database.url());
    let service = Service::start("run", &settings.with("ORDERSTREAM_DURABILITY", "replicated:1")).await;
    let load = Load::of(&service);
    let failing_over = async {
        load.goes_on("the start").await;
        redis.fail_over().await;
        load.goes_on("SENTINEL FAILOVER").await;
        // Past the sentinels, which find out.
        let primary = redis.primary().await;
        redis.servers[primary].command::<()>(&["FAILOVER"]).await;
        redis.name(1 - primary).await;
        redis.is_whole().await;
        load.goes_on("FAILOVER").await;

        let primary = redis.primary().await;
        redis.servers[primary].kill();
        redis.name(1 - primary).await;
        // It has no replica until the other one is back, so that nothing is confirmed.
        redis.servers[primary].restart().await;
        redis.follow(primary).await;
        load.goes_on("SIGKILL of the primary").await;
        load.is_over.set(true);
    };
    tokio::join!(join_all((0..CLIENTS).map(|_| load.run())), failing_over);

    load.is_loaded(&database).await;
    let metrics = service.get(&service.admin_url("/metrics")).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let changes = metrics
        .lines()
        .find_map(|line| line.strip_prefix("orderstream_owner_changes_total "));
    assert!(changes.unwrap().parse::<u64>().unwrap() >= 2, "{metrics}");
}

/// The log of a partition that moves, and of the one whose primaries are replaced.
const MOVED: &str = "{orders_stream:1.204}";
const REPLACED: &str = "orders_stream";

#[tokio::test]
async fn no_move_or_failover_of_a_cluster_loses_or_doubles_what_replicas_confirmed() {
    let (database, mut redis) = tokio::join!(Database::migrated(), Cluster::start(3, true, RedisOptions::default()));
    let settings = Settings::new(&format!("redis+cluster://{}", redis.hosts()), &database.url())
        .with("ORDERSTREAM_PARTITIONS", "4")
        .with("ORDERSTREAM_DURABILITY", "replicated:1");
    let service = Service::start("run", &settings).await;
    let load = Load::of(&service);
    let disturbing = async {
        load.goes_on_everywhere("the start").await;
        let to = (redis.owner(MOVED).await + 1) % 3;
        let moving = redis.open_move(MOVED, to).await;
        load.goes_on_everywhere("a slot was opened").await;
        let mut keys = moving.keys().await;
        // Its replica is asked on either node, which must not make it impossible to move what is left.
        keys.retain(|key| key.contains(":ids:"));
        assert!(!keys.is_empty());
        moving.carry(&keys).await;
        load.goes_on_everywhere("the ids moved").await;
        let mut keys = moving.keys().await;
        keys.retain(|key| key != MOVED);
        moving.carry(&keys).await;
        load.goes_on_everywhere("the side keys moved").await;
        moving.finish().await;
        load.goes_on_everywhere("the slot moved").await;

        redis.fail_over(REPLACED).await;
        load.goes_on_everywhere("CLUSTER FAILOVER").await;

        let primary = redis.owner(REPLACED).await;
        redis.replica_of(primary).await;
        redis.nodes[primary].kill();
        redis.left(REPLACED, primary).await;
        // Its successor has no replica until it is back, so that nothing is confirmed there.
        redis.nodes[primary].restart().await;
        redis.is_whole().await;
        load.goes_on_everywhere("SIGKILL of a primary").await;
        load.is_over.set(true);
    };
    tokio::join!(join_all((0..CLIENTS).map(|_| load.run())), disturbing);
    load.is_loaded(&database).await;
    let metrics = service.get(&service.admin_url("/metrics")).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for name in [
        "orderstream_owner_changes_total ",
        "orderstream_redirects_total{kind=\"ask\"} ",
    ] {
        let count = metrics.lines().find_map(|line| line.strip_prefix(name));
        assert!(count.unwrap().parse::<u64>().unwrap() >= 2, "{name}: {metrics}");
    }
    // Each of the three outages ends once.
    let ends = service
        .stderr()
        .matches("refreshing entries in flight works again")
        .count();
    assert!(ends <= 5, "{ends}");
    let report = service.get(&service.url("/health")).await.unwrap();
    let report: serde_json::Value = report.json().await.unwrap();
    let servers = report["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["server"].to_string());
    assert!(BTreeSet::from_iter(servers).len() > 1, "{report}");
}

/// No replica takes over: its events wait in the spool, and the others' are not held up.
#[tokio::test]
async fn a_primary_that_hangs_holds_up_its_own_partitions_only() {
    let (database, redis) = tokio::join!(Database::migrated(), Cluster::start(3, false, RedisOptions::default()));
    let folder = crate::harness::folder::temporary("spool-");
    let settings = Settings::new(&format!("redis+cluster://{}", redis.hosts()), &database.url())
        .with("ORDERSTREAM_PARTITIONS", "4")
        .with("ORDERSTREAM_SPOOL_AFTER", "500ms")
        .with("ORDERSTREAM_DATA_DIR", folder.path().to_str().unwrap());
    let service = Service::start("run", &settings).await;
    let load = Load::of(&service);
    let hanging = async {
        load.goes_on_everywhere("the start").await;
        let primary = redis.owner(REPLACED).await;
        redis.nodes[primary].stall();
        load.goes_on_everywhere("a primary hangs").await;
        let stored = || {
            database
                .sql("SELECT count(*) FROM orderstream.order_events")
                .parse::<u64>()
                .unwrap()
        };
        let before = stored();
        eventually("the others' orders are loaded meanwhile", PATIENCE, async || {
            (stored() >= before + 100).then_some(())
        })
        .await;
        redis.nodes[primary].resume();
        redis.is_whole().await;
        load.is_over.set(true);
    };
    tokio::join!(join_all((0..CLIENTS).map(|_| load.run())), hanging);
    load.is_loaded(&database).await;
    eventually("nothing is left in spool or stream", PATIENCE, async || {
        let report = service.get(&service.url("/health")).await.ok()?;
        let report: serde_json::Value = report.json().await.ok()?;
        (report["lag"] == 0 && report["pending_count"] == 0 && report["spool_depth"] == 0).then_some(())
    })
    .await;
}

/// The primary is cut off and confirms for its clients what is going to be thrown away, while another takes its place.
/// Who wants a replica's confirmation loses nothing, and who does not is told of at least as many as are missing.
async fn a_cut_is_survived(url: &str, cut: impl Future<Output = ()>, join: impl Future<Output = ()>) {
    let (strict, loose) = tokio::join!(Database::migrated(), Database::migrated());
    let start = |database: &Database, stream, durability| {
        let settings = Settings::new(url, &database.url())
            .with("ORDERSTREAM_STREAM", stream)
            .with("ORDERSTREAM_DURABILITY", durability);
        async move { Service::start("run", &settings).await }
    };
    let services = [
        start(&strict, "orders_stream", "replicated:1").await,
        // In the same hash slot.
        start(&loose, "{orders_stream}:received", "received").await,
    ];
    let loads = services.each_ref().map(Load::of);
    let disturbing = async {
        let go_on = async |after| {
            for load in &loads {
                load.goes_on(after).await;
            }
        };
        go_on("the start").await;
        cut.await;
        // The other has no replica until the former primary is back.
        loads[1].goes_on("the cut").await;
        join.await;
        go_on("the end of the cut").await;
        loads.iter().for_each(|load| load.is_over.set(true));
    };
    let sending = loads.iter().flat_map(|load| (0..CLIENTS).map(|_| load.run()));
    tokio::join!(join_all(sending), disturbing);

    loads[0].is_loaded(&strict).await;
    let acknowledged = loads[1].acknowledged.borrow().clone();
    let (missing, reported) = eventually("the loss is reported, and the rest loaded", PATIENCE, async || {
        let report = services[1].get(&services[1].url("/health")).await.ok()?;
        let report: serde_json::Value = report.json().await.ok()?;
        (report["lag"] == 0 && report["pending_count"] == 0).then_some(())?;
        let missing = acknowledged.difference(&stored(&loose)).count();
        let reported = lost(&services[1]).await;
        (missing <= reported).then_some((missing, reported))
    })
    .await;
    eprintln!("{missing} of {} missing, {reported} reported", acknowledged.len());
    assert!(reported > 0, "nothing was confirmed by the primary that was cut off");
    assert_eq!(lost(&services[0]).await, 0);
    assert_eq!(loose.sql(DOUBLED), "0");
}

async fn lost(service: &Service) -> usize {
    let metrics = service.get(&service.admin_url("/metrics")).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let mut lines = metrics.lines();
    let lost = lines.find_map(|line| line.strip_prefix("orderstream_entries_lost_total "));
    lost.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_primary_that_is_cut_off_from_its_cluster_loses_nothing_unseen() {
    let redis = Cluster::start(3, true, RedisOptions::default()).await;
    let primary = redis.owner(REPLACED).await;
    let cut = async {
        redis.cut_off(primary).await;
        redis.left(REPLACED, primary).await;
    };
    let join = async {
        redis.join().await;
        redis.is_whole().await;
    };
    a_cut_is_survived(&format!("redis+cluster://{}", redis.hosts()), cut, join).await;
}

#[tokio::test]
async fn a_primary_that_is_cut_off_from_its_sentinels_loses_nothing_unseen() {
    let redis = Sentinels::start(RedisOptions::default(), None).await;
    let cut = async {
        redis.cut_off().await;
    };
    let join = async {
        redis.join();
        redis.is_whole().await;
    };
    a_cut_is_survived(&format!("redis+sentinel://{}", redis.hosts()), cut, join).await;
}

/// Options of servers that talk nothing but TLS; `None`, said loudly, where the server was built without it.
async fn tls_only(lines: &[&str]) -> Option<RedisOptions> {
    RedisServer::start_tls().await?;
    Some(RedisOptions {
        tls: true,
        config: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..RedisOptions::default()
    })
}

/// The certificates are for `localhost` only.
#[tokio::test]
async fn nodes_of_a_cluster_are_reached_over_tls_by_the_names_that_they_announce() {
    let lines = [
        "tls-cluster yes",
        "tls-replication yes",
        "cluster-announce-hostname localhost",
        "cluster-preferred-endpoint-type hostname",
    ];
    let Some(options) = tls_only(&lines).await else { return };
    let (database, redis) = tokio::join!(Database::migrated(), Cluster::start(3, true, options));
    let settings = Settings::new(&format!("rediss+cluster://{}", redis.hosts()), &database.url())
        .with("ORDERSTREAM_REDIS_CA_FILE", redis.nodes[0].ca_file().to_str().unwrap())
        .with("ORDERSTREAM_PARTITIONS", "4")
        .with("ORDERSTREAM_DURABILITY", "replicated:1");
    let service = Service::start("run", &settings).await;
    let load = Load::of(&service);
    let failing_over = async {
        load.goes_on_everywhere("the start").await;
        redis.fail_over(REPLACED).await;
        load.goes_on_everywhere("CLUSTER FAILOVER").await;
        load.is_over.set(true);
    };
    tokio::join!(join_all((0..CLIENTS).map(|_| load.run())), failing_over);
    load.is_loaded(&database).await;

    for node in &redis.nodes {
        let no_name = ["CONFIG", "SET", "cluster-announce-hostname", ""];
        node.command::<()>(&no_name).await;
    }
    eventually(
        "a certificate without the address is said to be the cause",
        PATIENCE,
        async || {
            let checked = settings.command(&["check", "serve"]).output().unwrap();
            let said = String::from_utf8_lossy(&checked.stdout).into_owned();
            (!checked.status.success() && said.contains("certificate") && said.contains("127.0.0.1")).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn sentinels_and_servers_are_reached_over_tls() {
    let Some(options) = tls_only(&[]).await else { return };
    let (database, redis) = tokio::join!(Database::migrated(), Sentinels::start(options, None));
    let settings = Settings::new(&format!("rediss+sentinel://{}", redis.hosts()), &database.url())
        .with(
            "ORDERSTREAM_REDIS_CA_FILE",
            redis.servers[0].ca_file().to_str().unwrap(),
        )
        .with("ORDERSTREAM_DURABILITY", "replicated:1");
    let service = Service::start("run", &settings).await;
    let load = Load::of(&service);
    let failing_over = async {
        load.goes_on("the start").await;
        redis.fail_over().await;
        load.goes_on("SENTINEL FAILOVER").await;
        load.is_over.set(true);
    };
    tokio::join!(join_all((0..CLIENTS).map(|_| load.run())), failing_over);
    load.is_loaded(&database).await;
}
