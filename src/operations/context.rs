//! What operations are carried out on: the stores, and the permits that bound what runs at once;
//! and why an operation fails.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;

use crate::config::IntakeConfig;
use crate::ingest::SpoolReader;
use crate::stream::{Stream, StreamError};
use crate::warehouse::{Warehouse, WarehouseError};

/// Reads under way at once; further ones wait, so that operators cannot slow the pipeline down.
const MAX_READS: usize = 2;
/// Actions under way at once: their rates would add up.
const MAX_ACTIONS: usize = 1;

/// The interface that an operator used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The command line, on this machine.
    Cli,
    /// The admin API: the dashboard, or a command that asks a running process.
    Api,
    /// None: a privacy request, with `ORDERSTREAM_ERASURE=auto`.
    Request,
}

/// A failed request. Texts name no content.
#[derive(Debug, thiserror::Error)]
pub enum OperationsError {
    /// There is no such entry, dead letter, order or group (any more).
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// No dead letter has that cause (any more).
    #[error(
        "no dead letter has a fingerprint that begins with these digits: `orderstream dead-letters list` shows them"
    )]
    NoSuchCause,
    /// The beginning of a fingerprint stands for more than one cause.
    #[error("more than one fingerprint begins with these digits: give more of them")]
    AmbiguousCause,
    /// The request makes no sense; the text says what would.
    #[error("{0}")]
    Invalid(&'static str),
    /// This process has no warehouse.
    #[error("this process has no warehouse: ask one that runs workers")]
    NoWarehouse,
    /// A step was cut short, by a fault of this program or the end of its process.
    #[error("the step was cut short, and may be done in part: it may be repeated")]
    CutShort,
    /// The stream does not do it.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The warehouse does not do it.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
}

impl OperationsError {
    /// Why the warehouse cannot be used before somebody changes a setting, a right or its tables; `None`
    /// for what is another failure.
    #[must_use]
    pub fn unusable(&self) -> Option<String> {
        match self {
            Self::Warehouse(
                cause @ (WarehouseError::Unusable(_)
                | WarehouseError::Outdated { .. }
                | WarehouseError::Incomplete { .. }),
            ) => Some(cause.to_string()),
            Self::NotFound(_)
            | Self::NoSuchCause
            | Self::AmbiguousCause
            | Self::Invalid(_)
            | Self::NoWarehouse
            | Self::CutShort
            | Self::Stream(_)
            | Self::Warehouse(_) => None,
        }
    }
}

/// What operations are carried out on; a cheap clone.
#[derive(Clone)]
pub struct Operations {
    pub(super) stream: Arc<dyn Stream>,
    /// `None` where this process has none, or does not open it.
    pub(super) warehouse: Option<Arc<dyn Warehouse>>,
    /// `None` where this node has none.
    pub(super) spool: Option<SpoolReader>,
    pub(super) intake: Arc<IntakeConfig>,
    /// Bytes that a kept body may have.
    pub(super) body_limit: usize,
    pub(super) actor: Actor,
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
            intake: Arc::new(intake.clone()),
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

    pub(super) fn warehouse(&self) -> Result<&dyn Warehouse, OperationsError> {
        self.warehouse.as_deref().ok_or(OperationsError::NoWarehouse)
    }

    pub(super) async fn read_permit(&self) -> Result<SemaphorePermit<'_>, OperationsError> {
        self.reads.acquire().await.map_err(|_| OperationsError::CutShort)
    }

    /// Runs one step of an action in its turn, in a task of its own: what was done must be recorded
    /// though the caller is gone.
    pub(super) async fn run_step<T: Send + 'static>(
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
