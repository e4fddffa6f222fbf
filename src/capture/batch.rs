//! A batch: what the first pending touches come to.
//!
//! Owns the reading of orders and the record that is stored with their entries. Invariant: a batch
//! continues the record of the batch before it, stored or not, so that it may be read while that one
//! is stored; where that one is not stored, it is given up.

use std::sync::Arc;
use std::time::Instant;

use super::changes::{Changes, Touch, WalPosition};
use super::convert::{ConvertedBatch, FoldedTouches, ReadContext, ReadResult, Wanted};
use super::pgoutput::CommitRecord;
use super::plan::Plan;
use super::record::{Record, Walk};
use super::source::{Catalog, OrderReader};
use super::standing::TimelineHistory;
use super::status::CaptureStatus;
use super::worker::End;
use crate::metrics::GapReason;

/// Touches that are to be read, in order.
pub(super) struct PendingTouches {
    touches: Vec<Touch>,
    /// The position behind them.
    end: WalPosition,
}

impl PendingTouches {
    /// What is pending from that place on, `most` touches at most.
    pub(super) fn of(changes: &Changes, start: usize, most: usize) -> Self {
        let touches = Vec::from_iter(changes.pending.range(start..).take(most).cloned());
        let next = changes.pending.get(start + touches.len());
        Self {
            touches,
            end: next.map_or_else(|| changes.position(), |next| next.before),
        }
    }
}

/// What was read, and is to be stored in one step.
pub(super) struct ReadBatch {
    /// How many touches it covers.
    pub(super) touches: usize,
    pub(super) converted: ConvertedBatch,
    pub(super) record: Record,
    /// Why changes were lost, where that was found.
    pub(super) gap: Option<GapReason>,
}

/// Reads batches.
pub(super) struct BatchReader<'a> {
    pub(super) plan: Arc<Plan>,
    pub(super) catalog: Catalog,
    pub(super) history: TimelineHistory,
    pub(super) reader: OrderReader,
    pub(super) status: &'a CaptureStatus,
    /// Whether a gap is healed by a walk, where orders are captured.
    pub(super) resyncs_on_gap: bool,
}

impl BatchReader<'_> {
    /// Reads what was touched, as the batch after the one of record `before`.
    pub(super) async fn read(&mut self, pending: PendingTouches, before: &Record) -> Result<ReadBatch, End> {
        let PendingTouches { touches, end } = pending;
        let mut folded = FoldedTouches::of(&touches);
        let commits = commits(&touches);
        self.resolve(&mut folded, &commits).await?;
        let answer = self.orders(&folded.orders, &commits, before).await?;
        let newest = commits.iter().map(|commit| commit.time).max().unwrap_or_default();
        let mut record = Record {
            position: end,
            clock: before.clock.max(newest),
            triggered: answer.now.max(before.triggered + 1),
            ..before.clone()
        };
        self.heal(&mut record, folded.lost);
        let read = self.context(before, &answer, record.triggered, None);
        let of_orders = folded.orders.iter().map(|wanted| read.order(wanted));
        let converted = of_orders
            .chain(touches.iter().filter_map(|touch| read.direct(touch)))
            .collect();
        Ok(ReadBatch {
            touches: touches.len(),
            converted,
            record,
            gap: folded.lost,
        })
    }

    async fn resolve(&mut self, folded: &mut FoldedTouches, commits: &[CommitRecord]) -> Result<(), End> {
        for (watch, values) in std::mem::take(&mut folded.watched) {
            let sql = self.plan.watches.get(watch).and_then(|watch| watch.orders.as_ref());
            let kind = self.catalog.watches.get(watch).copied().unwrap_or_default();
            let (Some(sql), Some(newest)) = (sql, values.values().max_by_key(|commit| commit.lsn)) else {
                continue;
            };
            let asked = Vec::from_iter(values.keys().map(|value| &**value));
            let keys = self.reader.resolve(&sql.0, kind, &asked, commits).await?;
            folded.add(keys, *newest);
        }
        Ok(())
    }

    /// Reads orders after these commits, and after those that `before` covers.
    pub(super) async fn orders(
        &mut self,
        orders: &[Wanted],
        commits: &[CommitRecord],
        before: &Record,
    ) -> Result<ReadResult, End> {
        let keys = Vec::from_iter(orders.iter().map(|order| &*order.key));
        self.reader.floor = before.position.lsn.saturating_sub(1);
        let began = Instant::now();
        let answer = self.reader.read(&keys, commits, before.clock).await?;
        if !keys.is_empty() {
            let took = began.elapsed().as_secs_f64();
            self.status.metrics.read_seconds.observe(took);
            self.status
                .update(|figures| figures.report.last_read_seconds = Some(took));
        }
        self.status.metrics.reads_invisible.inc_by(answer.invisible);
        Ok(answer)
    }

    /// What a read is converted by.
    pub(super) fn context<'a>(
        &'a self,
        before: &'a Record,
        answer: &'a ReadResult,
        triggered: i64,
        walk: Option<&'a str>,
    ) -> ReadContext<'a> {
        ReadContext {
            plan: &self.plan,
            system: &before.system,
            history: &self.history,
            clock: before.clock,
            triggered,
            walk,
            answer,
        }
    }

    /// The record as it is stored: its position is of that timeline.
    pub(super) fn with_timeline(&self, record: &Record) -> Record {
        let position = record.position;
        let newest = position.commit.max(position.lsn.saturating_sub(1));
        Record {
            timeline: self.history.timeline_of(newest),
            ..record.clone()
        }
    }

    /// Whether a gap is healed by reading all orders.
    pub(super) fn heals(&self) -> bool {
        self.resyncs_on_gap && self.plan.orders.is_some()
    }

    /// Begins the walk that heals a gap.
    pub(super) fn heal(&self, record: &mut Record, gap: Option<GapReason>) {
        let Some(reason) = gap else { return };
        record.gaps += 1;
        if self.heals() {
            record.plan.clone_from(&self.plan.digest);
            record.walk = Some(Walk::new(reason.texts().0));
        }
    }
}

/// The transactions of these touches, each once.
fn commits(touches: &[Touch]) -> Vec<CommitRecord> {
    // In order of commits.
    let mut commits = Vec::from_iter(touches.iter().map(|touch| touch.commit));
    commits.dedup_by_key(|commit| commit.lsn);
    commits
}
