//! What happens to an entry: two pure tables.
//!
//! Owns the only place where a [`Retryability`] decides over an entry. Invariants: only failures of
//! the entry alone, and tries alone that never ended, lead to the dead letters; a fault of the
//! surroundings leads to another try.

use std::time::Duration;

use crate::retryability::Retryability;
use crate::stream::Attempts;
use crate::worker::backoff::grown;

/// No entry waits longer than this for its next try.
const LONGEST_DELAY: Duration = Duration::from_secs(600);

/// How patient a worker is with one entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Attempts before the dead letters; at least 1.
    pub(super) max_deliveries: u32,
    /// Delay after the first failed attempt; doubles with each.
    pub(super) retry_delay: Duration,
}

/// How an entry that was just delivered is to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryPlan {
    /// With its neighbours, of which [`most_together`] may share its load.
    Together,
    /// By itself, after this delay.
    Alone(Duration),
    /// Not at all: too many of its tries ended with the worker.
    DeadLetter,
}

/// What a try at one entry alone leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is done.
    Ack,
    /// Something else was at fault: try again, nothing is counted.
    Retry,
    /// It stays pending and is tried again after this delay.
    LeavePending(Duration),
    /// No further try will help.
    DeadLetter,
}

/// How many entries a load may have with one that was delivered so often, which may be what ended
/// its workers. It is searched for by smaller loads first: whoever ends workers from outside leaves
/// thousands of such entries, none of them at fault.
pub(super) fn most_together(deliveries: u64) -> usize {
    match deliveries {
        0..=2 => usize::MAX,
        3 => 64,
        4 => 8,
        _ => 1,
    }
}

/// The first table: `deliveries` as the stream counts them, and what is on record of earlier tries.
pub(super) fn plan(deliveries: u64, attempts: Attempts, limits: Limits) -> RetryPlan {
    let Attempts { failed, unfinished } = attempts;
    if unfinished >= limits.max_deliveries.saturating_mul(2) {
        RetryPlan::DeadLetter
    } else if unfinished > 0 {
        // Whoever kills workers from outside should not meet the same entry again and again.
        RetryPlan::Alone(delay(limits, unfinished))
    } else if failed > 0 {
        RetryPlan::Alone(delay(limits, failed - 1))
    } else if most_together(deliveries) == 1 {
        RetryPlan::Alone(Duration::ZERO)
    } else {
        RetryPlan::Together
    }
}

/// The second table: `fault` of the try, if any, whether other entries were loaded since the entry
/// first failed, and the record with this try in it. A panic leaves no second try: it may have cost
/// more than this entry.
pub(super) fn decide(fault: Option<Retryability>, others_load: bool, attempts: Attempts, limits: Limits) -> Decision {
    match fault {
        None => Decision::Ack,
        Some(Retryability::Transient) => Decision::Retry,
        Some(Retryability::Unclear) if !others_load => Decision::Retry,
        Some(Retryability::Bug) => Decision::DeadLetter,
        Some(Retryability::Poison | Retryability::Unclear) if attempts.failed >= limits.max_deliveries => {
            Decision::DeadLetter
        }
        Some(Retryability::Poison | Retryability::Unclear) => {
            Decision::LeavePending(delay(limits, attempts.failed.saturating_sub(1)))
        }
    }
}

fn delay(limits: Limits, step: u32) -> Duration {
    grown(limits.retry_delay, step, LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_deliveries: 3,
        retry_delay: Duration::from_secs(1),
    };

    fn tried(failed: u32, unfinished: u32) -> Attempts {
        Attempts { failed, unfinished }
    }

    fn alone(seconds: u64) -> RetryPlan {
        RetryPlan::Alone(Duration::from_secs(seconds))
    }

    #[test]
    fn plans() {
        let table = [
            (1, tried(0, 0), RetryPlan::Together),
            (2, tried(0, 0), RetryPlan::Together),
            (4, tried(0, 0), RetryPlan::Together),
            (5, tried(0, 0), alone(0)),
            (900, tried(0, 0), alone(0)),
            (2, tried(1, 0), alone(1)),
            (2, tried(2, 0), alone(2)),
            // On record as finished, but not yet in the dead letters: one more try brings its error
            // back.
            (9, tried(3, 0), alone(4)),
            (3, tried(0, 1), alone(2)),
            (3, tried(2, 3), alone(8)),
            (3, tried(0, 5), alone(32)),
            (3, tried(0, 6), RetryPlan::DeadLetter),
            (3, tried(0, u32::MAX), RetryPlan::DeadLetter),
        ];
        for (deliveries, attempts, expected) in table {
            assert_eq!(
                plan(deliveries, attempts, LIMITS),
                expected,
                "{deliveries} {attempts:?}"
            );
        }
    }

    #[test]
    fn decisions() {
        let pending = |seconds| Decision::LeavePending(Duration::from_secs(seconds));
        let table = [
            (None, false, tried(0, 1), Decision::Ack),
            (None, true, tried(9, 9), Decision::Ack),
            (Some(Retryability::Transient), true, tried(0, 1), Decision::Retry),
            (Some(Retryability::Transient), false, tried(9, 9), Decision::Retry),
            (Some(Retryability::Poison), false, tried(1, 0), pending(1)),
            (Some(Retryability::Poison), true, tried(2, 0), pending(2)),
            (Some(Retryability::Poison), false, tried(3, 0), Decision::DeadLetter),
            (Some(Retryability::Poison), true, tried(4, 0), Decision::DeadLetter),
            (Some(Retryability::Unclear), true, tried(1, 0), pending(1)),
            (Some(Retryability::Unclear), true, tried(3, 0), Decision::DeadLetter),
            (Some(Retryability::Unclear), false, tried(1, 0), Decision::Retry),
            (Some(Retryability::Unclear), false, tried(9, 0), Decision::Retry),
            (Some(Retryability::Bug), false, tried(1, 0), Decision::DeadLetter),
        ];
        for (fault, others_load, attempts, expected) in table {
            assert_eq!(
                decide(fault, others_load, attempts, LIMITS),
                expected,
                "{fault:?} {others_load} {attempts:?}"
            );
        }
    }

    #[test]
    fn no_delay_outgrows_its_bound() {
        assert_eq!(
            decide(
                Some(Retryability::Poison),
                true,
                tried(40, 0),
                Limits {
                    max_deliveries: 99,
                    ..LIMITS
                }
            ),
            Decision::LeavePending(LONGEST_DELAY)
        );
    }
}
