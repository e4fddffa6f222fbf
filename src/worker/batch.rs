//! One batch: decoded whole, loaded whole; split only to find what is at fault.
//!
//! Invariants: an entry at fault costs its neighbours some halving and nothing else, also where its fault is not clear; a fault of the handler's
//! surroundings is waited out with everything in hand, and no entry is blamed for it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::HandlerError;
use super::consumer::{Consumer, decode};
use super::outage_log::{OutageLog, sleep_or_stop};
use super::processor::Ticket;
use super::retry_queue::Suspect;
use super::single_retry;
use crate::event::EventRecord;
use crate::retryability::Retryability;
use crate::stream::{Delivered, StreamId};

/// Entries decoded before other tasks of the thread get their turn.
const DECODED_AT_ONCE: usize = 32;

/// Failures in a row after which smaller loads are tried: a batch too large for a timeout would fail for ever. Once lost,
/// patience does not come back within a batch: its other parts are as large.
const PATIENCE: u32 = 5;

/// Entries refused alone, with none loaded, after which the surroundings are waited for: a trigger that refuses all must
/// not cost a transaction for each entry of each batch.
const REFUSALS: usize = 8;

/// Settles a batch; answers the entries that are to be tried alone later.
pub(super) async fn run(
    consumer: Arc<Consumer>,
    delivered: Vec<Delivered>,
    mut ticket: Ticket,
    stop: CancellationToken,
) -> Vec<Suspect> {
    let mut records = Vec::with_capacity(delivered.len());
    let mut places = Vec::with_capacity(delivered.len());
    let mut faults = Vec::new();
    for (place, one) in delivered.iter().enumerate() {
        match decode(&one.entry) {
            Ok(record) => {
                records.push(record);
                places.push(place);
            }
            Err(fault) => faults.push((place, fault)),
        }
        if place % DECODED_AT_ONCE == DECODED_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    ticket.wait().await;
    let began = Instant::now();
    let ids: Vec<StreamId> = places.iter().map(|&place| delivered[place].entry.id).collect();
    let unsettled = load(&consumer, &records, &ids, &stop).await;
    drop(records);
    faults.extend(
        unsettled
            .at_fault
            .into_iter()
            .map(|(index, fault)| (places[index], fault)),
    );

    let mut aside = Vec::with_capacity(faults.len() + unsettled.spared.len());
    let suspect = |place: usize| delivered.get(place).cloned();
    for index in unsettled.spared {
        aside.extend(suspect(places[index]).map(|one| Suspect::new(one, consumer.config.retry_delay)));
    }
    for index in unsettled.unclear {
        aside.extend(suspect(places[index]).map(|one| Suspect {
            since: began,
            ..Suspect::new(one, Duration::ZERO)
        }));
    }
    for index in unsettled.conflicts {
        if let Some(one) = suspect(places[index]) {
            aside.extend(single_retry::dead_letter_conflict(&consumer, Suspect::new(one, Default::default())).await);
        }
    }
    for (place, fault) in faults {
        if let Some(one) = suspect(place) {
            aside.extend(single_retry::count_failure(&consumer, Suspect::new(one, Default::default()), fault).await);
        }
    }
    aside
}

/// What a load left over, by index.
#[derive(Default)]
struct Unsettled {
    /// Failed alone.
    at_fault: Vec<(usize, HandlerError)>,
    /// Could not be loaded while the handler says that it is ready.
    spared: Vec<usize>,
    /// Not taken, since another event has their id.
    conflicts: Vec<usize>,
    /// Refused alone, by whose fault is not clear.
    unclear: Vec<usize>,
}

/// Loads and acks, halving whatever fails as poison until the entries at fault stand alone.
async fn load(
    consumer: &Consumer,
    records: &[EventRecord<'_>],
    ids: &[StreamId],
    stop: &CancellationToken,
) -> Unsettled {
    let mut unsettled = Unsettled::default();
    let mut outage = OutageLog::of("loading");
    let (mut impatient, mut has_loaded) = (false, false);
    let mut ranges: Vec<_> = std::iter::once(0..records.len()).collect();
    while let Some(range) = ranges.pop() {
        if range.is_empty() {
            continue;
        }
        let error = match consumer.handle(&records[range.clone()]).await {
            Ok(conflicts) => {
                outage.over();
                has_loaded = true;
                let start = range.start;
                let taken: Vec<StreamId> = range
                    .filter(|index| !conflicts.contains(&(index - start)))
                    .map(|index| ids[index])
                    .collect();
                consumer.ack(&taken, &[]).await;
                unsettled.conflicts.extend(conflicts.iter().map(|index| start + index));
                continue;
            }
            Err(error) => error,
        };
        match error.retryability {
            Retryability::Poison | Retryability::Bug if range.len() == 1 => {
                unsettled.at_fault.push((range.start, error))
            }
            Retryability::Unclear if range.len() == 1 => {
                unsettled.unclear.push(range.start);
                if !has_loaded && unsettled.unclear.len() >= REFUSALS {
                    if !sleep_or_stop(outage.failed(&error), stop).await {
                        return unsettled;
                    }
                    // The others first: one of them may show that others load.
                    ranges.splice(0..0, unsettled.unclear.drain(..).map(|index| index..index + 1));
                }
            }
            Retryability::Poison | Retryability::Unclear | Retryability::Bug => ranges.extend(halves(range)),
            Retryability::Transient => {
                if !sleep_or_stop(outage.failed(&error), stop).await {
                    return unsettled;
                }
                impatient |= outage.failures() > PATIENCE;
                if impatient && range.len() > 1 {
                    ranges.extend(halves(range));
                } else if impatient && consumer.handler.ready().await.is_ok() {
                    unsettled.spared.push(range.start);
                } else {
                    ranges.push(range);
                }
            }
        }
    }
    unsettled
}

/// The later half first, since the earlier is to be popped first.
fn halves(range: Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [middle..range.end, range.start..middle]
}
