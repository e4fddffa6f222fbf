//! Replay and rebuild: retained entries are made pending again, what the stream no longer has is
//! applied again from `order_events`, and the state tables are recomputed from there.
//!
//! Invariants: nothing is copied in the stream, and no event gets a second row. The state tables
//! follow the version rule, so the newest state stands whatever the order, and whatever is loaded
//! meanwhile. A minute or longer of which neither store has anything is reported.

mod plan;
mod run;

use time::OffsetDateTime;

pub use self::run::{HistoryStep, MissingRange, RebuildRequest, Remaining, ReplayRequest, TimeSpan};

use self::run::Run;
use super::api::{Carrier, Operation};
use super::context::{Operations, OperationsError};
use super::pager::Pager;
use super::rate_limit::RateLimit;
use super::redrive_run::IdRange;
use crate::event::EventRecord;
use crate::stream::{Destination, Range, ReadOrder};

/// Entries or events of one step.
const STEP: usize = 200;

impl Operation for ReplayRequest {
    /// One step: at most 200 entries, about two seconds. The run is over where `next` is null.
    type Answer = HistoryStep;
    const PATH: &'static str = "/api/replay";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<HistoryStep, OperationsError> {
        let run = Run {
            action: "replay",
            what: self.what(),
            is_recorded: !self.dry_run,
            at: self.next.clone(),
        };
        let this = operations.clone();
        let step = async move {
            if self.stop {
                return this.stop(&run).await;
            }
            this.finish_step(&run, this.replay(&self).await).await
        };
        operations.run_step(step).await
    }
}

impl Operation for RebuildRequest {
    /// One step: the state tables recomputed from the next 200 events. What there is to do in all
    /// is in the first step's `stored`.
    type Answer = HistoryStep;
    const PATH: &'static str = "/api/rebuild";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<HistoryStep, OperationsError> {
        let run = Run {
            action: "rebuild",
            what: "order_events".to_owned(),
            is_recorded: true,
            at: self.next.clone(),
        };
        let this = operations.clone();
        let step = async move {
            if self.stop {
                return this.stop(&run).await;
            }
            this.finish_step(&run, this.rebuild(self.next).await).await
        };
        operations.run_step(step).await
    }
}

impl Operations {
    async fn replay(&self, request: &ReplayRequest) -> Result<(Remaining, HistoryStep), OperationsError> {
        let (mut rest, mut step) = match &request.next {
            Some(rest) => (rest.clone(), HistoryStep::default()),
            None => self.plan(request).await?,
        };
        let mut rate_limit = RateLimit::new(request.rate);
        let count = rate_limit.step(STEP);
        if let Some(span) = rest.stored.take() {
            if request.dry_run {
                // Counted already where the run begins; that it could not be is no reason to fail.
                step.applied += match &request.next {
                    Some(_) => self.count(&span).await?,
                    None => step.stored.unwrap_or_default(),
                };
            } else {
                rest.stored = self.apply(span, count, &mut step).await?;
            }
        } else if let Some(bounds) = rest.stream.take() {
            rest.stream = self.make_pending(request, bounds, count, &mut step).await?;
        }
        if !request.dry_run {
            rate_limit.pay(step.found()).await;
        }
        Ok((rest, step))
    }

    async fn rebuild(&self, next: Option<Remaining>) -> Result<(Remaining, HistoryStep), OperationsError> {
        let mut rest = next.unwrap_or_default();
        rest.stream = None;
        let mut step = HistoryStep::default();
        let span = match rest.stored.take() {
            Some(span) => span,
            None => {
                let span = TimeSpan {
                    after: OffsetDateTime::UNIX_EPOCH,
                    event_id: String::new(),
                    before: OffsetDateTime::now_utc(),
                };
                step.stored = self.count(&span).await.ok();
                span
            }
        };
        rest.stored = self.apply(span, STEP, &mut step).await?;
        Ok((rest, step))
    }

    /// Makes one page of entries pending again, or counts those that would be; answers what is
    /// left.
    async fn make_pending(
        &self,
        request: &ReplayRequest,
        bounds: IdRange,
        count: usize,
        step: &mut HistoryStep,
    ) -> Result<Option<IdRange>, OperationsError> {
        let range = Range {
            from: bounds.from,
            to: bounds.to,
            ..Range::all(Destination::Stream, ReadOrder::OldestFirst, count)
        };
        let mut pager = Pager::new(&*self.stream, range, count);
        let page = pager.page().await?.unwrap_or_default();
        let ids = Vec::from_iter(page.iter().map(|entry| entry.id));
        let group = self.group(request).await?;
        let made = if request.dry_run {
            self.stream.settled(&group, &ids).await?
        } else {
            self.stream.make_pending(&group, &ids).await?
        };
        let made = made.ok_or(OperationsError::NotFound("group"))?;
        step.pending += made;
        step.left += ids.len() as u64 - made;
        Ok(pager.rest().map(|rest| IdRange {
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
        span: TimeSpan,
        count: usize,
        step: &mut HistoryStep,
    ) -> Result<Option<TimeSpan>, OperationsError> {
        let warehouse = self.warehouse()?;
        let events = warehouse.events(&span.place()?, span.before, count).await?;
        let records: Vec<EventRecord<'_>> = events.iter().filter_map(|event| event.record().ok()).collect();
        warehouse.load(&records).await?;
        step.applied += records.len() as u64;
        step.left += (events.len() - records.len()) as u64;
        let last = events.last().filter(|_| events.len() >= count);
        Ok(last.map(|event| TimeSpan {
            after: event.received_at,
            event_id: event.event_id.clone(),
            ..span
        }))
    }

    async fn count(&self, span: &TimeSpan) -> Result<u64, OperationsError> {
        Ok(self.warehouse()?.count(&span.place()?, span.before).await?)
    }
}
