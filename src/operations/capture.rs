//! Asks a running capture to read orders again.

use serde::{Deserialize, Serialize};

use super::api::{Carrier, Operation};
use super::context::{Operations, OperationsError};
use crate::capture::ResyncRequest;

/// Asks for a resync.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResyncCapture {
    /// `source` of capture.toml.
    pub source: String,
    /// Keys of orders; all where none is named.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// The walk that follows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaptureWalk {
    /// Its id.
    pub walk: String,
}

impl Operation for ResyncCapture {
    type Answer = CaptureWalk;
    const PATH: &'static str = "/api/capture/resync";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<CaptureWalk, OperationsError> {
        if self.keys.len() > ResyncRequest::MOST_KEYS {
            let what = "at most 10,000 orders can be named; without any all are read";
            return Err(OperationsError::Invalid(what));
        }
        let what = if self.keys.is_empty() {
            "all".to_owned()
        } else {
            format!("{} orders", self.keys.len())
        };
        let request = ResyncRequest::new(self.keys);
        let mut checkpoint = operations.stream.checkpointed(&self.source);
        if checkpoint.read().await?.record.is_empty() {
            return Err(OperationsError::NotFound("capture beside this stream: start it first"));
        }
        checkpoint.request(&request.json()).await?;
        operations.record("capture resync", &what, 0, 0).await;
        Ok(CaptureWalk { walk: request.id })
    }
}
