//! Several partitions, of which one takes nothing: its events alone are spooled.

use serde_json::Value;

use super::{Place, deliver, depth_is, figure, health};
use crate::harness::eventually;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

/// The log of the partition that is away.
const AWAY: &str = "{orders_stream:1.204}";

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_away_spools_its_own_events_only() {
    let place = Place::new().await;
    let settings = place.settings().with("ORDERSTREAM_PARTITIONS", "4");
    let service = Service::start("run", &settings).await;
    for id in 1..=40 {
        assert_eq!(deliver(&service, id).await, (200, "accepted".to_owned()));
    }
    place.site.has_rows(40).await;

    eventually("all is acked", PATIENCE, async || {
        let partitions = health(&service).await["partitions"].as_array()?.clone();
        let is_done = |one: &Value| one["lag"] == 0 && one["pending"] == 0;
        partitions.iter().all(is_done).then_some(())
    })
    .await;

    let redis = &place.site.redis;
    let take_away = "redis.call('RENAME', KEYS[1], KEYS[2]) redis.call('SET', KEYS[1], 'a string')";
    redis.command::<()>(&["EVAL", take_away, "2", AWAY, "kept"]).await;
    let mut spooled = 0;
    for id in 41..=140 {
        let (status, word) = deliver(&service, id).await;
        assert_eq!(status, 200, "{word}");
        spooled += u64::from(word == "spooled");
    }
    assert!((10..=60).contains(&spooled), "{spooled} of 100");
    eventually("the others' events are rows", PATIENCE, async || {
        (place.site.rows() as u64 >= 140 - spooled).then_some(())
    })
    .await;
    depth_is(&service, spooled).await;
    let report = eventually("health says so", PATIENCE, async || {
        let report = health(&service).await;
        let partitions = report["partitions"].as_array()?.clone();
        let is_away = |one: &Value| one["writable"] == false && one["breaker_open"] == true;
        let away = Vec::from_iter(
            partitions
                .iter()
                .filter(|one| is_away(one))
                .map(|one| one["partition"].as_u64()),
        );
        (partitions.len() == 4 && away == [Some(1)]).then_some(report)
    })
    .await;
    let check = report["checks"].as_array().unwrap().iter();
    let check = check.into_iter().find(|check| check["name"] == "partitions").unwrap();
    assert_eq!(check["status"], "critical", "{check}");
    eventually("the gauge says so", PATIENCE, async || {
        let writable = figure(&service, "orderstream_partition_writable{partition=\"1\"}").await;
        (writable < 0.5).then_some(())
    })
    .await;

    redis.command::<()>(&["RENAME", "kept", AWAY]).await;
    depth_is(&service, 0).await;
    place.site.has_rows(140).await;
    place.site.is_settled().await;
    assert_eq!(place.site.rows(), 140);
    let last = eventually("its events go to it again", PATIENCE, async || {
        let report = health(&service).await;
        let partitions = report["partitions"].as_array()?.clone();
        partitions
            .iter()
            .all(|one| one["breaker_open"] == false)
            .then_some(report)
    })
    .await;
    assert_eq!(last["spool_depth"], 0);
}
