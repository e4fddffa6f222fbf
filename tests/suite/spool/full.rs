//! No room: in the stream, or on the disk of the spool.

use std::process::Command;

use super::{Place, are_spooled, deliver, depth_is, goes_direct, health, stream_length};
use crate::harness::eventually;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_at_its_cap_is_spooled_past_until_it_is_trimmed() {
    let place = Place::new().await;
    let (cap, none) = ("ORDERSTREAM_STREAM_MAXLEN", "ORDERSTREAM_RETAIN_ACKED");
    let settings = place.settings().with(cap, "20").with(none, "0");
    let service = Service::start("serve", &settings).await;
    for id in 1..=20 {
        assert_eq!(deliver(&service, id).await, (200, "accepted".to_owned()));
    }
    are_spooled(&service, 21..=30).await;
    assert_eq!(deliver(&service, 25).await, (200, "duplicate".to_owned()));
    depth_is(&service, 10).await;
    assert_eq!(service.get(&service.url("/health")).await.unwrap().status(), 200);
    assert_eq!(
        stream_length(&place.site.redis).await,
        20,
        "nothing is evicted for them"
    );

    let settings = place.site.settings().with(cap, "20").with(none, "0");
    let _worker = Service::start("work", &settings).await;
    depth_is(&service, 0).await;
    place.site.has_rows(30).await;
    goes_direct(&service, 100).await;
}

/// The largest size of a file that the process may write to: zero is a full disk, but for the error's name. Needs no
/// mount, and so no root.
fn limit_files(service: &Service, soft: &str) {
    let pid = service.pid().to_string();
    let limit = format!("--fsize={soft}:unlimited");
    let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(set.expect("prlimit (util-linux) is needed").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_answered_503_and_heals() {
    let mut place = Place::new().await;
    // The signal that comes with the error would kill it; ignored ones stay so over exec.
    let mut program = Command::new("sh");
    let ignoring = "trap '' XFSZ; exec \"$0\" run";
    program.args(["-c", ignoring, env!("CARGO_BIN_EXE_orderstream")]);
    let service = Service::start_by(program, &place.settings()).await;
    place.site.redis.kill();
    are_spooled(&service, 1..=5).await;
    limit_files(&service, "0");
    let order = crate::harness::service::order(6).to_string();
    let refused = service.deliver("orders/create", "webhook-6", order.as_bytes()).await;
    let refused = refused.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let said = service.says("the spool takes no writes").await;
    assert!(said.contains("ERROR"), "{said}");
    eventually("the node is not ready", PATIENCE, async || {
        let answer = service.get(&service.url("/readyz")).await.unwrap();
        (answer.status() == 503).then_some(())
    })
    .await;
    let report = health(&service).await;
    assert_eq!(
        (&report["status"], &report["spool_depth"]),
        (&"critical".into(), &5.into())
    );

    limit_files(&service, "unlimited");
    eventually("it is taken again", PATIENCE, async || {
        (deliver(&service, 6).await == (200, "spooled".to_owned())).then_some(())
    })
    .await;
    service.says("the spool takes writes again").await;
    place.site.redis.restart().await;
    depth_is(&service, 0).await;
    place.site.has_rows(6).await;
    place.site.is_settled().await;
    assert_eq!(place.site.rows(), 6);
}
