//! The spool, over the real binary: whatever Redis does, nothing is refused, lost or doubled.

mod damage;
mod draining;
mod full;
mod ids;
mod letters;
mod memory;
mod onlookers;
mod partitions;
mod refusals;
mod removed;
mod standing;
mod survival;

use std::ops::RangeInclusive;
use std::time::Instant;

use redis::FromRedisValue as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::postgres::Database;
use crate::harness::redis::{RedisOptions, RedisServer};
use crate::harness::service::{Service, Settings, order};
use crate::harness::site::{PATIENCE, Site, Store};
use crate::harness::{eventually, folder};

/// A site whose Redis keeps what it confirmed, and a data folder.
struct Place {
    site: Site,
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        Self::with_redis(RedisOptions {
            durable: true,
            ..RedisOptions::default()
        })
        .await
    }

    async fn with_redis(options: RedisOptions) -> Self {
        Self {
            site: Site {
                redis: RedisServer::start_with(options).await,
                store: Store::Shared(Database::migrated().await),
            },
            folder: folder::temporary("spool-"),
        }
    }

    /// Nothing but a Redis that stalls sends an event to the spool by time, however busy the machine is.
    fn settings(&self) -> Settings {
        let folder = self.folder.path().to_str().unwrap();
        let settings = self.site.settings().with("ORDERSTREAM_DATA_DIR", folder);
        settings.with("ORDERSTREAM_SPOOL_AFTER", "1500ms")
    }
}

/// Delivers an order; answers status code and the word of the answer, once it answers at all.
async fn deliver(service: &Service, id: u64) -> (u16, String) {
    deliver_as(service, &format!("webhook-{id}"), &order(id)).await
}

/// Delivers these webhooks, each of which the spool takes.
async fn are_spooled(service: &Service, ids: RangeInclusive<u64>) {
    for id in ids {
        assert_eq!(deliver(service, id).await, (200, "spooled".to_owned()));
    }
}

async fn deliver_as(service: &Service, webhook_id: &str, body: &Value) -> (u16, String) {
    let asked = Instant::now();
    let text = body.to_string();
    let answer = service.deliver("orders/create", webhook_id, text.as_bytes());
    let answer = answer.await.unwrap();
    assert!(asked.elapsed().as_secs() < 5, "Shopify hung up");
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    let word = body["status"].as_str().or(body["code"].as_str()).unwrap();
    if word == "spooled" {
        assert_eq!(body["stream_id"], Value::Null);
    }
    (status, word.to_owned())
}

async fn health(service: &Service) -> Value {
    let answer = service.get(&service.url("/health")).await.unwrap();
    answer.json().await.unwrap()
}

async fn depth_is(service: &Service, depth: u64) {
    eventually(&format!("{depth} are spooled"), PATIENCE, async || {
        (health(service).await["spool_depth"] == depth).then_some(())
    })
    .await;
}

/// Waits until new orders go to the stream again.
async fn goes_direct(service: &Service, mut id: u64) -> u64 {
    eventually("new orders go to the stream", PATIENCE, async || {
        id += 1;
        (deliver(service, id).await == (200, "accepted".to_owned())).then_some(id)
    })
    .await
}

/// The same as the first of all; answers how many there were, of which none is left in the spool.
async fn goes_direct_at_first(service: &Service) -> u64 {
    let sent = goes_direct(service, 0).await;
    depth_is(service, 0).await;
    sent
}

/// The value of one figure of `/metrics`.
async fn figure(service: &Service, name: &str) -> f64 {
    let text = service.get(&service.admin_url("/metrics")).await.unwrap();
    let text = text.text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    let (_, value) = line
        .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
        .split_once(' ')
        .unwrap();
    value.parse().unwrap()
}

async fn stream_length(redis: &RedisServer) -> u64 {
    let reply: redis::Value = redis.command(&["XLEN", "orders_stream"]).await;
    u64::from_redis_value(reply).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_data_folder_of_its_own_there_is_none() {
    let site = Site::new().await;
    let service = Service::start("serve", &site.settings()).await;
    assert!(service.stderr().contains("there is no spool"), "{}", service.stderr());
    assert_eq!(health(&service).await["spool_depth"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_owner() {
    let place = Place::new().await;
    let _service = Service::start("serve", &place.settings()).await;
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_orderstream"));
    program.arg("run");
    let mut second = Service::spawn(program, &place.settings());
    assert_eq!(second.ended(PATIENCE).await.code(), Some(69));
    let said = async || second.stderr().contains("`orderstream serve` since").then_some(());
    eventually("it says who has the folder", PATIENCE, said).await;
}

/// Of an order's shop the stream is asked; one that answers nothing delays a delivery in five seconds, not each.
#[tokio::test(flavor = "multi_thread")]
async fn shops_that_are_not_known_yet_are_asked_for_once_while_redis_is_away() {
    let place = Place::new().await;
    let settings = place.settings().with("RUST_LOG", "orderstream=debug");
    let service = Service::start("serve", &settings).await;
    goes_direct_at_first(&service).await;
    place.site.redis.stall();
    let began = Instant::now();
    for id in 100..110 {
        let mut body = order(id);
        body["order_status_url"] = format!("https://shop.example/4711/orders/{id:032x}/authenticate").into();
        assert_eq!(
            deliver_as(&service, &format!("webhook-{id}"), &body).await,
            (200, "spooled".to_owned())
        );
    }
    let asked = service.stderr().matches("whose order it is cannot be asked").count() as u64;
    place.site.redis.resume();
    assert!(
        (1..=1 + began.elapsed().as_secs() / 5).contains(&asked),
        "asked {asked} times"
    );
}
