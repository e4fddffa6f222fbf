//! What becomes of drained entries by the stream's outcomes: what it took leaves the spool, what it
//! refused is retried or becomes a dead letter, and what its partition did not take waits for that.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Drainer, MOST_REFUSALS};
use crate::ingest::drained::DrainError;
use crate::ingest::flush::Flush;
use crate::ingest::quarantine;
use crate::stream::codec::REUSED_ID;
use crate::stream::{Appended, Destination, NewEntry, StreamError, StreamId};

impl Drainer {
    /// Applies the stream's outcomes: what it took leaves the spool, what it refused is retried or
    /// becomes a dead letter.
    pub(super) async fn apply(&mut self, flush: Flush<StreamId>, outcomes: Vec<Appended>) -> Result<(), DrainError> {
        let now = Instant::now();
        let (mut kept, mut dead_letters) = (Flush::empty(), Flush::empty());
        let (mut cause, mut opens) = (None, false);
        // The dead letters have a key and rights of their own; without them, their entries must not
        // delay what goes to the stream.
        let mut of_stream = flush.entries.iter().zip(&outcomes);
        let are_letters_alone = !of_stream
            .any(|(entry, outcome)| entry.destination == Destination::Stream && matches!(outcome, Appended::Failed(_)));
        let mut is_told = flush.beside.iter().any(|id| self.retry_queue.waits_for_room(*id));
        for ((entry, id), outcome) in flush.into_pairs().zip(outcomes) {
            let to_stream = entry.destination == Destination::Stream;
            match outcome {
                Appended::Failed(error) if !to_stream && self.is_of_letters(&entry, &error, are_letters_alone) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, "dead letters stay in the spool for now");
                    }
                    self.retry_queue.lacks_room(id, now);
                }
                Appended::Failed(error) => {
                    cause = Some(DrainError::Store(StreamError::clone(&error)));
                    kept.push(entry, id);
                }
                Appended::Accepted(_) => {
                    self.drained.accepted += 1;
                    self.confirm(id);
                }
                Appended::Duplicate(_) => {
                    self.drained.duplicate += 1;
                    self.confirm(id);
                }
                Appended::Conflict(_) => dead_letters.push(quarantine::of_entry(entry, REUSED_ID, 0), id),
                Appended::Full if to_stream => {
                    (cause, opens) = (Some(unavailable("the stream is at its cap")), true);
                    kept.push(entry, id);
                }
                Appended::Unavailable(reason) if to_stream => {
                    (cause, opens) = (Some(unavailable(&reason)), true);
                    kept.push(entry, id);
                }
                Appended::Full | Appended::Unavailable(_) => self.retry_queue.lacks_room(id, now),
                Appended::TooLarge(reason) => {
                    if self.retry_queue.refuse(id, now) == 1 {
                        tracing::warn!(reason, "the stream has no memory for a spooled entry; retrying it");
                    }
                }
                Appended::Refused(reason) => {
                    let times = self.retry_queue.refuse(id, now);
                    tracing::warn!(reason, times, "the stream refuses a spooled entry");
                    if times >= MOST_REFUSALS && to_stream {
                        dead_letters.push(quarantine::of_entry(entry, &reason, times), id);
                    }
                }
            }
        }
        self.dead_letter(dead_letters).await;
        let Some(cause) = cause else { return Ok(()) };
        let away = BTreeSet::from_iter(kept.entries.iter().filter_map(|entry| self.writer.partition_of(entry)));
        opens |= self.others_take(&away);
        for partition in away {
            self.probes.forget(partition);
            if opens {
                self.fallback.breaker.open(partition, &cause.to_string());
            }
        }
        let kept = self.without_away(kept);
        if kept.is_empty() {
            return Ok(());
        }
        self.in_flight.push_front(kept);
        Err(cause)
    }

    /// Whether a failure concerns dead letters only.
    fn is_of_letters(&self, letter: &NewEntry, error: &StreamError, are_alone: bool) -> bool {
        let is_theirs = matches!(error, StreamError::Denied(_) | StreamError::UnusableKey(_));
        is_theirs && are_alone || self.writer.partition_of(letter).is_none()
    }

    /// Whether there are partitions beside these and those for which the breaker is open.
    fn others_take(&self, away: &BTreeSet<u16>) -> bool {
        let mut away = away.clone();
        away.extend(self.fallback.breaker.open_partitions());
        !self.probes.are_all(away.len())
    }

    /// What of a flush may be sent: the entries of partitions that are away are set aside, as long
    /// as others take theirs.
    pub(super) fn without_away(&mut self, flush: Flush<StreamId>) -> Flush<StreamId> {
        if !self.fallback.breaker.is_open() || !self.others_take(&BTreeSet::new()) {
            return flush;
        }
        let mut rest = Flush::empty();
        for (entry, id) in flush.into_pairs() {
            let partition = self.writer.partition_of(&entry);
            let is_away = |one: &u16| self.fallback.breaker.is_open_for(*one) && !self.probes.is_reachable(*one);
            match partition.filter(is_away) {
                Some(partition) if self.retry_queue.takes_more() => self.retry_queue.set_aside(id, partition),
                _ => rest.push(entry, id),
            }
        }
        rest
    }

    /// Writes dead letters; those that cannot be written now stay in the retry queue.
    async fn dead_letter(&mut self, flush: Flush<StreamId>) {
        if flush.is_empty() {
            return;
        }
        let now = Instant::now();
        let written = self.writer.append(&flush.entries).await;
        for ((entry, id), outcome) in flush.into_pairs().zip(written) {
            match outcome {
                Appended::Accepted(_) | Appended::Duplicate(_) | Appended::Conflict(_) => {
                    let text = |name| entry.fields.get(name).and_then(|text| std::str::from_utf8(text).ok());
                    let (event_id, reason) = (text("event_id"), text("error"));
                    tracing::warn!(event_id, reason, "a spooled entry went to the dead letters");
                    let is_conflict = reason == Some(REUSED_ID);
                    self.drained.quarantined += u64::from(is_conflict);
                    self.drained.dead_lettered += u64::from(!is_conflict);
                    self.confirm(id);
                }
                Appended::Full | Appended::Unavailable(_) => self.retry_queue.lacks_room(id, now),
                Appended::Failed(error) => {
                    tracing::debug!(%error, "a dead letter of a spooled entry cannot be written now");
                    self.retry_queue.keep(id, now);
                }
                Appended::Refused(_) | Appended::TooLarge(_) => self.retry_queue.keep(id, now),
            }
        }
    }

    fn confirm(&mut self, id: StreamId) {
        self.retry_queue.forget(id);
        self.confirmed.push(id);
    }
}

fn unavailable(reason: &str) -> DrainError {
    DrainError::Unavailable(reason.to_owned())
}
