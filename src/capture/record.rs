//! What a capture keeps beside the stream: its record, and what operators ask it for. Pure.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::changes::WalPosition;
use crate::postgres::SourceError;

/// What is stored with each append, as JSON. Fields that a newer release adds have defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// System identifier of the source's cluster.
    pub(super) system: String,
    /// Timeline that `position` lies on.
    pub(super) timeline: u32,
    pub(super) position: WalPosition,
    /// Greatest time of a commit that was worked on, Unix microseconds.
    pub(super) clock: i64,
    /// `triggered_at` of the newest read, Unix microseconds.
    pub(super) triggered: i64,
    /// Process that wrote it.
    pub(super) owner: String,
    /// What the publication held.
    pub(super) published: String,
    /// Digest of the mapping file by which all orders were read last.
    pub(super) plan: String,
    /// The walk under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) walk: Option<Walk>,
    /// Gaps ever found.
    #[serde(default)]
    pub(super) gaps: u64,
    /// The newest request that was taken up.
    #[serde(default)]
    pub(super) request: String,
    /// The slot is being made for the first time: nothing was ever streamed from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_new: bool,
}

impl Record {
    /// Reads what is stored; `None` where that is nothing.
    pub(super) fn parse(json: &str) -> Result<Option<Self>, SourceError> {
        if json.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(json).map(Some).map_err(|_| {
            let what = "the checkpoint beside the stream cannot be read: a newer release wrote it; run that one, or \
                        `orderstream capture drop`";
            SourceError::Misconfigured(what.to_owned())
        })
    }
}

/// A walk over the orders, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Walk {
    pub(super) id: String,
    /// `snapshot`, `resync`, or the name of the gap that it heals.
    pub(super) reason: String,
    /// The last key that was read.
    #[serde(default)]
    pub(super) cursor: Option<String>,
    /// Orders that were read.
    #[serde(default)]
    pub(super) done: u64,
    /// Only the orders that the request beside the checkpoint names; then `done` is the place in
    /// it.
    #[serde(default)]
    pub(super) is_partial: bool,
}

impl Walk {
    /// A walk over all orders.
    pub(super) fn new(reason: &str) -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            reason: reason.to_owned(),
            cursor: None,
            done: 0,
            is_partial: false,
        }
    }
}

/// What an operator asks a running capture to read again, left beside its checkpoint as JSON. It
/// holds keys and no SQL: whoever can write to the stream must not be able to run statements in the
/// shop's database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncRequest {
    /// Id of the walk.
    pub id: String,
    /// Only these orders; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
}

impl ResyncRequest {
    /// Most orders that are named in one request.
    pub const MOST_KEYS: usize = 10_000;

    /// A walk over these orders, or over all where none is named.
    #[must_use]
    pub fn new(keys: Vec<String>) -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            keys: Some(keys).filter(|keys| !keys.is_empty()),
        }
    }

    /// As it is left beside the checkpoint.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_older_ones_are_read() {
        let json = r#"{"system":"7","timeline":1,"position":{"lsn":9},"clock":1,"triggered":2,"owner":"a","published":"","plan":""}"#;
        let mut record: Record = serde_json::from_str(json).unwrap();
        assert_eq!(record.position, WalPosition::at(9));
        record.walk = Some(Walk {
            cursor: Some("5".to_owned()),
            done: 3,
            ..Walk::new("slot_lost")
        });
        let written = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&written).unwrap(), record);
    }
}
