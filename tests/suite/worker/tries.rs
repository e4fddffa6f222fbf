//! What goes on record of the tries at one entry while the stream refuses to write.

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
    for _ in 0..2 {
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
