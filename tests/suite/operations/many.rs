//! Very many letters, and a run that is cut off; very many events of one order.

use super::*;
use crate::harness::service::event;

/// Orders that the warehouse refuses, until it does not.
const ORDERS: u64 = 400;

pub async fn a_run_that_is_killed_goes_on_and_loads_each_event_once(plant: Plant) {
    let service = plant.run().await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    plant.has_rows(1).await;
    plant.refuse_all();
    for first in (0..ORDERS).step_by(100) {
        let events: Vec<Value> = (first + 10..first + 110).map(event).collect();
        assert_eq!(service.send_batch(&events.into()).await.unwrap().status(), 200);
    }
    let letters = async || api(&service, "/api/dead-letters/groups").await;
    eventually("all are dead letters", PATIENCE, async || {
        (letters().await["looked_at"] == ORDERS).then_some(())
    })
    .await;
    let groups = letters().await;
    assert_eq!(groups["groups"].as_array().unwrap().len(), 1, "one cause: {groups:#}");
    plant.accept();

    let mut command = plant
        .settings()
        .command(&["dead-letters", "replay", "--all", "--yes", "--rate", "100"]);
    let mut run = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    eventually("some are gone", PATIENCE, async || {
        letters().await["looked_at"].as_u64().filter(|left| *left < ORDERS)
    })
    .await;
    run.kill().unwrap();
    run.wait().unwrap();
    // A step that was under way in the process goes on there to its end.
    let replayed = plant.json(&["dead-letters", "replay", "--all", "--yes"]);
    assert_eq!(replayed["kept"], 0, "{replayed:#}");
    eventually("none is left", PATIENCE, async || {
        (letters().await["looked_at"] == 0).then_some(())
    })
    .await;
    plant.has_rows(usize::try_from(ORDERS + 1).unwrap()).await;
    is_settled(&service).await;
    assert_eq!(plant.sql("SELECT count(*) FROM orders"), (ORDERS + 1).to_string());
}

/// Two orders of one name, one with an event more than is shown.
pub async fn a_trace_tells_every_entry_and_says_what_it_leaves_out(plant: Plant) {
    let service = plant.run().await;
    let events = Vec::from_iter((0..231).map(|id| {
        let mut event = event(id);
        event["order_id"] = if id < 201 { "71" } else { "72" }.into();
        event["name"] = "#7".into();
        event
    }));
    for events in events.chunks(100) {
        assert_eq!(service.send_batch(&events.into()).await.unwrap().status(), 200);
    }
    plant.has_rows(events.len()).await;
    let trace = plant.json(&["trace", "#7"]);
    let mut received = trace["moments"].as_array().unwrap().clone();
    received.retain(|moment| moment["what"] == "received");
    assert_eq!(received.len(), events.len());
    for moment in received {
        assert_eq!(moment["stands"], true, "{moment:#}");
    }
    let unknown = trace["unknown"].to_string();
    assert!(
        unknown.contains("Order 71 has more loaded events than the newest 200"),
        "{unknown}"
    );
    assert!(!unknown.contains("Order 72"), "{unknown}");
}

/// As many as are looked at are all of them; of one more, it is said.
#[tokio::test(flavor = "multi_thread")]
async fn as_many_letters_as_are_looked_at_are_all() {
    const ADD: &str =
        "for i = ARGV[1], ARGV[2] do redis.call('XADD', KEYS[1], i .. '-0', 'error', 'x', 'original_id', i) end";
    let plant = Plant::servers().await;
    let Plant::Servers(site) = &plant else { unreachable!() };
    let service = plant.run().await;
    let add = async |from: &str, to: &str| {
        site.redis
            .command::<()>(&["EVAL", ADD, "1", "dead_letters", from, to])
            .await;
        let groups = api(&service, "/api/dead-letters/groups").await;
        (groups["looked_at"].clone(), groups["complete"].clone())
    };
    assert_eq!(add("1", "20000").await, (20_000.into(), true.into()));
    assert_eq!(add("20001", "20001").await, (20_000.into(), false.into()));
}

/// `cargo test --test suite ten_thousand_letters -- --ignored --nocapture` prints how long each look takes.
#[allow(clippy::print_stdout, reason = "a measurement is printed")]
#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_letters_are_looked_through() {
    const ADD: &str = "for i = 1, 10000 do
        redis.call('XADD', KEYS[1], '*', 'event_type', 'order.created', 'event_id', 'e-' .. i, 'shop', 'tests.myshopify.com',
            'topic', 'orders/create', 'raw', ARGV[1], 'raw_encoding', 'zstd+base64', 'order_id', 7000000000000 + i,
            'original_stream', '', 'original_id', '', 'failed_at', '2026-01-05T10:00:00Z',
            'error', 'missing field `total_price` at line 1 column ' .. i, 'attempts', 0, 'consumer', 'ingest')
        end";
    let plant = Plant::servers().await;
    let Plant::Servers(site) = &plant else { unreachable!() };
    let service = plant.run().await;
    let raw = {
        use base64::Engine as _;
        let body = include_str!("../../fixtures/shopify/order_usd.json");
        base64::engine::general_purpose::STANDARD.encode(zstd::bulk::compress(body.as_bytes(), 3).unwrap())
    };
    site.redis
        .command::<()>(&["EVAL", ADD, "1", "dead_letters", &raw])
        .await;
    let cause = api(&service, "/api/dead-letters/groups").await["groups"][0]["fingerprint"].clone();
    let cause = cause.as_str().unwrap();
    for path in [
        "/api/dead-letters/groups".to_owned(),
        "/api/dead-letters".to_owned(),
        format!("/api/dead-letters?fingerprint={cause}"),
        format!("/api/dead-letters?fingerprint={}", &cause[..8]),
        "/api/trace?order=7000000005000".to_owned(),
        "/api/trace?order=%231042".to_owned(),
    ] {
        let began = std::time::Instant::now();
        let answer = api(&service, &path).await;
        println!("{path}: {:?}, {} bytes", began.elapsed(), answer.to_string().len());
    }
    println!("a letter's body: {} bytes in Redis", raw.len());
}
