//! One page: decoded and loaded as a whole, or in loads of 8 MiB; split further only to find the
//! entry at fault.
//!
//! Invariants: an entry at fault costs its neighbours a few more loads and nothing else, also where
//! its fault is unclear. A fault of the surroundings is waited out, and no entry is blamed for it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::HandlerError;
use super::consumer::{Consumer, InFlightPage, decode};
use super::memory::entry_bytes;
use super::outage_log::{OutageLog, sleep_or_stop};
use super::retry_policy::most_together;
use super::retry_queue::Suspect;
use super::sequencer::Ticket;
use super::single_retry;
use crate::event::EventRecord;
use crate::retryability::Retryability;
use crate::stream::{Delivered, PAGE_BYTES, StreamId};

/// Entries decoded between two yields to other tasks.
const DECODED_AT_ONCE: usize = 32;

/// Transient failures in a row after which smaller loads are tried: a load too large for a timeout
/// would fail for ever. From then on every load of the page is split, since its other parts are as
/// large.
const PATIENCE: u32 = 5;

/// Entries refused alone, with none loaded, after which the surroundings are waited for: a trigger
/// that refuses everything must not cost a transaction for each entry.
const REFUSALS: usize = 8;

/// Settles a page, in loads of bounded size; returns the entries that are to be retried alone.
pub(super) async fn run(
    consumer: Arc<Consumer>,
    page: InFlightPage,
    mut ticket: Ticket,
    stop: CancellationToken,
) -> Vec<Suspect> {
    let InFlightPage {
        mut entries,
        mut memory,
    } = page;
    let mut aside = Vec::new();
    while !entries.is_empty() {
        let rest = entries.split_off(first_load(&entries));
        aside.extend(settle(&consumer, &entries, &mut ticket, &stop).await);
        entries = rest;
        memory.resize(entries.iter().map(|one| entry_bytes(&one.entry)).sum());
    }
    aside
}

/// How many entries make up the first load: as many as have the bytes of a page and may be together,
/// at least one. Decoded they take a multiple of that, and a page may be larger where its entries are
/// larger than those before.
fn first_load(entries: &[Delivered]) -> usize {
    let (mut bytes, mut most) = (0, usize::MAX);
    let fitting = (1..).zip(entries).take_while(|(number, one)| {
        bytes += entry_bytes(&one.entry);
        most = most.min(most_together(one.deliveries));
        bytes <= PAGE_BYTES && *number <= most
    });
    fitting.count().max(1)
}

/// Decodes entries while others are loaded, loads them, and counts or puts aside what is left over.
async fn settle(
    consumer: &Arc<Consumer>,
    delivered: &[Delivered],
    ticket: &mut Ticket,
    stop: &CancellationToken,
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
    let unsettled = load(consumer, &records, &ids, stop).await;
    drop(records);
    let failed = |(index, fault): (usize, HandlerError)| (places[index], fault);
    faults.extend(unsettled.at_fault.into_iter().map(failed));

    let suspect = |place: usize, delay| Suspect::new(delivered[place].clone(), delay);
    let spared = unsettled.spared.into_iter();
    let mut aside = Vec::from_iter(spared.map(|index| suspect(places[index], consumer.config.retry_delay)));
    aside.extend(unsettled.unclear.into_iter().map(|index| Suspect {
        since: began,
        ..suspect(places[index], Duration::ZERO)
    }));
    for index in unsettled.conflicts {
        let conflict = suspect(places[index], Duration::ZERO);
        aside.extend(single_retry::dead_letter_conflict(consumer, conflict).await);
    }
    for (place, fault) in faults {
        aside.extend(single_retry::count_failure(consumer, suspect(place, Duration::ZERO), fault).await);
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

/// Loads and acks. A range that fails as poison is halved until the entries at fault stand alone.
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
