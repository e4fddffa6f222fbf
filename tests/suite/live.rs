//! `/api/live`: what the dashboard shows moves with the pipeline, and costs it nothing that could be felt.

use nix::sys::signal::Signal;
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::harness::eventually;
use crate::harness::ground::{Place, in_any_place};
use crate::harness::redis::RedisServer;
use crate::harness::service::{Service, Settings, TOKEN};
use crate::harness::site::{PATIENCE, Site};
use crate::harness::wire::{Wire, request};
use crate::openapi::assert_is;

in_any_place!(
    numbers_move_with_the_load,
    a_shutdown_is_not_held_up_by_who_watches,
    who_comes_later_sees_what_was_before,
);

/// One who watches.
struct Watcher {
    answer: Response,
    unread: String,
}

impl Watcher {
    async fn of(service: &Service) -> Self {
        let answer = ask(service).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self {
            answer,
            unread: String::new(),
        }
    }

    /// The next event's name and content; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let field = |name: &str| {
                    let lines = event.lines();
                    lines.filter_map(|line| line.strip_prefix(name)).collect::<String>()
                };
                let (name, content) = (field("event: "), field("data: "));
                self.unread = rest.to_owned();
                if !name.is_empty() {
                    return Some((name, serde_json::from_str(&content).unwrap()));
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk())
                .await
                .expect("it is silent");
            self.unread += std::str::from_utf8(&chunk.unwrap()?).unwrap();
        }
    }

    /// The next moment.
    async fn now(&mut self) -> Value {
        let (name, now) = self.next().await.expect("it ended");
        assert_eq!(name, "now");
        assert_is("LiveNow", &now);
        now
    }

    /// The first moment of which that holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let watching = async {
            loop {
                let now = self.now().await;
                if holds(&now) {
                    return now;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, watching).await;
        found.unwrap_or_else(|_| panic!("never {what}"))
    }

    async fn history(&mut self) -> Vec<Value> {
        let (name, history) = self.next().await.expect("it ended");
        assert_eq!(name, "history");
        assert_is("LiveHistory", &history);
        history["samples"].as_array().unwrap().clone()
    }
}

async fn ask(service: &Service) -> Response {
    let client = reqwest::Client::new();
    let asked = client.get(service.admin_url("/api/live")).bearer_auth(TOKEN);
    asked.send().await.unwrap()
}

fn is_positive(number: &Value) -> bool {
    number.as_f64().is_some_and(|number| number > 0.0)
}

async fn deliver(service: &Service, orders: std::ops::Range<u64>) {
    for id in orders {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
}

async fn numbers_move_with_the_load(place: impl Place) {
    let service = Service::start("run", &place.settings()).await;
    let mut watcher = Watcher::of(&service).await;
    watcher.history().await;
    let idle = watcher
        .until("idle", |now| now["sample"]["accepted_per_second"] == 0.0)
        .await;
    assert_eq!(idle["sample"]["latency_p50_ms"], Value::Null, "{idle:#}");
    assert_eq!(idle["node"]["command"], "run");
    assert_eq!(idle["node"]["has_warehouse"], true);

    deliver(&service, 1..31).await;
    let accepted = |now: &Value| is_positive(&now["sample"]["accepted_per_second"]);
    watcher.until("accepted", accepted).await;
    let loaded = |now: &Value| {
        let sample = &now["sample"];
        let latencies = [&sample["latency_p50_ms"], &sample["latency_p99_ms"]].map(Value::as_f64);
        is_positive(&sample["loaded_per_second"]) && latencies[0].is_some() && latencies[0] <= latencies[1]
    };
    watcher.until("loaded", loaded).await;
    let now = watcher
        .until("settled", |now| {
            let sample = &now["sample"];
            sample["backlog"] == 0 && sample["loaded_per_second"] == 0.0 && sample["latency_p99_ms"].is_null()
        })
        .await;
    assert_eq!(now["report"]["stream_length"], 30);
    assert_eq!(now["sample"]["accepted_per_second"], 0.0);
    assert_eq!(now["consumers"].as_array().unwrap().len(), 1);
    assert_eq!(now["groups"][0]["ours"], true);
}

async fn who_comes_later_sees_what_was_before(place: impl Place) {
    let service = Service::start("run", &place.settings()).await;
    let mut first = Watcher::of(&service).await;
    first.history().await;
    // Two looks are needed for a rate: the one before the load is there already.
    first.now().await;
    deliver(&service, 1..11).await;
    let loaded = first
        .until("loaded", |now| is_positive(&now["sample"]["loaded_per_second"]))
        .await;
    drop(first);

    let history = Watcher::of(&service).await.history().await;
    let is_later = |pair: &[Value]| pair[0]["at"].as_u64() <= pair[1]["at"].as_u64();
    assert!(history.windows(2).all(is_later), "{history:#?}");
    assert!(history.contains(&loaded["sample"]), "{history:#?}");
    let accepted: f64 = history
        .iter()
        .filter_map(|sample| sample["accepted_per_second"].as_f64())
        .sum();
    assert!(accepted > 0.0, "{history:#?}");
}

async fn a_shutdown_is_not_held_up_by_who_watches(place: impl Place) {
    let settings = place.settings().with("ORDERSTREAM_SHUTDOWN_GRACE", "10m");
    let mut service = Service::start("run", &settings).await;
    let mut watchers = [Watcher::of(&service).await, Watcher::of(&service).await];
    for watcher in &mut watchers {
        watcher.history().await;
        watcher.now().await;
    }
    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    for mut watcher in watchers {
        while watcher.next().await.is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_few_and_are_given_back() {
    let redis = RedisServer::start().await;
    let service = Service::start("serve", &Settings::new(&redis.url(), "postgres://unused")).await;
    let mut watchers = Vec::new();
    for _ in 0..32 {
        watchers.push(Watcher::of(&service).await);
    }
    let refused = ask(&service).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "too_many_viewers");
    assert_is("Problem", &problem);
    // Everything else answers beside them.
    assert_eq!(service.get(&service.admin_url("/metrics")).await.unwrap().status(), 200);

    watchers.pop();
    eventually("a place is free", PATIENCE, async || {
        (ask(&service).await.status() == StatusCode::OK).then_some(())
    })
    .await;
    let last = watchers.last_mut().unwrap();
    last.history().await;
    let now = last.now().await;
    assert_eq!(now["node"]["has_warehouse"], false);
    assert_eq!(now["sample"]["loaded_per_second"], Value::Null);
}

/// One who takes nothing in is cut off, and meanwhile misses what others see: nobody waits for it, nothing is kept.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_cut_off_and_holds_nobody_up() {
    let redis = RedisServer::start().await;
    let service = Service::start("serve", &Settings::new(&redis.url(), "postgres://unused")).await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    // A moment then is of about a megabyte, so that a few are more than sockets hold.
    let many = "for i = 1, 20000 do redis.call('XGROUP', 'CREATECONSUMER', KEYS[1], KEYS[2], 'c' .. i) end";
    let _: () = redis
        .command(&["EVAL", many, "2", "orders_stream", "pipeline_workers"])
        .await;

    let admin = service.admin_url("").trim_start_matches("http://").parse().unwrap();
    let authorization = format!("Bearer {TOKEN}");
    let mut sleeper = Wire::connect(admin).await;
    let asked = request("GET /api/live", &[("authorization", &authorization)], b"");
    sleeper.send(&asked).await;
    let mut watcher = Watcher::of(&service).await;
    watcher.history().await;
    watcher
        .until("large", |now| {
            now["consumers"].as_array().is_some_and(|all| all.len() == 20_000)
        })
        .await;
    // Ten seconds after its socket is full it is cut off; a moment is a second, or more.
    for id in 2..22 {
        watcher.now().await;
        // So large a report may keep the stream busy for longer than an answer may take.
        eventually("an order is taken", PATIENCE, async || {
            (service.deliver_order(id).await == Some(200)).then_some(())
        })
        .await;
    }
    let seen = sleeper.rest().await;
    let moments = seen.windows(11).filter(|bytes| bytes == b"event: now\n").count();
    assert!((1..15).contains(&moments), "{moments} moments were kept for it");
    watcher.now().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_needs_the_token() {
    let redis = RedisServer::start().await;
    let service = Service::start("serve", &Settings::new(&redis.url(), "postgres://unused")).await;
    let url = service.admin_url("/api/live");
    assert_eq!(service.get(&url).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let in_query = service.get(&format!("{url}?token={TOKEN}")).await.unwrap();
    assert_eq!(in_query.status(), StatusCode::UNAUTHORIZED);
}

/// A node sees what others take, and a stream that begins anew is unknown for a moment, neither negative nor a rush.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_take_is_seen_and_a_reset_is_no_rate() {
    let redis = RedisServer::start().await;
    let settings = Settings::new(&redis.url(), "postgres://unused");
    let (taker, onlooker) = (
        Service::start("serve", &settings).await,
        Service::start("serve", &settings).await,
    );
    let mut watcher = Watcher::of(&onlooker).await;
    watcher.history().await;
    watcher
        .until("known", |now| now["sample"]["accepted_per_second"].is_number())
        .await;
    deliver(&taker, 1..21).await;
    let moves = |now: &Value| is_positive(&now["sample"]["accepted_per_second"]);
    watcher.until("accepted", moves).await;
    watcher
        .until("settled", |now| now["sample"]["accepted_per_second"] == 0.0)
        .await;

    let _: () = redis.command(&["FLUSHALL"]).await;
    let reset = watcher
        .until("reset", |now| now["sample"]["accepted_per_second"] != 0.0)
        .await;
    assert_eq!(reset["sample"]["accepted_per_second"], Value::Null, "{reset:#}");
    deliver(&taker, 101..102).await;
    watcher.until("goes on", moves).await;
}

/// A node without workers shows what those elsewhere load, and nothing once there are none.
#[tokio::test(flavor = "multi_thread")]
async fn what_workers_elsewhere_load_is_seen() {
    let site = Site::new().await;
    let serve = Service::start("serve", &site.settings()).await;
    let mut watcher = Watcher::of(&serve).await;
    watcher.history().await;
    let alone = watcher
        .until("alone", |now| now["nodes"].as_array().is_some_and(|all| all.len() == 1))
        .await;
    assert_eq!(alone["sample"]["loaded_per_second"], Value::Null, "{alone:#}");

    // Each reads a few entries at a time, so that both get some.
    let few = site.settings().with("ORDERSTREAM_READ_COUNT", "2");
    let mut workers = [Service::start("work", &few).await, Service::start("work", &few).await];
    let is_loading = |node: &&Value| is_positive(&node["loading"]["loaded_per_second"]);
    let loading = |now: &Value| {
        let nodes = now["nodes"].as_array().cloned().unwrap_or_default();
        let rates = Vec::from_iter(nodes.iter().filter(is_loading));
        let sum: f64 = rates
            .iter()
            .map(|node| node["loading"]["loaded_per_second"].as_f64().unwrap())
            .sum();
        let told = now["sample"]["loaded_per_second"].as_f64();
        rates.len() == 2
            && told.is_some_and(|told| (told - sum).abs() < 1e-6)
            && is_positive(&now["sample"]["latency_p99_ms"])
    };
    let mut id = 0;
    let both = async {
        loop {
            deliver(&serve, id..id + 40).await;
            id += 40;
            if loading(&watcher.now().await) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, both)
        .await
        .expect("both are seen to load");
    for worker in &mut workers {
        worker.signal(Signal::SIGTERM);
        assert!(worker.ended(PATIENCE).await.success());
    }
    watcher
        .until("nothing is loaded", |now| now["sample"]["loaded_per_second"].is_null())
        .await;
}
