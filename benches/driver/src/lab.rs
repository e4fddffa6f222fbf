//! What all scenes share: the programs, how long and how often is measured, and one measured run of load.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::time::sleep_until;

use crate::load::Load;
use crate::process::{Process, own_cpu_seconds};
use crate::results::{Figures, Trial};
use crate::sides::Programs;

/// How much of everything.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Trials of each side, interleaved.
    pub rounds: usize,
    pub warm_up: Duration,
    pub measured: Duration,
    /// Divides the sizes of backlogs and tables.
    pub shrink: u64,
}

pub struct Lab {
    pub programs: Programs,
    pub plan: Plan,
}

/// A process whose CPU time counts, and as what.
pub type Watched<'a> = (&'static str, &'a Process);

impl Lab {
    /// A size out of the documentation, or less of it in a quick run.
    pub fn size(&self, full: u64) -> u64 {
        // Several batches at least, or there is nothing to time.
        (full / self.plan.shrink).max(2000)
    }

    /// Rounds of a scene that takes minutes for each.
    pub fn rounds(&self, at_most: usize) -> usize {
        self.plan.rounds.min(at_most)
    }

    pub fn scratch(&self, name: &str) -> PathBuf {
        self.programs.scratch.join(name)
    }

    /// Runs the load and answers rate, latency and CPU of its measured time. Any answer but 2xx spoils it.
    pub async fn measure(&self, load: Load, watched: &[Watched<'_>]) -> anyhow::Result<Figures> {
        let events = load.payload.events();
        let running = load.start().await?;
        let (begins, ends) = (running.marks().begins, running.marks().ends);
        sleep_until(begins.into()).await;
        let usage = Usage::begin(watched)?;
        sleep_until(ends.into()).await;
        let measured = begins.elapsed().as_secs_f64();
        let cpu = usage.end(watched)?;
        let outcome = running.finish().await?;
        ensure!(outcome.failed == 0, "{} requests were not answered 2xx", outcome.failed);
        ensure!(outcome.answered > 0, "nothing was answered within the measured time");
        let answered = (outcome.answered * events) as f64;
        let mut figures = cpu.per_events(answered);
        figures.insert(
            "rate".to_owned(),
            answered / (ends - begins).as_secs_f64().min(measured),
        );
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            let micros = outcome.latency.value_at_quantile(quantile);
            figures.insert(name.to_owned(), micros as f64 / 1000.0);
        }
        Ok(figures)
    }
}

/// CPU time of several processes since a moment.
pub struct Usage {
    began: Vec<(&'static str, f64)>,
}

/// CPU seconds by process.
pub struct Used(Vec<(&'static str, f64)>);

impl Usage {
    pub fn begin(watched: &[Watched<'_>]) -> anyhow::Result<Self> {
        Ok(Self {
            began: totals(watched)?,
        })
    }

    pub fn end(self, watched: &[Watched<'_>]) -> anyhow::Result<Used> {
        let ended = totals(watched)?;
        let used = self.began.iter().zip(ended);
        Ok(Used(
            used.map(|((name, began), (_, ended))| (*name, ended - began)).collect(),
        ))
    }
}

impl Used {
    /// As CPU seconds per 10,000 events; the sum of processes of one name.
    pub fn per_events(&self, events: f64) -> Figures {
        let mut figures = Figures::new();
        for (name, seconds) in &self.0 {
            *figures.entry(format!("cpu_{name}")).or_default() += seconds / events * 10_000.0;
        }
        figures
    }
}

fn totals(watched: &[Watched<'_>]) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let mut totals = Vec::with_capacity(watched.len() + 1);
    for (name, process) in watched {
        totals.push((*name, process.cpu_seconds()?));
    }
    totals.push(("load", own_cpu_seconds()?));
    Ok(totals)
}

/// One trial, said as it comes.
pub fn trial(side: impl Into<String>, mut figures: Figures) -> Trial {
    let side = side.into();
    // What was over before it could be measured has no figure, and JSON no form for one.
    figures.retain(|_, value| value.is_finite());
    let shown: Vec<String> = figures
        .iter()
        .map(|(name, value)| format!("{name} {value:.3}"))
        .collect();
    eprintln!("  {side}: {}", shown.join(", "));
    Trial { side, figures }
}

/// Seconds since then.
pub fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
