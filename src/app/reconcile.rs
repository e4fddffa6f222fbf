//! Role: compares the orders of each shop with the warehouse every 15 minutes, and repairs.
//!
//! Of several processes with workers the one with the first id does it. What it did last it does not
//! keep: the first run of a process goes back three days.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tracing::{info, warn};

use crate::config::{AdminAccess, ShopifyAdminConfig};
use crate::health::{Notice, WarehouseProbe};
use crate::metrics::Metrics;
use crate::nodes::{Node, Nodes};
use crate::shopify_admin::reconcile::{ReconcileError, Reconciler, Reconciliation};
use crate::shopify_admin::{AdminClient, OrderSpan};
use crate::stream::Stream;
use crate::warehouse::Warehouse;

/// Time between two runs.
const EVERY: Duration = Duration::from_secs(15 * 60);
/// The same after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Interval at which it is seen whether it is this process' turn.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How far the first run goes back.
const FIRST: time::Duration = time::Duration::days(3);
/// How far a run of each day goes back.
const DAILY: time::Duration = time::Duration::days(30);
/// How far a run goes back behind the end of the last one.
const OVERLAP: time::Duration = time::Duration::minutes(10);
/// How late the shop's search may show a change.
const SEARCH_LAG: time::Duration = time::Duration::minutes(2);

/// What the role works with.
pub(super) struct ReconcileRole {
    pub(super) config: ShopifyAdminConfig,
    pub(super) stream: Arc<dyn Stream>,
    pub(super) warehouse: Arc<dyn Warehouse>,
    pub(super) probe: WarehouseProbe,
    pub(super) nodes: Nodes,
    pub(super) notice: Notice,
    pub(super) metrics: Metrics,
}

/// What is kept of a shop between runs.
struct LastRun {
    /// Up to when it was compared.
    until: OffsetDateTime,
    /// When the last long run was.
    daily: OffsetDateTime,
    /// Whether it found anything.
    found: bool,
}

impl ReconcileRole {
    /// Runs for ever; the notice has what is wrong.
    pub(super) async fn run(self) {
        let mut last: BTreeMap<String, LastRun> = BTreeMap::new();
        loop {
            while !self.probe.is_reached() || !self.is_first() {
                self.notice.set(None);
                tokio::time::sleep(POLL_EVERY).await;
            }
            let (mut texts, mut has_failed) = (Vec::new(), false);
            for (shop, access) in &self.config.shops {
                let now = OffsetDateTime::now_utc();
                let span = span(last.get(shop), now);
                match self.reconcile(shop, access, span).await {
                    Ok(report) => {
                        let found = report.missing + report.stale + report.deleted > 0;
                        texts.extend(text(&report, found && last.get(shop).is_some_and(|last| last.found)));
                        let daily = match last.get(shop) {
                            Some(last) if span.until - span.since < DAILY => last.daily,
                            _ => now,
                        };
                        let until = span.until;
                        last.insert(shop.clone(), LastRun { until, daily, found });
                    }
                    Err(error) => {
                        has_failed = true;
                        warn!(shop, %error, "orders cannot be compared with the shop's; tried again");
                        texts.push(format!("the orders of {shop} cannot be compared: {error}"));
                    }
                }
            }
            self.notice.set((!texts.is_empty()).then(|| texts.join("; ")));
            tokio::time::sleep(if has_failed { AFTER_FAILURE } else { EVERY }).await;
        }
    }

    /// Whether this process is the first of those that could do it.
    fn is_first(&self) -> bool {
        let nodes = self.nodes.current().unwrap_or_default();
        let workers = nodes.iter().filter(|node| Node::is_live_worker(node));
        let first = workers.map(|node| &node.record.id).min();
        first.is_some() && first == self.nodes.own_id().as_ref()
    }

    async fn reconcile(
        &self,
        shop: &str,
        access: &AdminAccess,
        span: OrderSpan,
    ) -> Result<Reconciliation, ReconcileError> {
        let client = AdminClient::connect(&self.config, shop, access).await?;
        let reconciler = Reconciler {
            client: &client,
            stream: &*self.stream,
            warehouse: &*self.warehouse,
            dry_run: false,
        };
        let report = reconciler.run(span, |_| ()).await?;
        self.metrics.orders_reconciled.inc_by(report.repaired);
        if report.repaired > 0 || !report.is_clean() {
            let Reconciliation {
                seen,
                repaired,
                missing,
                stale,
                deleted,
                ..
            } = report;
            info!(
                shop,
                seen, missing, stale, deleted, repaired, "compared with the shop's orders"
            );
        }
        Ok(report)
    }
}

/// What the next run compares.
fn span(last: Option<&LastRun>, now: OffsetDateTime) -> OrderSpan {
    let since = match last {
        None => now - FIRST,
        Some(last) if now - last.daily >= time::Duration::DAY => now - DAILY,
        Some(last) => last.until - OVERLAP,
    };
    OrderSpan::new(since, now - SEARCH_LAG)
}

/// What is wrong, and what to do.
fn text(report: &Reconciliation, again: bool) -> Option<String> {
    let shop = &report.shop;
    if !report.is_clean() {
        return Some(format!(
            "orders of {shop} that are not as the shop has them: {} dead-lettered, {} vanished, {} newer here, {} not \
             repaired; see `orderstream reconcile`",
            report.dead_lettered, report.vanished, report.ours_newer, report.failed
        ));
    }
    again.then(|| {
        format!(
            "deliveries of {shop} do not come: two runs in a row found orders that the warehouse lacked ({} in the last); \
             they are repaired; see `orderstream subscribe`",
            report.repaired
        )
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn runs_overlap_and_one_a_day_is_long() {
        let now = datetime!(2026-01-31 12:00 UTC);
        let last = |hours| LastRun {
            until: now - time::Duration::minutes(17),
            daily: now - time::Duration::hours(hours),
            found: false,
        };
        assert_eq!(span(None, now).since, datetime!(2026-01-28 12:00 UTC));
        assert_eq!(span(Some(&last(1)), now).since, datetime!(2026-01-31 11:33 UTC));
        assert_eq!(span(Some(&last(24)), now).since, datetime!(2026-01-01 12:00 UTC));
        assert_eq!(span(Some(&last(1)), now).until, datetime!(2026-01-31 11:58 UTC));
    }
}
