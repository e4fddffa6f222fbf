//! Delays that grow. Pure: the caller brings the random number.
//!
//! Invariant: at least half of what the delay grew to, at most the cap.

use std::time::Duration;

/// `base * 2^step`, at most `cap`.
pub(super) fn grown(base: Duration, step: u32, cap: Duration) -> Duration {
    base.saturating_mul(1_u32.checked_shl(step).unwrap_or(u32::MAX))
        .min(cap)
}

/// Spreads a delay over its upper half, so that those who failed together do not return together.
/// `chance` is in 0..1.
pub(super) fn spread(delay: Duration, chance: f64) -> Duration {
    delay.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn doubles_up_to_the_cap() {
        let delays: Vec<u128> = (0..8)
            .map(|step| grown(100 * MS, step, 5000 * MS).as_millis())
            .collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(grown(Duration::MAX, 31, 5000 * MS), 5000 * MS);
        assert_eq!(grown(100 * MS, 4000, 5000 * MS), 5000 * MS);
    }

    #[test]
    fn spreads_over_the_upper_half() {
        let spreads = [-1.0, 0.0, 0.5, 1.0, 7.0].map(|chance| spread(100 * MS, chance).as_millis());
        assert_eq!(spreads, [50, 50, 75, 100, 100]);
    }
}
