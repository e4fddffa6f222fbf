//! From the stream to a handler: read, decode, load, ack; and everything that goes wrong between.
//!
//! Owns the consumer side, one role a file: reader, processor, reclaimer, lease renewer, trimmer, consumer
//! reaper, loss monitor. Must not know HTTP or SQL. Invariants: an entry is acked only after its handler
//! confirmed it or it is in the dead letters; only an entry that failed alone, or whose tries alone never
//! ended, gets there; whatever a worker holds when it dies stays pending for another.

mod backoff;
mod batch;
mod consumer;
mod consumer_reaper;
mod in_flight;
mod lease_renewer;
mod liveness;
mod loader;
pub mod loss_monitor;
mod memory;
mod outage_log;
mod page_size;
mod processor;
mod reader;
mod reclaimer;
mod retry_policy;
mod retry_queue;
mod single_retry;
mod spans;
pub mod trimmer;
pub mod warehouse_loss;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::consumer::Consumer;
pub use self::loader::Loader;
use self::memory::Memory;
pub(crate) use self::outage_log::OutageLog;
use crate::config::WorkerConfig;
use crate::event::EventRecord;
use crate::metrics::Metrics;
use crate::nodes::Batch;
use crate::retryability::Retryability;
use crate::stream::Stream;

/// What is done with events. The warehouse is one; a Rust user can put their own in its place.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Takes the events, all or none; answers when their effects are durable. Must be safe to repeat: after a crash
    /// the same events come again. Must bound its own waits.
    ///
    /// # Errors
    /// By class: transient is retried as it is, poison makes the worker find the event at fault, which has a few attempts;
    /// what is unclear counts as one only while other events are taken. A panic is a bug: its event has one try alone.
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError>;

    /// Whether events would be taken now. Asked before a claim and before an event is tried alone, so that an outage
    /// is not mistaken for an event that kills its workers.
    ///
    /// # Errors
    /// Why not.
    async fn ready(&self) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// What a handler did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handled {
    /// Events that were new.
    pub new: u64,
    /// Events it had already.
    pub known: u64,
    /// Events it did not take, by their index: it has another event under their id. They become dead letters.
    pub conflicts: Vec<usize>,
}

/// Why a handler did not take its events.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct HandlerError {
    /// Whose fault it was.
    pub retryability: Retryability,
    /// For the operator; names no content.
    pub message: String,
}

impl HandlerError {
    /// `message` is for the operator and must name no content.
    #[must_use]
    pub fn new(retryability: Retryability, message: impl std::fmt::Display) -> Self {
        Self {
            retryability,
            message: message.to_string(),
        }
    }
}

/// The workers of one process: each its own consumer of the group, with a reader and a processor.
#[derive(Debug)]
pub struct Workers {
    consumers: Vec<Arc<Consumer>>,
}

impl Workers {
    /// `config.workers` of them, named `consumer`, `consumer-2`, ...
    #[must_use]
    pub fn new(stream: Arc<dyn Stream>, handler: Arc<dyn Handler>, config: &WorkerConfig, metrics: &Metrics) -> Self {
        let name = |number| match number {
            1 => config.consumer.clone(),
            _ => format!("{}-{number}", config.consumer),
        };
        let last_load = Arc::default();
        let memory = Arc::new(Memory::new(config.workers, config.read_count));
        let consumers = (1..=config.workers.max(1))
            .map(|number| {
                let (stream, handler) = (Arc::clone(&stream), Arc::clone(&handler));
                Arc::new(Consumer::new(
                    name(number),
                    stream,
                    handler,
                    config.clone(),
                    metrics.clone(),
                    Arc::clone(&last_load),
                    Arc::clone(&memory),
                ))
            })
            .collect();
        Self { consumers }
    }

    /// Works until `stop` fires, then finishes and acks what is in hand as far as the handler takes it. What is still
    /// [in flight](Self::in_flight) afterwards stays pending. The caller bounds the wait; dropping the future is safe.
    ///
    /// # Panics
    /// When a role does: then nothing is being worked on any more.
    pub async fn run(&self, stop: CancellationToken) {
        let mut roles = JoinSet::new();
        // The lease renewer goes last: it ends when the last processor lets go of this guard.
        let drained = CancellationToken::new();
        let processing = Arc::new(drained.clone().drop_guard());
        roles.spawn(lease_renewer::run(self.consumers.clone(), drained));
        for (index, consumer) in self.consumers.iter().enumerate() {
            // Read-ahead of one: a page waits here while another is being loaded.
            let (pages, inbox) = mpsc::channel(1);
            if index == 0 {
                roles.spawn(reclaimer::run(Arc::clone(consumer), pages.clone(), stop.clone()));
                roles.spawn(consumer_reaper::run(Arc::clone(consumer), stop.clone()));
            }
            roles.spawn(reader::run(Arc::clone(consumer), pages, stop.clone()));
            let (processor, guard) = (
                processor::run(Arc::clone(consumer), inbox, stop.clone()),
                processing.clone(),
            );
            roles.spawn(async move {
                processor.await;
                drop(guard);
            });
        }
        drop(processing);
        while let Some(ended) = roles.join_next().await {
            take_output(ended);
        }
    }

    /// Entries in hand: read or claimed, not acked.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.consumers.iter().map(|consumer| consumer.in_flight.len()).sum()
    }

    /// The oldest load under way.
    #[must_use]
    pub fn batch_under_way(&self) -> Option<Batch> {
        let loads = self.consumers.iter().filter_map(|consumer| consumer.load.load_full());
        loads.min_by_key(|load| load.since).map(|load| Batch::clone(&load))
    }

    /// Whether every loop either waits for work or has moved within its bound.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.consumers.iter().all(|consumer| consumer.is_live())
    }

    /// Names of the consumers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.consumers.iter().map(|consumer| consumer.name.as_str())
    }
}

/// Passes a task's panic on to whoever joins it.
fn take_output<T>(ended: Result<T, tokio::task::JoinError>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}
