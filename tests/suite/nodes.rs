//! Nodes: every process tells of itself, any of them shows all, and none is shown that is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use orderstream::metrics::{DELAY_BUCKETS, Metrics, Outcome};
use orderstream::nodes::{Figures, Heartbeater, Intake, Loading, NodeRecord, NodeSecretUsage, Nodes, Role, Totals};
use orderstream::stream::redis::RedisStream;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::eventually;
use crate::harness::ground::{Place, in_any_place};
use crate::harness::redis::{RedisServer, stream_config};
use crate::harness::service::{Service, Settings, TOKEN};
use crate::harness::site::{PATIENCE, Site};
use crate::openapi::assert_is;

in_any_place!(a_process_tells_of_itself);

/// What a node says of all; `None` where they are not known.
async fn nodes(service: &Service) -> Option<Vec<Value>> {
    let client = reqwest::Client::new();
    let asked = client.get(service.admin_url("/api/nodes")).bearer_auth(TOKEN);
    let answer: Value = asked.send().await.unwrap().json().await.unwrap();
    assert_is("Nodes", &answer);
    answer["nodes"].as_array().cloned()
}

/// Waits until what a node says of all holds.
async fn until(service: &Service, what: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    eventually(what, PATIENCE, async || {
        nodes(service).await.filter(|nodes| holds(nodes))
    })
    .await
}

/// The node that runs as that process.
fn of<'a>(nodes: &'a [Value], service: &Service) -> Option<&'a Value> {
    nodes.iter().find(|node| node["pid"] == service.pid())
}

fn is_positive(number: &Value) -> bool {
    number.as_f64().is_some_and(|number| number > 0.0)
}

/// Consumers of the group, as Redis has them.
async fn members(site: &Site) -> Vec<String> {
    let command = ["XINFO", "CONSUMERS", "orders_stream", "pipeline_workers"];
    let reply: redis::streams::StreamInfoConsumersReply = site.redis.command(&command).await;
    reply.consumers.into_iter().map(|member| member.name).collect()
}

async fn a_process_tells_of_itself(place: impl Place) {
    let service = Service::start("run", &place.settings().with("CONSUMER_NAME", "one")).await;
    let seen = until(&service, "it is known", |nodes| !nodes.is_empty()).await;
    assert_eq!(seen.len(), 1, "{seen:#?}");
    let node = of(&seen, &service).unwrap();
    assert_eq!((&node["role"], &node["stale"]), (&json!("run"), &json!(false)));
    assert_eq!(
        (&node["version"], &node["consumers"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(["one"]))
    );
    let admin = format!("http://{}", node["admin_addr"].as_str().unwrap());
    assert_eq!(admin, service.admin_url(""));

    for id in 1..31 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    let refused = reqwest::Client::new().post(service.url("/webhooks/orders")).body("{}");
    assert_eq!(refused.send().await.unwrap().status(), 401);
    let is_complete = |nodes: &[Value]| {
        let (intake, loading) = (&nodes[0]["intake"], &nodes[0]["loading"]);
        is_positive(&intake["accepted_per_second"])
            && intake["unauthorized"] == 1
            && is_positive(&loading["loaded_per_second"])
            && loading["latency"]["p99_ms"].as_f64() >= loading["latency"]["p50_ms"].as_f64()
            && is_positive(&loading["latency"]["p50_ms"])
            && loading["warehouse"]["state"] == "reached"
    };
    let seen = until(&service, "its figures are complete", is_complete).await;
    let intake = &seen[0]["intake"];
    assert_eq!(
        (&intake["outcomes"]["accepted"], &intake["outcomes"]["unauthorized"]),
        (&json!(30), &json!(1))
    );
    assert_eq!(
        (&intake["secrets"][0]["deliveries"], &intake["secrets"][0]["index"]),
        (&json!(30), &json!(0))
    );
    assert_eq!(intake["unauthorized_per_minute"], 1);
}

/// Three processes, each seen by the one that loads nothing itself; one is killed, one ends.
#[tokio::test(flavor = "multi_thread")]
async fn any_node_shows_all_and_none_that_is_gone() {
    let site = Site::new().await;
    let work = |name| site.settings().with("CONSUMER_NAME", name);
    let serve = Service::start("serve", &site.settings()).await;
    let (mut killed, mut ended) = (
        Service::start("work", &work("killed")).await,
        Service::start("work", &work("ended")).await,
    );
    let seen = until(&serve, "three are seen", |nodes| nodes.len() == 3).await;
    let role = |service: &Service| of(&seen, service).map(|node| node["role"].clone());
    assert_eq!(
        [role(&serve), role(&killed), role(&ended)],
        [Some(json!("serve")), Some(json!("work")), Some(json!("work"))]
    );
    assert_eq!(of(&seen, &serve).unwrap()["loading"], Value::Null);
    assert_eq!(of(&seen, &killed).unwrap()["intake"], Value::Null);
    assert_eq!(of(&seen, &killed).unwrap()["consumers"], json!(["killed"]));

    killed.kill();
    let began = Instant::now();
    let is_stale = |nodes: &[Value], service| of(nodes, service).map(|node| node["stale"] == true);
    let only_killed =
        |nodes: &[Value]| is_stale(nodes, &killed) == Some(true) && is_stale(nodes, &ended) == Some(false);
    until(&serve, "the killed one is stale, and no other", only_killed).await;
    // After 15 s without a heartbeat; the rest is for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());

    // It has read, so that the group has it as a member.
    serve.deliver_order(1).await;
    site.has_rows(1).await;
    let members_seen = members(&site).await;
    assert!(members_seen.contains(&"ended".to_owned()), "{members_seen:?}");
    ended.signal(Signal::SIGTERM);
    assert!(ended.ended(PATIENCE).await.success());
    let left = members(&site).await;
    assert!(!left.contains(&"ended".to_owned()), "{left:?}");
    until(&serve, "the ended one is gone", |nodes| of(nodes, &ended).is_none()).await;
}

/// What `status` prints, and its exit code.
fn status(settings: &Settings, args: &[&str]) -> (Option<i32>, String) {
    let output = settings.command(&[&["status"], args].concat()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The command is a process of its own, without workers and listeners: it shows what those that have some tell.
#[tokio::test(flavor = "multi_thread")]
async fn status_shows_what_all_processes_tell() {
    let site = Site::new().await;
    let settings = site.settings();
    let (code, text) = status(&settings, &[]);
    assert!(text.contains("nodes                none"), "{code:?} {text}");
    let serve = Service::start("serve", &settings).await;
    let mut workers = [
        Service::start("work", &settings).await,
        Service::start("work", &settings).await,
    ];
    for id in 1..31 {
        assert_eq!(serve.deliver_order(id).await, Some(200));
    }
    let told = |args: &[&str]| serde_json::from_str::<Value>(&status(&settings, args).1).unwrap();
    let seen = eventually("all are shown, one of which loaded", PATIENCE, async || {
        let told = told(&["--json"]);
        let nodes = told["nodes"].as_array().filter(|nodes| nodes.len() == 3)?.clone();
        let loads = nodes
            .iter()
            .any(|node| is_positive(&node["loading"]["loaded_per_second"]));
        let is_reached =
            |worker| of(&nodes, worker).is_some_and(|node| node["loading"]["warehouse"]["state"] == "reached");
        (loads && workers.iter().all(is_reached)).then_some(nodes)
    })
    .await;
    assert_is("Nodes", &json!({ "nodes": seen }));
    let (code, text) = status(&settings, &[]);
    assert_eq!(code, Some(0), "{text}");
    let line = |process: &Service| {
        let id = of(&seen, process).unwrap()["id"].as_str().unwrap();
        text.lines()
            .find(|line| line.starts_with(id))
            .unwrap_or_else(|| panic!("{id} is missing:\n{text}"))
    };
    assert!(
        line(&serve).contains(" serve ") && line(&serve).ends_with("–"),
        "{text}"
    );
    for worker in &workers {
        assert!(
            line(worker).contains(" work ") && line(worker).ends_with("reached"),
            "{text}"
        );
    }
    for worker in &mut workers {
        worker.kill();
    }
    eventually("the killed ones are stale", PATIENCE, async || {
        (status(&settings, &[]).1.matches(" stale, ").count() == 2).then_some(())
    })
    .await;
}

/// Something critical is an exit code, too: a store that may drop entries.
#[tokio::test(flavor = "multi_thread")]
async fn status_of_something_critical_is_69() {
    let redis = RedisServer::start().await;
    let settings = Settings::new(&redis.url(), "postgres://unused");
    redis
        .command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "100mb"])
        .await;
    for args in [&[][..], &["--json"]] {
        let (code, text) = status(&settings, args);
        assert_eq!(code, Some(69), "{text}");
        assert!(text.contains("eviction_policy"), "{text}");
    }
}

/// Where the store's memory is full, it is still known who is there.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_known_while_memory_is_full() {
    let redis = RedisServer::start().await;
    let settings = Settings::new(&redis.url(), "postgres://unused");
    let first = Service::start("serve", &settings).await;
    until(&first, "it is known", |nodes| nodes.len() == 1).await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let refused = redis.try_command::<()>(&["SET", "x", "y"]).await.unwrap_err();
    assert_eq!(refused.code(), Some("OOM"));
    let second = Service::start("serve", &settings).await;
    until(&first, "another is seen", |nodes| {
        of(nodes, &second).is_some_and(|node| node["stale"] == false)
    })
    .await;
}

/// While the stream is away nothing is known of others, and once it is back all is.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_stream_is_away_nodes_are_unknown() {
    let mut site = Site::durable().await;
    let serve = Service::start("serve", &site.settings()).await;
    until(&serve, "it is known", |nodes| nodes.len() == 1).await;
    site.redis.kill();
    eventually("nodes are unknown", PATIENCE, async || {
        nodes(&serve).await.is_none().then_some(())
    })
    .await;
    site.redis.restart().await;
    until(&serve, "it is known again", |nodes| nodes.len() == 1).await;
}

/// Twenty nodes with the figures of busy ones: what their heartbeats cost Redis, and the processes themselves.
#[tokio::test]
async fn heartbeats_of_twenty_nodes_cost_next_to_nothing() {
    const NODES: u32 = 20;
    const MEASURED: Duration = Duration::from_secs(10);
    let redis = RedisServer::start().await;
    let stop = CancellationToken::new();
    let mut roles = JoinSet::new();
    let last = Nodes::unknown();
    let spent_before = own_cpu_time();
    for node in 0..NODES {
        let stream = RedisStream::new(&redis.config(), &stream_config(), Metrics::new()).unwrap();
        let heartbeater = Heartbeater {
            stream: Arc::new(stream),
            nodes: if node == 0 { last.clone() } else { Nodes::unknown() },
            identity: NodeRecord {
                id: format!("a-host-of-some-length-{node}"),
                role: Role::Run,
                consumers: vec![format!("consumer-{node}")],
                ..NodeRecord::default()
            },
            figures: Box::new(busy_figures),
        };
        roles.spawn(heartbeater.run(stop.clone()));
    }
    eventually("all are seen", PATIENCE, async || {
        last.current().filter(|nodes| nodes.len() == NODES as usize)
    })
    .await;
    let began = Instant::now();
    let before = commands(&redis).await;
    tokio::time::sleep(MEASURED).await;
    let (after, took) = (commands(&redis).await, began.elapsed().as_secs_f64());
    let spent = (own_cpu_time() - spent_before).as_secs_f64();
    let per_second = (after.0 - before.0) / took;
    let redis_share = (after.1 - before.1) / took;
    let own_share = spent / took / f64::from(NODES);
    eprintln!("{per_second:.1} commands/s, {redis_share:.5} of a core in Redis, {own_share:.5} in each process");
    assert!(per_second < 50.0, "{per_second} commands a second");
    assert!(
        redis_share < 0.01 && own_share < 0.01,
        "{redis_share} and {own_share} of a core"
    );
    stop.cancel();
    roles.join_all().await;
    let left: Vec<String> = redis.command(&["HKEYS", "orders_stream:nodes"]).await;
    assert!(left.is_empty(), "{left:?}");
}

/// Commands that Redis ever carried out, those within scripts included, and its time for them in seconds.
async fn commands(redis: &RedisServer) -> (f64, f64) {
    let (calls, cpu): (String, String) = (
        redis.command(&["INFO", "commandstats"]).await,
        redis.command(&["INFO", "cpu"]).await,
    );
    let number = |text: &str| text.split([',', '\r']).next().unwrap().parse::<f64>().unwrap();
    let sum = |text: &str, field: &str| text.split(field).skip(1).map(number).sum::<f64>();
    // These look-ups themselves are left out.
    let calls: String = calls.lines().filter(|line| !line.starts_with("cmdstat_info")).collect();
    (
        sum(&calls, ":calls="),
        sum(&cpu, "used_cpu_user:") + sum(&cpu, "used_cpu_sys:"),
    )
}

/// Of this thread, which has a runtime of its own.
fn own_cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn busy_figures() -> Figures {
    let mut delays = [0; DELAY_BUCKETS];
    delays[20..60].fill(1000);
    let secret = |index| NodeSecretUsage {
        index,
        deliveries: 1_000_000,
        ..NodeSecretUsage::default()
    };
    Figures {
        intake: Some(Intake {
            outcomes: Outcome::ALL
                .map(|outcome| (outcome.name().to_owned(), 1_000_000))
                .into(),
            secrets: (0..10).map(secret).collect(),
            ..Intake::default()
        }),
        loading: Some(Loading::default()),
        capture: None,
        totals: Totals {
            accepted: 1,
            unauthorized: 1,
            loaded: 1,
            captured: 1,
            delays,
        },
    }
}
