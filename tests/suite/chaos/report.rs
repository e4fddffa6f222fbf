//! What a run tells: the schedule before it, the log of faults while it goes, and a table after it that fits the
//! documentation.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use super::clients::Seen;
use super::fault::Planned;
use super::journal::{Stories, Story};
use super::oracle::Verdict;

/// Faults as they happened.
pub struct FaultLog {
    began: Instant,
    lines: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl FaultLog {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    pub fn begins(&self, planned: &Planned) {
        self.note(&format!("{} for {:?}", planned.fault, planned.lasts));
        *self
            .counts
            .lock()
            .unwrap()
            .entry(planned.fault.to_string())
            .or_default() += 1;
    }

    pub fn ends(&self, planned: &Planned) {
        self.note(&format!("{} is over", planned.fault));
    }

    fn note(&self, text: &str) {
        let line = format!("{:8.3} s  {text}", self.began.elapsed().as_secs_f64());
        self.lines.lock().unwrap().push(line);
    }

    pub fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

/// Where a run ends by a panic, what had happened by then is half of the answer.
impl Drop for FaultLog {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- faults until then:\n{}", self.text());
        }
    }
}

/// All that came of a run.
pub struct Outcome {
    pub title: &'static str,
    pub seed: u64,
    pub log: FaultLog,
    pub seen: Seen,
    pub stories: Stories,
    pub verdict: Verdict,
    /// What the service itself says is lost.
    pub reported: u64,
    /// Signs that the faults bit.
    pub signs: Vec<(&'static str, u64)>,
}

impl Outcome {
    /// Prints the table.
    ///
    /// # Panics
    /// With everything that is needed to find out why, unless the losses are what the service says and nothing else
    /// is wrong.
    pub fn conclude(self) {
        eprintln!("{}", self.table());
        let Verdict { lost, differences } = &self.verdict;
        assert!(
            differences.is_empty() && u64::try_from(lost.len()).unwrap() == self.reported,
            "seed {}. Reported as lost: {}.\nLost: {lost:?}\nDifferences:\n{}",
            self.seed,
            self.reported,
            differences.join("\n")
        );
        assert!(self.stories.values().any(Story::is_taken), "nothing was ever taken");
    }

    /// As [`Outcome::conclude`], where `unknown` losses were reported whose number nobody can tell.
    ///
    /// # Panics
    /// As there; but with an unknown loss the number that is reported is only a bound, where there is one at all.
    pub fn conclude_with(self, unknown: u64) {
        if unknown == 0 {
            return self.conclude();
        }
        eprintln!("{}", self.table());
        let Verdict { lost, differences } = &self.verdict;
        assert!(
            differences.is_empty(),
            "seed {}:\n{}",
            self.seed,
            differences.join("\n")
        );
        let count = u64::try_from(lost.len()).unwrap();
        assert!(
            self.reported == 0 || count <= self.reported,
            "seed {}. Reported as lost: at most {}.\nLost: {lost:?}",
            self.seed,
            self.reported
        );
        assert!(self.stories.values().any(Story::is_taken), "nothing was ever taken");
    }

    /// As [`Outcome::conclude`], where as many as `at_most` may be lost.
    ///
    /// # Panics
    /// As there.
    pub fn conclude_within(self, at_most: u64) {
        eprintln!("{}", self.table());
        let Verdict { lost, differences } = &self.verdict;
        assert!(
            differences.is_empty() && u64::try_from(lost.len()).unwrap() <= at_most,
            "seed {}. At most {at_most} may be lost.\nLost: {lost:?}\nDifferences:\n{}",
            self.seed,
            differences.join("\n")
        );
        assert!(self.stories.values().any(Story::is_taken), "nothing was ever taken");
    }

    /// In Markdown: what was done, what was answered, what came of it.
    fn table(&self) -> String {
        let taken = self.stories.values().filter(|story| story.is_taken()).count();
        let slowest = "slowest answer of a process that was not itself stopped or killed";
        let (lost, differences) = (self.verdict.lost.len(), self.verdict.differences.len());
        let mut rows = vec![
            ("events sent".to_owned(), self.stories.len().to_string()),
            ("of these acknowledged".to_owned(), taken.to_string()),
            ("**acknowledged and lost**".to_owned(), format!("**{lost}**")),
            (
                "lost by the store, as the service reports it".to_owned(),
                self.reported.to_string(),
            ),
            (
                "**doubled, changed, strangers, wrong answers**".to_owned(),
                format!("**{differences}**"),
            ),
            ("requests".to_owned(), self.seen.requests.to_string()),
            (slowest.to_owned(), format!("{:.2} s", self.seen.slowest.as_secs_f64())),
        ];
        let mut counted = |kind: &str, of: &str, count: u64| rows.push((format!("{kind}{of}"), count.to_string()));
        for (word, count) in &self.seen.words {
            counted("answer: ", word, *count);
        }
        let faults = self.log.counts.lock().unwrap();
        counted("faults", "", faults.values().sum());
        for (fault, count) in faults.iter() {
            counted("fault: ", fault, *count);
        }
        for (sign, count) in &self.signs {
            counted("sign: ", sign, *count);
        }
        let rows: Vec<_> = rows
            .iter()
            .map(|(what, count)| format!("| {what} | {count} |"))
            .collect();
        format!(
            "\n| {}, seed {} | |\n|---|---|\n{}\n",
            self.title,
            self.seed,
            rows.join("\n")
        )
    }
}
