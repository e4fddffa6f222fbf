//! The dead letters take nothing: their cap is reached, or something else stands in the place of their key. Orders go on.

use redis::Value as Reply;

use super::{Place, are_spooled, deliver, depth_is, figure, goes_direct, goes_direct_at_first};
use crate::harness::eventually;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

/// Webhooks that cannot become events.
async fn are_quarantined(service: &Service, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        let body = format!("{{\"id\":{id}");
        let answer = service
            .deliver("orders/create", &format!("broken-{id}"), body.as_bytes())
            .await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["status"], "quarantined");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_the_dead_letters_at_their_cap_waits_in_the_spool() {
    let mut place = Place::new().await;
    let settings = place.settings().with("ORDERSTREAM_DEAD_LETTERS_MAXLEN", "2");
    let service = Service::start("serve", &settings).await;
    goes_direct_at_first(&service).await;
    are_quarantined(&service, 1..=5).await;
    depth_is(&service, 3).await;
    assert_eq!(place.site.dead_letters().await, 2);
    assert_eq!(deliver(&service, 100).await, (200, "accepted".to_owned()));
    place.site.redis.kill();
    are_spooled(&service, 201..=210).await;
    are_quarantined(&service, 6..=7).await;
    place.site.redis.restart().await;
    depth_is(&service, 5).await;
    goes_direct(&service, 300).await;
    assert_eq!(place.site.dead_letters().await, 2);
    let _: Reply = place
        .site
        .redis
        .command(&["XTRIM", "dead_letters", "MAXLEN", "0"])
        .await;
    depth_is(&service, 3).await;
    assert_eq!(place.site.dead_letters().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_string_in_the_place_of_the_dead_letters_holds_up_no_order_and_loses_nothing() {
    let place = Place::new().await;
    let service = Service::start("run", &place.settings()).await;
    let last = goes_direct_at_first(&service).await;
    let _: Reply = place.site.redis.command(&["SET", "dead_letters", "x"]).await;
    are_quarantined(&service, 1..=3).await;
    depth_is(&service, 3).await;
    for id in 101..=110 {
        assert_eq!(deliver(&service, id).await, (200, "accepted".to_owned()));
    }
    place.site.has_rows(usize::try_from(last).unwrap() + 10).await;
    depth_is(&service, 3).await;
    let _: Reply = place.site.redis.command(&["DEL", "dead_letters"]).await;
    depth_is(&service, 0).await;
    assert_eq!(place.site.dead_letters().await, 3);
    eventually("a look has seen them", PATIENCE, async || {
        let seen = figure(&service, "orderstream_dead_letters_length").await;
        ((seen - 3.0).abs() < 0.1).then_some(())
    })
    .await;
    // What stood in them is gone where a foreign command takes their place: that is said.
    let _: Reply = place.site.redis.command(&["SET", "dead_letters", "x"]).await;
    let _: Reply = place.site.redis.command(&["DEL", "dead_letters"]).await;
    let said = service.says("the stream lost entries").await;
    assert!(said.contains("dead_letters_missing=3"), "{said}");
    assert!((figure(&service, "orderstream_entries_lost_total").await - 3.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_string_in_the_place_of_the_stream_is_waited_out() {
    let place = Place::new().await;
    let service = Service::start("run", &place.settings()).await;
    let direct = goes_direct_at_first(&service).await;
    // SET takes with it what is not loaded yet.
    place.site.has_rows(usize::try_from(direct).unwrap()).await;
    let _: Reply = place.site.redis.command(&["SET", "orders_stream", "x"]).await;
    are_spooled(&service, 101..=110).await;
    are_quarantined(&service, 1..=2).await;
    service.says("the spool cannot be drained").await;
    let _: Reply = place.site.redis.command(&["DEL", "orders_stream"]).await;
    depth_is(&service, 0).await;
    let direct = direct + goes_direct(&service, 200).await - 200;
    place.site.has_rows(usize::try_from(direct).unwrap() + 10).await;
    assert_eq!(place.site.dead_letters().await, 2);
}
