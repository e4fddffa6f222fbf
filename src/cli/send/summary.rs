//! What came of it: counts by answer, throughput, latency.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

use crate::cli::{Failure, output};

/// Longest latency that is told apart, microseconds.
const LONGEST: u64 = 3_600_000_000;
/// Percentiles of the summary, with their names.
const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0)];

pub(super) struct Outcome {
    pub(super) answer: Answer,
    pub(super) latency: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// HTTP status, and the word that the body said.
    Status(u16, Option<String>),
    /// No connection.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The connection ended before the answer did.
    Broken,
    /// A header does not go over HTTP.
    Unsendable,
}

impl Answer {
    fn is_success(&self) -> bool {
        matches!(self, Self::Status(200..=299, _))
    }

    fn name(&self) -> String {
        match self {
            Self::Status(status, Some(word)) => format!("{status} {word}"),
            Self::Status(status, None) => status.to_string(),
            Self::Unreachable => "unreachable".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Broken => "connection broken".to_owned(),
            Self::Unsendable => "not sendable (check --topic and --shop)".to_owned(),
        }
    }
}

pub(super) struct Tally {
    url: String,
    answers: BTreeMap<Answer, u64>,
    /// Microseconds, of all that were answered.
    latencies: Option<Histogram<u64>>,
    sent: u64,
    took: Duration,
}

impl Tally {
    pub(super) fn new(url: String) -> Self {
        let latencies = Histogram::new_with_bounds(1, LONGEST, 3).ok();
        Self {
            url,
            answers: BTreeMap::new(),
            latencies,
            sent: 0,
            took: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.sent += 1;
        if let (Answer::Status(..), Some(latencies)) = (&outcome.answer, &mut self.latencies) {
            latencies.saturating_record(u64::try_from(outcome.latency.as_micros()).unwrap_or(LONGEST).max(1));
        }
        *self.answers.entry(outcome.answer).or_default() += 1;
    }

    /// Whether so many were tried and there was no connection even once.
    pub(super) fn is_silent_after(&self, tries: u64) -> bool {
        self.sent >= tries && self.answers.keys().all(|answer| *answer == Answer::Unreachable)
    }

    pub(super) fn finish(&mut self, took: Duration) {
        self.took = took;
    }

    /// The result, on stdout.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn print(&self, as_json: bool) -> Result<(), Failure> {
        output::print(if as_json { self.json().to_string() } else { self.text() })
    }

    /// # Errors
    /// Something was not answered with 2xx, or nothing was sent.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let failed: u64 = self
            .answers
            .iter()
            .filter(|(answer, _)| !answer.is_success())
            .map(|(_, count)| count)
            .sum();
        match failed {
            0 => Ok(()),
            _ if self.is_silent_after(1) => Err(Failure::Unavailable(format!(
                "nothing answers at {}: is `orderstream` running there?",
                self.url
            ))),
            _ => Err(Failure::Unavailable(format!(
                "{failed} of {} were not answered with 2xx",
                self.sent
            ))),
        }
    }

    fn per_second(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let sent = self.sent as f64;
        sent / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// Name and milliseconds of each figure.
    fn latency(&self) -> Vec<(&'static str, f64)> {
        let Some(latencies) = self.latencies.as_ref().filter(|latencies| !latencies.is_empty()) else {
            return Vec::new();
        };
        #[allow(clippy::cast_precision_loss, reason = "at most an hour in microseconds")]
        let millis = |micros: u64| micros as f64 / 1000.0;
        let middle = PERCENTILES.map(|(name, percent)| (name, millis(latencies.value_at_percentile(percent))));
        let (min, max) = (("min", millis(latencies.min())), ("max", millis(latencies.max())));
        [min].into_iter().chain(middle).chain([max]).collect()
    }

    fn text(&self) -> String {
        let mut lines = vec![format!(
            "sent       {} to {} in {:.2} s ({:.1}/s)",
            self.sent,
            self.url,
            self.took.as_secs_f64(),
            self.per_second()
        )];
        lines.extend(
            self.answers
                .iter()
                .map(|(answer, count)| format!("answered   {count:>8}  {}", answer.name())),
        );
        let latency: Vec<_> = self
            .latency()
            .iter()
            .map(|(name, millis)| format!("{name} {millis:.1}"))
            .collect();
        if !latency.is_empty() {
            lines.push(format!("latency    {} ms", latency.join("  ")));
        }
        lines.join("\n")
    }

    fn json(&self) -> serde_json::Value {
        let answers: BTreeMap<_, _> = self
            .answers
            .iter()
            .map(|(answer, count)| (answer.name(), count))
            .collect();
        json!({
            "url": self.url,
            "sent": self.sent,
            "seconds": self.took.as_secs_f64(),
            "per_second": self.per_second(),
            "answers": answers,
            "latency_ms": self.latency().into_iter().collect::<BTreeMap<_, _>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(answers: &[Answer]) -> Tally {
        let mut tally = Tally::new("http://x/".to_owned());
        for (at, answer) in (1..).zip(answers) {
            tally.add(Outcome {
                answer: answer.clone(),
                latency: Duration::from_millis(at),
            });
        }
        tally.finish(Duration::from_secs(2));
        tally
    }

    #[test]
    fn only_2xx_is_success() {
        let ok = Answer::Status(200, Some("accepted".to_owned()));
        assert!(tally(&[ok.clone(), ok.clone()]).verdict().is_ok());
        for bad in [
            Answer::Status(503, None),
            Answer::Timeout,
            Answer::Broken,
            Answer::Unreachable,
        ] {
            assert!(tally(&[ok.clone(), bad]).verdict().is_err());
        }
    }

    #[test]
    fn figures_are_those_of_the_answers() {
        let ok = Answer::Status(200, Some("accepted".to_owned()));
        let tally = tally(&[ok.clone(), ok, Answer::Unreachable]);
        let json = tally.json();
        assert_eq!(json["answers"], json!({"200 accepted": 2, "unreachable": 1}));
        assert_eq!(json["per_second"], 1.5);
        assert!(json["latency_ms"]["max"].as_f64().unwrap() < 2.1);
        assert!(!tally.is_silent_after(1));
    }
}
