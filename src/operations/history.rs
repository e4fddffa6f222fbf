//! History through again: retained entries made pending once more, and what the stream no longer has applied again from
//! `order_events`; the state tables recomputed from there.
//!
//! Invariants: nothing is copied in the stream, and no event gets a second row; the state tables follow the version rule,
//! so that whatever order this goes in, and whatever is loaded meanwhile, the newest state stands. What neither store
//! has anything from is said, from a minute on.

mod plan;
mod run;

use time::OffsetDateTime;

pub use self::run::{HistoryStep, MissingRange, RebuildRequest, Remaining, ReplayRequest, Span};

use self::run::Stage;
use super::pager::Pager;
use super::rate_limit::RateLimit;
use super::{Operations, OperationsError};
use crate::event::EventRecord;
use crate::stream::{Destination, Order, Range};
use crate::warehouse::Warehouse;
use crate::warehouse::history::EventPosition;

/// Entries or events of one step.
const STEP: usize = 200;
/// What a rebuild reads, for the record.
const TABLE: &str = "order_events";

impl Operations {
    /// Does one step of a replay: at most 200 entries, about two seconds. The run is over where `next` is null.
    ///
    /// # Errors
    /// There is no such group; or stream or warehouse do not do it: the step may be repeated.
    pub async fn replay(&self, request: &ReplayRequest) -> Result<HistoryStep, OperationsError> {
        let (this, request) = (self.clone(), request.clone());
        self.act(async move {
            let outcome = if request.stop {
                Ok(HistoryStep::default())
            } else {
                this.replay_now(&request).await
            };
            let is_interrupted = (request.stop || outcome.is_err()) && !request.dry_run;
            if let Some(run) = request.next.as_ref().filter(|_| is_interrupted) {
                this.record_run("replay", &request.what(), Stage::Interrupted, run)
                    .await;
            }
            outcome
        })
        .await
    }

    async fn replay_now(&self, request: &ReplayRequest) -> Result<HistoryStep, OperationsError> {
        let (mut rest, mut replayed) = match &request.next {
            Some(rest) => (rest.clone(), HistoryStep::default()),
            None => self.plan(request).await?,
        };
        let mut rate_limit = RateLimit::new(request.rate);
        let step = rate_limit.step(STEP);
        if let Some(span) = rest.stored.take() {
            if request.dry_run {
                // Counted already where the run begins; that it could not be is no reason to fail.
                replayed.applied += match &request.next {
                    Some(_) => self.count(&span).await?,
                    None => replayed.stored.unwrap_or_default(),
                };
            } else {
                rest.stored = self.apply(span, step, &mut replayed).await?;
            }
        } else if let Some(bounds) = rest.stream.take() {
            rest.stream = self.make_pending(request, bounds, step, &mut replayed).await?;
        }
        rest.add(&replayed);
        if !request.dry_run {
            rate_limit.pay(replayed.found()).await;
            if let Some(stage) = stage(request.next.is_none(), &rest) {
                self.record_run("replay", &request.what(), stage, &rest).await;
            }
        }
        replayed.next = Some(rest).filter(|rest| !rest.is_none());
        Ok(replayed)
    }

    /// Does one step of a rebuild: `orders`, `order_items` and `order_refunds` recomputed from the next 200 events. What
    /// is left to do is in `next`, what there is to do in all in the first step's `stored`.
    ///
    /// # Errors
    /// This process has no warehouse, or it does not do it: the step may be repeated.
    pub async fn rebuild(&self, request: RebuildRequest) -> Result<HistoryStep, OperationsError> {
        let this = self.clone();
        self.act(async move {
            let outcome = if request.stop {
                Ok(HistoryStep::default())
            } else {
                this.rebuild_now(request.next.clone()).await
            };
            if let Some(run) = request.next.filter(|_| request.stop || outcome.is_err()) {
                this.record_run("rebuild", TABLE, Stage::Interrupted, &run).await;
            }
            outcome
        })
        .await
    }

    async fn rebuild_now(&self, next: Option<Remaining>) -> Result<HistoryStep, OperationsError> {
        let mut rest = next.unwrap_or_default();
        rest.stream = None;
        let mut replayed = HistoryStep::default();
        let begins = rest.stored.is_none();
        let span = rest.stored.take().unwrap_or_else(|| Span {
            after: OffsetDateTime::UNIX_EPOCH,
            event_id: String::new(),
            before: OffsetDateTime::now_utc(),
        });
        if begins {
            replayed.stored = self.count(&span).await.ok();
        }
        rest.stored = self.apply(span, STEP, &mut replayed).await?;
        rest.add(&replayed);
        if let Some(stage) = stage(begins, &rest) {
            self.record_run("rebuild", TABLE, stage, &rest).await;
        }
        replayed.next = Some(rest).filter(|rest| !rest.is_none());
        Ok(replayed)
    }

    /// Makes one page of entries pending again, or counts those that would be; answers what is left.
    async fn make_pending(
        &self,
        request: &ReplayRequest,
        bounds: super::Bounds,
        step: usize,
        replayed: &mut HistoryStep,
    ) -> Result<Option<super::Bounds>, OperationsError> {
        let range = Range {
            from: bounds.from,
            to: bounds.to,
            ..Range::all(Destination::Stream, Order::OldestFirst, step)
        };
        let mut pager = Pager::new(&*self.stream, range, step);
        let page = pager.page().await?.unwrap_or_default();
        let ids = Vec::from_iter(page.iter().map(|entry| entry.id));
        let found = ids.len() as u64;
        let group = self.group(request).await?;
        let made = if request.dry_run {
            self.stream.settled(&group, &ids).await?
        } else {
            self.stream.make_pending(&group, &ids).await?
        };
        let made = made.ok_or(OperationsError::NotFound("group"))?;
        replayed.pending += made;
        replayed.left += found - made;
        Ok(pager.rest().map(|rest| super::Bounds {
            from: rest.from,
            ..bounds
        }))
    }

    async fn group(&self, request: &ReplayRequest) -> Result<String, OperationsError> {
        if let Some(group) = &request.group {
            return Ok(group.clone());
        }
        let report = self.stream.report().await?;
        let ours = report.groups.into_iter().find(|group| group.ours);
        ours.map(|group| group.name).ok_or(OperationsError::NotFound("group"))
    }

    /// Applies the next events of a span again; answers what is left.
    async fn apply(
        &self,
        span: Span,
        step: usize,
        replayed: &mut HistoryStep,
    ) -> Result<Option<Span>, OperationsError> {
        let warehouse = self.warehouse()?;
        let events = warehouse.events(&span.place()?, span.before, step).await?;
        let records: Vec<EventRecord<'_>> = events.iter().filter_map(|event| event.record().ok()).collect();
        warehouse.load(&records).await?;
        replayed.applied += records.len() as u64;
        replayed.left += (events.len() - records.len()) as u64;
        let last = events
            .last()
            .filter(|_| events.len() >= step)
            .map(|event| event.position());
        Ok(last.map(|EventPosition { received_at, event_id }| Span {
            after: received_at,
            event_id,
            ..span
        }))
    }

    async fn count(&self, span: &Span) -> Result<u64, OperationsError> {
        Ok(self.warehouse()?.count(&span.place()?, span.before).await?)
    }

    fn warehouse(&self) -> Result<&dyn Warehouse, OperationsError> {
        self.warehouse.as_deref().ok_or(OperationsError::NoWarehouse)
    }
}

/// What a step that came to its end is noted as, if at all: of a long run, the first and the last are.
fn stage(begins: bool, rest: &Remaining) -> Option<Stage> {
    match (begins, rest.is_none()) {
        (_, true) => Some(Stage::Ended),
        (true, false) => Some(Stage::Begun),
        (false, false) => None,
    }
}
