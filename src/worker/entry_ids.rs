//! Ids of entries that say another time than it is.
//!
//! The store makes an id of its clock, and after such an id every later one follows it: age, trimming and replay by time
//! go by ids. Said once a minute and cause; nothing is dated by such an id where the entry tells its receipt.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tracing::warn;

use crate::event::EventRecord;
use crate::stream::{StreamId, codec};

/// Between two lines of one cause.
const PAUSE: Duration = Duration::from_secs(60);
/// Clocks differ by less.
const MOST_APART: time::Duration = time::Duration::minutes(5);
/// Nothing was appended before: Redis has had streams since 5.0, of 2018.
const FIRST_STREAMS: OffsetDateTime = time::macros::datetime!(2018-01-01 00:00 UTC);

/// What an id says that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdAnomaly {
    /// The entry is of a time to come.
    Ahead,
    /// The entry was appended before it was received.
    Behind,
}

/// When each was last said by this process.
static AHEAD: Mutex<Option<Instant>> = Mutex::new(None);
static BEHIND: Mutex<Option<Instant>> = Mutex::new(None);

/// Warns of an id that is far from its time.
pub(super) fn look(record: &EventRecord<'_>, now: OffsetDateTime) {
    let Ok(id) = record.stream_id.parse() else { return };
    let told = record.provenance.received_at.is_some().then_some(record.received_at);
    let Some(cause) = cause(id, told, now) else { return };
    let (said, text) = match cause {
        IdAnomaly::Ahead => (
            &AHEAD,
            "an entry's id is ahead of the clock: a producer chose it, or a clock is wrong; ids of later entries follow \
             it, so that their ages are not known (OPERATIONS.md, \"Ids ahead of the clock\")",
        ),
        IdAnomaly::Behind => (
            &BEHIND,
            "an entry's id is of a time before the entry was received: a producer chose it, or a clock is wrong; have \
             producers append with the id *",
        ),
    };
    if is_due(said) {
        let event_id = record.event.event_id.as_str();
        warn!(stream_id = record.stream_id, event_id, "{text}");
    }
}

fn cause(id: StreamId, received_at: Option<OffsetDateTime>, now: OffsetDateTime) -> Option<IdAnomaly> {
    let appended_at = codec::appended_at(id);
    // What is no time of a calendar is read as the epoch, but lies ahead.
    let latest = u64::try_from((now + MOST_APART).unix_timestamp()).unwrap_or_default();
    if id.ms / 1000 > latest {
        Some(IdAnomaly::Ahead)
    } else {
        let earliest = received_at.map_or(FIRST_STREAMS, |at| at - MOST_APART);
        (appended_at < earliest).then_some(IdAnomaly::Behind)
    }
}

fn is_due(said: &Mutex<Option<Instant>>) -> bool {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let is_due = said.is_none_or(|last| last.elapsed() >= PAUSE);
    if is_due {
        *said = Some(Instant::now());
    }
    is_due
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_id_is_held_against_the_clock_and_the_receipt() {
        let now = datetime!(2026-02-01 12:00:00 UTC);
        let id = |at: OffsetDateTime| StreamId::new(u64::try_from(at.unix_timestamp()).unwrap() * 1000, 0);
        let microseconds = StreamId::new(id(now).ms * 1000, 0);
        let day = time::Duration::DAY;
        for (id, received_at, found) in [
            (id(now), Some(now), None),
            (id(now), Some(now - day), None),
            (id(now - day), None, None),
            (id(now - day), Some(now - day), None),
            (id(now + time::Duration::MINUTE), Some(now), None),
            (id(now + day), Some(now), Some(IdAnomaly::Ahead)),
            (microseconds, None, Some(IdAnomaly::Ahead)),
            (StreamId::new(u64::MAX, 0), None, Some(IdAnomaly::Ahead)),
            (id(now - day), Some(now), Some(IdAnomaly::Behind)),
            (StreamId::new(1, 1), None, Some(IdAnomaly::Behind)),
        ] {
            assert_eq!(cause(id, received_at, now), found, "{id} {received_at:?}");
        }
        let ids = Mutex::default();
        assert!(is_due(&ids) && !is_due(&ids), "once a minute");
    }
}
