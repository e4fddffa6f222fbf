//! How many entries a worker reads at once, and in which order it hands them over.

use super::*;

const BACKLOG: usize = 1000;

/// Appends events with the ids `event-1` to `event-1000`.
const APPEND: &str = "
for number = 1, ARGV[1] do
  local payload = string.gsub(ARGV[2], 'event%-0', 'event-' .. number)
  redis.call('XADD', KEYS[1], '*', 'event_type', 'order.created', 'event_id', 'event-' .. number,
    'timestamp', '2026-01-05T10:00:00Z', 'payload', payload)
end";

/// Keeps the ids of each load.
#[derive(Default)]
struct Loads(Mutex<Vec<Vec<String>>>);

#[async_trait]
impl Handler for Loads {
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        let ids = events.iter().map(|record| record.event.event_id.as_str().to_owned());
        self.0.lock().unwrap().push(ids.collect());
        Ok(Handled {
            new: events.len() as u64,
            ..Handled::default()
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_read_in_order_few_first_and_then_in_full_pages() {
    let redis = RedisServer::start().await;
    let (count, payload) = (BACKLOG.to_string(), event(0).to_string());
    redis
        .command::<()>(&["EVAL", APPEND, "1", "orders_stream", &count, &payload])
        .await;
    let metrics = Metrics::new();
    let stream = RedisStream::new(&redis.config(), &stream_config(), metrics.clone()).unwrap();
    let handler = Arc::new(Loads::default());
    let workers = Workers::new(Arc::new(stream), handler.clone(), &worker_config(), &metrics);
    let stop = CancellationToken::new();
    let watching = async {
        eventually("all are handed over", PATIENCE, async || {
            let taken: usize = handler.0.lock().unwrap().iter().map(Vec::len).sum();
            (taken >= BACKLOG).then_some(())
        })
        .await;
        stop.cancel();
    };
    tokio::join!(workers.run(stop.clone()), watching);

    let loads = handler.0.lock().unwrap();
    let sizes = Vec::from_iter(loads.iter().map(Vec::len));
    assert!(sizes[0] <= 32 && sizes.contains(&500), "{sizes:?}");
    let wanted = Vec::from_iter((1..=BACKLOG).map(|number| format!("event-{number}")));
    assert_eq!(loads.concat(), wanted);
}
