//! What is logged of quarantined deliveries: one line a cause and minute, with the count.
//!
//! Invariants: a new cause is logged at once, and no delivery goes uncounted; a flood of bodies, of whatever causes, is a
//! bounded number of lines and takes bounded memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Of one cause, between two lines.
const PAUSE: Duration = Duration::from_secs(60);
/// Between two looks at which lines are due.
const TICK: Duration = Duration::from_secs(5);
/// Causes that are told apart; further ones are one.
const MOST_CAUSES: usize = 64;
const FURTHER: &str = "further reasons; the dead letters have them";

/// Counts quarantined deliveries by cause.
#[derive(Debug, Default)]
pub struct QuarantineLog(Mutex<BTreeMap<String, Unsaid>>);

/// Deliveries of one cause since its last line.
#[derive(Debug)]
struct Unsaid {
    count: u64,
    since: Instant,
}

impl QuarantineLog {
    /// Takes note of one delivery, and logs it where it is the first of its cause.
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
            say(self.due(Instant::now(), PAUSE));
        }
        say(self.due(Instant::now(), Duration::ZERO));
    }

    /// Answers whether the cause is new.
    fn count(&self, reason: &str, now: Instant) -> bool {
        let mut causes = self.causes();
        let mut cause = cause(reason);
        if causes.len() >= MOST_CAUSES && !causes.contains_key(&cause) {
            cause = FURTHER.to_owned();
        }
        if let Some(unsaid) = causes.get_mut(&cause) {
            unsaid.count += 1;
            return false;
        }
        causes.insert(cause, Unsaid { count: 0, since: now });
        true
    }

    /// Takes the counts of causes whose last line is that old; a cause that did not come again is forgotten.
    fn due(&self, now: Instant, pause: Duration) -> Vec<(String, u64)> {
        let mut due = Vec::new();
        self.causes().retain(|cause, unsaid| {
            if now.duration_since(unsaid.since) < pause {
                return true;
            }
            unsaid.since = now;
            let count = std::mem::take(&mut unsaid.count);
            if count > 0 {
                due.push((cause.clone(), count));
            }
            count > 0
        });
        due
    }

    fn causes(&self) -> MutexGuard<'_, BTreeMap<String, Unsaid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn say(due: Vec<(String, u64)>) {
    for (reason, count) in due {
        warn!(reason, count, "quarantined since the last line of this reason");
    }
}

/// The reason without its numbers: places and positions differ from body to body.
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
    fn a_cause_is_said_at_once_and_then_counted_once_a_minute() {
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
        assert_eq!(log.due(at(119), Duration::ZERO).len(), 1, "at the end all are said");
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
