//! The groups that read the stream, and the consumers of ours.

use serde::{Deserialize, Serialize};

use super::api::Operation;
use super::context::Operations;
use super::error::OperationsError;
use crate::stream::{ConsumerReport, GroupReport};

/// Asks for groups and consumers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GetConsumers {}

/// All groups, and the consumers of ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Consumers {
    /// Groups of the stream.
    pub groups: Vec<GroupReport>,
    /// Consumers of our group.
    pub consumers: Vec<ConsumerReport>,
}

impl Operation for GetConsumers {
    type Answer = Consumers;
    const PATH: &'static str = "/api/consumers";

    async fn run(self, operations: &Operations) -> Result<Consumers, OperationsError> {
        let report = operations.stream.report().await?;
        Ok(Consumers {
            groups: report.groups,
            consumers: report.consumers,
        })
    }
}
