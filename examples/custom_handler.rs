//! A handler of one's own in place of the warehouse: prints every event as a line of JSON.
//!
//! `REDIS_URL=redis://localhost cargo run --example custom_handler`
//!
//! The rest is as in `orderstream work`; another `ORDERSTREAM_GROUP` gets all events beside the warehouse's workers.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use orderstream::config::{Config, Inputs, Purpose};
use orderstream::event::EventRecord;
use orderstream::metrics::Metrics;
use orderstream::retryability::Retryability;
use orderstream::stream::redis::RedisStream;
use orderstream::worker::{Handled, Handler, HandlerError, Workers};
use tokio_util::sync::CancellationToken;

struct Print;

#[async_trait]
impl Handler for Print {
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        let mut out = std::io::stdout().lock();
        for record in events {
            // A full disk is no event's fault: they are kept and tried again.
            writeln!(out, "{}", record.payload).map_err(|error| HandlerError::new(Retryability::Transient, error))?;
        }
        Ok(Handled {
            new: events.len() as u64,
            ..Handled::default()
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let env = Arc::new(std::env::vars().collect());
    let inputs = Inputs {
        flags: Arc::default(),
        env,
    };
    // Only the stream has to be configured.
    let config = Config::load(Purpose::Status, inputs)?;
    let redis = config.redis.as_ref().ok_or("REDIS_URL is not set")?;
    let metrics = Metrics::new();
    let stream = RedisStream::new(redis, &config.stream, metrics.clone())?;
    let workers = Workers::new(Arc::new(stream), Arc::new(Print), &config.worker, &metrics);

    let stop = CancellationToken::new();
    let interrupted = async {
        tokio::signal::ctrl_c().await?;
        stop.cancel();
        Ok::<_, std::io::Error>(())
    };
    let ((), interrupted) = tokio::join!(workers.run(stop.clone()), interrupted);
    Ok(interrupted?)
}
