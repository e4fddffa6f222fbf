//! The result of a run.

use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;

use super::{FiguresReport, Ids, OrderSpan, SilentTopic};
use crate::warehouse::reconciliations::ReconciliationRun;

/// Orders that a report names at most; the counts are of all.
const NAMED: usize = 1000;

/// What a run found and did.
#[derive(Debug, Clone, Serialize)]
pub struct Reconciliation {
    /// Domain of the shop.
    pub shop: String,
    /// Orders that changed from then on,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// and before then.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// Orders of the shop that were compared.
    pub seen: u64,
    /// Orders that the warehouse did not have.
    pub missing: u64,
    /// Orders that the warehouse had in an older state.
    pub stale: u64,
    /// Orders that were deleted, and not here.
    pub deleted: u64,
    /// Orders of the above whose event was appended.
    pub repaired: u64,
    /// Orders that are on their way to the warehouse, and were left alone.
    pub waiting: u64,
    /// Orders whose newest state is a dead letter.
    pub dead_lettered: u64,
    /// Orders that Shopify no longer has, without a record of their deletion.
    pub vanished: u64,
    /// Orders that are newer here than at Shopify.
    pub ours_newer: u64,
    /// Orders that could not be repaired.
    pub failed: u64,
    /// Points that it cost.
    pub points: u64,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Whether nothing was repaired on purpose.
    pub dry_run: bool,
    /// Topics that brought no delivery though the shop changed.
    pub silent: Vec<SilentTopic>,
    /// The orders, at most a thousand of them.
    pub orders: Vec<ReconciledOrder>,
    /// How `daily_sales` differs from Shopify's report, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<FiguresReport>,
}

/// One order of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReconciledOrder {
    /// Its id.
    pub order_id: String,
    /// What is wrong with it.
    pub finding: OrderFinding,
    /// What else there is to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What is wrong with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderFinding {
    /// The warehouse does not have it.
    Missing,
    /// The warehouse has an older state.
    Stale,
    /// It was deleted, and not here.
    Deleted,
    /// Its newest state is a dead letter.
    DeadLettered,
    /// Shopify no longer has it.
    Vanished,
    /// It is newer here.
    OursNewer,
    /// It cannot be repaired.
    Failed,
}

impl fmt::Display for OrderFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Deleted => "deleted",
            Self::DeadLettered => "dead-lettered",
            Self::Vanished => "vanished",
            Self::OursNewer => "ours is newer",
            Self::Failed => "not repaired",
        })
    }
}

impl Reconciliation {
    pub(super) fn new(shop: String, span: OrderSpan, dry_run: bool) -> Self {
        Self {
            shop,
            since: span.since,
            until: span.until,
            seen: 0,
            missing: 0,
            stale: 0,
            deleted: 0,
            repaired: 0,
            waiting: 0,
            dead_lettered: 0,
            vanished: 0,
            ours_newer: 0,
            failed: 0,
            points: 0,
            seconds: 0.0,
            dry_run,
            silent: Vec::new(),
            orders: Vec::new(),
            figures: None,
        }
    }

    /// What the warehouse keeps of it.
    pub(super) fn record(&self, by_hand: bool) -> ReconciliationRun {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small whole number"
        )]
        let seconds = self.seconds.ceil() as u64;
        ReconciliationRun {
            shop: self.shop.clone(),
            since: self.since,
            until: self.until,
            ended_at: OffsetDateTime::now_utc(),
            by_hand,
            counts: vec![
                ("seen", self.seen),
                ("missing", self.missing),
                ("stale", self.stale),
                ("deleted", self.deleted),
                ("repaired", self.repaired),
                ("waiting", self.waiting),
                ("dead_lettered", self.dead_lettered),
                ("vanished", self.vanished),
                ("ours_newer", self.ours_newer),
                ("failed", self.failed),
                ("points", self.points),
                ("seconds", seconds),
            ],
        }
    }

    /// Whether all that was found is repaired, or on its way.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let found = self.missing + self.stale + self.deleted;
        found == self.repaired && self.dead_lettered + self.vanished + self.ours_newer + self.failed == 0
    }

    pub(super) fn find(&mut self, order_id: &str, finding: OrderFinding, detail: Option<String>) {
        *match finding {
            OrderFinding::Missing => &mut self.missing,
            OrderFinding::Stale => &mut self.stale,
            OrderFinding::Deleted => &mut self.deleted,
            OrderFinding::DeadLettered => &mut self.dead_lettered,
            OrderFinding::Vanished => &mut self.vanished,
            OrderFinding::OursNewer => &mut self.ours_newer,
            OrderFinding::Failed => &mut self.failed,
        } += 1;
        if self.orders.len() < NAMED {
            self.orders.push(ReconciledOrder {
                order_id: order_id.to_owned(),
                finding,
                detail,
            });
        }
    }

    /// Whether the whole span is long enough to look for orders that vanished.
    pub(super) fn looks_for_vanished(&self) -> bool {
        self.until - self.since >= super::LOOKS_FOR_VANISHED
    }

    /// Orders that are known to be deleted.
    pub(super) fn deleted_ids(&self) -> Ids {
        let deleted = self.orders.iter().filter(|one| one.finding == OrderFinding::Deleted);
        deleted.map(|one| one.order_id.clone()).collect()
    }
}
