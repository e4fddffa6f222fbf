//! The mapping of the file: checked against the source before it takes the place of the one in use.
//!
//! Invariant: a mapping that does not work changes nothing, also over reconnects; it is told once.

use std::sync::Arc;

use scopeguard::ScopeGuard;
use tracing::{error, info};

use super::connection::{Capture, CaptureError, reader, target};
use super::plan::Plan;
use super::source::{self, SourceSession};
use crate::postgres::SourceError;

impl Capture {
    /// Whether everything that a plan needs is there and works.
    pub(super) async fn check(&self, plan: &Plan) -> Result<(), SourceError> {
        let session = SourceSession::connect(&target(&self.config)?, self.config.connect_timeout).await?;
        let catalog = source::inspect(&session, plan).await?;
        reader(&self.config, plan, &catalog)?.rehearse(plan, &catalog).await?;
        // Nothing is made for what does not work.
        source::make_publication(&session, plan).await.map(drop)
    }

    /// Reads the file again; answers whether its mapping is another one that works, which is in use
    /// from then on. Otherwise the known one stays.
    pub(super) async fn read_again(&self, known: &mut Option<Arc<Plan>>) -> bool {
        let Some(former) = known else { return false };
        let checked = async {
            let plan = Plan::load(&self.config.file)?;
            if plan.digest != former.digest {
                self.check(&plan).await?;
            }
            Ok(plan)
        };
        match checked.await {
            Ok(plan) => {
                let is_other = plan.digest != former.digest;
                info!(is_other, "read the mapping again");
                self.status.update(|figures| figures.rejected = None);
                *known = Some(Arc::new(plan));
                is_other
            }
            Err(error) => {
                let error: CaptureError = error;
                let text = format!("the mapping was not taken, and the former stays in use: {error}");
                if self.status.rejected(&text) {
                    error!("{text}");
                }
                false
            }
        }
    }

    /// Waits until a signal brought another mapping.
    pub(super) async fn renewed(&self, known: &mut Option<Arc<Plan>>) {
        let mut is_other = false;
        while !is_other {
            self.reload.notified().await;
            // A connection that ends meanwhile leaves it to the next.
            let unfinished = scopeguard::guard(&self.reload, |reload| reload.notify_one());
            is_other = self.read_again(known).await;
            ScopeGuard::into_inner(unfinished);
        }
    }
}
