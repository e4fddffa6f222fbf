//! Repairs many orders of a window by one bulk operation over it, which costs a few points where
//! asking for each order by id costs some 17.
//!
//! It is a short cut: what it does not bring is asked for by id, whether an operation cannot be
//! started, fails or takes too long, or an order changed since. Orders with refunds are, too: a bulk
//! operation cannot have the lines of a refund.

use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{info, warn};

use super::repair::entry;
use super::{Ids, OrderFinding, ReconcileError, Reconciler, Reconciliation, Repairer};
use crate::event::{OrderEvent, json};
use crate::folder;
use crate::import::{Import, ImportError, ImportOptions};
use crate::shopify::{Asked, KeptNames};
use crate::shopify_admin::bulk::{self, BulkStart};
use crate::shopify_admin::{AdminError, BulkError, BulkFetch, BulkStep, OrderSpan};

/// How long an operation, its file and room in the stream are waited for.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// Pause while events of now come first.
const YIELD: Duration = Duration::from_millis(500);
/// Orders of one append, and about their bytes.
const BATCH: usize = 200;
const BATCH_BYTES: usize = 4 << 20;

/// Why orders are asked for by id after all.
#[derive(Debug, thiserror::Error)]
enum NotInBulk {
    #[error(transparent)]
    Bulk(#[from] BulkError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("the data folder {path} cannot be made: {source}; set ORDERSTREAM_DATA_DIR")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("other bulk operations of this app run at Shopify: {0}")]
    Busy(String),
    #[error("Shopify cannot carry out the bulk operation: {0}")]
    Failed(String),
    #[error("the bulk operation has no file any more")]
    Gone,
    #[error("the operation, its file or room in the stream took more than half an hour")]
    Late,
    /// The run itself cannot go on.
    #[error(transparent)]
    Run(#[from] ReconcileError),
}

impl From<AdminError> for NotInBulk {
    fn from(error: AdminError) -> Self {
        Self::Bulk(error.into())
    }
}

/// The repair of one window.
pub(super) struct BulkRepair<'r, 'a> {
    pub(super) reconciler: &'r Reconciler<'a>,
    pub(super) repairer: &'r Repairer<'r>,
    pub(super) window: OrderSpan,
    /// Of the run's lock.
    pub(super) holder: &'r str,
    /// Orders that are to be repaired.
    pub(super) left: Ids,
}

impl BulkRepair<'_, '_> {
    /// Appends the orders as far as a bulk operation brings them; answers those that are left.
    pub(super) async fn run(mut self, report: &mut Reconciliation) -> Result<Vec<String>, ReconcileError> {
        let asked = self.left.len();
        let outcome = self.by_operation(report).await;
        let (shop, left) = (&report.shop, self.left.len());
        match outcome {
            Ok(()) => info!(shop, asked, left, "a bulk operation brought orders to repair"),
            Err(NotInBulk::Run(error)) => return Err(error),
            Err(error) => {
                warn!(shop, asked, left, %error, "no bulk operation: the orders left are asked for by id, which takes longer");
            }
        }
        Ok(Vec::from_iter(self.left))
    }

    async fn by_operation(&mut self, report: &mut Reconciliation) -> Result<(), NotInBulk> {
        let folder = self.reconciler.folder;
        folder::make(folder).map_err(|source| NotInBulk::Folder {
            path: folder.to_owned(),
            source,
        })?;
        let identity = self.reconciler.client.identity();
        let options = ImportOptions {
            asked: Asked::Reconcile,
            shop: &identity.shop,
            zone: Some(identity.zone()?),
            kept: KeptNames {
                note_attributes: &[],
                line_properties: &[],
            },
        };
        let staging = folder.join(folder::RECONCILE);
        let mut import = Import::open(&staging, options, true)?;
        let file = staging.with_extension("jsonl");
        // Of a run that was killed.
        let _ = std::fs::remove_file(&file);
        let until = Instant::now() + LONGEST;
        let appended = match self.download(&file, until).await {
            Ok(true) => self.append(&file, until, &mut import, report).await,
            outcome => outcome.map(drop),
        };
        let _ = std::fs::remove_file(&file);
        import.discard();
        appended
    }

    /// Brings the file of an operation over the window; `false` where it found no order.
    async fn download(&self, file: &Path, until: Instant) -> Result<bool, NotInBulk> {
        let client = self.reconciler.client;
        let id = match bulk::start(client, self.window, "updated_at", None).await? {
            BulkStart::Started(id) => id,
            BulkStart::Busy(words) => return Err(NotInBulk::Busy(words)),
        };
        let mut fetch = BulkFetch::new(client);
        loop {
            self.reconciler.lock(self.holder).await?;
            match fetch.step(&id, file).await? {
                BulkStep::Waiting(_) if Instant::now() < until => {}
                BulkStep::Waiting(_) => return Err(NotInBulk::Late),
                BulkStep::Whole(_) => return Ok(true),
                BulkStep::Empty => return Ok(false),
                BulkStep::Failed(why) => return Err(NotInBulk::Failed(why)),
                BulkStep::Gone => return Err(NotInBulk::Gone),
            }
        }
    }

    /// Appends what is left of the orders of the file.
    async fn append(
        &mut self,
        file: &Path,
        until: Instant,
        import: &mut Import<'_>,
        report: &mut Reconciliation,
    ) -> Result<(), NotInBulk> {
        tokio::task::block_in_place(|| import.stage(file, || ()))?;
        let mut failures = Vec::new();
        loop {
            let batch = tokio::task::block_in_place(|| import.next(file, BATCH, BATCH_BYTES))?;
            if batch.is_end() {
                return Ok(());
            }
            let received_at = OffsetDateTime::now_utc();
            let mut entries = Vec::new();
            for event in &batch.events {
                let Ok(event) = json::parse::<OrderEvent<'_>>(event.as_bytes()) else {
                    continue;
                };
                let id = event.order_id.as_str();
                let has_refunds = event.refunds.as_ref().is_some_and(|refunds| !refunds.is_empty());
                if has_refunds || !self.left.contains(id) {
                    continue;
                }
                if let Ok(entry) = entry(&event, received_at) {
                    entries.push((id.to_owned(), entry));
                }
            }
            self.wait_for_room(until).await?;
            for (id, _) in &entries {
                self.left.remove(id);
            }
            let appended = self.repairer.append(entries, report, &mut failures).await;
            appended.map_err(ReconcileError::from)?;
            for (id, why) in failures.drain(..) {
                report.find(&id, OrderFinding::Failed, Some(why));
            }
            tokio::task::block_in_place(|| import.settle(batch))?;
        }
    }

    /// Events of now come first.
    async fn wait_for_room(&self, until: Instant) -> Result<(), NotInBulk> {
        loop {
            self.reconciler.lock(self.holder).await?;
            let report = self.reconciler.stream.report().await.map_err(ReconcileError::from)?;
            if report.has_room_for_history() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(NotInBulk::Late);
            }
            tokio::time::sleep(YIELD).await;
        }
    }
}
