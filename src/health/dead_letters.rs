//! The check `dead_letters`: whether they come in, wait for long, or are near their cap. Pure.

use super::levels;
use super::observation::{Observation, Thresholds};
use super::report::{Check, HealthReport, Status};
use crate::config::DeadLetterLevels;

/// Accepted entries of which a single dead letter is a share; of fewer it is one letter.
const LEAST_ACCEPTED: u64 = 100;

/// Dead letters that are new and still there.
pub(super) fn new_letters(seen: &Observation) -> Option<u64> {
    seen.new_dead_letters.map(|new| new.count.min(seen.stream.dead_letters))
}

/// The worst of three: how many are new, how long the oldest is unresolved, how near the dead
/// letters are to their cap.
pub(super) fn check(report: &HealthReport, seen: &Observation, thresholds: &Thresholds) -> Check {
    const NAME: &str = "dead_letters";
    let limits = &thresholds.levels.dead_letters;
    let filled = levels::filled(
        NAME,
        (seen.stream.dead_letters, seen.stream.dead_letters_maxlen),
        thresholds.levels.length_percent,
    );
    if seen.stream.dead_letters == 0 {
        return filled;
    }
    let mut status = filled.status;
    let mut found = vec![filled.detail];
    let window = levels::span(limits.window);
    match report.dead_letters_new {
        Some(0) => found.push(format!("none new within {window}")),
        Some(new) => {
            let share = seen.new_dead_letters.and_then(|new| new.share);
            status = status.max(judge(new, share, limits));
            let of = share.map_or_else(String::new, |(_, accepted)| format!(", {accepted} accepted meanwhile"));
            found.push(format!("{new} new within {window}{of}"));
        }
        None => found.push("the number of new ones is unknown".to_owned()),
    }
    let oldest = seen.stream.oldest_dead_letter;
    if let Some(age) = oldest.filter(|age| limits.unresolved.is_some_and(|limit| *age >= limit)) {
        status = status.max(Status::Warning);
        found.push(format!("the oldest is unresolved for {}", levels::span(age)));
    }
    let detail = found.join("; ");
    match report.dead_letters_new {
        Some(_) => Check::new(NAME, status, detail),
        None => Check {
            status: status.max(Status::Warning),
            ..Check::unknown(NAME, detail)
        },
    }
}

/// How bad so many new ones are, at least one.
fn judge(new: u64, share: Option<(u64, u64)>, limits: &DeadLetterLevels) -> Status {
    let is_large = share.is_some_and(|(came, accepted)| {
        let is_share = came > 1 || (came == 1 && accepted >= LEAST_ACCEPTED);
        is_share && came.saturating_mul(100) >= limits.share_percent.saturating_mul(accepted)
    });
    if is_large {
        Status::Critical
    } else {
        levels::level(new, limits.new)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Levels;

    fn levels() -> DeadLetterLevels {
        DeadLetterLevels {
            window: Duration::from_secs(900),
            new: Levels {
                warning: 1,
                critical: 100,
            },
            share_percent: 1,
            unresolved: Some(Duration::from_secs(24 * 3600)),
        }
    }

    #[test]
    fn new_ones_are_judged_by_their_number_and_their_share() {
        use Status::{Critical, Warning};
        for (new, accepted, expected) in [
            (1, None, Warning),
            (100, None, Warning),
            (101, None, Critical),
            (1, Some(0), Warning),
            (1, Some(99), Warning),
            (1, Some(100), Critical),
            (1, Some(101), Warning),
            (2, Some(50), Critical),
            (100, Some(10_001), Warning),
            (100, Some(10_000), Critical),
            (101, Some(1_000_000), Critical),
        ] {
            let share = accepted.map(|accepted| (new, accepted));
            assert_eq!(judge(new, share, &levels()), expected, "{new} of {accepted:?}");
        }
    }
}
