//! Quarantine: the dead letter of a delivery that never gets into the stream, and what is logged of
//! such deliveries.
//!
//! Owns what makes two of these dead letters the same, whether rejected at intake or by the
//! drainer, and the log: one line a cause and minute, with the count. Invariants: a new cause is
//! logged at once, and each delivery is counted; a flood of bodies, whatever their causes, is a
//! bounded number of lines and takes bounded memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::stream::codec;
use crate::stream::{Destination, Fields, NewEntry};

/// Time between two lines of one cause.
const PAUSE: Duration = Duration::from_secs(60);
/// How often it is checked which lines are due.
const TICK: Duration = Duration::from_secs(5);
/// Causes that are told apart; all further ones share one line.
const MOST_CAUSES: usize = 64;
const FURTHER: &str = "further reasons; the dead letters have them";

/// A dead letter with these fields. Its key holds the digest: a second body under the same id is
/// kept too.
#[must_use]
pub fn dead_letter(event_id: &str, digest: [u8; 16], fields: Fields) -> NewEntry {
    NewEntry {
        destination: Destination::DeadLetters,
        dedupe_key: format!("{event_id}:{}", hex::encode(digest)),
        digest,
        spread: 0,
        fields,
    }
}

/// The dead letter of an entry that the stream does not take; it keeps all of the entry's fields.
#[must_use]
pub fn of_entry(entry: NewEntry, error: &str, attempts: u32) -> NewEntry {
    let fields = codec::dead_letter_fields(entry.fields, error, attempts, OffsetDateTime::now_utc());
    dead_letter(&entry.dedupe_key, entry.digest, fields)
}

/// Counts quarantined deliveries by cause.
#[derive(Debug, Default)]
pub struct QuarantineLog(Mutex<BTreeMap<String, Unlogged>>);

/// Deliveries of one cause since its last line.
#[derive(Debug)]
struct Unlogged {
    count: u64,
    since: Instant,
}

impl QuarantineLog {
    /// Counts one delivery, and logs it where it is the first of its cause.
    pub fn note(&self, event_id: &str, request_id: Option<&str>, reason: &str) {
        let is_new = self.count(reason, Instant::now());
        if is_new {
            warn!(event_id, request_id, reason, count = 1, "quarantined");
        } else {
            debug!(event_id, request_id, reason, "quarantined");
        }
    }

    /// Logs the counts as they become due, and all of them at the end.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
            log_counts(self.due(Instant::now(), PAUSE));
        }
        log_counts(self.due(Instant::now(), Duration::ZERO));
    }

    /// Answers whether the cause is new.
    fn count(&self, reason: &str, now: Instant) -> bool {
        let mut causes = self.causes();
        let mut cause = cause(reason);
        if causes.len() >= MOST_CAUSES && !causes.contains_key(&cause) {
            cause = FURTHER.to_owned();
        }
        if let Some(unlogged) = causes.get_mut(&cause) {
            unlogged.count += 1;
            return false;
        }
        causes.insert(cause, Unlogged { count: 0, since: now });
        true
    }

    /// Takes the counts of causes whose last line is that old; a cause that did not come again is
    /// forgotten.
    fn due(&self, now: Instant, pause: Duration) -> Vec<(String, u64)> {
        let mut due = Vec::new();
        self.causes().retain(|cause, unlogged| {
            if now.duration_since(unlogged.since) < pause {
                return true;
            }
            unlogged.since = now;
            let count = std::mem::take(&mut unlogged.count);
            if count > 0 {
                due.push((cause.clone(), count));
            }
            count > 0
        });
        due
    }

    fn causes(&self) -> MutexGuard<'_, BTreeMap<String, Unlogged>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_counts(due: Vec<(String, u64)>) {
    for (reason, count) in due {
        warn!(reason, count, "quarantined since the last line of this reason");
    }
}

/// The reason without its numbers, since positions differ from body to body.
fn cause(reason: &str) -> String {
    let mut cause = String::with_capacity(reason.len());
    for c in reason.chars() {
        if !c.is_ascii_digit() {
            cause.push(c);
        } else if !cause.ends_with('#') {
            cause.push('#');
        }
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_logged_at_once_and_then_counted_once_a_minute() {
        let log = QuarantineLog::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(log.count("line_items[1].price: no amount (line 1, column 77)", at(0)));
        assert!(!log.count("line_items[2].price: no amount (line 1, column 123)", at(1)));
        assert!(log.count("not a JSON object", at(2)));
        assert!(log.due(at(59), PAUSE).is_empty());
        let due = log.due(at(60), PAUSE);
        assert_eq!(
            due,
            [("line_items[#].price: no amount (line #, column #)".to_owned(), 1)]
        );
        assert!(log.due(at(119), PAUSE).is_empty());
        assert!(
            log.count("not a JSON object", at(119)),
            "forgotten since it did not come again"
        );
        assert!(!log.count("line_items[9].price: no amount (line 1, column 1)", at(119)));
        assert_eq!(log.due(at(119), Duration::ZERO).len(), 1, "at the end all are logged");
    }

    #[test]
    fn causes_are_bounded() {
        let log = QuarantineLog::default();
        let name = |n: u32| char::from_u32(0x4e00 + n).unwrap().to_string();
        let new = (0..1000).filter(|n| log.count(&name(*n), Instant::now())).count();
        assert_eq!(new, MOST_CAUSES + 1);
        let due = log.due(Instant::now(), Duration::ZERO);
        assert_eq!(due, [(FURTHER.to_owned(), 1000 - MOST_CAUSES as u64 - 1)]);
    }
}
