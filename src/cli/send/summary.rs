//! The summary of a run: counts by kind and answer, throughput, latency, and unexpected answers.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::mix::DeliveryKind;
use crate::cli::Failure;
use crate::cli::output::table;

/// Greatest latency that is recorded, microseconds.
const LONGEST: u64 = 3_600_000_000;
/// Percentiles of the summary, with their names.
const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0)];

pub(super) struct SendOutcome {
    pub(super) kind: DeliveryKind,
    pub(super) answer: Response,
    pub(super) latency: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Response {
    /// HTTP status, and `status` or `code` of the body.
    Status(u16, Option<String>),
    /// No connection.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The connection ended before the answer did.
    Broken,
}

impl Response {
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Status(200..=299, _))
    }

    pub(super) fn is_quarantined(&self) -> bool {
        matches!(self, Self::Status(200, Some(word)) if word == "quarantined")
    }

    /// Whether a delivery of that kind is to be answered so.
    fn suits(&self, kind: DeliveryKind) -> bool {
        match kind {
            DeliveryKind::BadSignature => matches!(self, Self::Status(401, _)),
            DeliveryKind::Malformed => self.is_quarantined(),
            DeliveryKind::Event | DeliveryKind::Late | DeliveryKind::Duplicate | DeliveryKind::OldSecret => {
                self.is_success()
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Status(status, Some(word)) => format!("{status} {word}"),
            Self::Status(status, None) => status.to_string(),
            Self::Unreachable => "unreachable".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Broken => "connection broken".to_owned(),
        }
    }
}

/// The answer that a kind should get.
fn expected(kind: DeliveryKind) -> &'static str {
    match kind {
        DeliveryKind::BadSignature => "401",
        DeliveryKind::Malformed => "200 quarantined",
        DeliveryKind::Event | DeliveryKind::Late | DeliveryKind::Duplicate | DeliveryKind::OldSecret => "2xx",
    }
}

pub(super) struct SendSummary {
    url: String,
    answers: BTreeMap<(DeliveryKind, Response), Times>,
    sent: u64,
    took: Duration,
}

/// How many, and, of what was answered, how long it took.
#[derive(Default)]
struct Times {
    count: u64,
    /// Microseconds.
    latencies: Option<Histogram<u64>>,
}

impl SendSummary {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            answers: BTreeMap::new(),
            sent: 0,
            took: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, outcome: SendOutcome) {
        self.sent += 1;
        let is_answered = matches!(outcome.answer, Response::Status(..));
        let times = self.answers.entry((outcome.kind, outcome.answer)).or_default();
        times.count += 1;
        if is_answered {
            if times.latencies.is_none() {
                times.latencies = Histogram::new_with_bounds(1, LONGEST, 3).ok();
            }
            if let Some(latencies) = &mut times.latencies {
                latencies.saturating_record(u64::try_from(outcome.latency.as_micros()).unwrap_or(LONGEST).max(1));
            }
        }
    }

    /// Whether so many were tried and there was no connection even once.
    pub(super) fn is_silent_after(&self, tries: u64) -> bool {
        self.sent >= tries && self.answers.keys().all(|(_, answer)| *answer == Response::Unreachable)
    }

    pub(super) fn finish(&mut self, took: Duration) {
        self.took = took;
    }

    /// # Errors
    /// Something was not answered as it should be, or nothing answers at all.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let unexpected: u64 = self.unexpected().map(|(_, _, count)| count).sum();
        if unexpected == 0 {
            return Ok(());
        }
        if self.is_silent_after(1) {
            return Err(Failure::Unavailable(format!(
                "nothing answers at {}: is `orderstream` running there?",
                self.url
            )));
        }
        let wrong = if self.kinds().len() > 1 {
            "as they should be"
        } else {
            "with 2xx"
        };
        let sent = self.sent;
        Err(Failure::Unavailable(format!(
            "{unexpected} of {sent} were not answered {wrong}"
        )))
    }

    /// Kind, answer and number of what was not answered as it should be.
    fn unexpected(&self) -> impl Iterator<Item = (DeliveryKind, &Response, u64)> {
        let wrong = self.answers.iter().filter(|((kind, answer), _)| !answer.suits(*kind));
        wrong.map(|((kind, answer), times)| (*kind, answer, times.count))
    }

    /// Kinds that were sent, each once.
    fn kinds(&self) -> Vec<DeliveryKind> {
        let mut kinds = Vec::from_iter(self.answers.keys().map(|(kind, _)| *kind));
        kinds.dedup();
        kinds
    }

    fn of_kind(&self, kind: DeliveryKind) -> impl Iterator<Item = (&Response, &Times)> {
        let own = self.answers.iter().filter(move |((own, _), _)| *own == kind);
        own.map(|((_, answer), times)| (answer, times))
    }

    fn per_second(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let sent = self.sent as f64;
        sent / self.took.as_secs_f64().max(f64::EPSILON)
    }

    pub(super) fn text(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "sent       {} to {} in {:.2} s ({:.1}/s)",
            self.sent,
            self.url,
            self.took.as_secs_f64(),
            self.per_second()
        )];
        if self.kinds().len() > 1 {
            lines.extend(self.table());
        } else {
            let answers = self.answers.iter();
            lines.extend(
                answers.map(|((_, answer), times)| format!("answered   {:>8}  {}", times.count, answer.name())),
            );
        }
        let figures = latency(self.answers.values());
        if !figures.is_empty() {
            let figures = Vec::from_iter(figures.iter().map(|(name, millis)| format!("{name} {millis:.1}")));
            lines.push(format!("latency    {} ms", figures.join("  ")));
        }
        let should = |(kind, answer, count): (DeliveryKind, &Response, u64)| {
            let (name, expected, answer) = (kind.name(), expected(kind), answer.name());
            format!("finding    {count} of the kind \"{name}\" should be answered {expected}: {answer}")
        };
        // Of one kind alone, the answers say it already.
        if self.kinds().len() > 1 && !self.is_silent_after(1) {
            lines.extend(self.unexpected().map(should));
        }
        lines
    }

    fn table(&self) -> Vec<String> {
        let row = |((kind, answer), times): (&(DeliveryKind, Response), &Times)| {
            let figures = latency([times]);
            let figure = |wanted| {
                let found = figures.iter().find(|(name, _)| *name == wanted);
                found.map_or_else(|| "-".to_owned(), |(_, millis)| format!("{millis:.1}"))
            };
            let count = times.count.to_string();
            [
                kind.name().to_owned(),
                count,
                figure("p50"),
                figure("p99"),
                answer.name(),
            ]
        };
        table(
            ["kind", "count", "p50 ms", "p99 ms", "answered"],
            self.answers.iter().map(row),
        )
    }

    pub(super) fn json(&self) -> Value {
        let kind = |kind: DeliveryKind| {
            let times = Vec::from_iter(self.of_kind(kind).map(|(_, times)| times));
            let figures = json!({
                "sent": times.iter().map(|times| times.count).sum::<u64>(),
                "answers": counts(self.of_kind(kind)),
                "latency_ms": latency(times).into_iter().collect::<BTreeMap<_, _>>(),
            });
            (kind.name(), figures)
        };
        let unexpected = |(kind, answer, count): (DeliveryKind, &Response, u64)| json!({"kind": kind.name(), "answer": answer.name(), "due": expected(kind), "count": count});
        json!({
            "url": self.url,
            "sent": self.sent,
            "seconds": self.took.as_secs_f64(),
            "per_second": self.per_second(),
            "answers": counts(self.answers.iter().map(|((_, answer), times)| (answer, times))),
            "latency_ms": latency(self.answers.values()).into_iter().collect::<BTreeMap<_, _>>(),
            "kinds": self.kinds().into_iter().map(kind).collect::<BTreeMap<_, _>>(),
            "findings": self.unexpected().map(unexpected).collect::<Vec<_>>(),
        })
    }
}

fn counts<'a>(answers: impl Iterator<Item = (&'a Response, &'a Times)>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (answer, times) in answers {
        *counts.entry(answer.name()).or_default() += times.count;
    }
    counts
}

/// Name and milliseconds of each figure; none where nothing was answered.
fn latency<'a>(times: impl IntoIterator<Item = &'a Times>) -> Vec<(&'static str, f64)> {
    let mut known = times.into_iter().filter_map(|times| times.latencies.as_ref());
    let Some(mut latencies) = known.next().cloned() else {
        return Vec::new();
    };
    for more in known {
        // All have the same bounds, outside of which nothing is recorded.
        let _ = latencies.add(more);
    }
    #[allow(clippy::cast_precision_loss, reason = "at most an hour in microseconds")]
    let millis = |micros: u64| micros as f64 / 1000.0;
    let middle = PERCENTILES.map(|(name, percent)| (name, millis(latencies.value_at_percentile(percent))));
    let (min, max) = (("min", millis(latencies.min())), ("max", millis(latencies.max())));
    [min].into_iter().chain(middle).chain([max]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(answers: &[(DeliveryKind, Response)]) -> SendSummary {
        let mut summary = SendSummary::new("http://x/".to_owned());
        for (at, (kind, answer)) in (1..).zip(answers) {
            summary.add(SendOutcome {
                kind: *kind,
                answer: answer.clone(),
                latency: Duration::from_millis(at),
            });
        }
        summary.finish(Duration::from_secs(2));
        summary
    }

    fn status(status: u16, word: &str) -> Response {
        Response::Status(status, Some(word.to_owned()))
    }

    #[test]
    fn only_2xx_is_success() {
        let ok = (DeliveryKind::Event, status(200, "accepted"));
        assert!(summary(&[ok.clone(), ok.clone()]).verdict().is_ok());
        for bad in [
            Response::Status(503, None),
            Response::Timeout,
            Response::Broken,
            Response::Unreachable,
        ] {
            assert!(summary(&[ok.clone(), (DeliveryKind::Event, bad)]).verdict().is_err());
        }
    }

    #[test]
    fn each_kind_has_its_answer() {
        let answers = [
            (status(200, "accepted"), [true, true, false, false]),
            (status(200, "duplicate"), [true, true, false, false]),
            (status(200, "spooled"), [true, true, false, false]),
            (status(200, "quarantined"), [true, true, false, true]),
            (status(401, "bad_signature"), [false, false, true, false]),
            (status(400, "bad_request"), [false; 4]),
            (Response::Timeout, [false; 4]),
        ];
        for (answer, suits) in answers {
            let kinds = [
                DeliveryKind::Event,
                DeliveryKind::OldSecret,
                DeliveryKind::BadSignature,
                DeliveryKind::Malformed,
            ];
            assert_eq!(kinds.map(|kind| answer.suits(kind)), suits, "{answer:?}");
        }
        let found = summary(&[
            (DeliveryKind::Event, status(200, "accepted")),
            (DeliveryKind::BadSignature, status(200, "accepted")),
        ]);
        assert!(found.verdict().is_err());
        let finding = "finding    1 of the kind \"bad signature\" should be answered 401: 200 accepted";
        assert_eq!(found.text().last().unwrap(), finding);
        assert_eq!(found.json()["findings"][0]["kind"], "bad signature");
    }

    #[test]
    fn figures_are_those_of_the_answers() {
        let ok = (DeliveryKind::Event, status(200, "accepted"));
        let summary = summary(&[
            ok.clone(),
            ok,
            (DeliveryKind::Late, status(200, "accepted")),
            (DeliveryKind::Event, Response::Unreachable),
        ]);
        let json = summary.json();
        assert_eq!(json["answers"], json!({"200 accepted": 3, "unreachable": 1}));
        assert_eq!(
            json["kinds"]["event"]["answers"],
            json!({"200 accepted": 2, "unreachable": 1})
        );
        assert_eq!(json["kinds"]["late"]["sent"], 1);
        assert_eq!(json["per_second"], 2.0);
        assert!(json["latency_ms"]["max"].as_f64().unwrap() < 3.1);
        assert!(json["kinds"]["event"]["latency_ms"]["max"].as_f64().unwrap() < 2.1);
        assert!(!summary.is_silent_after(1));
    }
}
