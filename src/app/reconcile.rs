//! Role: compares the orders of each shop with the warehouse every 15 minutes, and repairs.
//!
//! Of several processes with workers the one with the first id does it. It goes on where the last
//! noted run ended, whichever process made it; the first run of all goes back three days.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tracing::{info, warn};

use crate::config::{AdminAccess, ShopifyAdminConfig};
use crate::health::{Notice, WarehouseProbe};
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::shopify_admin::reconcile::{BULK_ABOVE, ReconcileError, Reconciler, Reconciliation, SilentTopic};
use crate::shopify_admin::{AdminClient, OrderSpan};
use crate::stream::Stream;
use crate::warehouse::Warehouse;
use crate::warehouse::reconciliations::PastRun;

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
/// How far a run of each week goes back: to before any shop's first order.
const ALL: time::Duration = time::Duration::days(365 * 30);
/// How far a run goes back behind the end of the last one.
const OVERLAP: time::Duration = time::Duration::minutes(10);
/// How late the shop's search may show a change.
const SEARCH_LAG: time::Duration = time::Duration::minutes(2);

/// What the role works with.
pub(super) struct ReconcileRole {
    pub(super) config: ShopifyAdminConfig,
    /// The data folder.
    pub(super) folder: PathBuf,
    pub(super) stream: Arc<dyn Stream>,
    pub(super) warehouse: Arc<dyn Warehouse>,
    pub(super) probe: WarehouseProbe,
    pub(super) nodes: Nodes,
    pub(super) notice: Notice,
    pub(super) metrics: Metrics,
}

impl ReconcileRole {
    /// Runs for ever; the notice has what is wrong.
    pub(super) async fn run(self) {
        let mut silent = BTreeMap::new();
        loop {
            while !self.probe.is_reached() || !self.nodes.is_own_the_first_worker() {
                self.notice.set(None);
                tokio::time::sleep(POLL_EVERY).await;
            }
            let (mut texts, mut has_failed) = (Vec::new(), false);
            for (shop, access) in &self.config.shops {
                match self.reconcile(shop, access, silent.entry(shop).or_default()).await {
                    Ok(found) => texts.extend(found),
                    // It will note its run.
                    Err(ReconcileError::Locked(_)) => {}
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

    /// Answers what is wrong, and what to do. `silent`: the topics that were found so, until they bring
    /// a delivery; a short run sees too few changes to find them again.
    async fn reconcile(
        &self,
        shop: &str,
        access: &AdminAccess,
        silent: &mut Vec<SilentTopic>,
    ) -> Result<Vec<String>, ReconcileError> {
        let past = self.warehouse.past_reconciliations(shop).await?;
        let span = span(&past, OffsetDateTime::now_utc());
        let client = AdminClient::connect(&self.config, shop, access).await?;
        let reconciler = Reconciler {
            client: &client,
            stream: &*self.stream,
            warehouse: &*self.warehouse,
            dry_run: false,
            by_hand: false,
            bulk_above: BULK_ABOVE,
            folder: &self.folder,
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
        let found = report.missing + report.stale + report.deleted > 0;
        let again = found && past.first().is_some_and(|last| last.found > 0);
        for known in std::mem::take(silent) {
            let is_found = report.silent.iter().any(|one| one.topic == known.topic);
            if !is_found && known.is_silent(shop, &*self.warehouse).await? {
                silent.push(known);
            }
        }
        silent.extend(report.silent.iter().cloned());
        let silent = silent.iter().map(|topic| format!("{shop}: {topic}"));
        Ok(text(&report, again).into_iter().chain(silent).collect())
    }
}

/// What the next run compares.
fn span(past: &[PastRun], now: OffsetDateTime) -> OrderSpan {
    // Whether no run of that length ended within so many days, as far as runs are known.
    let is_due = |length: time::Duration, days| {
        let long = past.iter().find(|run| run.until - run.since >= length);
        let ended = long.or(past.last()).map(|run| run.ended_at);
        ended.is_some_and(|ended| now - ended >= time::Duration::days(days))
    };
    let until = now - SEARCH_LAG;
    let since = match past.first() {
        None => now - FIRST,
        Some(_) if is_due(ALL, 7) => until - ALL,
        Some(newest) if is_due(DAILY, 1) => (until - DAILY).min(newest.until - OVERLAP),
        Some(newest) => newest.until - OVERLAP,
    };
    OrderSpan::new(since, until)
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
    fn runs_overlap_and_one_a_day_and_one_a_week_are_long() {
        let now = datetime!(2026-01-31 12:00 UTC);
        let run = |length, hours: i64| {
            let until = now - time::Duration::hours(hours) - time::Duration::minutes(17);
            PastRun {
                since: until - length,
                until,
                ended_at: until,
                found: 0,
            }
        };
        let minutes = time::Duration::minutes(25);
        let since = |past: &[PastRun]| span(past, now).since;
        assert_eq!(since(&[]), datetime!(2026-01-28 12:00 UTC));
        let short = datetime!(2026-01-31 11:33 UTC);
        assert_eq!(since(&[run(minutes, 0)]), short);
        assert_eq!(since(&[run(minutes, 0), run(DAILY, 23)]), short);
        assert_eq!(
            since(&[run(minutes, 0), run(DAILY, 24)]),
            datetime!(2026-01-01 11:58 UTC)
        );
        assert_eq!(since(&[run(minutes, 0), run(minutes, 169)]), now - SEARCH_LAG - ALL);
        assert_eq!(since(&[run(minutes, 0), run(ALL, 23), run(minutes, 169)]), short);
        // After a long outage nothing is left out.
        assert_eq!(since(&[run(ALL, 24 * 40)]), now - SEARCH_LAG - ALL);
        // A long run is not due again at once.
        for past in [vec![run(DAILY, 24)], vec![run(minutes, 169)]] {
            let OrderSpan { since: from, until } = span(&past, now);
            let long = PastRun {
                since: from,
                until,
                ended_at: now,
                found: 0,
            };
            assert!(since(&[vec![long], past].concat()) > datetime!(2026-01-31 11:00 UTC));
        }
        assert_eq!(span(&[run(minutes, 0)], now).until, datetime!(2026-01-31 11:58 UTC));
    }
}
