//! The processor: settles one consumer's batches in order, and tries suspects alone when they are due.
//!
//! Invariants: the handler works on one thing at a time and in order of arrival, while the next batch is already being
//! decoded; an entry that waits for its next try never holds up the others, and tries alone take turns with new
//! work; at the end nothing is half done.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::consumer::{Consumer, Page};
use super::memory::entry_bytes;
use super::retry_policy::{RetryPlan, plan};
use super::retry_queue::{RetryQueue, Suspect};
use super::{batch, single_retry, take_output};
use crate::stream::{Delivered, codec};

/// One at the handler, one being decoded.
const AT_ONCE: usize = 2;

/// Processes until the inbox is closed and empty.
pub(super) async fn run(consumer: Arc<Consumer>, mut inbox: mpsc::Receiver<Page>, stop: CancellationToken) {
    let read_count = consumer.config.read_count;
    let mut retry_queue = RetryQueue::new(read_count.saturating_mul(4));
    let mut jobs: JoinSet<Vec<Suspect>> = JoinSet::new();
    let mut sequencer = Sequencer::new();
    let mut tried_last = false;
    loop {
        if jobs.is_empty() {
            consumer.loading.idle();
        }
        let has_place = jobs.len() < AT_ONCE;
        let due = retry_queue.next_due();
        // After the stop no suspect is tried any more, so none may keep the inbox from being emptied.
        let stopping = stop.is_cancelled();
        let takes_more = has_place && (stopping || !retry_queue.is_behind(read_count));
        let gives_way = tried_last && takes_more && !inbox.is_empty();
        tokio::select! {
            biased;
            Some(ended) = jobs.join_next() => set_aside(&consumer, &mut retry_queue, take_output(ended).unwrap_or_default()),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if has_place && due.is_some() && !stopping && !gives_way => {
                tried_last = true;
                if let Some(suspect) = retry_queue.pop() {
                    let ticket = sequencer.next();
                    jobs.spawn(single_retry::run(Arc::clone(&consumer), suspect, ticket, stop.clone()));
                }
            }
            page = inbox.recv(), if takes_more => {
                let Some(Page { entries, memory }) = page else { break };
                tried_last = false;
                let together = triage(&consumer, &mut retry_queue, entries);
                if !together.is_empty() {
                    let ticket = sequencer.next();
                    let page = Page { entries: together, memory };
                    jobs.spawn(batch::run(Arc::clone(&consumer), page, ticket, stop.clone()));
                }
            }
        }
    }
    while let Some(ended) = jobs.join_next().await {
        take_output(ended);
    }
}

/// Puts those that must be tried alone aside; answers the rest.
fn triage(consumer: &Consumer, retry_queue: &mut RetryQueue, delivered: Vec<Delivered>) -> Vec<Delivered> {
    let mut together = Vec::with_capacity(delivered.len());
    let mut alone = Vec::new();
    for mut one in delivered {
        codec::mend(&mut one.entry);
        match plan(one.deliveries, one.attempts, consumer.limits()) {
            RetryPlan::Together => together.push(one),
            RetryPlan::Alone(delay) => alone.push(Suspect::new(one, delay)),
            RetryPlan::DeadLetter => {
                let verdict = Some(format!(
                    "killed its worker: {} tries never ended",
                    one.attempts.unfinished
                ));
                alone.push(Suspect {
                    verdict,
                    ..Suspect::new(one, std::time::Duration::ZERO)
                });
            }
        }
    }
    set_aside(consumer, retry_queue, alone);
    together
}

/// What does not fit is let go: it stays pending, and the reader's next look through the pending entries finds it.
fn set_aside(consumer: &Consumer, retry_queue: &mut RetryQueue, suspects: Vec<Suspect>) {
    for mut suspect in suspects {
        let reserve = || {
            consumer
                .memory
                .retries
                .try_reserve(entry_bytes(&suspect.delivered.entry))
        };
        suspect.memory = suspect.memory.take().or_else(reserve);
        let left_out = match suspect.memory {
            Some(_) => retry_queue.add(suspect),
            None => Some(suspect),
        };
        if let Some(left_out) = left_out {
            debug!(stream_id = %left_out.id(), "too many entries wait to be tried alone; this one is left pending");
            consumer.in_flight.release(&[left_out.id()]);
        }
    }
}

/// A place in the order of jobs: it comes when the job before it has ended, however it ended.
pub(super) struct Ticket {
    before: Option<oneshot::Receiver<()>>,
    _end: oneshot::Sender<()>,
}

/// Gives each job its place behind the one before.
struct Sequencer(Option<oneshot::Receiver<()>>);

impl Ticket {
    /// Waits for it.
    pub(super) async fn wait(&mut self) {
        if let Some(before) = self.before.take() {
            // Nothing is ever sent: the job before drops its end.
            let _ = before.await;
        }
    }
}

impl Sequencer {
    fn new() -> Self {
        Self(None)
    }

    fn next(&mut self) -> Ticket {
        let (end, ended) = oneshot::channel();
        Ticket {
            before: self.0.replace(ended),
            _end: end,
        }
    }
}
