//! `status`: the health report for a person.
//!
//! The command observes the stream itself, and reads what the nodes on it report there. Where a
//! process owns the data folder with the stream or the spool, that process is asked: only it knows
//! the state of spool, breaker and retries. With `--watch` it is printed again and again: on a
//! terminal in place of the one before.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use console::Term;
use indicatif::BinaryBytes;
use serde::Serialize;

use super::backend::{self, Access, enter};
use super::output::{OutputArgs, print_one, span, table};
use super::remote::{self, Remote};
use super::{Exit, Failure, nodes, secrets};
use crate::config::{self, Config};
use crate::folder::{self, Folder};
use crate::health::{self, Check, HealthReport, Status, Thresholds};
use crate::ingest::{Spool, SpoolReport};
use crate::metrics::Metrics;
use crate::nodes::{Node, NodeList};
use crate::operations::SecretUsageReport;
use crate::stream::embedded::EmbeddedStream;
use crate::stream::redis::RedisStream;
use crate::stream::{ConsumerReport, Stream};

/// What is printed; as JSON without the consumers.
#[derive(Serialize)]
struct StatusReport {
    #[serde(flatten)]
    health: HealthReport,
    /// Null where no process reports it.
    secrets: Option<SecretUsageReport>,
    /// Null where they are not known.
    nodes: Option<Vec<Node>>,
    /// Empty where they are not known one by one.
    #[serde(skip)]
    consumers: Vec<ConsumerReport>,
}

/// Arguments of `status`.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct StatusArgs {
    /// Print it again, every 2 s by default, until Ctrl-C
    #[arg(long, short = 'w', value_name = "PERIOD", num_args = 0..=1, require_equals = true,
          default_missing_value = "2s", value_parser = period)]
    watch: Option<Duration>,
    #[command(flatten)]
    output: OutputArgs,
}

fn period(text: &str) -> Result<Duration, &'static str> {
    let known = config::duration(text).filter(|period| *period >= Duration::from_millis(100));
    known.ok_or("a duration of at least 100ms, written 500ms, 2s, 5m")
}

/// Prints the report; again and again with `--watch`.
///
/// # Errors
/// The stream does not answer, or the report says that something is critical. Neither ends a watch.
pub(super) async fn run(args: StatusArgs, config: Config) -> Result<(), Failure> {
    match args.watch {
        Some(period) => {
            tokio::select! {
                ended = watch(period, args.output, &config) => ended,
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        }
        None => {
            let (report, lines) = report(&config).await?;
            args.output.print(&report, || lines)?;
            match report.health.status {
                Status::Critical => Err(Failure::Reported(Exit::Unavailable)),
                Status::Healthy | Status::Warning => Ok(()),
            }
        }
    }
}

async fn watch(period: Duration, output: OutputArgs, config: &Config) -> Result<(), Failure> {
    let screen = Term::stdout();
    loop {
        let now = report(config).await;
        if screen.is_term() && !output.json {
            // Where it cannot be cleared, the reports stand below each other.
            let _ = screen.clear_screen();
        }
        let printed = match now {
            Ok((report, lines)) => print_one(output, &report, || lines)?,
            Err(failure) => {
                failure.print();
                ControlFlow::Continue(())
            }
        };
        if printed.is_break() {
            return Ok(());
        }
        tokio::time::sleep(period).await;
    }
}

/// The report, and its lines for a person.
async fn report(config: &Config) -> Result<(StatusReport, Vec<String>), Failure> {
    let mut report = match &config.redis {
        Some(redis) => {
            let stream = RedisStream::open(redis, &config.stream, Metrics::new()).await?;
            with_spool(observe(&stream, config).await, config).await?
        }
        None => {
            backend::stream_file(config)?;
            match enter(config, "status").await? {
                Access::Owned(folder) => observe(&backend::embedded_stream(config, &folder)?, config).await?,
                Access::Running(_, admin) => {
                    let mut report = StatusReport::from(remote::report(admin).await?);
                    if let Ok(remote) = Remote::new(config, admin) {
                        report.nodes = remote
                            .get("/api/nodes")
                            .await
                            .ok()
                            .and_then(|list: NodeList| list.nodes);
                    }
                    report
                }
            }
        }
    };
    let secrets = secrets::ask(config).await;
    let mut lines = report.lines();
    if let Some(secrets) = &secrets {
        lines.push(String::new());
        lines.extend(secrets::lines(secrets));
    }
    report.secrets = secrets.and_then(Result::ok);
    Ok((report, lines))
}

impl From<HealthReport> for StatusReport {
    fn from(health: HealthReport) -> Self {
        Self {
            health,
            secrets: None,
            nodes: None,
            consumers: Vec::new(),
        }
    }
}

async fn observe(stream: &dyn Stream, config: &Config) -> Result<StatusReport, Failure> {
    let thresholds = Thresholds::from(config);
    let observation = health::observe_once(stream, &thresholds).await?;
    Ok(StatusReport {
        health: HealthReport::judge(&observation, &thresholds),
        secrets: None,
        nodes: observation.nodes,
        consumers: observation.stream.consumers,
    })
}

/// Adds what is known of a spool in the data folder, also where Redis does not answer.
async fn with_spool(observed: Result<StatusReport, Failure>, config: &Config) -> Result<StatusReport, Failure> {
    let has_spool = config.data_dir.join(folder::SPOOL).exists();
    let Some(limit) = config.spool_limit.filter(|_| has_spool) else {
        return observed;
    };
    let or_unknown = |why: Failure| StatusReport::from(HealthReport::without_figures(why));
    let asked = match enter(config, "status").await {
        // Its owner reports everything else too.
        Ok(Access::Running(_, admin)) => match remote::report(admin).await {
            Ok(health) => {
                let report = observed.unwrap_or_else(or_unknown);
                return Ok(StatusReport { health, ..report });
            }
            Err(failure) => Err(failure),
        },
        Ok(Access::Owned(folder)) => orphan(&folder, limit, config),
        Err(failure) => Err(failure),
    };
    let report = match asked {
        Ok(_) => observed.unwrap_or_else(or_unknown),
        Err(_) => observed?,
    };
    let health = match asked {
        Ok(spool) => report.health.with_orphaned_spool(&spool),
        Err(failure) => report.health.with_unknown_spool(failure),
    };
    Ok(StatusReport { health, ..report })
}

/// The spool of a folder without an owner. A damaged file is left to the process that will run on
/// it.
fn orphan(folder: &Folder, limit: u64, config: &Config) -> Result<SpoolReport, Failure> {
    let file = folder.file(folder::SPOOL)?;
    EmbeddedStream::check_file(&file)?;
    let dedupe = config.stream.dedupe_window.is_some();
    Ok(Spool::open(&file, limit, dedupe, Metrics::new())?.report())
}

impl StatusReport {
    fn lines(&self) -> Vec<String> {
        let report = &self.health;
        let mut lines: Vec<String> = report
            .checks
            .iter()
            .map(|check| format!("{} {:<18} {}", mark(check), check.name, check.detail))
            .collect();
        let age = |seconds: Option<f64>| seconds.map(|seconds| span(Duration::from_secs_f64(seconds.max(0.0))));
        let has_none = (report.lag, report.pending_count) == (Some(0), Some(0));
        let backlog = if has_none {
            Some("none".to_owned())
        } else {
            age(report.oldest_backlog_seconds)
        };
        lines.push(String::new());
        lines.extend([
            figure("stream length", report.stream_length),
            figure("lag", report.lag),
            figure("pending", report.pending_count),
            figure("dead letters", report.dead_letters),
            figure("oldest backlog", backlog),
            figure("last accepted", age(report.last_accepted_seconds)),
            figure("last delivered", report.last_delivered_id.as_ref()),
        ]);
        lines.extend(spool(report));
        lines.push(String::new());
        lines.extend(nodes::lines(self.nodes.as_deref()));
        if !self.consumers.is_empty() {
            let row = |one: &ConsumerReport| [one.name.clone(), one.pending.to_string(), span(one.idle)];
            lines.push(String::new());
            lines.extend(table(["consumer", "pending", "idle"], self.consumers.iter().map(row)));
        }
        lines
    }
}

/// What a process with a spool reports.
fn spool(report: &HealthReport) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((depth, (bytes, limit))) = report.spool_depth.zip(report.spool_bytes.zip(report.spool_limit)) {
        let (bytes, limit) = (BinaryBytes(bytes), BinaryBytes(limit));
        lines.push(figure("spooled", Some(format!("{depth}, {bytes} of at most {limit}"))));
        let oldest = report
            .spool_oldest_seconds
            .map(|age| Duration::from_secs_f64(age.max(0.0)));
        lines.extend(oldest.map(|age| figure("oldest spooled", Some(span(age)))));
        let rate = report.spool_drained_per_second;
        lines.extend(rate.map(|rate| figure("drained a second", Some(format!("{rate:.0}")))));
        let breaker = report.breaker.as_ref();
        lines.extend(breaker.map(|breaker| figure("breaker", Some(breaker))));
    }
    let used = report.retry_budget_used;
    lines.extend(used.map(|used| figure("retry budget used", Some(format!("{:.1} %", used * 100.0)))));
    lines
}

fn mark(check: &Check) -> char {
    match check.status {
        _ if !check.known => '–',
        Status::Healthy => '✓',
        Status::Warning => '!',
        Status::Critical => '✗',
    }
}

fn figure(name: &str, value: Option<impl Display>) -> String {
    format!(
        "{name:<20} {}",
        value.map_or_else(|| nodes::UNKNOWN.to_owned(), |value| value.to_string())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_not_zero() {
        assert_eq!(figure("lag", None::<u64>), "lag                  –");
    }
}
