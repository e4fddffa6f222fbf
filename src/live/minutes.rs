//! The figures of a minute, made of its samples. They are kept beside the stream, so that a history
//! of a day outlives every process. Pure.

use super::history::Sample;
use crate::nodes::Latency;

/// Milliseconds.
pub(super) const MINUTE: u64 = 60_000;
/// Milliseconds from the first sample to the last, below which they do not stand for their minute: of a
/// process that began or ended in it.
const LEAST_SPAN: u64 = MINUTE / 2;

/// Adds up the samples of one minute after another.
#[derive(Debug, Default)]
pub(super) struct MinuteSums {
    samples: Vec<Sample>,
    latency: Latency,
}

impl MinuteSums {
    /// Adds a sample with the latencies behind it. Answers the minute before, where that ends with
    /// it: means of rates, the worst of the rest, and the last count of dead letters.
    pub(super) fn add(&mut self, sample: &Sample, latency: &Latency) -> Option<Sample> {
        let is_over = self
            .samples
            .first()
            .is_some_and(|first| first.at / MINUTE != sample.at / MINUTE);
        let ended = is_over.then(|| std::mem::take(self));
        self.samples.push(sample.clone());
        self.latency = Latency::sum([&self.latency, latency]);
        ended.and_then(Self::minute)
    }

    fn minute(self) -> Option<Sample> {
        let (first, last) = self.samples.first().zip(self.samples.last())?;
        if last.at.saturating_sub(first.at) < LEAST_SPAN {
            return None;
        }
        let worst = |field: fn(&Sample) -> Option<u64>| self.samples.iter().filter_map(field).max();
        let quantile = |share| self.latency.quantile_ms(share).map(rounded);
        let oldest = self.samples.iter().filter_map(|sample| sample.oldest_pending_seconds);
        let minute = Sample {
            at: first.at / MINUTE * MINUTE,
            accepted_per_second: mean(self.samples.iter().filter_map(|sample| sample.accepted_per_second)),
            loaded_per_second: mean(self.samples.iter().filter_map(|sample| sample.loaded_per_second)),
            backlog: worst(|sample| sample.backlog),
            latency_p50_ms: quantile(0.5),
            latency_p95_ms: quantile(0.95),
            latency_p99_ms: quantile(0.99),
            oldest_pending_seconds: oldest.reduce(f64::max).map(rounded),
            dead_letters: last.dead_letters,
            spool_depth: worst(|sample| sample.spool_depth),
        };
        // Another process may have seen the stream meanwhile.
        (minute.accepted_per_second.is_some() || minute.backlog.is_some()).then_some(minute)
    }
}

fn mean(rates: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = rates.fold((0_u32, 0.0), |(count, sum), rate| (count + 1, sum + rate));
    (count > 0).then(|| rounded(sum / f64::from(count)))
}

/// To the thousandth: a record is short.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_the_mean_of_rates_and_the_worst_of_the_rest() {
        let mut sums = MinuteSums::default();
        let sample = |second: u64| Sample {
            at: 120_000 + second * 1000,
            accepted_per_second: (second > 0).then_some(second as f64),
            backlog: Some(1000 - second),
            dead_letters: Some(second),
            ..Sample::default()
        };
        let latency = Latency::of_counts([(40, 98), (60, 2)]);
        for second in 0..60 {
            assert_eq!(sums.add(&sample(second), &latency), None);
        }
        let minute = sums.add(&sample(60), &Latency::default()).unwrap();
        assert_eq!((minute.at, minute.accepted_per_second), (120_000, Some(30.0)));
        assert_eq!(
            (minute.backlog, minute.dead_letters, minute.spool_depth),
            (Some(1000), Some(59), None)
        );
        assert_eq!(minute.loaded_per_second, None, "what is not known is no nought");
        assert!(minute.latency_p50_ms < minute.latency_p99_ms, "{minute:?}");
        assert!(serde_json::to_string(&minute).unwrap().len() < 400);
        // Of the next minute it saw one second, and of the one after that half, without a stream.
        assert_eq!(sums.add(&sample(120), &latency), None);
        let blind = |second: u64| Sample {
            at: 120_000 + second * 1000,
            spool_depth: Some(1),
            ..Sample::default()
        };
        let mut minutes = (180..=240).map(|second| sums.add(&blind(second), &latency));
        assert!(minutes.all(|minute| minute.is_none()));
    }
}
