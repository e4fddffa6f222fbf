//! The audit log: what operators did, one line in the log (target `orderstream::audit`) and one
//! entry beside the stream, which every node shows. Holds ids, counts and causes, never content.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api::Operation;
use super::context::{Actor, Operations, OperationsError};
use super::entry_view::text;
use crate::stream::{Entry, Fields, StreamId};

/// Target of the lines in the log.
const TARGET: &str = "orderstream::audit";

/// Asks for the newest entries of the audit log.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct AuditQuery {
    /// Entries at most, up to 1,000; 100 by default.
    pub count: Option<usize>,
}

/// One action of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its place in the audit log.
    pub id: StreamId,
    /// When, UTC.
    pub at: String,
    /// `cli` or `api`.
    pub by: String,
    /// `dead-letters replay`, `dead-letters discard`, `replay`, `rebuild`,
    /// `pause`, `resume`, `forget`.
    pub action: String,
    /// What it was applied to: an id, a fingerprint, `all`, a range.
    pub what: String,
    /// How much was done: of a replay or rebuild, in all steps of the run until then.
    pub done: u64,
    /// How much stayed as it was, because it could not be done or needed nothing; likewise.
    pub kept: u64,
}

impl Operation for AuditQuery {
    /// Newest first.
    type Answer = Vec<AuditEntry>;
    const PATH: &'static str = "/api/audit";

    async fn run(self, operations: &Operations) -> Result<Vec<AuditEntry>, OperationsError> {
        let notes = operations.stream.notes(self.count.unwrap_or(100)).await?;
        Ok(notes.iter().map(AuditEntry::of).collect())
    }
}

impl Operations {
    /// Records an action. Where the stream does not take the entry, only the log has it, and the
    /// action stands.
    pub(super) async fn record(&self, action: &'static str, what: &str, done: u64, kept: u64) {
        let by = match self.actor {
            Actor::Cli => "cli",
            Actor::Api => "api",
            Actor::Request => "request",
        };
        tracing::info!(target: TARGET, action, what, done, kept, by, "an operator acted");
        let mut note = Fields::default();
        note.push("at", OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default());
        note.push("by", by);
        note.push("action", action);
        note.push("what", what.to_owned());
        note.push("done", done.to_string());
        note.push("kept", kept.to_string());
        if let Err(error) = self.stream.note(&note).await {
            tracing::warn!(
                target: TARGET, %error, action, what,
                "the audit log cannot be written; this line is the record"
            );
        }
    }
}

impl AuditEntry {
    fn of(note: &Entry) -> Self {
        let field = |name| text(note, name).unwrap_or_default();
        let count = |name| field(name).parse().unwrap_or_default();
        Self {
            id: note.id,
            at: field("at"),
            by: field("by"),
            action: field("action"),
            what: field("what"),
            done: count("done"),
            kept: count("kept"),
        }
    }
}
