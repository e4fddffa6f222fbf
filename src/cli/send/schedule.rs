//! When each delivery is due.
//!
//! Pure. Whatever its shape, a schedule has the given rate on average, but for a ramp, which ends
//! at it.

use std::time::Duration;

use clap::ValueEnum;

/// Seconds of which one is a burst and the others are quiet.
const PERIOD: f64 = 5.0;

/// Shape of a rate over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RateShape {
    /// Evenly
    Steady,
    /// One second in five at five times the rate, the others silent
    Bursts,
    /// From zero up to the rate, reached at the end
    Ramp,
}

/// Times at which deliveries are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// Deliveries a second; 0 without a schedule.
    pub(super) rate: f64,
    pub(super) shape: RateShape,
    /// Deliveries in all.
    pub(super) count: u64,
}

impl Schedule {
    /// When that delivery is due, from the start; `None` where there is no schedule.
    #[allow(clippy::cast_precision_loss, reason = "a schedule of 2^53 deliveries never ends")]
    pub(super) fn due(&self, number: u64) -> Option<Duration> {
        if self.rate <= 0.0 {
            return None;
        }
        let number = number as f64;
        let seconds = match self.shape {
            RateShape::Steady => number / self.rate,
            RateShape::Bursts => {
                let burst = self.rate * PERIOD;
                let before = (number / burst).floor();
                before * PERIOD + (number - before * burst) / burst
            }
            // The rate grows linearly, so the count grows with the square of the time.
            RateShape::Ramp => {
                let all = self.count.max(1) as f64;
                2.0 * all / self.rate * (number / all).sqrt()
            }
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(shape: RateShape, numbers: &[u64]) -> Vec<f64> {
        let schedule = Schedule {
            rate: 10.0,
            shape,
            count: 100,
        };
        let seconds = numbers
            .iter()
            .map(|number| schedule.due(*number).unwrap().as_secs_f64());
        seconds.map(|seconds| (seconds * 100.0).round() / 100.0).collect()
    }

    #[test]
    fn each_shape_has_its_times() {
        let numbers = [0, 25, 49, 50, 99, 100];
        assert_eq!(due(RateShape::Steady, &numbers), [0.0, 2.5, 4.9, 5.0, 9.9, 10.0]);
        assert_eq!(due(RateShape::Bursts, &numbers), [0.0, 0.5, 0.98, 5.0, 5.98, 10.0]);
        assert_eq!(due(RateShape::Ramp, &numbers), [0.0, 10.0, 14.0, 14.14, 19.9, 20.0]);
    }

    #[test]
    fn no_shape_goes_back_in_time_and_no_rate_is_no_schedule() {
        for shape in [RateShape::Steady, RateShape::Bursts, RateShape::Ramp] {
            for rate in [0.1, 3.0, 777.0] {
                let schedule = Schedule {
                    rate,
                    shape,
                    count: 5000,
                };
                let times = Vec::from_iter((0..5000).map(|number| schedule.due(number).unwrap()));
                assert!(times.is_sorted(), "{shape:?} {rate}");
            }
            let none = Schedule {
                rate: 0.0,
                shape,
                count: 5,
            };
            assert_eq!(none.due(3), None);
        }
    }
}
