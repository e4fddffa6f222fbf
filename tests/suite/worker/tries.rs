//! Tries at entries that were delivered often, and what goes on record of them.

use super::*;

/// Something else is always at fault, and the stream takes no record of it: there is memory again only when the next
/// try is about to begin.
struct Spared {
    redis: RedisServer,
    records: Mutex<Vec<String>>,
    stop: CancellationToken,
}

impl Spared {
    async fn limit_memory(&self, bytes: &str) {
        self.redis.command::<()>(&["CONFIG", "SET", "maxmemory", bytes]).await;
    }
}

#[async_trait]
impl Handler for Spared {
    async fn handle(&self, _: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        let records: Vec<String> = self
            .redis
            .command(&["HVALS", "orders_stream:attempts:pipeline_workers"])
            .await;
        self.records.lock().unwrap().extend(records);
        if self.records.lock().unwrap().len() == 5 {
            self.stop.cancel();
        }
        self.limit_memory("1").await;
        Err(HandlerError::new(Retryability::Transient, "not now"))
    }

    async fn ready(&self) -> Result<(), HandlerError> {
        self.limit_memory("0").await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_try_that_cannot_be_recorded_is_made_good() {
    let redis = RedisServer::start().await;
    let payload = event(1).to_string();
    let add = ["XADD", "orders_stream", "*", "event_id", "event-1", "payload", &payload];
    redis.command::<String>(&add).await;
    let stream = RedisStream::new(&redis.config(), &stream_config(), Metrics::new()).unwrap();
    stream.ensure_group().await.unwrap();
    let mut reader = stream.reader("tests", 0);
    reader.read(1, Duration::ZERO, &CancellationToken::new()).await.unwrap();
    for _ in 0..4 {
        // Handed out so often, it is tried alone.
        let start = StreamId::default();
        stream.claim("tests", Claim::Own(&[]), start, 1).await.unwrap();
    }

    let stop = CancellationToken::new();
    let handler = Arc::new(Spared {
        redis,
        records: Mutex::default(),
        stop: stop.clone(),
    });
    let workers = Workers::new(Arc::new(stream), handler.clone(), &worker_config(), &Metrics::new());
    tokio::time::timeout(PATIENCE, workers.run(stop)).await.unwrap();
    let records = handler.records.lock().unwrap();
    assert_eq!(*records, ["0 1"; 5], "each try begins, and none stays unfinished");
}

/// Reads so many entries as a consumer that is gone since; they were delivered as often.
const READ_AND_GO: &str = "
local read = redis.call('XREADGROUP', 'GROUP', 'pipeline_workers', 'gone', 'COUNT', ARGV[1], 'STREAMS', KEYS[1], '>')
for _, entry in ipairs(read[1][2]) do
  redis.call('XCLAIM', KEYS[1], 'pipeline_workers', 'gone', 0, entry[1], 'IDLE', 3600000, 'RETRYCOUNT', ARGV[2])
end";

/// Notes how many events each load has.
#[derive(Default)]
struct Sizes(Mutex<Vec<usize>>);

#[async_trait]
impl Handler for Sizes {
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        self.0.lock().unwrap().push(events.len());
        Ok(Handled::default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_were_delivered_often_share_smaller_and_smaller_loads() {
    let redis = RedisServer::start().await;
    let stream = RedisStream::new(&redis.config(), &stream_config(), Metrics::new()).unwrap();
    stream.ensure_group().await.unwrap();
    // Their next delivery is one more.
    for (count, deliveries) in [(300, "1"), (300, "2"), (40, "3"), (5, "4")] {
        for id in 0..count {
            let payload = event(id).to_string();
            let add = ["XADD", "orders_stream", "*", "event_id", "event", "payload", &payload];
            redis.command::<String>(&add).await;
        }
        let read = [
            "EVAL",
            READ_AND_GO,
            "1",
            "orders_stream",
            &count.to_string(),
            deliveries,
        ];
        redis.command::<()>(&read).await;
    }
    let (stop, handler) = (CancellationToken::new(), Arc::new(Sizes::default()));
    let config = WorkerConfig {
        claim_idle: Duration::from_secs(1),
        ..worker_config()
    };
    let workers = Workers::new(Arc::new(stream), handler.clone(), &config, &Metrics::new());
    let loaded = || handler.0.lock().unwrap().iter().sum::<usize>();
    let all = eventually("all are loaded", PATIENCE, async || (loaded() == 645).then_some(()));
    let run = workers.run(stop.clone());
    tokio::join!(run, async {
        all.await;
        stop.cancel();
    });
    let sizes = handler.0.lock().unwrap();
    let of = |size: usize| sizes.iter().filter(|other| **other == size).count();
    assert!(of(64) >= 4, "delivered three times: {sizes:?}");
    assert!(of(8) >= 4, "delivered four times: {sizes:?}");
    assert!(of(1) >= 5, "delivered more often: {sizes:?}");
    assert!(sizes.len() <= 30, "{sizes:?}");
}
