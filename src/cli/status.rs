//! `status`: the health report for a person.
//!
//! Taken from the stream itself and from what the processes on it tell of themselves there: this command is none of
//! them, and what they do not tell is unknown. Where a process has the data folder with the stream or the spool in it,
//! that process is asked: it alone knows how the spool, the breaker and the retries stand.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use indicatif::BinaryBytes;
use serde::Serialize;

use super::backend::Remote;
use super::embedded::{Access, enter};
use super::nodes::UNKNOWN;
use super::{Exit, Failure, Output, instance, output, secrets};
use crate::config::{Config, RedisConfig};
use crate::folder::{self, Folder};
use crate::health::{self, Check, HealthReport, Status, Thresholds};
use crate::ingest::{Spool, SpoolReport};
use crate::metrics::Metrics;
use crate::nodes::Node;
use crate::operations::SecretUsageReport;
use crate::stream::embedded::EmbeddedStream;
use crate::stream::redis::RedisStream;
use crate::stream::{ConsumerReport, Stream};

/// What is printed as JSON.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    report: HealthReport,
    /// Null where no process tells.
    secrets: Option<SecretUsageReport>,
    /// Null where they are not known.
    nodes: Option<Vec<Node>>,
}

/// What was found.
struct Found {
    report: HealthReport,
    /// Where they are known one by one.
    consumers: Vec<ConsumerReport>,
    nodes: Option<Vec<Node>>,
}

/// Prints the report.
///
/// # Errors
/// The stream does not answer, or something is critical, which the report says.
pub(super) async fn run(format: Output, config: Config) -> Result<(), Failure> {
    let found = match &config.redis {
        Some(redis) => on_redis(redis, &config).await?,
        None => in_files(&config).await?,
    };
    let asked = secrets::ask(&config).await;
    let exit = match found.report.status {
        Status::Critical => Err(Failure::Reported(Exit::Unavailable)),
        Status::Healthy | Status::Warning => Ok(()),
    };
    if format.json {
        output::print_json(&Told {
            report: found.report,
            secrets: asked.and_then(Result::ok),
            nodes: found.nodes,
        })?;
        return exit;
    }
    let mut lines = text(&found);
    if let Some(asked) = asked {
        lines.push(String::new());
        lines.extend(secrets::lines(&asked));
    }
    output::print_lines(lines)?;
    exit
}

impl Found {
    fn nothing(why: Failure) -> Self {
        Self {
            report: HealthReport::without_figures(why),
            consumers: Vec::new(),
            nodes: None,
        }
    }

    fn with(self, more: impl FnOnce(HealthReport) -> HealthReport) -> Self {
        Self {
            report: more(self.report),
            ..self
        }
    }
}

async fn look(stream: &dyn Stream, config: &Config) -> Result<Found, Failure> {
    let thresholds = Thresholds::from(config);
    let observation = health::observe_once(stream, &thresholds).await?;
    Ok(Found {
        report: HealthReport::judge(&observation, &thresholds),
        consumers: observation.stream.consumers,
        nodes: observation.nodes,
    })
}

async fn on_redis(redis: &RedisConfig, config: &Config) -> Result<Found, Failure> {
    let stream = RedisStream::new(redis, &config.stream, Metrics::new())?;
    let looked = look(&stream, config).await;
    let Some(limit) = config
        .spool_limit
        .filter(|_| config.data_dir.join(folder::SPOOL).exists())
    else {
        return looked;
    };
    match spooled(config, limit).await {
        // While Redis is away, what waits for it is worth knowing all the more.
        Ok(Spooled::Owned(report)) => Ok(Found {
            report: *report,
            ..looked.unwrap_or_else(Found::nothing)
        }),
        Ok(Spooled::Orphaned(spool)) => {
            let found = looked.unwrap_or_else(Found::nothing);
            Ok(found.with(|report| report.with_orphaned_spool(&spool)))
        }
        Err(failure) => looked.map(|found| found.with(|report| report.with_unknown_spool(failure))),
    }
}

/// Who knows of the spool, and what.
enum Spooled {
    /// The process that has it: of everything.
    Owned(Box<HealthReport>),
    /// Its file, which nobody has.
    Orphaned(SpoolReport),
}

async fn spooled(config: &Config, limit: u64) -> Result<Spooled, Failure> {
    Ok(match enter(config, "status").await? {
        Access::Theirs(_, admin) => Spooled::Owned(Box::new(instance::report(admin).await?)),
        Access::Ours(folder) => Spooled::Orphaned(orphan(&folder, limit, config)?),
    })
}

/// A damaged file is left to the process that will run on it.
fn orphan(folder: &Folder, limit: u64, config: &Config) -> Result<SpoolReport, Failure> {
    let file = folder.file(folder::SPOOL)?;
    EmbeddedStream::check_file(&file)?;
    let dedupe = config.stream.dedupe_window.is_some();
    Ok(Spool::open(&file, limit, dedupe, Metrics::new())?.report())
}

async fn in_files(config: &Config) -> Result<Found, Failure> {
    let file = config.data_dir.join(folder::STREAM);
    if !file.exists() {
        return Err(Failure::Unavailable(format!(
            "nothing to look at: REDIS_URL is not set, and there is no {} either, which `orderstream run` makes",
            file.display()
        )));
    }
    match enter(config, "status").await? {
        Access::Ours(folder) => {
            let file = folder.file(folder::STREAM)?;
            EmbeddedStream::check_file(&file)?;
            let stream = EmbeddedStream::open(&file, &config.stream, None, Metrics::new())?;
            look(&stream, config).await
        }
        Access::Theirs(_, admin) => Ok(Found {
            report: instance::report(admin).await?,
            consumers: Vec::new(),
            nodes: nodes_of(config, admin).await,
        }),
    }
}

/// What the owner of the data folder tells; unknown where its token is.
async fn nodes_of(config: &Config, admin: SocketAddr) -> Option<Vec<Node>> {
    let remote = Remote::new(config, admin).ok()?;
    remote.nodes().await.ok()?.nodes
}

fn text(found: &Found) -> Vec<String> {
    let Found {
        report,
        consumers,
        nodes,
    } = found;
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
    lines.extend(super::nodes::lines(nodes.as_deref()));
    if !consumers.is_empty() {
        let width = consumers
            .iter()
            .map(|consumer| consumer.name.chars().count())
            .max()
            .unwrap_or_default()
            .max(8);
        lines.push(String::new());
        lines.push(format!("{:<width$}  {:>8}  {:>8}", "consumer", "pending", "idle"));
        let row = |one: &ConsumerReport| format!("{:<width$}  {:>8}  {:>8}", one.name, one.pending, span(one.idle));
        lines.extend(consumers.iter().map(row));
    }
    lines
}

/// What a process with a spool knows; what nobody can know is left out.
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
        value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
    )
}

/// `0.4s`, `12s`, `3m 5s`, `2h 4m`, `9d 1h`: two units are enough for a person.
pub(super) fn span(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", age.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (millis, shown) in [
            (400, "0.4s"),
            (12_000, "12s"),
            (185_000, "3m 5s"),
            (7_440_000, "2h 4m"),
            (781_200_000, "9d 1h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), shown);
        }
    }

    #[test]
    fn what_is_unknown_is_not_zero() {
        assert_eq!(figure("lag", None::<u64>), "lag                  –");
    }
}
