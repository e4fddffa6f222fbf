//! How a spool is emptied when its process ends, and after it.

use std::path::Path;
use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Place, are_spooled, depth_is, goes_direct, stream_length};
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;

/// Runs `orderstream drain --json`; answers its exit code, its summary and what it said beside.
fn drain(settings: &Settings) -> (Option<i32>, Value, String) {
    let Output { status, stdout, stderr } = settings.command(&["drain", "--json"]).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    (
        status.code(),
        serde_json::from_slice(&stdout).unwrap_or_default(),
        stderr,
    )
}

/// Ends it as an orchestrator does; answers what it said.
async fn end(mut service: Service) -> String {
    service.signal(Signal::SIGTERM);
    assert_eq!(service.ended(PATIENCE).await.code(), Some(0), "{}", service.stderr());
    service.stderr()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaned_spool_is_emptied_by_hand() {
    let mut place = Place::new().await;
    let settings = place.settings();
    let service = Service::start("serve", &settings).await;
    goes_direct(&service, 1000).await;
    depth_is(&service, 0).await;
    let before = stream_length(&place.site.redis).await;
    place.site.redis.kill();
    are_spooled(&service, 1..=20).await;
    let (code, _, said) = drain(&settings);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("`orderstream serve` since"), "{said}");

    let said = end(service).await;
    assert!(said.contains("events stay in the spool"), "{said}");
    assert!(said.contains("count=20"), "{said}");
    let (code, summary, said) = drain(&settings);
    assert_eq!(code, Some(69), "{said}");
    assert_eq!(summary["left"], 20, "{summary}");
    assert!(said.contains("20 events stay in"), "{said}");

    place.site.redis.restart().await;
    let (code, summary, said) = drain(&settings);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        (&summary["accepted"], &summary["left"]),
        (&20.into(), &0.into()),
        "{summary}"
    );
    assert_eq!(stream_length(&place.site.redis).await, before + 20);
    let (code, summary, _) = drain(&settings);
    assert_eq!((code, &summary["accepted"]), (Some(0), &0.into()), "{summary}");

    let _service = Service::start("work", &place.site.settings()).await;
    place.site.has_rows(usize::try_from(before).unwrap() + 20).await;
}

/// What was never read by a drainer is drained as well as what one had in hand.
#[tokio::test(flavor = "multi_thread")]
async fn the_spool_of_a_killed_process_is_emptied_by_hand() {
    let mut place = Place::new().await;
    let settings = place.settings();
    let mut service = Service::start("serve", &settings).await;
    place.site.redis.kill();
    are_spooled(&service, 1..=20).await;
    service.kill();
    place.site.redis.restart().await;
    let (code, summary, said) = drain(&settings);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&summary["accepted"], &summary["left"]), (&20.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_a_spool_is_a_mistake() {
    let place = Place::new().await;
    let (code, _, said) = drain(&place.settings());
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("spool.db"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_empties_it_where_redis_answers() {
    let place = Place::new().await;
    let settings = place.settings();
    let service = Service::start("serve", &settings).await;
    goes_direct(&service, 1000).await;
    depth_is(&service, 0).await;
    place.site.redis.stall();
    are_spooled(&service, 1..=20).await;
    place.site.redis.resume();
    let said = end(service).await;
    assert!(!said.contains("events stay in the spool"), "{said}");
    let (code, summary, said) = drain(&settings);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        (&summary["accepted"], &summary["left"]),
        (&0.into(), &0.into()),
        "{summary}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_limit_nothing_is_promised_that_is_not_kept() {
    let mut place = Place::new().await;
    let settings = place.settings().with("ORDERSTREAM_SPOOL_LIMIT", "1MiB");
    let service = Service::start("run", &settings).await;
    place.site.redis.kill();
    let mut taken = 0;
    let answer = loop {
        let mut order = crate::harness::service::order(taken + 1);
        let line = order["line_items"][0].clone();
        order["line_items"] = vec![line; 1000].into();
        let (webhook_id, body) = (format!("webhook-{taken}"), order.to_string());
        let answer = service.deliver("orders/create", &webhook_id, body.as_bytes()).await;
        let answer = answer.unwrap();
        if answer.status() != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < 100, "it takes more than its limit");
    };
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(taken > 5, "it takes {taken} only");
    assert!(Path::new(place.folder.path()).join("spool.db").exists());

    place.site.redis.restart().await;
    place.site.has_rows(usize::try_from(taken).unwrap()).await;
    depth_is(&service, 0).await;
    assert_eq!(goes_direct(&service, 5000).await, 5001);
}
