//! Dead letters with all that they hold, for a file of the operator's before they are discarded.
//!
//! Invariant: an export and a discard with the same selectors and the same `next` select the same
//! dead letters.

use serde::{Deserialize, Serialize};

use super::api::{Carrier, Operation};
use super::context::{Operations, OperationsError};
use super::entry_view::{EntryField, body, field};
use super::redrive_run::{IdRange, ResolveRequest};
use crate::stream::{Entry, StreamId};

/// Dead letters of one step, whose bodies are unpacked: with the largest ones 100 MiB.
const STEP: usize = 20;

/// Asks for dead letters in full, to be kept elsewhere before they are discarded: one step, with the
/// selectors and the `next` of a run; the rest of the request has no effect.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExportDeadLetters(pub ResolveRequest);

/// One step of an export: oldest first; ids answer in their order.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExportStep {
    /// The dead letters, copies included.
    #[serde(rename = "letters")]
    pub dead_letters: Vec<ExportedDeadLetter>,
    /// What is left of the run; null at its end.
    pub next: Option<IdRange>,
}

/// A dead letter with all that it holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExportedDeadLetter {
    /// Its id.
    pub id: StreamId,
    /// All fields in order, whole; base64 where a value is not text.
    pub fields: Vec<EntryField>,
    /// The body that is packed in them, where it can be unpacked and is text.
    pub body: Option<String>,
}

impl Operation for ExportDeadLetters {
    type Answer = ExportStep;
    const PATH: &'static str = "/api/dead-letters/export";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<ExportStep, OperationsError> {
        let _permit = operations.read_permit().await?;
        let selection = operations.select(&self.0, STEP).await?;
        let exported = |entry: &Entry| ExportedDeadLetter {
            id: entry.id,
            fields: Vec::from_iter(
                entry
                    .fields
                    .0
                    .iter()
                    .map(|(name, value)| field(name, value, usize::MAX)),
            ),
            body: body(entry, operations.body_limit).and_then(|body| String::from_utf8(body).ok()),
        };
        Ok(ExportStep {
            dead_letters: selection.dead_letters.iter().map(exported).collect(),
            next: selection.next,
        })
    }
}
