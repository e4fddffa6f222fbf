//! A trace looks into the spool, whoever has it, and disturbs nobody.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Place, deliver, depth_is};
use crate::harness::eventually;
use crate::harness::service::{Service, Settings, TOKEN};
use crate::harness::site::PATIENCE;
use crate::openapi::assert_is;

/// As the process tells it.
async fn asked(service: &Service, order: &str) -> Value {
    let url = service.admin_url(&format!("/api/trace?order={order}"));
    let asking = reqwest::Client::new().get(url).bearer_auth(TOKEN).send();
    let answer = asking.await.unwrap();
    assert_eq!(answer.status(), 200);
    let trace = answer.json().await.unwrap();
    assert_is("Trace", &trace);
    trace
}

/// As the command tells it, from beside the folder.
fn told(settings: &Settings, order: &str) -> Value {
    let settings = settings.with("RUST_LOG", "warn");
    let output = settings.command(&["trace", order, "--json"]).output().unwrap();
    let [said, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!((output.status.code(), &*errors), (Some(0), ""), "{said}");
    let trace = serde_json::from_str(&said).unwrap();
    assert_is("Trace", &trace);
    trace
}

fn stations(trace: &Value) -> Vec<&str> {
    let moments = trace["moments"].as_array().unwrap();
    moments.iter().map(|moment| moment["what"].as_str().unwrap()).collect()
}

fn admits(trace: &Value, what: &str) -> bool {
    trace["unknown"].to_string().contains(what)
}

/// Three wait in the spool, two of which are of the order: its creation, and a body that is not one.
fn is_seen_waiting(trace: &Value) {
    assert_eq!(stations(trace), ["spooled", "spooled"], "{trace:#}");
    assert_eq!(trace["spooled_looked_at"], 3, "{trace:#}");
    let [order, letter] = [0, 1].map(|at| &trace["moments"][at]);
    assert_eq!(
        order["detail"],
        "in the spool of this node, from where it goes to the stream"
    );
    assert!(
        letter["detail"].as_str().unwrap().starts_with("rejected at intake: "),
        "{trace:#}"
    );
    for moment in [order, letter] {
        assert!(moment["at"].is_string() && moment["event_id"].is_string(), "{trace:#}");
        assert_eq!(
            (&moment["stream_id"], &moment["shop"]),
            (&Value::Null, &"tests.myshopify.com".into())
        );
    }
    assert!(
        admits(
            trace,
            "The stream does not answer, so what it and the dead letters hold"
        ),
        "{trace:#}"
    );
    assert!(admits(trace, "Only the spool of this node"), "{trace:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_followed_through_the_spool() {
    let mut place = Place::new().await;
    let settings = place.settings();
    let mut service = Service::start("run", &settings).await;
    place.site.redis.kill();
    for id in [7, 77] {
        assert_eq!(deliver(&service, id).await, (200, "spooled".to_owned()));
    }
    let bad = r##"{"id":7,"name":"#7","line_items":"none"}"##;
    let answer = service.deliver("orders/updated", "bad", bad.as_bytes()).await.unwrap();
    assert_eq!(answer.status(), 200);

    is_seen_waiting(&asked(&service, "%237").await);
    is_seen_waiting(&told(&settings, "7"));
    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    is_seen_waiting(&told(&settings, "#7"));

    place.site.redis.restart().await;
    let service = Service::start("run", &settings).await;
    depth_is(&service, 0).await;
    let trace = eventually("it is loaded", PATIENCE, async || {
        let trace = asked(&service, "%237").await;
        let is_there = ["loaded", "settled"].iter().all(|what| stations(&trace).contains(what));
        is_there.then_some(trace)
    })
    .await;
    assert_eq!(
        stations(&trace),
        ["happened", "dead_lettered", "received", "loaded", "settled"],
        "{trace:#}"
    );
    assert_eq!(
        (&trace["spooled_looked_at"], &trace["moments"][2]["stands"]),
        (&0.into(), &true.into())
    );
    assert!(!admits(&trace, "does not answer"), "{trace:#}");
    assert_eq!(told(&settings, "#7")["spooled_looked_at"], 0);
}

/// What does not answer costs what it knows; where nothing does, there is nothing to tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_spool_and_stream_says_that_nothing_answers() {
    let mut place = Place::new().await;
    let service = Service::start("serve", &place.site.settings()).await;
    let trace = asked(&service, "7").await;
    assert_eq!(
        (&trace["spooled_looked_at"], &trace["moments"]),
        (&Value::Null, &Value::Array(Vec::new()))
    );
    assert!(admits(&trace, "This node has no spool to read"), "{trace:#}");
    place.site.redis.kill();
    let url = service.admin_url("/api/trace?order=7");
    let answer = reqwest::Client::new().get(url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), 503);
}
