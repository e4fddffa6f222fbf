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

use super::consumer::Consumer;
use super::outcome::{Plan, plan};
use super::waiting::{Suspect, Waiting};
use super::{batch, resume, trial};
use crate::stream::Delivered;

/// One at the handler, one being decoded.
const AT_ONCE: usize = 2;

/// Processes until the inbox is closed and empty.
pub(super) async fn run(consumer: Arc<Consumer>, mut inbox: mpsc::Receiver<Vec<Delivered>>, stop: CancellationToken) {
    let read_count = consumer.config.read_count;
    let mut waiting = Waiting::new(read_count.saturating_mul(4));
    let mut jobs: JoinSet<Vec<Suspect>> = JoinSet::new();
    let mut last = Turn::first();
    let mut tried_last = false;
    loop {
        if jobs.is_empty() {
            consumer.loading.rest();
        }
        let has_place = jobs.len() < AT_ONCE;
        let due = waiting.next_due();
        // After the stop no suspect is tried any more, so none may keep the inbox from being emptied.
        let stopping = stop.is_cancelled();
        let takes_more = has_place && (stopping || !waiting.is_behind(read_count));
        let gives_way = tried_last && takes_more && !inbox.is_empty();
        tokio::select! {
            biased;
            Some(ended) = jobs.join_next() => set_aside(&consumer, &mut waiting, resume(ended).unwrap_or_default()),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if has_place && due.is_some() && !stopping && !gives_way => {
                tried_last = true;
                if let Some(suspect) = waiting.pop() {
                    let turn = last.next();
                    jobs.spawn(trial::run(Arc::clone(&consumer), suspect, turn, stop.clone()));
                }
            }
            delivered = inbox.recv(), if takes_more => {
                let Some(delivered) = delivered else { break };
                tried_last = false;
                let together = sort_out(&consumer, &mut waiting, delivered);
                if !together.is_empty() {
                    let turn = last.next();
                    jobs.spawn(batch::run(Arc::clone(&consumer), together, turn, stop.clone()));
                }
            }
        }
    }
    while let Some(ended) = jobs.join_next().await {
        resume(ended);
    }
}

/// Puts those that must be tried alone aside; answers the rest.
fn sort_out(consumer: &Consumer, waiting: &mut Waiting, delivered: Vec<Delivered>) -> Vec<Delivered> {
    let mut together = Vec::with_capacity(delivered.len());
    let mut alone = Vec::new();
    for one in delivered {
        match plan(one.deliveries, one.attempts, consumer.limits()) {
            Plan::Together => together.push(one),
            Plan::Alone(delay) => alone.push(Suspect::new(one, delay)),
            Plan::DeadLetter => {
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
    set_aside(consumer, waiting, alone);
    together
}

/// What does not fit is let go: it stays pending, and the reader's next look through the pending entries finds it.
fn set_aside(consumer: &Consumer, waiting: &mut Waiting, suspects: Vec<Suspect>) {
    for suspect in suspects {
        if let Some(gone) = waiting.add(suspect) {
            debug!(stream_id = %gone.id(), "too many entries wait to be tried alone; this one is left pending");
            consumer.held.release(&[gone.id()]);
        }
    }
}

/// A place in the order of jobs: it comes when the job before it has ended, however it ended.
pub(super) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    _end: oneshot::Sender<()>,
}

/// The end of the line of jobs.
struct Line(Option<oneshot::Receiver<()>>);

impl Turn {
    fn first() -> Line {
        Line(None)
    }

    /// Waits for it.
    pub(super) async fn come(&mut self) {
        if let Some(before) = self.before.take() {
            // Nothing is ever sent: the job before drops its end.
            let _ = before.await;
        }
    }
}

impl Line {
    fn next(&mut self) -> Turn {
        let (end, ended) = oneshot::channel();
        Turn {
            before: self.0.replace(ended),
            _end: end,
        }
    }
}
