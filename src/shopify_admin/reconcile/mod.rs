//! Finds the orders that a shop has and the warehouse lacks, or has in an older state, and repairs
//! them through the stream.
//!
//! # Layout
//! `mod.rs` goes through a span of `updated_at` window by window; `unloaded.rs` knows which orders
//! are in the stream or the dead letters already; `repair.rs` asks for orders
//! in full and appends their events, `bulk_repair.rs` many at once; `silent_topics.rs` knows which webhooks did not come;
//! `figures.rs` compares `daily_sales` with Shopify's report; `report.rs` is the result.
//!
//! # Invariants
//! - The warehouse is written to by workers alone: a repair is an event, with an id made of order
//!   and state, so that a second run and a second runner change nothing.
//! - What may still be loaded is never called missing: the stream is read before the warehouse.
//! - A window has at most 20,000 orders, so that memory is flat and Shopify's depth of paging is
//!   kept.
//!
//! - One process at a time compares a shop's orders, by a lock in the warehouse that ends by itself.
//!   A run that came to its end is noted there; one that was cut short is made again.

mod bulk_repair;
mod figures;
mod repair;
mod report;
mod silent_topics;
mod unloaded;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use self::bulk_repair::BulkRepair;
pub use self::figures::{FigureDays, FigureDifference, FiguresReport};
use self::repair::Repairer;
pub use self::report::{OrderFinding, ReconciledOrder, Reconciliation};
use self::silent_topics::ShopChanges;
pub use self::silent_topics::SilentTopic;
use self::unloaded::{OrderPlace, UnloadedOrders};
use super::client::AdminClient;
use super::documents::{self, PageCursor};
use super::error::AdminError;
use super::span::OrderSpan;
use crate::stream::{Stream, StreamError};
use crate::warehouse::{Warehouse, WarehouseError};

/// Orders of one window at most; Shopify pages through 25,000.
const DEEPEST: u64 = 20_000;
/// Orders that are compared by one statement.
const COMPARED: usize = 1000;
/// Orders of one window above which they are asked for by a bulk operation.
pub const BULK_ABOVE: usize = 5000;
/// Spans of at least this look for orders that Shopify no longer has, which reads all of the shop's
/// orders.
const LOOKS_FOR_VANISHED: Duration = Duration::hours(24);
/// How long a lock lasts that is not renewed; a window is done sooner.
const LOCKED: Duration = Duration::minutes(10);
/// Orders that are looked for by id at most: those that vanished, or seem newer than Shopify's.
const LOOKED_UP: usize = 2000;

/// Why a run ended early. What it had repaired stays repaired.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Shopify does not answer as it should.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The stream does not.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The warehouse does not.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// Another process is at it.
    #[error(
        "another process compares the orders of {0}: wait for its end; of one that died the lock ends after 10 minutes"
    )]
    Locked(String),
}

/// What a run works on.
pub struct Reconciler<'a> {
    /// The shop.
    pub client: &'a AdminClient,
    /// Where repairs go.
    pub stream: &'a dyn Stream,
    /// What is compared.
    pub warehouse: &'a dyn Warehouse,
    /// Whether nothing is repaired.
    pub dry_run: bool,
    /// Whether an operator asked for it.
    pub by_hand: bool,
    /// Orders of one window above which they are asked for by a bulk operation; [`BULK_ABOVE`].
    pub bulk_above: usize,
    /// The data folder, for the file of such an operation; it is made where it is missing.
    pub folder: &'a Path,
}

/// An order, as the search lists it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedOrder {
    id: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl Reconciler<'_> {
    /// Compares and repairs a span. `progress` is called with the orders that were compared.
    ///
    /// # Errors
    /// The run ended early.
    pub async fn run(&self, span: OrderSpan, progress: impl Fn(u64)) -> Result<Reconciliation, ReconcileError> {
        let holder = format!("{:016x}", rand::random::<u64>());
        self.lock(&holder).await?;
        let outcome = self.run_locked(span, &holder, progress).await;
        let shop = &self.client.identity().shop;
        self.warehouse.unlock_reconciliation(shop, &holder).await?;
        let report = outcome?;
        if !self.dry_run {
            self.warehouse.note_reconciliation(&report.record(self.by_hand)).await?;
        }
        Ok(report)
    }

    async fn lock(&self, holder: &str) -> Result<(), ReconcileError> {
        let shop = &self.client.identity().shop;
        let until = OffsetDateTime::now_utc() + LOCKED;
        match self.warehouse.lock_reconciliation(shop, holder, until).await? {
            true => Ok(()),
            false => Err(ReconcileError::Locked(shop.clone())),
        }
    }

    async fn run_locked(
        &self,
        span: OrderSpan,
        holder: &str,
        progress: impl Fn(u64),
    ) -> Result<Reconciliation, ReconcileError> {
        let (began, points) = (Instant::now(), self.client.points());
        let identity = self.client.identity();
        let mut report = Reconciliation::new(identity.shop.clone(), span, self.dry_run);
        let unloaded = UnloadedOrders::read(self.stream, &identity.shop).await?;
        let repairer = Repairer::new(self, identity.zone()?);
        let mut changes = ShopChanges::default();
        self.deletions(span, &repairer, &mut changes, &mut report).await?;
        let mut spans = vec![span];
        while let Some(span) = spans.pop() {
            self.lock(holder).await?;
            let count = span.count(self.client, "updated_at").await?;
            match span.halves(Duration::ZERO) {
                Some([first, second]) if count > DEEPEST => spans.extend([second, first]),
                _ => {
                    let listed = if count == 0 { Vec::new() } else { self.list(span).await? };
                    listed.iter().for_each(|order| changes.add_order(order, span));
                    self.window(span, holder, &listed, &unloaded, &repairer, &mut report)
                        .await?;
                }
            }
            progress(report.seen);
        }
        // What waits may be the delivery.
        if report.waiting == 0 {
            report.silent = changes.silent(&identity.shop, span.until, self.warehouse).await?;
        }
        report.points = self.client.points() - points;
        report.seconds = began.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Compares the orders of one window.
    async fn window(
        &self,
        span: OrderSpan,
        holder: &str,
        listed: &[ListedOrder],
        unloaded: &UnloadedOrders,
        repairer: &Repairer<'_>,
        report: &mut Reconciliation,
    ) -> Result<(), ReconcileError> {
        let listed = listed
            .iter()
            .map(|order| (number(&order.id).to_owned(), order.updated_at));
        let listed = BTreeMap::from_iter(listed);
        report.seen += listed.len() as u64;
        let ids = Vec::from_iter(listed.keys().cloned());
        let (mut newer, mut repaired) = (Vec::new(), Vec::new());
        for ids in ids.chunks(COMPARED) {
            let ours = self.states(ids).await?;
            for id in ids {
                let theirs = listed[id];
                let finding = match ours.get(id) {
                    None => OrderFinding::Missing,
                    Some(Ours { deleted: true, .. }) => continue,
                    Some(ours) if ours.as_of < theirs => OrderFinding::Stale,
                    Some(ours) if ours.as_of > theirs => {
                        newer.push((id.clone(), ours.as_of));
                        continue;
                    }
                    Some(_) => continue,
                };
                match unloaded.find(id, theirs) {
                    Some(OrderPlace::Waiting) => report.waiting += 1,
                    Some(OrderPlace::DeadLetter(letter)) => {
                        let detail = format!("dead letter {letter}: `orderstream dead-letters show {letter}`");
                        report.find(id, OrderFinding::DeadLettered, Some(detail));
                    }
                    None => {
                        report.find(id, finding, None);
                        repaired.push(id.clone());
                    }
                }
            }
        }
        if repaired.len() > self.bulk_above && !self.dry_run {
            let repair = BulkRepair {
                reconciler: self,
                repairer,
                window: span,
                holder,
                left: Ids::from_iter(repaired),
            };
            repaired = repair.run(report).await?;
        }
        for ids in repaired.chunks(COMPARED) {
            self.lock(holder).await?;
            repairer.repair(ids, report).await?;
        }
        if report.looks_for_vanished() {
            self.vanished(span, &listed, repairer, report).await?;
        }
        self.look_again(&newer, repairer, report).await
    }

    /// Orders of the window.
    async fn list(&self, span: OrderSpan) -> Result<Vec<ListedOrder>, AdminError> {
        #[derive(Deserialize)]
        struct WindowAnswer {
            orders: OrderPage,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct OrderPage {
            nodes: Vec<ListedOrder>,
            page_info: PageCursor,
        }
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let variables = json!({"query": span.search("updated_at"), "after": after});
            let answer: WindowAnswer = self.client.query(documents::WINDOW, variables).await?;
            listed.extend(answer.orders.nodes);
            after = answer.orders.page_info.next();
            if after.is_none() {
                return Ok(listed);
            }
        }
    }

    /// The states that the warehouse has of these orders.
    async fn states(&self, ids: &[String]) -> Result<BTreeMap<String, Ours>, WarehouseError> {
        let shop = &self.client.identity().shop;
        let keys = Vec::from_iter(ids.iter().map(|id| (shop.clone(), id.clone())));
        let states = self.warehouse.orders(&keys).await?.into_iter();
        let ours = states.map(|state| {
            let ours = Ours {
                as_of: state.as_of.unwrap_or(OffsetDateTime::UNIX_EPOCH),
                deleted: state.deleted_at.is_some(),
            };
            (state.order_id, ours)
        });
        Ok(ours.collect())
    }

    /// Orders that were deleted in the span, and are not deleted here.
    async fn deletions(
        &self,
        span: OrderSpan,
        repairer: &Repairer<'_>,
        changes: &mut ShopChanges,
        report: &mut Reconciliation,
    ) -> Result<(), ReconcileError> {
        #[derive(Deserialize)]
        struct DeletionsAnswer {
            events: DeletionPage,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct DeletionPage {
            nodes: Vec<Deletion>,
            page_info: PageCursor,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Deletion {
            created_at: String,
            subject_id: Option<String>,
        }
        let search = format!(
            "action:destroy AND subject_type:ORDER AND {}",
            span.search("created_at")
        );
        let mut after = None;
        loop {
            let variables = json!({"q": search, "after": after});
            let answer: DeletionsAnswer = self.client.query(documents::DELETIONS, variables).await?;
            for event in &answer.events.nodes {
                let at = OffsetDateTime::parse(&event.created_at, &Rfc3339);
                at.into_iter().for_each(|at| changes.add_deletion(at));
            }
            let deleted = answer.events.nodes.into_iter();
            let deleted = deleted.filter_map(|event| Some((event.subject_id?, event.created_at)));
            let deleted = BTreeMap::from_iter(deleted);
            let ids = Vec::from_iter(deleted.keys().map(|gid| number(gid).to_owned()));
            let ours = self.states(&ids).await?;
            let left = |gid: &str| ours.get(number(gid)).is_some_and(|ours| !ours.deleted);
            let deleted = Vec::from_iter(deleted.into_iter().filter(|(gid, _)| left(gid)));
            repairer.delete(&deleted, report).await?;
            after = answer.events.page_info.next();
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Orders of ours in the window that Shopify does not list: changed since, or gone.
    async fn vanished(
        &self,
        span: OrderSpan,
        listed: &BTreeMap<String, OffsetDateTime>,
        repairer: &Repairer<'_>,
        report: &mut Reconciliation,
    ) -> Result<(), ReconcileError> {
        let shop = &self.client.identity().shop;
        let ours = self.warehouse.orders_changed(shop, span.since, span.until).await?;
        let unlisted = Vec::from_iter(ours.into_iter().filter(|id| !listed.contains_key(id)).take(LOOKED_UP));
        let known = repairer.updated(&unlisted).await?;
        let deleted = report.deleted_ids();
        for id in unlisted
            .iter()
            .filter(|id| !known.contains_key(*id) && !deleted.contains(*id))
        {
            report.find(id, OrderFinding::Vanished, None);
        }
        Ok(())
    }

    /// Orders that are newer here than in the search, whose index lags: only what the order itself
    /// says counts.
    async fn look_again(
        &self,
        newer: &[(String, OffsetDateTime)],
        repairer: &Repairer<'_>,
        report: &mut Reconciliation,
    ) -> Result<(), ReconcileError> {
        let looked_up = &newer[..newer.len().min(LOOKED_UP)];
        let ids = Vec::from_iter(looked_up.iter().map(|(id, _)| id.clone()));
        let known = repairer.updated(&ids).await?;
        for (id, ours) in looked_up {
            if known.get(id).is_some_and(|theirs| theirs < ours) {
                report.find(id, OrderFinding::OursNewer, None);
            }
        }
        Ok(())
    }
}

/// The state of an order in the warehouse.
#[derive(Debug, Clone, Copy)]
struct Ours {
    as_of: OffsetDateTime,
    deleted: bool,
}

/// The number at the end of a gid.
fn number(gid: &str) -> &str {
    gid.rsplit('/').next().unwrap_or(gid)
}

/// Ids without repetition, for look-ups.
type Ids = BTreeSet<String>;
