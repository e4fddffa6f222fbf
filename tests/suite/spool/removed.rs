//! A spool file that is removed while it is open: nothing more is spooled, and what it holds is moved on.

use super::{Place, are_spooled, deliver, goes_direct, health, stream_length};
use crate::harness::eventually;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn takes_nothing_and_is_drained() {
    let mut place = Place::new().await;
    let service = Service::start("serve", &place.settings()).await;
    place.site.redis.kill();
    are_spooled(&service, 1..=5).await;
    for name in ["spool.db", "spool.db-wal", "spool.db-shm"] {
        std::fs::remove_file(place.folder.path().join(name)).unwrap();
    }
    assert_eq!(deliver(&service, 6).await.0, 503);
    eventually("health says what happened", PATIENCE, async || {
        let report = health(&service).await;
        let checks = report["checks"].as_array().unwrap().clone();
        let spool = checks.into_iter().find(|check| check["name"] == "spool").unwrap();
        let is_said = spool["detail"].as_str().unwrap().contains("removed or replaced");
        (report["status"] == "critical" && is_said).then_some(())
    })
    .await;
    place.site.redis.restart().await;
    eventually("what it held is moved on", PATIENCE, async || {
        (stream_length(&place.site.redis).await >= 5).then_some(())
    })
    .await;
    goes_direct(&service, 6).await;
}
