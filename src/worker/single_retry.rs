//! One entry, retried alone.
//!
//! Invariants: a try is on record before it begins, so that it counts even if it ends this process.
//! It begins only while the handler is ready, so that an outage does not look like an entry that
//! kills its worker. An attempt counts only while the entry is in flight, and only if the entry
//! itself was at fault.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::backoff::grown;
use super::consumer::{Consumer, decode};
use super::retry_policy::{Decision, decide};
use super::retry_queue::Suspect;
use super::sequencer::Ticket;
use super::{HandlerError, spans};
use crate::retryability::Retryability;
use crate::spans::SpanStart;
use crate::stream::codec::REUSED_ID;
use crate::stream::{AttemptStep, DeadLetter, StreamError};

/// Bounds of the wait after a try in which something else was at fault.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Retries an entry; returns it where another try is to be made.
pub(super) async fn run(
    consumer: Arc<Consumer>,
    mut suspect: Suspect,
    mut ticket: Ticket,
    stop: CancellationToken,
) -> Vec<Suspect> {
    ticket.wait().await;
    consumer.loading.beat();
    if stop.is_cancelled() || !consumer.in_flight.contains(suspect.id()) {
        return Vec::new();
    }
    let left = match suspect.verdict.take() {
        Some(verdict) => dead_letter(&consumer, suspect, verdict).await,
        None => attempt(&consumer, suspect).await,
    };
    Vec::from_iter(left)
}

async fn attempt(consumer: &Consumer, mut suspect: Suspect) -> Option<Suspect> {
    if consumer.handler.ready().await.is_err() {
        return Some(postpone(suspect));
    }
    let id = suspect.id();
    if let Err(error) = begin(consumer, &mut suspect).await {
        warn!(%error, stream_id = %id, "cannot record that a try begins; it waits");
        return Some(postpone(suspect));
    }
    let tried = match decode(&suspect.delivered.entry) {
        Ok(record) => consumer.handle(std::slice::from_ref(&record)).await,
        Err(fault) => Err(fault),
    };
    let fault = match tried {
        Ok(conflicts) if conflicts.is_empty() => {
            consumer.ack(&[id], &[id]).await;
            return None;
        }
        Ok(_) => return dead_letter_conflict(consumer, suspect).await,
        Err(fault) => fault,
    };
    if judge(consumer, &suspect, fault.retryability) != Decision::Retry {
        return count_failure(consumer, suspect, fault).await;
    }
    if fault.retryability == Retryability::Unclear && suspect.postponed == 0 {
        warn!(error = %fault, stream_id = %id, "an entry is refused alone, but nothing else was loaded since: it waits");
    }
    match consumer.stream.record(id, AttemptStep::Spared).await {
        Ok(attempts) => suspect.delivered.attempts = attempts,
        Err(error) => {
            suspect.owes_end = true;
            warn!(%error, stream_id = %id, "cannot record that a try ended; it is done before the next one");
        }
    }
    Some(postpone(suspect))
}

/// Records that a try begins, and before that the end of the last one where that could not be
/// recorded then.
async fn begin(consumer: &Consumer, suspect: &mut Suspect) -> Result<(), StreamError> {
    let id = suspect.id();
    if suspect.owes_end {
        suspect.delivered.attempts = consumer.stream.record(id, AttemptStep::Spared).await?;
        suspect.owes_end = false;
    }
    let tries = suspect.delivered.attempts.unfinished.saturating_add(1);
    suspect.delivered.attempts = consumer.stream.record(id, AttemptStep::Begin(tries)).await?;
    Ok(())
}

/// What its try leads to.
fn judge(consumer: &Consumer, suspect: &Suspect, fault: Retryability) -> Decision {
    let others_load = consumer.has_loaded_since(suspect.since);
    decide(Some(fault), others_load, suspect.delivered.attempts, consumer.limits())
}

/// Counts an attempt; returns the entry where another try is to be made.
pub(super) async fn count_failure(consumer: &Consumer, mut suspect: Suspect, fault: HandlerError) -> Option<Suspect> {
    let id = suspect.id();
    if !consumer.in_flight.contains(id) {
        return None;
    }
    let failed = AttemptStep::Failed(suspect.delivered.attempts.failed.saturating_add(1));
    match consumer.stream.record(id, failed).await {
        Ok(attempts) => suspect.delivered.attempts = attempts,
        Err(error) => {
            suspect.owes_end = true;
            warn!(%error, stream_id = %id, "cannot record a failed attempt; the entry is tried again");
            return Some(postpone(suspect));
        }
    }
    consumer.metrics.attempts_failed.inc();
    let attempts = suspect.delivered.attempts;
    match judge(consumer, &suspect, fault.retryability) {
        Decision::LeavePending(delay) => {
            warn!(error = %fault, stream_id = %id, attempts = attempts.failed, ?delay, "an entry failed alone; it is tried again");
            Some(suspect.after(delay))
        }
        Decision::DeadLetter => dead_letter(consumer, suspect, fault.message).await,
        Decision::Ack | Decision::Retry => Some(postpone(suspect)),
    }
}

/// Dead-letters an entry whose event id is another event's: no further try would change that.
pub(super) async fn dead_letter_conflict(consumer: &Consumer, mut suspect: Suspect) -> Option<Suspect> {
    let attempts = &mut suspect.delivered.attempts;
    attempts.failed = attempts.failed.max(1);
    dead_letter(consumer, suspect, REUSED_ID.to_owned()).await
}

/// Dead-letters; returns the entry where there was no room for it.
async fn dead_letter(consumer: &Consumer, mut suspect: Suspect, verdict: String) -> Option<Suspect> {
    let (id, attempts) = (suspect.id(), suspect.delivered.attempts);
    let letter = DeadLetter {
        entry: suspect.delivered.entry.clone(),
        error: verdict,
        attempts: attempts.failed.max(attempts.unfinished),
        consumer: consumer.name.clone(),
    };
    let began = SpanStart::now();
    match consumer.stream.dead_letter(&letter).await {
        Ok(true) => {
            spans::dead_lettered(began, &letter);
            error!(error = letter.error, stream_id = %id, attempts = letter.attempts, "dead-lettered");
            consumer.metrics.dead_letters.inc();
            consumer.in_flight.release(&[id]);
            return None;
        }
        Ok(false) => warn!(stream_id = %id, "the dead letters are at their cap: the entry stays pending. Resolve some"),
        Err(error) => info!(%error, stream_id = %id, "cannot dead-letter now; the entry stays pending"),
    }
    suspect.verdict = Some(letter.error);
    Some(postpone(suspect))
}

/// The same entry, later; nothing is counted.
fn postpone(mut suspect: Suspect) -> Suspect {
    let delay = grown(FIRST_DELAY, suspect.postponed, LONGEST_DELAY);
    suspect.postponed = suspect.postponed.saturating_add(1);
    suspect.after(delay)
}
