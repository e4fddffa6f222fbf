//! The processor: runs the jobs of one consumer in order.
//!
//! Invariants: the handler has one job at a time, in order of arrival, while the next page is
//! already being decoded. An entry that waits for its retry does not delay others, and retries take
//! turns with new pages. After the stop, pages are settled and no retry begins.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::consumer::{Consumer, InFlightPage};
use super::memory::entry_bytes;
use super::retry_policy::{RetryPlan, plan};
use super::retry_queue::{RetryQueue, Suspect};
use super::sequencer::{Sequencer, take_output};
use super::{batch, single_retry};
use crate::stream::{Delivered, codec};

/// One at the handler, one being decoded.
const AT_ONCE: usize = 2;

/// Runs until the channel is closed and empty.
pub(super) async fn run(consumer: Arc<Consumer>, mut inbox: mpsc::Receiver<InFlightPage>, stop: CancellationToken) {
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
        // After the stop no entry is retried, so none may keep the channel from being emptied.
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
                let Some(mut page) = page else { break };
                let merges = consumer.partitions.len() > 1;
                while merges
                    && page.entries.len() < read_count
                    && let Ok(more) = inbox.try_recv()
                {
                    page.join(more);
                }
                let InFlightPage { entries, memory } = page;
                tried_last = false;
                let together = triage(&consumer, &mut retry_queue, entries);
                if !together.is_empty() {
                    let ticket = sequencer.next();
                    let page = InFlightPage { entries: together, memory };
                    jobs.spawn(batch::run(Arc::clone(&consumer), page, ticket, stop.clone()));
                }
            }
        }
    }
    while let Some(ended) = jobs.join_next().await {
        take_output(ended);
    }
}

/// Puts entries that must be retried alone into the queue; returns the others.
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

/// What does not fit is released: it stays pending, and the reader's next sweep finds it.
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
