//! The time zone of a shop: from the UTC of the Admin API to the offset in which a webhook writes
//! the same time, and by which the shop counts its days.
//!
//! The zones are compiled in (the IANA database as crate `tzdb_data`).

use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, UtcOffset};
use tz::TimeZoneRef;

/// A zone of the IANA database.
#[derive(Debug, Clone, Copy)]
pub struct ShopZone(&'static TimeZoneRef<'static>);

impl ShopZone {
    /// The zone of that name, `America/New_York` (`Shop.ianaTimezone` of the Admin API).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        tzdb_data::find_tz(name.as_bytes()).map(Self)
    }

    /// The time with the shop's offset, in whole seconds, as a webhook writes it. None where the
    /// text is no time.
    pub(super) fn written(self, time: &str) -> Option<String> {
        let at = OffsetDateTime::parse(time, &Rfc3339).ok()?;
        self.local(at)?.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
    }

    /// The shop's day at that time. None where the zone says nothing of it.
    #[must_use]
    pub fn day(self, at: OffsetDateTime) -> Option<Date> {
        Some(self.local(at)?.date())
    }

    fn local(self, at: OffsetDateTime) -> Option<OffsetDateTime> {
        let local = self.0.find_local_time_type(at.unix_timestamp()).ok()?;
        let offset = UtcOffset::from_whole_seconds(local.ut_offset()).ok()?;
        at.checked_to_offset(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_the_shops_offset_of_that_day() {
        for (zone, time, written) in [
            ("America/New_York", "2026-11-02T04:30:00Z", "2026-11-01T23:30:00-05:00"),
            ("America/New_York", "2026-11-01T05:59:59Z", "2026-11-01T01:59:59-04:00"),
            ("America/New_York", "2026-11-01T06:00:00Z", "2026-11-01T01:00:00-05:00"),
            ("Asia/Kolkata", "2026-01-31T20:00:00.123Z", "2026-02-01T01:30:00+05:30"),
            ("Europe/Berlin", "2040-07-01T12:00:00Z", "2040-07-01T14:00:00+02:00"),
            ("Etc/UTC", "2026-01-31T20:00:00Z", "2026-01-31T20:00:00Z"),
        ] {
            let zone = ShopZone::named(zone).unwrap();
            assert_eq!(zone.written(time).as_deref(), Some(written));
        }
        assert_eq!(ShopZone::named("Etc/UTC").unwrap().written("yesterday"), None);
        assert!(ShopZone::named("Mars/Olympus").is_none());
    }
}
