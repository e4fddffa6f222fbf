//! The last snapshot and its report as gauges. A figure that is not known is [`UNKNOWN`], not the
//! one before.

use super::checks;
use super::partitions::Refusals;
use super::report::HealthReport;
use crate::metrics::{CheckLabels, HealthMetrics, Metrics, PartitionLabels, PartitionMetrics, UNKNOWN};
use crate::stream::StreamReport;

/// What was seen of the stream, `None` where it did not answer; of so many partitions, of which these
/// take no writes.
pub(super) fn of_stream(metrics: &Metrics, stream: Option<&StreamReport>, (count, refusals): (u16, &Refusals)) {
    of_partitions(&metrics.partitions, count, stream, refusals);
    let ours = stream.and_then(|stream| stream.groups.iter().find(|group| group.ours));
    let age = |stream: &StreamReport| stream.oldest_backlog.map_or(0, |age| age.as_secs());
    for (gauge, figure) in [
        (&metrics.stream_length, stream.map(|stream| stream.length)),
        (&metrics.dead_letters_length, stream.map(|stream| stream.dead_letters)),
        (&metrics.pending, ours.map(|group| group.pending)),
        (&metrics.lag, ours.and_then(|group| group.lag)),
        (&metrics.health.backlog_seconds, ours.and(stream).map(age)),
    ] {
        gauge.set(known(figure));
    }
}

/// Of each partition, where there are several.
fn of_partitions(metrics: &PartitionMetrics, count: u16, stream: Option<&StreamReport>, refusals: &Refusals) {
    metrics.away.set(known(Some(refusals.len() as u64)));
    for partition in (0..count).filter(|_| count > 1) {
        let report = stream.and_then(|stream| stream.partitions.get(usize::from(partition)));
        let labels = PartitionLabels { partition };
        for (family, figure) in [
            (&metrics.length, report.and_then(|report| report.length)),
            (&metrics.pending, report.and_then(|report| report.pending)),
            (&metrics.lag, report.and_then(|report| report.lag)),
            (&metrics.writable, Some(u64::from(!refusals.contains_key(&partition)))),
        ] {
            family.get_or_create(&labels).set(known(figure));
        }
    }
}

/// Every check, also those that were not made.
pub(super) fn of_report(metrics: &HealthMetrics, report: &HealthReport) {
    for name in checks::NAMES {
        let judged = report.checks.iter().find(|check| check.name == name);
        let level = judged.map(|check| check.status as u64);
        metrics
            .checks
            .get_or_create(&CheckLabels { check: name })
            .set(known(level));
    }
    metrics.live_workers.set(known(report.workers));
}

fn known(figure: Option<u64>) -> i64 {
    figure.map_or(UNKNOWN, |figure| i64::try_from(figure).unwrap_or(i64::MAX))
}
