//! History through again: retained entries made pending once more, and what the stream no longer has applied again from
//! `order_events`; the state tables recomputed from there.
//!
//! Invariants: nothing is copied in the stream, and no event gets a second row; the state tables follow the version rule,
//! so that whatever order this goes in, and whatever is loaded meanwhile, the newest state stands. What neither store
//! has is said.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::events::moment;
use super::pace::Pace;
use super::walk::Walk;
use super::{Operations, OperationsError, has_nul};
use crate::event::EventRecord;
use crate::stream::{Destination, Order, Range, StreamId};
use crate::warehouse::Warehouse;
use crate::warehouse::history::Place;

/// Entries or events of one step.
const STEP: usize = 200;

/// Which part of history, and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The oldest entry; without it, all that is retained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StreamId>,
    /// The newest entry; without it, the newest there is when the run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<StreamId>,
    /// For which group; without it, ours. Only ours has a warehouse to read what the stream no longer has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
    /// Entries a second, 1 to 10,000; 500 where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU32>,
    /// The `next` of the step before.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::object::or_null"
    )]
    pub next: Option<Rest>,
}

/// What a run has still before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rest {
    /// What is still to be read from `order_events`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::object::or_null"
    )]
    pub stored: Option<Span>,
    /// What is still to be read from the stream.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::object::or_null"
    )]
    pub stream: Option<super::Bounds>,
}

/// A span of `order_events`, by arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// After this time ...
    #[serde(with = "time::serde::rfc3339")]
    pub after: OffsetDateTime,
    /// ... and this event of it; empty is before all of them.
    #[serde(default)]
    pub event_id: String,
    /// Before this time.
    #[serde(with = "time::serde::rfc3339")]
    pub before: OffsetDateTime,
}

impl Span {
    fn place(&self) -> Result<Place, OperationsError> {
        if has_nul(&self.event_id) {
            return Err(OperationsError::Invalid("`next` is not as a step answered it"));
        }
        Ok(Place {
            received_at: self.after,
            event_id: self.event_id.clone(),
        })
    }
}

/// One step of a run.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Entries that became pending again, or would.
    pub pending: u64,
    /// Events of `order_events` that were applied again, or would be.
    pub applied: u64,
    /// Entries and events that were left: unread or pending already, or unreadable.
    pub left: u64,
    /// How many events `order_events` has in the range; only in the first step, and only where they could be counted.
    pub stored: Option<u64>,
    /// What nobody has any more; only in the first step.
    pub missing: Option<Missing>,
    /// What is left of the run; null at its end.
    pub next: Option<Rest>,
}

impl Replayed {
    /// Entries and events that a step looked at.
    fn found(&self) -> usize {
        usize::try_from(self.pending + self.applied + self.left).unwrap_or(usize::MAX)
    }
}

/// A part of the range that neither stream nor warehouse has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its beginning, RFC 3339.
    pub from: Option<String>,
    /// Its end, RFC 3339.
    pub to: Option<String>,
    /// Why.
    pub reason: String,
}

impl Operations {
    /// Does one step of a replay: at most 200 entries, about two seconds. The run is over where `next` is null.
    ///
    /// # Errors
    /// There is no such group; or stream or warehouse do not do it: the step may be repeated.
    pub async fn replay(&self, request: &Replay) -> Result<Replayed, OperationsError> {
        let (this, request) = (self.clone(), request.clone());
        self.act(async move { this.replay_now(&request).await }).await
    }

    async fn replay_now(&self, request: &Replay) -> Result<Replayed, OperationsError> {
        let (rest, mut replayed) = match &request.next {
            Some(rest) => (rest.clone(), Replayed::default()),
            None => self.plan(request).await?,
        };
        let mut pace = Pace::new(request.rate);
        let step = pace.step(STEP);
        let mut rest = rest;
        if let Some(span) = rest.stored.take() {
            if request.dry_run {
                replayed.applied += self.count(&span).await?;
            } else {
                rest.stored = self.apply(span, step, &mut replayed).await?;
            }
        } else if let Some(bounds) = rest.stream.take() {
            rest.stream = self.make_pending(request, bounds, step, &mut replayed).await?;
        }
        if !request.dry_run {
            pace.pay(replayed.found()).await;
        }
        replayed.next = Some(rest).filter(|rest| rest.stored.is_some() || rest.stream.is_some());
        let is_edge = request.next.is_none() || replayed.next.is_none();
        if is_edge && !request.dry_run {
            let done = replayed.pending + replayed.applied;
            self.write_down("replay", &request.what(replayed.next.is_none()), done, replayed.left)
                .await;
        }
        Ok(replayed)
    }

    /// Does one step of a rebuild: `orders`, `order_items` and `order_refunds` recomputed from the next 200 events. What
    /// is left to do is in `next`, what there is to do in all in the first step's `stored`.
    ///
    /// # Errors
    /// This process has no warehouse, or it does not do it: the step may be repeated.
    pub async fn rebuild(&self, next: Option<Span>) -> Result<Replayed, OperationsError> {
        let this = self.clone();
        self.act(async move { this.rebuild_now(next).await }).await
    }

    async fn rebuild_now(&self, next: Option<Span>) -> Result<Replayed, OperationsError> {
        let begins = next.is_none();
        let span = next.unwrap_or_else(|| Span {
            after: OffsetDateTime::UNIX_EPOCH,
            event_id: String::new(),
            before: OffsetDateTime::now_utc(),
        });
        let mut replayed = Replayed::default();
        if begins {
            replayed.stored = self.count(&span).await.ok();
        }
        let stored = self.apply(span, STEP, &mut replayed).await?;
        if begins || stored.is_none() {
            let what = if stored.is_none() {
                "order_events, to the end"
            } else {
                "order_events, begun"
            };
            self.write_down("rebuild", what, replayed.applied, replayed.left).await;
        }
        replayed.next = stored.map(|span| Rest {
            stored: Some(span),
            stream: None,
        });
        Ok(replayed)
    }

    /// What has the range: the stream, and for what it no longer has, `order_events`.
    async fn plan(&self, request: &Replay) -> Result<(Rest, Replayed), OperationsError> {
        let report = self.stream.report().await?;
        let wanted = request.group.as_deref();
        let ours = report
            .groups
            .iter()
            .find(|group| group.ours)
            .map(|group| group.name.as_str());
        let is_ours = wanted.is_none() || wanted == ours;
        if !is_ours && !report.groups.iter().any(|group| Some(group.name.as_str()) == wanted) {
            return Err(OperationsError::NotFound("group"));
        }
        let first = Range::all(Destination::Stream, Order::OldestFirst, 1);
        let first = self.stream.range(first).await?.entries.first().map(|entry| entry.id);
        let from = request.from.unwrap_or(StreamId::MIN);
        let newest = report.last_id.unwrap_or_default();
        let to = request.to.unwrap_or(StreamId::MAX).min(newest);
        let mut replayed = Replayed::default();
        let stream = first.map(|first| super::Bounds {
            from: from.max(first),
            to,
        });
        let has_all = report.entries_added == Some(report.length);
        let mut rest = Rest {
            stored: None,
            stream: stream.filter(|bounds| bounds.from <= bounds.to),
        };
        if first.is_some_and(|first| from >= first) || has_all {
            return Ok((rest, replayed));
        }
        let span = Span {
            after: time_of(from),
            event_id: String::new(),
            // What came in the same millisecond as the first entry may be in either.
            before: time_of(first.unwrap_or(StreamId::MAX).min(request.to.unwrap_or(StreamId::MAX)))
                + time::Duration::milliseconds(1),
        };
        let stored = match &self.warehouse {
            Some(warehouse) if is_ours => warehouse.first(span.after, span.before).await?,
            _ => None,
        };
        replayed.missing = self.missing(request, is_ours, &span, stored);
        if stored.is_some() {
            replayed.stored = self.count(&span).await.ok();
            rest.stored = Some(span);
        }
        Ok((rest, replayed))
    }

    /// The gap before the first event that anybody has, where the range begins in it.
    fn missing(&self, request: &Replay, is_ours: bool, span: &Span, stored: Option<OffsetDateTime>) -> Option<Missing> {
        let from = request.from?;
        let until = stored.unwrap_or(span.before);
        if until - time_of(from) < time::Duration::seconds(1) {
            return None;
        }
        let reason = match &self.warehouse {
            _ if !is_ours => {
                "the stream no longer has it, and only the group that loads the warehouse can be served from order_events"
            }
            None => "the stream no longer has it, and this process has no warehouse",
            Some(_) => "neither the stream nor order_events has anything from then",
        };
        Some(Missing {
            from: moment(from),
            to: until.format(&time::format_description::well_known::Rfc3339).ok(),
            reason: reason.to_owned(),
        })
    }

    /// Makes one page of entries pending again; answers what is left.
    async fn make_pending(
        &self,
        request: &Replay,
        bounds: super::Bounds,
        step: usize,
        replayed: &mut Replayed,
    ) -> Result<Option<super::Bounds>, OperationsError> {
        let range = Range {
            from: bounds.from,
            to: bounds.to,
            ..Range::all(Destination::Stream, Order::OldestFirst, step)
        };
        let mut walk = Walk::new(&*self.stream, range, step);
        let page = walk.page().await?.unwrap_or_default();
        let ids = Vec::from_iter(page.iter().map(|entry| entry.id));
        let found = ids.len() as u64;
        let made = if request.dry_run {
            found
        } else {
            let group = self.group(request).await?;
            let made = self.stream.make_pending(&group, &ids).await?;
            made.ok_or(OperationsError::NotFound("group"))?
        };
        replayed.pending += made;
        replayed.left += found - made;
        Ok(walk.rest().map(|rest| super::Bounds {
            from: rest.from,
            ..bounds
        }))
    }

    async fn group(&self, request: &Replay) -> Result<String, OperationsError> {
        if let Some(group) = &request.group {
            return Ok(group.clone());
        }
        let report = self.stream.report().await?;
        let ours = report.groups.into_iter().find(|group| group.ours);
        ours.map(|group| group.name).ok_or(OperationsError::NotFound("group"))
    }

    /// Applies the next events of a span again; answers what is left.
    async fn apply(&self, span: Span, step: usize, replayed: &mut Replayed) -> Result<Option<Span>, OperationsError> {
        let warehouse = self.warehouse()?;
        let events = warehouse.events(&span.place()?, span.before, step).await?;
        let records: Vec<EventRecord<'_>> = events.iter().filter_map(|event| event.record().ok()).collect();
        warehouse.load(&records).await?;
        replayed.applied += records.len() as u64;
        replayed.left += (events.len() - records.len()) as u64;
        let last = events
            .last()
            .filter(|_| events.len() >= step)
            .map(|event| event.place());
        Ok(last.map(|Place { received_at, event_id }| Span {
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

impl Replay {
    /// For the record.
    fn what(&self, ended: bool) -> String {
        let id = |id: Option<StreamId>, else_: &str| id.map_or_else(|| else_.to_owned(), |id| id.to_string());
        let (from, to) = (id(self.from, "the first"), id(self.to, "the newest"));
        let group = self.group.as_deref().unwrap_or("ours");
        let stage = if ended { "to the end" } else { "begun" };
        format!("{from} to {to}, group {group}, {stage}")
    }
}

/// The time in an id; the last time that can be written for ids beyond it.
fn time_of(id: StreamId) -> OffsetDateTime {
    let last = time::macros::datetime!(9999-01-01 00:00 UTC);
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(id.ms) * 1_000_000).map_or(last, |at| at.min(last))
}
