//! Which of two states of one order is the newer.
//!
//! Pure; the tables keep the same three columns and compare them alike, so that a state wins or
//! loses whatever store, batch or order of arrival it comes in.

use time::OffsetDateTime;

use crate::event::EventRecord;

/// Place of an event among all events of its order. The greater wins, and an equal one may
/// overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version<'a> {
    /// `updated_at`, else `timestamp`.
    pub at: OffsetDateTime,
    /// When the delivery was triggered; `None` sorts before every time.
    pub triggered_at: Option<OffsetDateTime>,
    /// Breaks ties, byte by byte (collation "C").
    pub event_id: &'a str,
}

impl<'a> Version<'a> {
    /// The version that an event gives its order.
    #[must_use]
    pub fn of(record: &'a EventRecord<'_>) -> Self {
        let event = &record.event;
        Self {
            at: micros(event.updated_at.as_ref().unwrap_or(&event.timestamp).instant()),
            triggered_at: record.triggered_at.map(micros),
            event_id: event.event_id.as_str(),
        }
    }
}

/// Cuts to what a table keeps. With finer times in memory, two events could compare one way within
/// a batch and the other way across batches.
#[must_use]
pub fn micros(instant: OffsetDateTime) -> OffsetDateTime {
    let whole = instant.microsecond() * 1_000;
    instant.replace_nanosecond(whole).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn version(at: OffsetDateTime, triggered_at: Option<OffsetDateTime>, event_id: &str) -> Version<'_> {
        Version {
            at,
            triggered_at,
            event_id,
        }
    }

    #[test]
    fn the_change_counts_first_then_the_trigger_then_the_id() {
        let early = datetime!(2026-01-31 09:30:00 UTC);
        let late = datetime!(2026-01-31 09:30:01 UTC);
        assert!(version(late, None, "a") > version(early, Some(late), "b"));
        assert!(version(early, Some(early), "a") > version(early, None, "b"));
        assert!(version(early, Some(late), "a") > version(early, Some(early), "b"));
        assert!(version(early, None, "b") > version(early, None, "a"));
        assert!(
            version(early, None, "a") > version(early, None, "Z"),
            "bytes, not a locale"
        );
        assert_eq!(
            version(datetime!(2026-01-31 10:30:00 +1), None, "a").at,
            early,
            "the offset does not count"
        );
    }

    #[test]
    fn what_a_table_cannot_keep_does_not_count() {
        assert_eq!(
            micros(datetime!(2026-01-31 09:30:00.123456789 UTC)),
            datetime!(2026-01-31 09:30:00.123456 UTC)
        );
        assert_eq!(
            micros(datetime!(1969-12-31 23:59:59.999999999 UTC)),
            datetime!(1969-12-31 23:59:59.999999 UTC)
        );
    }
}
