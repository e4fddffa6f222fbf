//! A page that does not come within the response timeout is not asked for again for ever.

use std::collections::BTreeSet;

use super::*;
use crate::harness::slow_link::SlowLink;

const ENTRIES: usize = 64;
const ENTRY_BYTES: usize = 128 << 10;
/// All entries take a second, one of them a sixty-fourth.
const RATE: usize = ENTRIES * ENTRY_BYTES;

const PENDING: [&str; 3] = ["XPENDING", "orders_stream", "pipeline_workers"];

/// Keeps the ids.
#[derive(Default)]
struct Keeping(Mutex<BTreeSet<String>>);

#[async_trait]
impl Handler for Keeping {
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        let ids = events.iter().map(|record| record.event.event_id.as_str().to_owned());
        self.0.lock().unwrap().extend(ids);
        Ok(Handled::default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_too_large_for_one_page_come_in_smaller_ones() {
    let redis = RedisServer::start().await;
    let padding = "x".repeat(ENTRY_BYTES);
    for id in 0..ENTRIES {
        let (event_id, payload) = (id.to_string(), event(id as u64).to_string());
        let fields = ["event_id", &event_id, "payload", &payload, "padding", &padding];
        let add = [&["XADD", "orders_stream", "*"], &fields[..]].concat();
        redis.command::<String>(&add).await;
    }
    let link = SlowLink::narrow(&redis, u32::try_from(RATE).unwrap());
    let config = RedisConfig {
        response_timeout: Duration::from_millis(500),
        url: link.url().into(),
        ..redis.config()
    };
    let metrics = Metrics::new();
    let stream = RedisStream::new(&config, &stream_config(), metrics.clone()).unwrap();
    let handler = Arc::new(Keeping::default());
    let workers = Workers::new(Arc::new(stream), handler.clone(), &worker_config(), &metrics);
    let stop = CancellationToken::new();
    let watching = async {
        eventually("all have come", PATIENCE, async || {
            (handler.0.lock().unwrap().len() == ENTRIES).then_some(())
        })
        .await;
        stop.cancel();
    };
    tokio::join!(workers.run(stop.clone()), watching);
    assert_eq!(redis.command::<u64>(&["XLEN", "dead_letters"]).await, 0);
    let pending = redis.command::<(u64, redis::Value, redis::Value, redis::Value)>(&PENDING);
    assert_eq!(pending.await.0, 0);
    let text = metrics.encode().unwrap();
    assert!(
        text.contains(r#"orderstream_reconnects_total{service="stream"}"#),
        "it did time out: {text}"
    );
}
