//! Pause and resume of our group: its workers, of all processes, stop reading within seconds.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api::{Carrier, Operation};
use super::context::{Operations, OperationsError};

/// Asks for the group to be paused, or to go on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Whether it is to be paused.
    pub paused: bool,
}

/// The pause of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseState {
    /// Since when, RFC 3339; null where it is not paused.
    pub paused_since: Option<String>,
}

impl Operation for PauseRequest {
    type Answer = PauseState;
    const PATH: &'static str = "/api/pause";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<PauseState, OperationsError> {
        let this = operations.clone();
        let step = async move {
            let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
            this.stream.set_pause(self.paused.then_some(&*now)).await?;
            let action = if self.paused { "pause" } else { "resume" };
            this.record(action, "group ours", 0, 0).await;
            let paused_since = this.stream.paused_since().await?;
            Ok(PauseState { paused_since })
        };
        operations.run_step(step).await
    }
}
