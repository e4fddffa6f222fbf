//! Lists, traces, dead letters and replays over several partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::harness::service::order;

const ORDERS: u64 = 12;
const LOGS: [&str; 4] = [
    "orders_stream",
    "{orders_stream:1.204}",
    "{orders_stream:2.440}",
    "{orders_stream:3.426}",
];
/// Rows of the orders that are as they were sent.
const INTACT: &str = "SELECT count(*) FROM orders WHERE status = 'paid'";

/// Entries as `/api/events` lists them, by pages of five: order and id.
async fn entries(service: &Service) -> Vec<(String, String)> {
    let (mut found, mut path) = (Vec::new(), "/api/events?count=5".to_owned());
    loop {
        let page = api(service, &path).await;
        let lines = page["entries"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        found.extend(lines.map(|line| (text(&line["order_id"]), text(&line["id"]))));
        match page["next"].as_str() {
            Some(next) => path = format!("/api/events?count=5&to={}", next),
            None => return found,
        }
    }
}

fn partition(id: &str) -> &str {
    id.split_once('@').map_or("0", |(_, partition)| partition)
}

/// A pipeline of four partitions with loaded orders.
struct Partitioned {
    plant: Plant,
    settings: Settings,
    service: Service,
    /// Ids of the entries by order.
    ids: BTreeMap<String, String>,
}

impl Partitioned {
    async fn with_orders() -> Self {
        let plant = Plant::servers().await;
        let settings = plant.settings().with("ORDERSTREAM_PARTITIONS", "4");
        let service = Service::start("run", &settings).await;
        for id in 1..=ORDERS {
            assert_eq!(service.deliver_order(id).await, Some(200));
        }
        plant.has_rows(ORDERS as usize).await;
        is_settled(&service).await;
        let listed = entries(&service).await;
        let ids = BTreeMap::from_iter(listed.iter().cloned());
        assert_eq!((listed.len() as u64, ids.len() as u64), (ORDERS, ORDERS), "{listed:?}");
        Self {
            plant,
            settings,
            service,
            ids,
        }
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = ask(&patient(&self.settings), &[args, &["--json"]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// An order that is not in the first partition, and its entry.
    fn far(&self) -> (&str, &str) {
        let mut ids = self.ids.iter();
        let (order, id) = ids.find(|(_, id)| partition(id) != "0").unwrap();
        (order, id)
    }

    /// What the admin API answers of that entry.
    async fn entry(&self, id: &str) -> Value {
        api(&self.service, &format!("/api/events/{id}")).await["entry"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_traces_and_replays_go_over_all_partitions() {
    let site = Partitioned::with_orders().await;
    let used = BTreeSet::from_iter(site.ids.values().map(|id| partition(id)));
    assert!(
        used.len() > 1 && used.is_subset(&BTreeSet::from(["0", "1", "2", "3"])),
        "{used:?}"
    );
    let (far, id) = site.far();
    let entry = site.entry(id).await;
    assert_eq!((&entry["id"], &entry["order_id"]), (&id.into(), &far.into()));
    let trace = site.json(&["trace", far]);
    let stations = trace["moments"].as_array().unwrap();
    for what in ["received", "settled", "loaded"] {
        let is_it = |one: &Value| one["what"] == what && one["stream_id"] == id;
        assert!(stations.iter().any(is_it), "{what} of {id} is not in {trace:#}");
    }
    // Trimmed somewhere behind the oldest entry of another partition, and before the newest of its own.
    let mut by_age = Vec::from_iter(site.ids.values());
    by_age.sort_by_key(|id| id.split('@').next());
    let is_followed = |at: usize| by_age[at + 1..].iter().any(|id| partition(id) == partition(by_age[at]));
    let trimmed = (1..by_age.len())
        .find(|at| is_followed(*at))
        .map(|at| by_age[at])
        .unwrap();
    let log = LOGS[partition(trimmed).parse::<usize>().unwrap()];
    let plain = trimmed.split('@').next().unwrap();
    let Plant::Servers(servers) = &site.plant else { return };
    assert_eq!(servers.redis.command::<u8>(&["XDEL", log, plain]).await, 1);
    site.plant.change("UPDATE orders SET status = 'nonsense'");
    let replayed = site.json(&["replay", "--all", "--yes", "--rate", "1000"]);
    assert_eq!(replayed["pending"], ORDERS - 1, "{replayed:#}");
    site.plant.answers(INTACT, &ORDERS.to_string()).await;
    is_settled(&site.service).await;
}

/// The webhook id of one order comes again with an order of another partition, so that intake cannot see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_id_reused_in_another_partition_is_found_by_the_load() {
    let site = Partitioned::with_orders().await;
    let (far, id) = site.far();
    let (near, _) = site
        .ids
        .iter()
        .find(|(_, one)| partition(one) != partition(id))
        .unwrap();
    let (webhook_id, body) = (format!("webhook-{near}"), order(far.parse().unwrap()).to_string());
    let answer = site.service.deliver("orders/create", &webhook_id, body.as_bytes());
    let answer: Value = answer.await.unwrap().json().await.unwrap();
    assert_eq!(answer["status"], "accepted");
    let letter = eventually("a dead letter", PATIENCE, async || {
        let letters = api(&site.service, "/api/dead-letters").await;
        letters["letters"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(letter["error"], "its id was used for another body", "{letter:#}");
    assert!(!letter["original_id"].as_str().unwrap().contains('@'), "{letter:#}");
    let letter = format!("/api/dead-letters/{}", letter["id"].as_str().unwrap());
    let letter = api(&site.service, &letter).await;
    assert_eq!(letter["entry_stands"], true, "{letter:#}");
    let original = letter["letter"]["original_id"].as_str().unwrap();
    assert_eq!(partition(original), partition(id));
    assert_eq!(site.entry(original).await["order_id"], far);

    let replayed = site.json(&["dead-letters", "replay", "--all", "--yes"]);
    assert_eq!(
        (&replayed["done"], &replayed["kept"]),
        (&1.into(), &0.into()),
        "{replayed:#}"
    );
    site.plant.has_rows(ORDERS as usize + 1).await;
    is_settled(&site.service).await;
    let letters = api(&site.service, "/api/dead-letters").await;
    assert_eq!(letters["letters"], Value::Array(Vec::new()));
    assert_eq!(site.plant.sql(INTACT), ORDERS.to_string());
}

/// Processes whose number was changed one after the other: what goes to partitions that a worker does not have is loaded
/// and trimmed all the same, and a trace finds it.
#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_partitions_needs_no_stop() {
    let site = Site::new().await;
    let with = |partitions| site.settings().with("ORDERSTREAM_PARTITIONS", partitions);
    let service = Service::start("serve", &with("4")).await;
    let worker = Service::start("work", &with("2")).await;
    for id in 1..=20 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    site.has_rows(20).await;
    is_settled(&service).await;
    let found = entries(&service).await;
    let parts = BTreeSet::from_iter(found.iter().map(|(_, id)| partition(id)));
    assert!(parts.contains("3"), "{found:?}");

    // Fewer: what is left in the others is read by processes that have never had them.
    drop((service, worker));
    let add = ["XADD", LOGS[3], "*"];
    let fields = ["event_id", "late", "event_type", "order.created", "payload", "{}"];
    let late = [&add[..], &fields[..]].concat();
    site.redis.command::<String>(&late).await;
    let service = Service::start("run", &with("1")).await;
    eventually("the late one is a dead letter", PATIENCE, async || {
        let report: Value = service.get(&service.url("/health")).await.ok()?.json().await.ok()?;
        let knows_all = report["partitions"].as_array()?.len() == 4;
        (knows_all && site.dead_letters().await == 1).then_some(())
    })
    .await;
    is_settled(&service).await;
    let noted: u64 = site.redis.command(&["HLEN", "{orders_stream}:partitions"]).await;
    assert_eq!(noted, 3);

    // Without a number of its own, a command reads all that there are, and a process joins the others.
    let status = ask(&patient(&site.settings()), &["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["partitions"].as_array().map(Vec::len), Some(4), "{status:#}");
    drop(service);
    let service = Service::start("run", &site.settings()).await;
    assert_eq!(service.deliver_order(21).await, Some(200));
    site.has_rows(21).await;
    let untagged: Vec<String> = site.redis.command(&["KEYS", "orders_stream:*"]).await;
    assert_eq!(untagged, Vec::<String>::new());
}

/// One process after the other has another number of partitions while orders come in: each is loaded, and nothing stays
/// behind.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_become_more_and_fewer_while_orders_come_in() {
    let site = Site::new().await;
    let with = |partitions| site.settings().with("ORDERSTREAM_PARTITIONS", partitions);
    let orders = AtomicU64::new(0);
    let deliver = async |service: &Service| {
        let order = orders.fetch_add(1, Ordering::Relaxed) + 1;
        assert_eq!(service.deliver_order(order).await, Some(200));
    };
    let mut serve = Service::start("serve", &with("1")).await;
    let mut work = Service::start("work", &with("1")).await;
    for (partitions, first, second) in [("4", "work", "serve"), ("8", "work", "serve"), ("3", "serve", "work")] {
        for role in [first, second] {
            let (settings, is_there) = (with(partitions), AtomicBool::new(false));
            let start = async {
                let started = Service::start(role, &settings).await;
                is_there.store(true, Ordering::Relaxed);
                started
            };
            let load = async {
                while !is_there.load(Ordering::Relaxed) {
                    deliver(&serve).await;
                }
            };
            let (started, ()) = tokio::join!(start, load);
            // The former one is killed.
            *(if role == "serve" { &mut serve } else { &mut work }) = started;
        }
        for _ in 0..20 {
            deliver(&serve).await;
        }
    }
    site.has_rows(orders.into_inner().try_into().unwrap()).await;
    is_settled(&serve).await;
    for log in site
        .redis
        .command::<Vec<String>>(&["KEYS", "*orders_stream:?.*}"])
        .await
    {
        let groups: Vec<BTreeMap<String, redis::Value>> = site.redis.command(&["XINFO", "GROUPS", &log]).await;
        let left = |name: &str| redis::from_redis_value::<u64>(groups[0][name].clone()).unwrap();
        assert_eq!((left("pending"), left("lag")), (0, 0), "{log}");
    }
}
