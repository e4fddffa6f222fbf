//! What goes wrong between stream and warehouse, and whom it costs.

mod foreign_commands;
mod large_backlog;
mod reads;
mod refusals;
mod slow_link;
mod tables;
mod tries;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::sys::signal::Signal;
use orderstream::config::{Config, Inputs, Purpose, RedisConfig, WorkerConfig};
use orderstream::event::EventRecord;
use orderstream::metrics::Metrics;
use orderstream::retryability::Retryability;
use orderstream::stream::redis::RedisStream;
use orderstream::stream::{Claim, Stream, StreamId};
use orderstream::warehouse::postgres::PostgresWarehouse;
use orderstream::worker::{Handled, Handler, HandlerError, Loader, Workers};
use tokio_util::sync::CancellationToken;

use crate::harness::eventually;
use crate::harness::redis::{RedisServer, stream_config};
use crate::harness::service::{Service, Settings, event};
use crate::harness::site::{PATIENCE, Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_entry_costs_only_itself() {
    let site = Site::new().await;
    site.sql("ALTER TABLE orderstream.order_events ADD CONSTRAINT unlucky CHECK (order_id <> '13')");
    for id in 1..=498 {
        site.produce(&event(id + 1000)).await;
        if id == 100 {
            site.produce_payload("broken", r#"{"event_type":"order.created","event_id":"broken","#)
                .await;
        }
        if id == 400 {
            site.produce(&event(13)).await;
        }
    }
    let worker = Service::start("work", &site.settings().with("CONSUMER_NAME", "tests")).await;

    site.has_rows(498).await;
    eventually("both are dead letters", PATIENCE, async || {
        (site.dead_letters().await == 2).then_some(())
    })
    .await;
    site.is_settled().await;
    assert_eq!(site.rows(), 498);
    let letters = site.letters().await;
    let of = |id: &str| letters.iter().find(|letter| letter["event_id"] == id).unwrap();
    let (broken, rejected) = (of("broken"), of("event-13"));
    assert!(
        rejected["error"].contains("23514") && rejected["error"].contains("unlucky"),
        "{}",
        rejected["error"]
    );
    assert!(!broken["error"].is_empty());
    for letter in [broken, rejected] {
        assert_eq!(letter["attempts"], "3");
        assert_eq!(letter["consumer"], "tests");
        assert_eq!(letter["original_stream"], "orders_stream");
        let id = format!("stream_id={}", letter["original_id"]);
        // It says so last.
        let is_said = |log: &str| {
            log.lines()
                .any(|line| line.contains("dead-lettered") && line.contains(&id))
        };
        let log = eventually("it is said", PATIENCE, async || {
            Some(worker.stderr()).filter(|log| is_said(log))
        })
        .await;
        let tries: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("failed alone") && line.contains(&id))
            .collect();
        assert_eq!(tries.len(), 2, "two attempts are followed by another: {tries:?}");
        assert!(
            tries[0].contains("delay=100ms") && tries[1].contains("delay=200ms"),
            "{tries:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_kills_its_worker_is_found() {
    let site = Site::new().await;
    for id in 1..=40 {
        site.produce(&event(id)).await;
    }
    let settings = site
        .settings()
        .with("CONSUMER_NAME", "tests")
        .with("ORDERSTREAM_MAX_DELIVERIES", "2");
    let settings = settings
        .with("ORDERSTREAM_RETRY_DELAY", "10ms")
        .with("TESTS_KILLER", "event-7");
    let mut deaths = 0;
    let mut worker = spawn_with_killer(&settings);
    eventually("the killer is a dead letter", PATIENCE, async || {
        if worker.ended(Duration::from_millis(100)).await.is_some() {
            deaths += 1;
            worker = spawn_with_killer(&settings);
        }
        (site.dead_letters().await > 0).then_some(())
    })
    .await;

    site.has_rows(39).await;
    site.is_settled().await;
    let letters = site.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["event_id"], "event-7");
    assert!(
        letters[0]["error"].contains("killed its worker"),
        "{}",
        letters[0]["error"]
    );
    assert!(deaths >= 4, "it was given every chance: {deaths}");
}

/// This test binary again, as a worker of [`work_with_a_killer`].
fn spawn_with_killer(settings: &Settings) -> Worker {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "worker::work_with_a_killer", "--ignored", "--nocapture"]);
    Worker(Service::spawn(program, settings))
}

struct Worker(Service);

impl Worker {
    /// Whether it ends within `limit`.
    async fn ended(&mut self, limit: Duration) -> Option<()> {
        let deadline = Instant::now() + limit;
        eventually("a moment passes", PATIENCE, async || {
            let ended = self.0.has_ended();
            (ended || Instant::now() >= deadline).then_some(ended.then_some(()))
        })
        .await
    }
}

/// A warehouse that one event crashes.
struct Killed(Loader, String);

#[async_trait]
impl Handler for Killed {
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        if events.iter().any(|record| record.event.event_id.as_str() == self.1) {
            std::process::abort();
        }
        self.0.handle(events).await
    }

    async fn ready(&self) -> Result<(), HandlerError> {
        self.0.ready().await
    }
}

#[ignore = "not a test: the worker of `an_entry_that_kills_its_worker_is_found`"]
#[tokio::test(flavor = "multi_thread")]
async fn work_with_a_killer() {
    let Ok(killer) = std::env::var("TESTS_KILLER") else {
        return;
    };
    let inputs = Inputs {
        flags: Arc::default(),
        env: Arc::new(std::env::vars().collect()),
    };
    let config = Config::load(Purpose::Work, inputs).unwrap();
    let metrics = Metrics::new();
    let stream = RedisStream::new(config.redis.as_ref().unwrap(), &config.stream, metrics.clone()).unwrap();
    let warehouse = PostgresWarehouse::new(config.database.as_ref().unwrap()).unwrap();
    let handler = Killed(Loader::new(Arc::new(warehouse)), killer);
    let workers = Workers::new(Arc::new(stream), Arc::new(handler), &config.worker, &metrics);
    workers.run(CancellationToken::new()).await;
}

/// Keeps ids; panics at one, and says that it takes no more than so many at once.
struct Moody {
    taken: Mutex<BTreeSet<String>>,
    at_most: usize,
    refused: AtomicUsize,
}

#[async_trait]
impl Handler for Moody {
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        let ids: Vec<String> = events
            .iter()
            .map(|record| record.event.event_id.as_str().to_owned())
            .collect();
        if ids.len() > self.at_most {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(HandlerError {
                retryability: Retryability::Transient,
                message: "took too long".to_owned(),
            });
        }
        assert!(!ids.iter().any(|id| id == "event-7"), "as a bug would");
        self.taken.lock().unwrap().extend(ids);
        Ok(Handled {
            new: events.len() as u64,
            ..Handled::default()
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_ones_own_may_panic_and_may_be_slow() {
    let site = Site::new().await;
    for id in 1..=32 {
        site.produce(&event(id)).await;
    }
    let metrics = Metrics::new();
    let stream = RedisStream::new(&site.redis.config(), &stream_config(), metrics.clone()).unwrap();
    let handler = Arc::new(Moody {
        taken: Mutex::default(),
        at_most: 8,
        refused: AtomicUsize::new(0),
    });
    let config = worker_config();
    let workers = Workers::new(Arc::new(stream), handler.clone(), &config, &metrics);
    let stop = CancellationToken::new();
    let watching = async {
        eventually("31 are taken, one is a dead letter", PATIENCE, async || {
            let taken = handler.taken.lock().unwrap().len();
            (taken == 31 && site.dead_letters().await == 1).then_some(())
        })
        .await;
        stop.cancel();
    };
    tokio::join!(workers.run(stop.clone()), watching);
    assert_eq!(workers.in_flight(), 0);
    assert!(workers.is_live());
    let refused = handler.refused.load(Ordering::Relaxed);
    assert_eq!(refused, 6 + 2, "patience is lost once, not for each half");
    let letters = site.letters().await;
    assert_eq!(letters[0]["event_id"], "event-7");
    assert!(
        letters[0]["error"].starts_with("the handler panicked"),
        "{:?}",
        letters[0]
    );
    assert_eq!(letters[0]["attempts"], "1", "one try alone");
    assert_eq!(site.pending().await, Some(0));
}

fn worker_config() -> WorkerConfig {
    WorkerConfig {
        workers: 1,
        consumer: "tests".to_owned(),
        read_count: 500,
        block: Duration::from_millis(100),
        max_deliveries: 2,
        claim_idle: Duration::from_secs(60),
        retry_delay: Duration::from_millis(10),
        consumer_ttl: Duration::from_secs(3600),
    }
}

/// Takes nothing so many times, then is asked to stop.
struct Rejecting {
    calls_left: AtomicUsize,
    stop: CancellationToken,
}

#[async_trait]
impl Handler for Rejecting {
    async fn handle(&self, _: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        if self.calls_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stop.cancel();
        }
        Err(HandlerError::new(Retryability::Poison, "no"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_with_many_suspects_due_ends_in_order() {
    let site = Site::new().await;
    for id in 1..=8 {
        site.produce(&event(id)).await;
    }
    let config = WorkerConfig {
        read_count: 2,
        max_deliveries: 9,
        retry_delay: Duration::from_secs(1),
        ..worker_config()
    };
    let stop = CancellationToken::new();
    // Four pairs, each tried together and then one by one; the next call is a try alone, with six more due.
    let handler = Rejecting {
        calls_left: AtomicUsize::new(4 * 3 + 1),
        stop: stop.clone(),
    };
    let metrics = Metrics::new();
    let stream = RedisStream::new(&site.redis.config(), &stream_config(), metrics.clone()).unwrap();
    let workers = Workers::new(Arc::new(stream), Arc::new(handler), &config, &metrics);
    tokio::time::timeout(PATIENCE, workers.run(stop)).await.unwrap();
    assert_eq!(site.pending().await, Some(8));
}

/// Never says whether it is ready; stops once it was asked.
struct Hanging(CancellationToken);

#[async_trait]
impl Handler for Hanging {
    async fn handle(&self, _: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        Ok(Handled::default())
    }

    async fn ready(&self) -> Result<(), HandlerError> {
        self.0.cancel();
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hangs_does_not_hold_up_the_stop() {
    let redis = RedisServer::start().await;
    let stop = CancellationToken::new();
    let config = WorkerConfig {
        claim_idle: Duration::from_millis(100),
        ..worker_config()
    };
    let metrics = Metrics::new();
    let stream = RedisStream::new(&redis.config(), &stream_config(), metrics.clone()).unwrap();
    let workers = Workers::new(Arc::new(stream), Arc::new(Hanging(stop.clone())), &config, &metrics);
    tokio::time::timeout(PATIENCE, workers.run(stop)).await.unwrap();
}

const OUTAGE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_outage_dead_letters_nothing() {
    let site = Site::durable().await;
    let settings = site
        .settings()
        .with("ORDERSTREAM_CLAIM_IDLE", "1s")
        .with("ORDERSTREAM_STATEMENT_TIMEOUT", "500ms");
    let first = Service::start("work", &settings.with("CONSUMER_NAME", "first")).await;
    let _second = Service::start("work", &settings.with("CONSUMER_NAME", "second")).await;
    site.produce(&event(1)).await;
    site.has_rows(1).await;

    site.cluster().stop();
    for id in 2..=50 {
        site.produce(&event(id)).await;
    }
    let began = Instant::now();
    // A minute, and with it many times the claim time and all attempts that an entry has.
    eventually("the outage has lasted", 2 * OUTAGE, async || {
        (began.elapsed() > OUTAGE).then_some(())
    })
    .await;
    assert_eq!(site.dead_letters().await, 0);
    assert_eq!(
        first.get(&first.admin_url("/livez")).await.unwrap().status(),
        200,
        "waiting is not dying"
    );

    site.cluster().restart().await;
    site.has_rows(50).await;
    site.is_settled().await;
    assert_eq!(site.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_ten_times_over_the_same_batch_costs_no_entry() {
    let site = Site::new().await;
    for id in 1..=20 {
        site.produce(&event(id)).await;
    }
    let settings = site.settings().with("CONSUMER_NAME", "tests");
    let lock = site.lock_out_loads().await;
    for round in 1..=10 {
        let mut worker = Service::start("work", &settings).await;
        // All of it: what is read only after the first kill would lag behind for ever.
        eventually("the batch is in hand", PATIENCE, async || {
            let deliveries = site.deliveries("tests").await;
            (deliveries.len() == 20 && deliveries.into_iter().min() >= Some(round)).then_some(())
        })
        .await;
        if round > 4 {
            eventually("a try alone is under way", PATIENCE, async || {
                (site.has_begun_tries().await).then_some(())
            })
            .await;
        }
        worker.kill();
    }
    drop(lock);
    let _worker = Service::start("work", &settings).await;
    site.has_rows(20).await;
    site.is_settled().await;
    assert_eq!(site.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_worker_doubles_nothing_when_it_comes_back() {
    let site = Site::new().await;
    let settings = site.settings();
    let lock = site.lock_out_loads().await;
    // Before the worker starts, so that it reads them in one page.
    for id in 1..=20 {
        site.produce(&event(id)).await;
    }
    let stalled = Service::start("work", &settings.with("CONSUMER_NAME", "stalled")).await;
    eventually("the batch is in hand", PATIENCE, async || {
        (site.pending().await == Some(20)).then_some(())
    })
    .await;
    stalled.signal(Signal::SIGSTOP);
    drop(lock);
    let _other = Service::start("work", &settings.with("CONSUMER_NAME", "other")).await;
    site.has_rows(20).await;
    site.is_settled().await;

    stalled.signal(Signal::SIGCONT);
    site.produce(&event(21)).await;
    site.has_rows(21).await;
    eventually("the stalled one goes on", PATIENCE, async || {
        let log = stalled.stderr();
        (log.contains("another consumer's now") || log.contains("loading works again")).then_some(())
    })
    .await;
    site.is_settled().await;
    assert_eq!(site.rows(), 21);
    assert_eq!(site.dead_letters().await, 0);
}
