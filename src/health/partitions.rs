//! The health of each partition, where the stream has several: figures of the last look, and whether
//! it takes writes. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::{Check, HealthReport, Status, seconds};
use crate::ingest::Breaker;
use crate::stream::PartitionReport;

/// One partition of the stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in openapi.yaml, field by field")]
pub struct PartitionHealth {
    pub partition: u16,
    pub stream: String,
    pub server: String,
    pub writable: Option<bool>,
    pub breaker_open: bool,
    pub length: Option<u64>,
    pub lag: Option<u64>,
    pub pending: Option<u64>,
    pub oldest_backlog_seconds: Option<f64>,
}

impl PartitionHealth {
    pub(super) fn of(report: &PartitionReport) -> Self {
        Self {
            partition: report.partition,
            stream: report.stream.clone(),
            server: report.server.clone(),
            length: report.length,
            lag: report.lag,
            pending: report.pending,
            oldest_backlog_seconds: report.oldest_backlog.map(seconds),
            ..Self::default()
        }
    }
}

/// Why partitions took no write when they were asked last.
pub(super) type Refusals = BTreeMap<u16, String>;

impl HealthReport {
    /// Puts in which partitions take no writes, and for which the breaker is open.
    pub(super) fn with_partitions(mut self, refusals: &Refusals, breaker: Option<&Breaker>) -> Self {
        if self.partitions.is_empty() {
            return self;
        }
        for one in &mut self.partitions {
            one.writable = Some(!refusals.contains_key(&one.partition));
            one.breaker_open = breaker.is_some_and(|breaker| breaker.is_open_for(one.partition));
        }
        let all = self.partitions.len();
        let check = match refusals.first_key_value() {
            None => Check::new("partitions", Status::Healthy, format!("all {all} take writes")),
            Some((first, why)) => {
                let count = refusals.len();
                let detail = format!("{count} of {all} take no writes; partition {first}: {why}");
                Check::new("partitions", Status::Critical, detail)
            }
        };
        self.add(self.checks.len(), check);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_partition_that_takes_no_writes_is_critical() {
        let one = |partition| PartitionHealth {
            partition,
            ..PartitionHealth::default()
        };
        let report = || HealthReport {
            partitions: (0..3).map(one).collect(),
            ..HealthReport::default()
        };
        let well = report().with_partitions(&Refusals::new(), None);
        assert_eq!(well.status, Status::Healthy);
        let refusals = Refusals::from([(2, "OOM".to_owned())]);
        let found = report().with_partitions(&refusals, None);
        assert_eq!(found.status, Status::Critical);
        assert_eq!(found.checks[0].detail, "1 of 3 take no writes; partition 2: OOM");
        let writable = Vec::from_iter(found.partitions.iter().map(|one| one.writable));
        assert_eq!(writable, [Some(true), Some(true), Some(false)]);
        let single = HealthReport::default().with_partitions(&refusals, None);
        assert!(single.checks.is_empty());
    }
}
