//! What an operator does with the pipeline: read entries, resolve dead letters, follow one
//! order, replay history.
//!
//! Layout: `api.rs` is the seam, [`Operation`]: one implementation for each request, with its
//! answer and its route. `cli/` and `http/admin` call it; this folder names neither. Below it are
//! - reads: `events.rs`, `dead_letters.rs` (with `fingerprint.rs` for causes), `consumers.rs`,
//!   `delivery_check.rs`, `secret_usage.rs`, and `trace.rs` for all that is known of one order;
//! - actions: `redrive_run.rs` (dead letters replayed or discarded, judged by `redrive.rs`) and
//!   `history.rs` (replay and rebuild), recorded by `audit.rs`;
//! - `pager.rs` and `rate_limit.rs`, which bound both.
//!
//! Everything goes through the seams of stream and warehouse (and this node's spool, read-only), so
//! that servers and files work alike.
//!
//! Invariants:
//! - a read is bounded in entries, bytes and time, and its answer says how far it went; at most
//!   [`MAX_READS`] run at once;
//! - an action is one step of at most 200 entries, about two seconds, whose answer says where the
//!   next one starts. A run of many steps may end between any two and be continued by any process:
//!   no table of runs is kept;
//! - a step that began runs to its end and is recorded, though its caller is gone
//!   ([`Operations::finish`] waits for it); a dry run changes and records nothing;
//! - personal fields are only in the views of one entry or dead letter.

mod api;
mod audit;
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
mod secret_usage;
mod serde_ext;
mod trace;

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;

pub use self::api::{Carrier, Operation, Visitor};
pub use self::audit::{Actor, AuditEntry, AuditQuery};
pub use self::consumers::{Consumers, GetConsumers};
pub use self::dead_letters::{
    DeadLetterGroup, DeadLetterGroups, DeadLetterPage, DeadLetterQuery, DeadLetterSummary, DeadLetterView,
    GetDeadLetter, GroupDeadLetters, Origin,
};
pub use self::delivery_check::{DeliveryQuery, DeliveryReport};
pub use self::entry_view::{EntryContent, EntryField};
pub use self::error::OperationsError;
pub use self::events::{EntryPage, EntryQuery, EntrySummary, EntryView, GetEntry, GroupProgress};
pub use self::history::{HistoryStep, MissingRange, RebuildRequest, Remaining, ReplayRequest, TimeSpan};
pub use self::redrive_run::{
    Action, Bounds, DiscardDeadLetters, Outcome, ReplayDeadLetters, Resolution, ResolveRequest, ResolveStep,
};
pub use self::secret_usage::{SecretUsage, SecretUsageReport};
pub use self::trace::{Step, TimelineEvent, Trace, TraceQuery};

use crate::config::{IntakeConfig, KeepRaw};
use crate::ingest::SpoolReader;
use crate::stream::Stream;
use crate::warehouse::Warehouse;

/// Reads under way at once; further ones wait, so that operators cannot slow the pipeline down.
const MAX_READS: usize = 2;
/// Actions under way at once: their rates would add up.
const MAX_ACTIONS: usize = 1;

/// The table of operations.
pub fn visit_all(visitor: &mut impl Visitor) {
    visitor.visit::<EntryQuery>();
    visitor.visit::<GetEntry>();
    visitor.visit::<DeadLetterQuery>();
    visitor.visit::<GroupDeadLetters>();
    visitor.visit::<GetDeadLetter>();
    visitor.visit::<ReplayDeadLetters>();
    visitor.visit::<DiscardDeadLetters>();
    visitor.visit::<GetConsumers>();
    visitor.visit::<AuditQuery>();
    visitor.visit::<TraceQuery>();
    visitor.visit::<DeliveryQuery>();
    visitor.visit::<ReplayRequest>();
    visitor.visit::<RebuildRequest>();
}

/// What operations are carried out on; a cheap clone.
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
    steps: TaskTracker,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations")
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}

impl Operations {
    /// `intake` decides what is kept of the body of a quarantined delivery that is converted after
    /// all.
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
            steps: TaskTracker::new(),
        }
    }

    /// The same, with a spool that a trace reads.
    #[must_use]
    pub fn with_spool(self, spool: Option<SpoolReader>) -> Self {
        Self { spool, ..self }
    }

    /// Waits for steps that are under way, after the last request.
    pub async fn finish(&self) {
        self.steps.close();
        self.steps.wait().await;
    }

    fn warehouse(&self) -> Result<&dyn Warehouse, OperationsError> {
        self.warehouse.as_deref().ok_or(OperationsError::NoWarehouse)
    }

    async fn read_permit(&self) -> Result<SemaphorePermit<'_>, OperationsError> {
        self.reads.acquire().await.map_err(|_| OperationsError::CutShort)
    }

    /// Runs one step of an action in its turn, in a task of its own: what was done must be recorded
    /// though the caller is gone.
    async fn run_step<T: Send + 'static>(
        &self,
        step: impl Future<Output = Result<T, OperationsError>> + Send + 'static,
    ) -> Result<T, OperationsError> {
        let turn = Arc::clone(&self.actions).acquire_owned().await;
        let turn = turn.map_err(|_| OperationsError::CutShort)?;
        let running = self.steps.spawn(async move {
            let _turn = turn;
            step.await
        });
        running.await.unwrap_or(Err(OperationsError::CutShort))
    }
}
