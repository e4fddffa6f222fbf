//! What the spool costs: answers while Redis is away, and how fast a full spool drains. Measured by `scripts/chaos`, with
//! optimizations; far too much for the suite.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::given;
use crate::harness::eventually;
use crate::harness::redis::{RedisOptions, RedisServer};
use crate::harness::service::{self, Service, Settings, TOKEN, webhook};

const RATE: u32 = 500;
const CLIENTS: u32 = 50;
/// What is promised of an answer once the breaker is open, at [`RATE`] requests a second.
const P99: Duration = Duration::from_millis(50);
const SPOOLED: u64 = 200_000;
const BATCH: u64 = 500;
const LONG: Duration = Duration::from_secs(600);

/// `serve` with a spool, and a Redis that can go away.
struct Ingest {
    redis: RedisServer,
    service: Service,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Ingest {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start_with(RedisOptions {
            durable: true,
            ..RedisOptions::default()
        })
        .await;
        let settings = Settings::new(&redis.url(), "postgres://nobody@127.0.0.1/nothing")
            .with("ORDERSTREAM_DATA_DIR", folder.path().join("files").to_str().unwrap())
            .with("ORDERSTREAM_STREAM_MAXLEN", "10000000")
            .with("RUST_LOG", "info");
        Self {
            redis,
            service: Service::start("serve", &settings).await,
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(30))
                .build()
                .unwrap(),
            _folder: folder,
        }
    }

    /// Waits until an answer says that the spool has it.
    async fn spools(&self) {
        eventually("answers say spooled", Duration::from_secs(60), async || {
            let answer = self
                .service
                .deliver("orders/create", "first", b"{\"id\":0}")
                .await
                .ok()?;
            let text = answer.text().await.ok()?;
            // That body is no order, so it is quarantined, in the spool too.
            (text.contains("spooled") || text.contains("quarantined")).then_some(())
        })
        .await;
    }

    /// Sends so many events in batches, as fast as they are taken; every one must be answered with one of `words`.
    async fn send(&self, prefix: &str, events: u64, words: &[&str]) -> Duration {
        let began = Instant::now();
        let next = Arc::new(Mutex::new((0..events).step_by(BATCH.try_into().unwrap())));
        let mut clients = JoinSet::new();
        for _ in 0..8 {
            let (next, http, url) = (Arc::clone(&next), self.http.clone(), self.service.url("/events/batch"));
            let (prefix, words) = (
                prefix.to_owned(),
                words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(),
            );
            clients.spawn(async move {
                loop {
                    let Some(first) = next.lock().await.next() else { return };
                    let batch = (first..events.min(first + BATCH)).map(|number| {
                        let mut event = service::event(number);
                        event["event_id"] = format!("{prefix}-{number}").into();
                        event
                    });
                    let request = http
                        .post(&url)
                        .bearer_auth(TOKEN)
                        .header("content-type", "application/json");
                    let body = serde_json::Value::Array(batch.collect()).to_string();
                    let answer: serde_json::Value = request.body(body).send().await.unwrap().json().await.unwrap();
                    for result in answer["results"].as_array().unwrap_or_else(|| panic!("{answer}")) {
                        let status = result["status"].as_str().unwrap();
                        assert!(words.iter().any(|word| word == status), "{result}");
                    }
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        began.elapsed()
    }

    async fn stream_length(&self) -> u64 {
        self.redis.try_command(&["XLEN", "orders_stream"]).await.unwrap_or(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by scripts/chaos --scene spool-latency"]
async fn answers_are_fast_while_redis_is_away() {
    let seconds = given("ORDERSTREAM_CHAOS_SECONDS", 60);
    let mut ingest = Ingest::start().await;
    ingest.redis.kill();
    ingest.spools().await;

    let latencies = Arc::new(Mutex::new(Histogram::<u64>::new(3).unwrap()));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (http, url, latencies) = (ingest.http.clone(), ingest.service.url(""), Arc::clone(&latencies));
        let mut pace = tokio::time::interval(Duration::from_secs(1) * CLIENTS / RATE);
        // Latency counts from when a request was due, so that one slow answer does not hide the next.
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        clients.spawn(async move {
            let mut number = u64::from(client);
            while Instant::now() < end {
                let due = pace.tick().await;
                number += u64::from(CLIENTS);
                let (id, body) = (format!("webhook-{number}"), service::order(number).to_string());
                let answer = webhook(&http, &url, "orders/create", &id, body.as_bytes())
                    .send()
                    .await
                    .unwrap();
                let text = answer.text().await.unwrap();
                assert!(text.contains("\"spooled\""), "{text}");
                let took = u64::try_from(due.elapsed().as_micros()).unwrap();
                latencies.lock().await.record(took).unwrap();
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let latencies = latencies.lock().await;
    let at = |quantile| Duration::from_micros(latencies.value_at_quantile(quantile));
    eprintln!(
        "\n| Redis away, {RATE} requests/s for {seconds} s | |\n|---|---|\n| answers, all `spooled` | {} |\n| p50 | {:?} |\n\
         | p99 | {:?} |\n| p99.9 | {:?} |\n| slowest | {:?} |\n",
        latencies.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    assert!(at(0.99) < P99);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by scripts/chaos --scene drain"]
async fn a_full_spool_drains_at_half_the_direct_speed_at_least() {
    let mut ingest = Ingest::start().await;
    let direct = ingest.send("direct", SPOOLED, &["accepted"]).await;
    let before = ingest.stream_length().await;
    ingest.redis.kill();
    ingest.spools().await;
    let spooling = ingest.send("spooled", SPOOLED, &["spooled"]).await;
    ingest.redis.restart().await;
    let began = Instant::now();
    eventually("the spool is in the stream", LONG, async || {
        (ingest.stream_length().await >= before + SPOOLED).then_some(())
    })
    .await;
    let draining = began.elapsed();
    let rate = |took: Duration| SPOOLED as f64 / took.as_secs_f64();
    eprintln!(
        "\n| {SPOOLED} events | events/s |\n|---|---|\n| direct to Redis | {:.0} |\n| into the spool | {:.0} |\n\
         | from the spool to Redis, start of Redis included | {:.0} |\n",
        rate(direct),
        rate(spooling),
        rate(draining)
    );
    assert!(rate(draining) * 2.0 >= rate(direct));
}
