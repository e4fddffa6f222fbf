//! What operators did: one line in the log (target `orderstream::audit`) and one note beside the stream, which every
//! node shows. Holds ids, counts and causes, never content.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::entry_view::text;
use super::{Operations, OperationsError};
use crate::stream::{Entry, Fields, StreamId};

/// Target of the lines in the log.
pub(super) const TARGET: &str = "orderstream::audit";

/// By which door an operator came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The command line, on this machine.
    Cli,
    /// The admin API: the dashboard, or a command that asks a running process.
    Api,
}

impl Actor {
    fn name(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Api => "api",
        }
    }
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its place among all notes.
    pub id: StreamId,
    /// When, UTC.
    pub at: String,
    /// `cli` or `api`.
    pub by: String,
    /// `dead-letters replay`, `dead-letters discard`, `replay`, `rebuild`.
    pub action: String,
    /// To what: an id, a fingerprint, `all`, a range.
    pub what: String,
    /// How much was done: of a replay or rebuild, in all steps of the run until then.
    pub done: u64,
    /// How much was left as it is, because it could not be done or there was nothing to do; likewise.
    pub kept: u64,
}

impl Operations {
    /// What was done, newest first, at most `count` and a thousand.
    ///
    /// # Errors
    /// The stream does not answer.
    pub async fn audit(&self, count: usize) -> Result<Vec<AuditEntry>, OperationsError> {
        let notes = self.stream.notes(count).await?;
        Ok(notes.iter().map(read).collect())
    }

    /// Writes down what was done. It is done all the same where that fails; then only the log has it.
    pub(super) async fn record(&self, action: &'static str, what: &str, done: u64, kept: u64) {
        let by = self.actor.name();
        tracing::info!(target: TARGET, action, what, done, kept, by, "an operator acted");
        let mut note = Fields::default();
        note.push("at", OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default());
        note.push("by", by);
        note.push("action", action);
        note.push("what", what.to_owned());
        note.push("done", done.to_string());
        note.push("kept", kept.to_string());
        if let Err(error) = self.stream.note(&note).await {
            tracing::warn!(target: TARGET, %error, action, what, "this could be written down only here");
        }
    }
}

fn read(note: &Entry) -> AuditEntry {
    let field = |name| text(note, name).unwrap_or_default();
    AuditEntry {
        id: note.id,
        at: field("at"),
        by: field("by"),
        action: field("action"),
        what: field("what"),
        done: field("done").parse().unwrap_or_default(),
        kept: field("kept").parse().unwrap_or_default(),
    }
}
