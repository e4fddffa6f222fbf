//! Redis has little memory left: what fits is stored, whatever waits beside it.

use std::time::Instant;

use serde_json::Value;

use super::{Place, deliver, deliver_as, depth_is, goes_direct_at_first, health};
use crate::harness::eventually;
use crate::harness::service::{Service, order};
use crate::harness::site::PATIENCE;

/// An order of so many lines, of about 150 bytes each.
fn long_order(id: u64, lines: usize) -> Value {
    let mut order = order(id);
    let line = order["line_items"][0].clone();
    order["line_items"] = vec![line; lines].into();
    order
}

/// A call of the drainer's has up to 4 MiB, which Redis counts as used memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_drains_through_the_memory_that_is_left() {
    let place = Place::new().await;
    let settings = place.settings().with("ORDERSTREAM_RETAIN_ACKED", "0");
    let service = Service::start("run", &settings).await;
    let direct = goes_direct_at_first(&service).await;
    place.site.is_settled().await;
    let _: redis::Value = place.site.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let spooled = (200, "spooled".to_owned());
    for id in 1001..=1400 {
        let answer = deliver_as(&service, &format!("webhook-{id}"), &long_order(id, 120)).await;
        assert_eq!(answer, spooled);
    }
    let bytes = health(&service).await["spool_bytes"].as_u64().unwrap();
    assert!(bytes > 3_400_000, "{bytes} bytes are one call of the drainer's");
    place.site.redis.leave_memory(1_200_000).await;
    depth_is(&service, 0).await;
    place.site.has_rows(usize::try_from(direct).unwrap() + 400).await;
    assert_eq!(place.site.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_order_waits_for_memory_and_holds_up_no_small_one() {
    let place = Place::new().await;
    // Nothing but memory sends an order to the spool here, however slow the machine is.
    let settings = place.settings().with("ORDERSTREAM_SPOOL_AFTER", "2s");
    let service = Service::start("serve", &settings).await;
    goes_direct_at_first(&service).await;
    place.site.redis.leave_memory(1_200_000).await;
    let began = Instant::now();
    let large = deliver_as(&service, "webhook-large", &long_order(1000, 20_000)).await;
    assert_eq!(large, (200, "spooled".to_owned()));
    depth_is(&service, 1).await;
    eventually("new orders go to the stream", PATIENCE, async || {
        (deliver(&service, 2000).await != (200, "spooled".to_owned())).then_some(())
    })
    .await;
    // A try of the drainer's at the large one takes memory for a moment, in which small ones are spooled, until the breaker
    // closes again. It is tried at once, and then after 1 s, 2 s, 4 s, ...
    let mut interruptions = 0;
    let mut was_direct = true;
    for id in 2001..=2050 {
        let (status, word) = deliver(&service, id).await;
        assert_eq!(status, 200, "{word}");
        let is_direct = word == "accepted";
        interruptions += u64::from(was_direct && !is_direct);
        was_direct = is_direct;
    }
    let tries = 1 + u64::from((began.elapsed().as_secs() + 1).ilog2());
    assert!(interruptions <= tries, "{interruptions} interruptions by {tries} tries");
    // The large one alone is still there.
    depth_is(&service, 1).await;
    eventually("new orders go to the stream again", PATIENCE, async || {
        (deliver(&service, 2051).await != (200, "spooled".to_owned())).then_some(())
    })
    .await;
    place.site.redis.leave_memory(100_000_000).await;
    depth_is(&service, 0).await;
    assert_eq!(place.site.dead_letters().await, 0);
}
