//! Entries that the group acked and whose events the warehouse does not have: rows that it lost
//! when an older copy was restored, or when a crash took its write-ahead log.
//!
//! Owns the comparison; reads only. The newest acked entries that the stream retains are looked up
//! by their event ids, so that no clock and no order of ids has to be trusted. Not counted as
//! missing: an event with a row, whichever entry made it; an entry that is no event; a dead letter;
//! as many as operators have discarded or replayed from the dead letters since; and rows older than
//! every other one, which may have been deleted on purpose.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::consumer::decode;
use crate::stream::{Destination, Entry, Range, ReadOrder, Stream, StreamError, StreamId};
use crate::warehouse::{Warehouse, WarehouseError};

/// Entries that are compared at most: as many as are retained unless configured otherwise.
const MOST: usize = 10_000;
/// Entries of one page; bodies may be large.
const PAGE: usize = 100;
/// Notes of what operators did that are looked through.
const NOTES: usize = 1_000;

/// Why the comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ComparisonError {
    /// The stream did not answer.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The warehouse did not answer.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
}

/// What the warehouse lacks.
#[derive(Debug)]
pub struct WarehouseLoss {
    /// Acked entries and their event ids, oldest first; never empty.
    missing: Vec<(StreamId, String)>,
    /// The newest note of what operators did when this was found.
    noted: StreamId,
}

impl WarehouseLoss {
    /// Compares; `None` where nothing is missing.
    ///
    /// # Errors
    /// Stream or warehouse did not answer.
    pub async fn find(stream: &dyn Stream, warehouse: &dyn Warehouse) -> Result<Option<Self>, ComparisonError> {
        let report = stream.report().await?;
        let ours = report.groups.iter().find(|group| group.ours);
        let Some(acked_to) = ours.and_then(|group| group.needs_from.predecessor()) else {
            return Ok(None);
        };
        let mut missing = missing(stream, warehouse, acked_to).await?;
        missing.reverse();
        if let Some((oldest, _)) = missing.first() {
            let oldest = *oldest;
            drop_dead_lettered(stream, &mut missing, oldest).await?;
            if missing.len() as u64 <= resolved_since(stream, oldest).await? {
                missing.clear();
            }
        }
        let noted = stream.notes(1).await?.first().map_or(StreamId::MIN, |note| note.id);
        Ok(Some(Self { missing, noted }).filter(|loss| !loss.missing.is_empty()))
    }

    /// What of it was received within that time, by the stream's clock.
    #[must_use]
    pub fn within(mut self, age: Duration) -> Option<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let oldest = now.unwrap_or_default().saturating_sub(age).as_millis();
        self.missing.retain(|(id, _)| u128::from(id.ms) >= oldest);
        Some(self).filter(|loss| !loss.missing.is_empty())
    }

    /// Compares again what was missing; `None` where all of it is loaded or dead-lettered by now,
    /// or a replay has ended since and nothing of it is pending any more.
    ///
    /// # Errors
    /// Stream or warehouse did not answer.
    pub async fn remaining(
        mut self,
        stream: &dyn Stream,
        warehouse: &dyn Warehouse,
    ) -> Result<Option<Self>, (Self, ComparisonError)> {
        match self.compare_again(stream, warehouse).await {
            Ok(()) => Ok(Some(self).filter(|loss| !loss.missing.is_empty())),
            Err(error) => Err((self, error)),
        }
    }

    async fn compare_again(&mut self, stream: &dyn Stream, warehouse: &dyn Warehouse) -> Result<(), ComparisonError> {
        let report = stream.report().await?;
        let mut present = HashSet::new();
        for some in self.missing.chunks(PAGE) {
            let ids: Vec<String> = some.iter().map(|(_, event_id)| event_id.clone()).collect();
            present.extend(warehouse.loaded(&ids).await?);
        }
        self.missing.retain(|(_, event_id)| !present.contains(event_id));
        let Some(((oldest, _), (newest, _))) = self.missing.first().zip(self.missing.last()) else {
            return Ok(());
        };
        let (oldest, newest) = (*oldest, *newest);
        drop_dead_lettered(stream, &mut self.missing, oldest).await?;
        let ours = report.groups.iter().find(|group| group.ours);
        let is_settled = ours.is_some_and(|group| group.needs_from > newest);
        if is_settled && has_replayed_since(stream, self.noted).await? {
            self.missing.clear();
        }
        Ok(())
    }

    /// What is missing and what to do, for an operator.
    #[must_use]
    pub fn text(&self) -> String {
        let first = self.missing.first().map(|(id, _)| *id).unwrap_or_default();
        let last = self.missing.last().map(|(id, _)| *id).unwrap_or_default();
        format!(
            "{} events that were loaded and acked are not in the warehouse, entries {first} to {last} (was an older copy of \
             it put back, or rows deleted?): `orderstream replay --from {first} --to {last}` loads them again",
            self.missing.len()
        )
    }
}

/// Acked entries without a row, newest first. Of rows that are older than all others it is not
/// known whether they were deleted on purpose: they count only where there is no other row.
async fn missing(
    stream: &dyn Stream,
    warehouse: &dyn Warehouse,
    acked_to: StreamId,
) -> Result<Vec<(StreamId, String)>, ComparisonError> {
    let (mut missing, mut oldest_present, mut examined) = (Vec::new(), None, 0);
    let all = Range::all(Destination::Stream, ReadOrder::NewestFirst, PAGE);
    let mut rest = Some(Range { to: acked_to, ..all });
    while let Some(range) = rest.filter(|_| examined < MOST) {
        let page = stream.range(range).await?;
        examined += page.entries.len();
        let events = page.entries.iter().filter_map(|entry| {
            let record = decode(entry).ok()?;
            let event_id = record.event.event_id.as_str();
            (!event_id.contains('\0')).then(|| (entry.id, event_id.to_owned()))
        });
        let events: Vec<(StreamId, String)> = events.collect();
        let ids: Vec<String> = events.iter().map(|(_, event_id)| event_id.clone()).collect();
        let present = HashSet::<String>::from_iter(warehouse.loaded(&ids).await?);
        for event in events {
            if present.contains(&event.1) {
                oldest_present = Some(event.0);
            } else {
                missing.push(event);
            }
        }
        rest = page.next;
    }
    if let Some(oldest) = oldest_present {
        missing.retain(|(id, _)| *id > oldest);
    }
    Ok(missing)
}

/// Takes out what the dead letters have. A letter is younger than its entry.
async fn drop_dead_lettered(
    stream: &dyn Stream,
    missing: &mut Vec<(StreamId, String)>,
    oldest: StreamId,
) -> Result<(), StreamError> {
    let all = Range::all(Destination::DeadLetters, ReadOrder::OldestFirst, PAGE);
    let mut rest = Some(all.between(oldest.ms, u64::MAX));
    let mut origins = HashSet::new();
    while let Some(range) = rest {
        let page = stream.range(range).await?;
        let origin = |letter: &Entry| {
            let text = |name| std::str::from_utf8(letter.fields.get(name)?).ok();
            let partition = text("original_stream").map_or(0, |log| stream.partition_named(log));
            Some(text("original_id")?.parse::<StreamId>().ok()?.with_part(partition))
        };
        origins.extend(page.entries.iter().filter_map(origin));
        rest = page.next;
    }
    missing.retain(|(id, _)| !origins.contains(id));
    Ok(())
}

/// How many dead letters operators have resolved since: of those, nothing tells whose they were.
async fn resolved_since(stream: &dyn Stream, time: StreamId) -> Result<u64, StreamError> {
    let notes = stream.notes(NOTES).await?;
    let since = notes.iter().filter(|note| note.id.ms >= time.ms);
    let done = since.filter_map(|note| {
        let field = |name| std::str::from_utf8(note.fields.get(name)?).ok();
        field("action").filter(|action| action.starts_with("dead-letters "))?;
        field("done")?.parse::<u64>().ok()
    });
    Ok(done.sum())
}

/// Whether a replay went to its end after that note.
async fn has_replayed_since(stream: &dyn Stream, note: StreamId) -> Result<bool, StreamError> {
    let notes = stream.notes(NOTES).await?;
    let mut since = notes.iter().take_while(|other| other.id > note);
    Ok(since.any(|note| {
        let field = |name| note.fields.get(name).and_then(|text| std::str::from_utf8(text).ok());
        field("action") == Some("replay") && field("what").is_some_and(|what| what.ends_with("to the end"))
    }))
}
