//! A foreign entry with the greatest possible id: the stream takes none ever again.

use serde_json::Value;

use super::{Place, are_spooled, depth_is, goes_direct, goes_direct_at_first, health};
use crate::harness::eventually;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

const GREATEST: &str = "18446744073709551615-18446744073709551615";

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_ids_are_used_up_is_told_and_left_behind() {
    let place = Place::new().await;
    let settings = place.settings().with("ORDERSTREAM_HEALTH_AFTER", "0s");
    let service = Service::start("serve", &settings).await;
    let direct = usize::try_from(goes_direct_at_first(&service).await).unwrap();
    let event = crate::harness::service::event(500).to_string();
    let command = [
        "XADD",
        "orders_stream",
        GREATEST,
        "event_type",
        "order.created",
        "event_id",
        "event-500",
    ];
    let command = [&command[..], &["timestamp", "2026-01-05T10:00:00Z", "payload", &event]].concat();
    let _: String = place.site.redis.command(&command).await;
    are_spooled(&service, 101..=110).await;
    depth_is(&service, 10).await;
    // The ids and whether writes are taken are asked for apart, so that one may be known before the other.
    let report = eventually("health says what to do", PATIENCE, async || {
        let is_told = |check: &Value| check["detail"].as_str().unwrap().contains("ORDERSTREAM_STREAM");
        let ids = service.health_check("stream_ids").await.filter(is_told)?;
        service.health_check("stream").await.filter(is_told)?;
        (ids["status"] == "critical").then_some(health(&service).await)
    })
    .await;
    assert_eq!(report["status"], "critical");
    let said = service.says("cannot be drained").await;
    assert!(said.contains("greatest possible id"), "{said}");
    assert!(
        !service.stderr().contains("a spooled entry is refused"),
        "{}",
        service.stderr()
    );
    let checked = settings.command(&["check", "serve", "--json"]).output().unwrap();
    assert_eq!(checked.status.code(), Some(78));
    let printed = String::from_utf8(checked.stdout).unwrap();
    assert!(printed.contains("greatest possible id"), "{printed}");
    drop(service);

    // What OPERATIONS says: another stream, and a second `work` on the old one.
    let _old = Service::start("work", &place.site.settings()).await;
    let new = settings.with("ORDERSTREAM_STREAM", "orders_stream_2");
    let service = Service::start("run", &new).await;
    depth_is(&service, 0).await;
    place.site.has_rows(direct + 1 + 10).await;
    place.site.is_settled().await;
    assert_eq!(place.site.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_far_ahead_of_the_clock_are_warned_of() {
    let place = Place::new().await;
    // Microseconds where milliseconds belong.
    let command = ["XADD", "orders_stream", "1795521537000000-0", "event_id", "e"];
    let _: String = place.site.redis.command(&command).await;
    let settings = place.settings().with("ORDERSTREAM_HEALTH_AFTER", "0s");
    let service = Service::start("serve", &settings).await;
    service.says("ahead of the clock").await;
    eventually("health warns", PATIENCE, async || {
        let check = service.health_check("stream_ids").await?;
        (check["status"] == "warning").then_some(())
    })
    .await;
    let checked = settings.command(&["check", "serve", "--json"]).output().unwrap();
    let printed = String::from_utf8(checked.stdout).unwrap();
    assert!(printed.contains("ahead of the clock"), "{printed}");
    goes_direct(&service, 0).await;
}
