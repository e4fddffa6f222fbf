//! `status`: the health report for a person.
//!
//! Taken from the stream itself, which needs no running process of ours; only where the stream is a file in the data
//! folder and a process has that, the process is asked.

use std::fmt::Display;
use std::time::Duration;

use super::embedded::{Access, enter};
use super::{Failure, Output, instance, output};
use crate::config::Config;
use crate::folder;
use crate::health::{self, HealthReport, Status, Thresholds};
use crate::metrics::Metrics;
use crate::stream::embedded::EmbeddedStream;
use crate::stream::redis::RedisStream;
use crate::stream::{ConsumerReport, Stream};

/// A report, and the consumers where they are known one by one.
type Found = (HealthReport, Vec<ConsumerReport>);

/// Prints the report; how well things are does not change the exit code (that is `health`'s).
///
/// # Errors
/// The stream does not answer.
pub(super) async fn run(format: Output, config: Config) -> Result<(), Failure> {
    let (report, consumers) = match &config.redis {
        Some(redis) => look(&RedisStream::new(redis, &config.stream, Metrics::new())?, &config).await?,
        None => embedded(&config).await?,
    };
    if format.json {
        return output::print_json(&report);
    }
    output::print(text(&report, &consumers))
}

async fn look(stream: &dyn Stream, config: &Config) -> Result<Found, Failure> {
    let observation = health::observe(stream).await?;
    let report = HealthReport::judge(&observation, &Thresholds::from(config));
    Ok((report, observation.stream.consumers))
}

async fn embedded(config: &Config) -> Result<Found, Failure> {
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
            EmbeddedStream::look_over(&file)?;
            let stream = EmbeddedStream::open(&file, &config.stream, None, Metrics::new())?;
            look(&stream, config).await
        }
        Access::Theirs(_, admin) => Ok((instance::report(admin).await?, Vec::new())),
    }
}

fn text(report: &HealthReport, consumers: &[ConsumerReport]) -> String {
    let mut lines: Vec<String> = report
        .checks
        .iter()
        .map(|check| format!("{} {:<18} {}", mark(check.status), check.name, check.detail))
        .collect();
    let age = |seconds: Option<f64>| seconds.map(|seconds| span(Duration::from_secs_f64(seconds.max(0.0))));
    lines.push(String::new());
    lines.extend([
        figure("stream length", report.stream_length),
        figure("lag", report.lag),
        figure("pending", report.pending_count),
        figure("dead letters", report.dead_letters),
        figure("oldest backlog", age(report.oldest_backlog_seconds)),
        figure("last accepted", age(report.last_accepted_seconds)),
        figure("last delivered", report.last_delivered_id.as_ref()),
    ]);
    if !consumers.is_empty() {
        let width = consumers
            .iter()
            .map(|consumer| consumer.name.chars().count())
            .max()
            .unwrap_or_default()
            .max(8);
        lines.push(format!("\n{:<width$}  {:>8}  {:>8}", "consumer", "pending", "idle"));
        let row = |one: &ConsumerReport| format!("{:<width$}  {:>8}  {:>8}", one.name, one.pending, span(one.idle));
        lines.extend(consumers.iter().map(row));
    }
    lines.join("\n")
}

fn mark(status: Status) -> char {
    match status {
        Status::Healthy => '✓',
        Status::Warning => '!',
        Status::Critical => '✗',
    }
}

fn figure(name: &str, value: Option<impl Display>) -> String {
    format!(
        "{name:<20} {}",
        value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
    )
}

/// `0.4s`, `12s`, `3m 5s`, `2h 4m`, `9d 1h`: two units are enough for a person.
fn span(age: Duration) -> String {
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
        assert_eq!(figure("lag", None::<u64>), "lag                  unknown");
    }
}
