//! How a process starts and ends, over the real binary and real signals.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::eventually;
use crate::harness::ground::{Place, in_any_place};
use crate::harness::postgres::Database;
use crate::harness::redis::RedisServer;
use crate::harness::service::{SECRET, Service, event};
use crate::harness::site::{PATIENCE, Site, Store};

in_any_place!(
    sigterm_under_load_loses_nothing,
    readiness_goes_first_and_a_second_signal_ends_it_at_once,
    a_taken_port_is_said_and_ends_with_69,
);

async fn sigterm_under_load_loses_nothing(place: impl Place) {
    let mut service = Service::start("run", &place.settings()).await;
    let (next, taken) = (AtomicU64::new(1), Mutex::new(BTreeSet::new()));
    // Each client goes on until nobody answers any more.
    let client = async || {
        loop {
            let id = next.fetch_add(1, Ordering::Relaxed);
            match service.deliver_order(id).await {
                Some(200) => {
                    taken.lock().unwrap().insert(id);
                }
                Some(_) => {}
                None => return,
            }
        }
    };
    let stopper = async {
        eventually("the load is on", PATIENCE, async || {
            (taken.lock().unwrap().len() > 200).then_some(())
        })
        .await;
        service.signal(Signal::SIGTERM);
    };
    let clients = futures_util::future::join_all((0..8).map(|_| client()));
    futures_util::future::join(clients, stopper).await;
    assert!(service.ended(PATIENCE).await.success(), "{}", service.stderr());

    let again = Service::start("run", &place.settings()).await;
    let taken = taken.into_inner().unwrap();
    let report = again.settled(taken.len() as u64).await;
    assert_eq!(report["dead_letters"], 0);
    let loaded = place.query("SELECT order_id FROM {}orders");
    let loaded: BTreeSet<u64> = loaded.iter().map(|id| id.parse().unwrap()).collect();
    let missing: Vec<_> = taken.difference(&loaded).copied().collect();
    assert!(missing.is_empty(), "answered with 200 and lost: {missing:?}");
    assert_eq!(
        place.query("SELECT count(*) FROM {}order_events"),
        [loaded.len().to_string()]
    );
}

async fn readiness_goes_first_and_a_second_signal_ends_it_at_once(place: impl Place) {
    let settings = place
        .settings()
        .with("ORDERSTREAM_DRAIN_DELAY", "5m")
        .with("ORDERSTREAM_SHUTDOWN_GRACE", "10m");
    let mut service = Service::start("run", &settings).await;
    let ready = async || Some(service.get(&service.url("/readyz")).await.ok()?.status().as_u16());
    eventually("it is ready", PATIENCE, async || (ready().await? == 200).then_some(())).await;

    service.signal(Signal::SIGTERM);
    eventually("it is not ready any more", PATIENCE, async || {
        (ready().await? == 503).then_some(())
    })
    .await;
    assert_eq!(
        service.deliver_order(1).await,
        Some(200),
        "while it drains, it still takes what comes"
    );

    service.signal(Signal::SIGINT);
    assert!(service.ended(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_said_with_its_place() {
    let site = Site::new().await;
    let mut worker = Service::start("work", &site.settings().with("CONSUMER_NAME", "tests")).await;
    let _lock = site.lock_out_loads().await;
    for id in 1..=3 {
        site.produce(&event(id)).await;
    }
    eventually("they are in hand", PATIENCE, async || {
        (site.pending().await == Some(3)).then_some(())
    })
    .await;
    eventually("loading fails", PATIENCE, async || {
        worker.stderr().contains("loading fails").then_some(())
    })
    .await;

    worker.signal(Signal::SIGTERM);
    assert!(worker.ended(PATIENCE).await.success());
    let log = worker.stderr();
    let line = log
        .lines()
        .find(|line| line.contains("stay pending; another worker"))
        .unwrap_or_default();
    for word in ["count=3", "orders_stream", "pipeline_workers", "tests"] {
        assert!(line.contains(word), "{word} is not in: {line}\n{log}");
    }
    assert_eq!(site.pending().await, Some(3));
}

async fn a_taken_port_is_said_and_ends_with_69(place: impl Place) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let mut program = Command::new(env!("CARGO_BIN_EXE_orderstream"));
    program.arg("run");
    let mut service = Service::spawn(program, &place.settings().with("ORDERSTREAM_LISTEN_ADDR", &addr));
    assert_eq!(service.ended(PATIENCE).await.code(), Some(69));
    eventually("it says why", Duration::from_secs(10), async || {
        let log = service.stderr();
        (log.contains(&addr) && log.contains("ORDERSTREAM_LISTEN_ADDR")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_away_at_start_are_waited_for() {
    let mut site = Site::durable().await;
    let settings = site.settings();
    site.redis.kill();
    site.cluster().stop();
    let service = Service::start_unready("run", &settings).await;
    assert_eq!(service.get(&service.url("/livez")).await.unwrap().status(), 200);
    assert_eq!(service.get(&service.url("/readyz")).await.unwrap().status(), 503);

    site.redis.restart().await;
    eventually("orders are taken", PATIENCE, async || {
        (service.deliver_order(1).await == Some(200)).then_some(())
    })
    .await;
    site.cluster().restart().await;
    site.has_rows(1).await;
    site.is_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_secrets_again_and_a_broken_file_changes_nothing() {
    let site = Site::new().await;
    let file = written("yesterday's secret");
    let settings = site.settings().with_file("ORDERSTREAM_SHOPIFY_SECRETS", file.path());
    let service = Service::start("serve", &settings).await;
    assert_eq!(service.deliver_order(1).await, Some(401));

    std::fs::write(file.path(), format!("{SECRET},yesterday's secret")).unwrap();
    service.signal(Signal::SIGHUP);
    let taken = async |id| (service.deliver_order(id).await == Some(200)).then_some(());
    eventually("the new secret verifies", PATIENCE, async || taken(2).await).await;

    std::fs::remove_file(file.path()).unwrap();
    service.signal(Signal::SIGHUP);
    let said = async || service.stderr().contains("the old ones stay in use").then_some(());
    eventually("it says that it cannot", PATIENCE, said).await;
    assert_eq!(service.deliver_order(3).await, Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_with_one_wrong_file_leaves_the_others_unread() {
    let site = Site::new().await;
    let (secrets, database) = (written(SECRET), written(&site.database_url()));
    let settings = site
        .settings()
        .with_file("ORDERSTREAM_SHOPIFY_SECRETS", secrets.path())
        .with_file("DATABASE_URL", database.path());
    let service = Service::start("run", &settings).await;
    assert_eq!(service.deliver_order(1).await, Some(200));

    std::fs::write(secrets.path(), "another secret").unwrap();
    // Well-formed, and found out only where connections are made ready.
    let unusable = "postgres://host/shop?sslmode=verify-full&sslrootcert=/nowhere.pem";
    std::fs::write(database.path(), unusable).unwrap();
    service.signal(Signal::SIGHUP);
    let said = async || service.stderr().contains("the old ones stay in use").then_some(());
    eventually("it says that it cannot", PATIENCE, said).await;
    assert_eq!(service.deliver_order(2).await, Some(200), "the old secret verifies");
    site.has_rows(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_url_for_migrations_again() {
    let database = Database::empty().await;
    let role = format!("{}_nobody", database.name());
    database.sql(&format!("CREATE ROLE {role} LOGIN"));
    let owner = written(&database.url().replace("postgres@", &format!("{role}@")));
    let site = Site {
        redis: RedisServer::start().await,
        store: Store::Shared(database),
    };
    let settings = site
        .settings()
        .with_file("ORDERSTREAM_MIGRATE_DATABASE_URL", owner.path());
    let worker = Service::start("work", &settings).await;
    let refused = async || worker.stderr().contains("lacks rights").then_some(());
    eventually("that role may not migrate", PATIENCE, refused).await;

    std::fs::write(owner.path(), site.database_url()).unwrap();
    worker.signal(Signal::SIGHUP);
    site.produce(&event(1)).await;
    site.has_rows(1).await;
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}
