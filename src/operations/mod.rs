//! What an operator does with the pipeline: looks at entries, resolves dead letters, follows one order, sends history
//! through again.
//!
//! Owns these over the seams (and this node's spool, as an onlooker) alone, so that servers and files work alike; `cli/` and `http/admin` call it, and it knows
//! neither. Each call is one bounded step whose answer says where the next one starts: what takes many steps can be
//! interrupted between any two and taken up again, by whoever asks. Invariants: nothing personal stands in an answer
//! but in the views of one entry or dead letter; an action is written down, a dry run changes nothing; memory is bounded
//! whatever the logs hold.

mod audit;
mod cause;
mod consumers;
mod dead_letters;
mod delivery_check;
mod entry_view;
mod error;
mod events;
pub mod fingerprint;
mod history;
mod pager;
mod rate_limit;
mod redrive;
mod redrive_run;
mod secrets;
mod serde_ext;
mod trace;

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;

pub use self::audit::{Actor, AuditEntry};
pub use self::consumers::{Consumers, GroupConsumer, GroupView};
pub use self::dead_letters::{
    DeadLetter, DeadLetterGroup, DeadLetterGroups, DeadLetterPage, DeadLetterQuery, DeadLetterView, Origin,
};
pub use self::delivery_check::{DeliveryQuery, DeliveryReport};
pub use self::entry_view::{EntryContent, Field};
pub use self::error::OperationsError;
pub use self::events::{EntryPage, EntryQuery, EntrySummary, EntryView, GroupProgress};
pub use self::history::{HistoryStep, MissingRange, RebuildRequest, Remaining, ReplayRequest, Span};
pub use self::redrive_run::{Action, Bounds, Outcome, Resolution, ResolveRequest, ResolveStep};
pub use self::secrets::{SecretUsage, SecretUsageReport};
pub use self::trace::{Step, TimelineEvent, Trace, TraceQuery, TracedOrder};

use crate::config::{IntakeConfig, KeepRaw};
use crate::ingest::SpoolReader;
use crate::stream::Stream;
use crate::warehouse::Warehouse;

/// Looks under way at once; further ones wait, so that operators cannot slow the pipeline down.
const MAX_READS: usize = 2;
/// Actions under way at once: their rates would add up.
const MAX_ACTIONS: usize = 1;

/// Everything an operator can ask for; a cheap clone.
#[derive(Clone)]
pub struct Operations {
    stream: Arc<dyn Stream>,
    /// `None` where this process has none, or does not open it.
    warehouse: Option<Arc<dyn Warehouse>>,
    /// `None` where this node has none.
    spool: Option<SpoolReader>,
    keep_raw: KeepRaw,
    /// Bytes that a kept body may have.
    body_limit: usize,
    actor: Actor,
    reads: Arc<Semaphore>,
    actions: Arc<Semaphore>,
    under_way: TaskTracker,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations")
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}

impl Operations {
    /// `intake` decides what becomes of the body of a quarantined delivery that is converted after all.
    #[must_use]
    pub fn new(
        stream: Arc<dyn Stream>,
        warehouse: Option<Arc<dyn Warehouse>>,
        intake: &IntakeConfig,
        actor: Actor,
    ) -> Self {
        Self {
            stream,
            warehouse,
            spool: None,
            keep_raw: intake.keep_raw,
            body_limit: intake.body_limit,
            actor,
            reads: Arc::new(Semaphore::new(MAX_READS)),
            actions: Arc::new(Semaphore::new(MAX_ACTIONS)),
            under_way: TaskTracker::new(),
        }
    }

    /// The same, with a spool to look into.
    #[must_use]
    pub fn with_spool(self, spool: Option<SpoolReader>) -> Self {
        Self { spool, ..self }
    }

    /// Waits for actions that are under way, after the last was asked for.
    pub async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// A place among the few that may look through a log at once.
    async fn look(&self) -> Result<SemaphorePermit<'_>, OperationsError> {
        self.reads.acquire().await.map_err(|_| OperationsError::CutShort)
    }

    /// Runs one step of an action, in its turn, and to its end though nobody waits for it any more: what is done must be
    /// written down.
    async fn act<T: Send + 'static>(
        &self,
        step: impl Future<Output = Result<T, OperationsError>> + Send + 'static,
    ) -> Result<T, OperationsError> {
        let turn = Arc::clone(&self.actions).acquire_owned().await;
        let turn = turn.map_err(|_| OperationsError::CutShort)?;
        let stepping = self.under_way.spawn(async move {
            let _turn = turn;
            step.await
        });
        stepping.await.unwrap_or(Err(OperationsError::CutShort))
    }
}

/// No store takes a NUL character in a text, and PostgreSQL refuses a question with one.
fn has_nul(text: &str) -> bool {
    text.contains('\0')
}
