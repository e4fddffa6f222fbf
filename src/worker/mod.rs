//! Workers: consumers of the group that hand entries to a [`Handler`] and ack what it confirmed.
//!
//! # Layout
//!
//! A process runs `ORDERSTREAM_WORKERS` consumers (`consumer.rs`). Each has two tasks, joined by a
//! channel of one page:
//!
//! - The *reader* (`reader.rs`) waits for a place in the channel and for memory, then reads one
//!   page: few entries first, then twice as many as came, at most `ORDERSTREAM_READ_COUNT` and
//!   about 8 MiB (`page_size.rs`, `memory.rs`). Its own pending entries come first. Of several
//!   partitions each has a reader, with a share of that page.
//! - The *processor* (`processor.rs`) runs two jobs, in order (`sequencer.rs`): one is at the
//!   handler while the next is being decoded. A job is a page (`batch.rs`), or as many partitions'
//!   pages as wait and make up one, or one entry that is retried alone when it is due
//!   (`retry_queue.rs`, `single_retry.rs`).
//!
//! Beside them run, once a process: the *reclaimer* (takes over stale entries of other consumers),
//! the *lease renewer* (keeps entries in flight from becoming stale), the *consumer reaper*
//! (removes silent consumers), the *further reader* (partitions that only other processes write
//! to), and the *pause* (an operator's, which stops reading and claiming). The *trimmer* and the
//! *loss monitor* run wherever the service runs, and [`warehouse_loss`] compares the warehouse with
//! what was acked.
//!
//! # Invariants
//!
//! - An entry is acked only after the handler confirmed it, or after it was written to the dead
//!   letters.
//! - An entry is in flight (`in_flight.rs`) from the read or claim that brought it to its ack, its
//!   dead letter or its release. What is in flight when the process dies stays pending and is
//!   claimed by another consumer.
//! - Only an attempt counts against an entry: a failure of it alone while others load, or a try
//!   alone that never ended (`retry_policy.rs`). Outages, deadlocks, timeouts, crashes and claims
//!   do not.
//! - A fault of the surroundings is waited out with everything in flight (100 ms growing to 5 s).
//!   The reclaimer rests meanwhile: a claim would only raise delivery counts.
//! - Entries in memory have at most 64 MiB in all (one larger entry is admitted alone), decoded
//!   loads at most 8 MiB each.
//!
//! # Start and end
//!
//! Roles start in any order; each survives the absence of what it needs. When `stop` fires, the
//! readers and the reclaimer end first and close the channels. The processors settle what they
//! have, as far as the handler takes it, but begin no retry. The lease renewer ends with the last
//! processor, so that nothing in flight becomes stale during a slow last load.
//!
//! # Absent
//!
//! No exactly-once here: a page may be loaded again after a crash between commit and ack, and the
//! warehouse's unique event id absorbs that. No priority among entries, and no parallel loads
//! within one consumer: they would only contend for the same rows. HTTP and SQL are other modules'.

mod backoff;
mod batch;
mod consumer;
mod consumer_reaper;
mod entry_ids;
mod further_reader;
mod in_flight;
mod lease_renewer;
mod liveness;
mod loader;
pub mod loss_monitor;
mod memory;
mod outage_log;
mod page_size;
mod pause;
mod processor;
mod reader;
mod reclaimer;
mod retry_policy;
mod retry_queue;
mod sequencer;
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
use self::pause::GroupPause;
use self::sequencer::take_output;
use crate::config::WorkerConfig;
use crate::event::EventRecord;
use crate::metrics::Metrics;
use crate::nodes::Batch;
use crate::retryability::Retryability;
use crate::stream::Stream;

/// Entries of one read at least, where a worker reads several partitions.
const LEAST_READ: usize = 32;

/// Takes the events of entries. The warehouse is one ([`Loader`]); a program can put its own in its
/// place.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Takes the events, all or none, and returns when their effects are durable. Must be safe to
    /// repeat, since the same events come again after a crash, and must bound its own waits.
    ///
    /// # Errors
    /// By retryability: a transient failure is retried as it is. Poison makes the worker search for
    /// the event at fault, which has `ORDERSTREAM_MAX_DELIVERIES` attempts; an unclear failure
    /// counts as an attempt only while other events are taken. A panic is a bug: its event has one
    /// try alone.
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError>;

    /// Whether events would be taken now. Asked before a claim and before an event is tried alone,
    /// so that an outage is not mistaken for an event that kills its workers.
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
    /// Events it did not take, by their index: it has another event under their id. They become
    /// dead letters.
    pub conflicts: Vec<usize>,
}

/// Why a handler did not take its events.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct HandlerError {
    /// Whether a retry may help.
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
        let shares = shares(config.workers.max(1), stream.partitions());
        let (readers, most) = (shares.iter().map(Vec::len).sum(), shares.iter().map(Vec::len).max());
        let read_count = match most {
            Some(readers) if readers > 1 => (config.read_count / readers).max(LEAST_READ.min(config.read_count)),
            _ => config.read_count,
        };
        let memory = Arc::new(Memory::new(readers, read_count));
        let consumers = (1..)
            .zip(shares)
            .map(|(number, partitions)| {
                let (stream, handler) = (Arc::clone(&stream), Arc::clone(&handler));
                let consumer = Consumer::new(
                    name(number),
                    stream,
                    handler,
                    config.clone(),
                    metrics.clone(),
                    Arc::clone(&last_load),
                    Arc::clone(&memory),
                );
                Arc::new(consumer.reading(partitions))
            })
            .collect();
        Self { consumers }
    }

    /// Works until `stop` fires, then settles what is in flight as far as the handler takes it.
    /// What is still [in flight](Self::in_flight) afterwards stays pending. The caller bounds the
    /// wait; dropping the future is safe.
    ///
    /// # Panics
    /// When a task of a role panics.
    pub async fn run(&self, stop: CancellationToken) {
        let mut roles = JoinSet::new();
        // The lease renewer ends last: when the last processor drops this guard.
        let drained = CancellationToken::new();
        let processing = Arc::new(drained.clone().drop_guard());
        roles.spawn(lease_renewer::run(self.consumers.clone(), drained));
        let pause = Arc::new(GroupPause::unknown());
        if let Some(first) = self.consumers.first() {
            roles.spawn(pause::run(Arc::clone(&first.stream), Arc::clone(&pause), stop.clone()));
        }
        for (index, consumer) in self.consumers.iter().enumerate() {
            // Read-ahead of one page a partition, which waits here while another is being loaded.
            let (pages, inbox) = mpsc::channel(consumer.partitions.len());
            if index == 0 {
                let (consumer, pages, pause) = (Arc::clone(consumer), pages.clone(), Arc::clone(&pause));
                roles.spawn(consumer_reaper::run(Arc::clone(&consumer), stop.clone()));
                roles.spawn(further_reader::run(
                    Arc::clone(&consumer),
                    pages.clone(),
                    Arc::clone(&pause),
                    stop.clone(),
                ));
                roles.spawn(reclaimer::run(consumer, pages, pause, stop.clone()));
            }
            for (nth, partition) in consumer.partitions.iter().copied().enumerate() {
                roles.spawn(reader::run(
                    Arc::clone(consumer),
                    (nth, partition),
                    pages.clone(),
                    Arc::clone(&pause),
                    stop.clone(),
                ));
            }
            drop(pages);
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

    /// Entries in flight: read or claimed, not acked.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.consumers.iter().map(|consumer| consumer.in_flight.len()).sum()
    }

    /// The load that is in progress for longest.
    #[must_use]
    pub fn batch_under_way(&self) -> Option<Batch> {
        let loads = self.consumers.iter().filter_map(|consumer| consumer.load.load_full());
        loads.min_by_key(|load| load.since).map(|load| Batch::clone(&load))
    }

    /// Whether every reader and processor is idle or made progress within its bound.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.consumers.iter().all(|consumer| consumer.is_live())
    }

    /// Names of the consumers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.consumers.iter().map(|consumer| consumer.name.as_str())
    }
}

/// The partitions that each of so many workers reads. A process reads all of them: the group shares
/// out the entries among processes.
fn shares(workers: usize, partitions: u16) -> Vec<Vec<u16>> {
    let partitions = Vec::from_iter(0..partitions.max(1));
    let of_worker = |worker: usize| match worker < partitions.len() {
        true => partitions.iter().copied().skip(worker).step_by(workers).collect(),
        false => partitions.iter().copied().cycle().nth(worker).into_iter().collect(),
    };
    (0..workers).map(of_worker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_out_the_partitions() {
        assert_eq!(shares(1, 1), [[0]]);
        assert_eq!(shares(3, 1), [[0], [0], [0]]);
        assert_eq!(shares(2, 5), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(shares(5, 2), [[0], [1], [0], [1], [0]]);
    }
}
