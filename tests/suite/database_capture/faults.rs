//! Processes that are killed or frozen: no order is lost, and no event stands in the stream twice.

use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::shop::{Shop, agrees};
use crate::chaos::clock::Clock;
use crate::chaos::proxy::{Dialect, Mode, Proxy};
use crate::harness::eventually;
use crate::harness::redis::{RedisOptions, RedisServer};
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;

#[tokio::test]
async fn killed_at_any_moment_it_stores_every_order_and_none_twice() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=50);
    let settings = shop.settings(&redis).with("ORDERSTREAM_CAPTURE_BATCH", "20");
    for round in 0..12_u32 {
        let mut capture = Service::start("capture", &settings).await;
        let first = 51 + round * 40;
        shop.add(first..=first + 39);
        shop.sql(&format!(
            "UPDATE orders SET total = total + 1 WHERE id % 7 = {}",
            round % 7
        ));
        shop.sql(&format!("DELETE FROM orders WHERE id = {}", round + 1));
        tokio::time::sleep(Duration::from_millis(u64::from(round * 13 % 90))).await;
        capture.kill();
    }
    let _capture = Service::start("capture", &settings).await;
    let events = agrees(&shop, &redis).await;
    events.has_no_event_twice();
    // A walk goes on where it was.
    for order in 1..=50 {
        let types = events.types(&order.to_string());
        let snapshots = types.iter().filter(|kind| *kind == "order.snapshot").count();
        assert!(snapshots <= 1, "{order}: {types:?}");
    }
}

#[tokio::test]
async fn a_first_start_that_is_killed_before_it_stored_anything_lost_nothing() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let settings = shop.settings(&redis);
    // A slot begins when the transactions that run meanwhile have ended.
    let writer = shop
        .cluster()
        .session(&shop.database, "BEGIN; INSERT INTO customers (id) VALUES (1)")
        .await;
    let mut capture = Service::start("capture", &settings).await;
    let slot = shop.slot();
    let is = |state: &str| {
        let sql = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND {state}");
        (shop.sql(&sql) == "1").then_some(())
    };
    eventually("the slot is being made", PATIENCE, async || {
        is("confirmed_flush_lsn IS NULL")
    })
    .await;
    redis.stall();
    drop(writer);
    eventually("the slot is made", PATIENCE, async || {
        is("confirmed_flush_lsn IS NOT NULL")
    })
    .await;
    capture.kill();
    redis.resume();
    let capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await.has_no_event_twice();
    assert!(!capture.stderr().contains("changes were lost"), "{}", capture.stderr());
}

#[tokio::test]
async fn of_two_captures_one_waits_and_the_one_that_lost_its_slot_is_fenced() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let first = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    let second = Service::start("capture", &shop.settings(&redis)).await;
    second.says("this one takes over when that ends").await;
    first.signal(Signal::SIGSTOP);
    let slot = shop.slot();
    shop.sql(&format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    ));
    second.says("capturing changes").await;
    shop.add(6..=40);
    agrees(&shop, &redis).await;
    first.signal(Signal::SIGCONT);
    shop.add(41..=60);
    first.says("this one takes over when that ends").await;
    agrees(&shop, &redis).await.has_no_event_twice();
}

#[tokio::test]
async fn what_redis_loses_by_a_crash_is_sent_again() {
    let (shop, mut redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let settings = shop.settings(&redis).with("ORDERSTREAM_CAPTURE_ACK_DELAY", "30s");
    let capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    redis.command::<()>(&["SAVE"]).await;
    shop.add(6..=40);
    shop.sql("UPDATE orders SET total = total + 1 WHERE id % 2 = 0; DELETE FROM orders WHERE id = 3");
    agrees(&shop, &redis).await;
    // It has what it saved, the checkpoint included.
    redis.restart().await;
    shop.add(41..=41);
    agrees(&shop, &redis).await.has_no_event_twice();
    assert!(!capture.stderr().contains("changes were lost"), "{}", capture.stderr());
}

/// Faults in a run; `scripts/chaos --scene capture` sets a larger number.
fn faults() -> u32 {
    std::env::var("ORDERSTREAM_CAPTURE_KILLS").map_or(10, |faults| faults.parse().unwrap())
}

/// A capture and all that it stands on, so that each can fail.
struct Plant {
    shop: Shop,
    redis: RedisServer,
    /// Between capture and database.
    network: Proxy,
    /// Of the capture.
    clock: Option<Clock>,
    settings: Settings,
    capture: Service,
    _folder: TempDir,
}

impl Plant {
    async fn start() -> Self {
        let options = RedisOptions {
            durable: true,
            ..RedisOptions::default()
        };
        let (shop, redis) = (Shop::own(&[]).await, RedisServer::start_with(options).await);
        let socket = format!("{}/.s.PGSQL.{}", shop.cluster().host(), shop.cluster().port);
        let network = Proxy::before(socket.into(), Dialect::Bytes).await;
        let url = format!(
            "postgres://postgres@127.0.0.1:{}/{}?sslmode=disable",
            network.port, shop.database
        );
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::install(folder.path());
        let settings = shop
            .settings(&redis)
            .with("ORDERSTREAM_CAPTURE_DATABASE_URL", &url)
            .with("ORDERSTREAM_CAPTURE_BATCH", "20");
        let settings = clock
            .as_ref()
            .map_or_else(|| settings.clone(), |clock| clock.apply(&settings));
        Self {
            capture: Service::start("capture", &settings).await,
            shop,
            redis,
            network,
            clock,
            settings,
            _folder: folder,
        }
    }

    /// Lets something fail, for a moment where it is not killed.
    async fn fail(&mut self, kind: u32) {
        let moment = Duration::from_millis(rand::random_range(50..400));
        let pause = || tokio::time::sleep(moment);
        match kind {
            0 => {
                self.capture.kill();
                self.capture = Service::start("capture", &self.settings).await;
            }
            1 => {
                self.shop.cluster().kill();
                self.shop.cluster().restart().await;
            }
            2 => self.redis.restart().await,
            3 => {
                self.capture.signal(Signal::SIGSTOP);
                pause().await;
                self.capture.signal(Signal::SIGCONT);
            }
            4 => {
                self.shop.cluster().freeze();
                pause().await;
                self.shop.cluster().thaw();
            }
            5 => {
                self.redis.stall();
                pause().await;
                self.redis.resume();
            }
            6 => {
                drop(self.shop.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'orderstream'",
                ))
            }
            7 | 8 => {
                self.network
                    .set(if kind == 7 { Mode::Silent } else { Mode::DropReplies });
                pause().await;
                self.network.set(Mode::Pass);
            }
            _ => {
                if let Some(clock) = &self.clock {
                    clock.jump(rand::random_range(-7 * 3600..7 * 3600));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_the_stream_ends_as_the_shop_and_holds_no_event_twice() {
    let mut plant = Plant::start().await;
    plant.shop.add(1..=50);
    for round in 0..faults() {
        let first = 51 + round * 30;
        plant.shop.add(first..=first + 29);
        plant.shop.sql(&format!(
            "UPDATE orders SET total = total + 1 WHERE id % 5 = {}",
            round % 5
        ));
        plant.shop.sql(&format!(
            "UPDATE order_items SET price = price + 1 WHERE order_id % 11 = {}",
            round % 11
        ));
        plant
            .shop
            .sql(&format!("DELETE FROM orders WHERE id = {}", round * 3 + 1));
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..120))).await;
        plant.fail(round % 10).await;
    }
    let events = agrees(&plant.shop, &plant.redis).await;
    events.has_no_event_twice();
    let said = plant.capture.stderr();
    assert!(!said.contains("changes were lost"), "{said}");
}
