//! Who reads the stream, and how far they are.

use serde::{Deserialize, Serialize};

use super::{Operations, OperationsError};
use crate::stream::{ConsumerReport, GroupReport, StreamId, StreamReport};

/// All groups, and the members of ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Consumers {
    /// Groups of the stream.
    pub groups: Vec<GroupView>,
    /// Members of our group.
    pub consumers: Vec<GroupConsumer>,
}

/// One group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// Whether it is the configured one.
    pub ours: bool,
    /// Read and not acked.
    pub pending: u64,
    /// Not yet read; null where the store cannot tell.
    pub lag: Option<u64>,
    /// The newest entry it was given.
    pub last_delivered: StreamId,
    /// The oldest entry it still needs.
    pub needs_from: StreamId,
}

/// One member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GroupConsumer {
    /// Its name.
    pub name: String,
    /// Read by it and not acked.
    pub pending: u64,
    /// Since it last asked.
    pub idle_seconds: f64,
}

impl Operations {
    /// Who reads the stream.
    ///
    /// # Errors
    /// The stream does not answer.
    pub async fn consumers(&self) -> Result<Consumers, OperationsError> {
        Ok(Consumers::from(&self.stream.report().await?))
    }
}

impl From<&StreamReport> for Consumers {
    fn from(report: &StreamReport) -> Self {
        Self {
            groups: report.groups.iter().map(GroupView::from).collect(),
            consumers: report.consumers.iter().map(GroupConsumer::from).collect(),
        }
    }
}

impl From<&GroupReport> for GroupView {
    fn from(group: &GroupReport) -> Self {
        Self {
            name: group.name.clone(),
            ours: group.ours,
            pending: group.pending,
            lag: group.lag,
            last_delivered: group.last_delivered,
            needs_from: group.needs_from,
        }
    }
}

impl From<&ConsumerReport> for GroupConsumer {
    fn from(consumer: &ConsumerReport) -> Self {
        Self {
            name: consumer.name.clone(),
            pending: consumer.pending,
            idle_seconds: consumer.idle.as_secs_f64(),
        }
    }
}
