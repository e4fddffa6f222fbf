//! The rate of accepted events, from the stream's count of entries ever added. Pure.

use std::time::Instant;

use crate::stream::StreamReport;

/// The count of entries ever added, in one report.
#[derive(Debug, Clone, Copy)]
struct Count {
    at: Instant,
    entries: u64,
    /// How often the store was known to have lost something.
    losses: u64,
}

/// Follows the count of entries ever added, by any producer.
#[derive(Debug, Default)]
pub(super) struct AppendRate(Option<Count>);

impl AppendRate {
    /// Entries a second since the report before. `None` at the first report, and once after the
    /// stream lost entries or began anew. Without a report nothing changes: the next one covers all
    /// of the time.
    pub(super) fn per_second(&mut self, at: Instant, stream: Option<&StreamReport>) -> Option<f64> {
        let stream = stream?;
        let new = stream.entries_added.map(|entries| Count {
            at,
            entries,
            losses: stream.lost.times,
        });
        let old = std::mem::replace(&mut self.0, new);
        new.zip(old).and_then(|(new, old)| new.per_second_since(old))
    }
}

impl Count {
    #[allow(clippy::cast_precision_loss, reason = "entries between two looks are far below 2^52")]
    fn per_second_since(self, old: Self) -> Option<f64> {
        let time = self.at.checked_duration_since(old.at)?.as_secs_f64();
        let grown = self.entries.checked_sub(old.entries)?;
        (time > 0.0 && self.losses == old.losses).then(|| grown as f64 / time)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stream::Lost;

    fn stream(entries: Option<u64>, losses: u64) -> StreamReport {
        StreamReport {
            entries_added: entries,
            lost: Lost {
                times: losses,
                ..Lost::default()
            },
            ..StreamReport::default()
        }
    }

    #[test]
    fn a_rate_is_of_two_looks_at_one_stream() {
        let start = Instant::now();
        let mut accepted = AppendRate::default();
        for (millis, seen, rate) in [
            (0, Some((Some(1000), 0)), None),
            (1000, Some((Some(1000), 0)), Some(0.0)),
            (1500, Some((Some(1050), 0)), Some(100.0)),
            // No answer, then one for the whole time.
            (2500, None, None),
            (3500, Some((Some(1250), 0)), Some(100.0)),
            // The stream came back empty, and goes on.
            (4500, Some((Some(3), 0)), None),
            (5500, Some((Some(5), 0)), Some(2.0)),
            // It came back with more than it had.
            (6500, Some((Some(400), 1)), None),
            (7500, Some((Some(401), 1)), Some(1.0)),
            // There is none, then there is one.
            (8500, Some((None, 1)), None),
            (9500, Some((Some(9), 1)), None),
            (10_500, Some((Some(9), 1)), Some(0.0)),
            // Two looks at one time.
            (10_500, Some((Some(12), 1)), None),
        ] {
            let seen = seen.map(|(entries, losses)| stream(entries, losses));
            let at = start + Duration::from_millis(millis);
            assert_eq!(accepted.per_second(at, seen.as_ref()), rate, "at {millis} ms");
        }
    }
}
