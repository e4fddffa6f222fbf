//! One order, from webhook to row: what stream, spool, dead letters and warehouse retain of it, on one time line.
//!
//! Invariants: every look is bounded, and the answer says how far it went and what it cannot know; a part that does not
//! answer costs what it knows, and no more; nothing personal.

mod dead_letters;
mod spool;
mod timeline;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::timeline::{Step, TimelineEvent};

use self::timeline::{KnownEvent, RetainedEntry, written};
use super::events::{EntrySummary, GroupProgress, appended_at, may_mention};
use super::pager::{Pager, only};
use super::{Operations, OperationsError, has_nul};
use crate::stream::{Destination, Entry, Order, Range};
use crate::warehouse::Warehouse;
use crate::warehouse::history::{OrderState, StoredEvent};

/// Entries of the stream looked at, from its newest on.
const ENTRIES: usize = 5_000;
/// Loaded events of one order; and entries beside one for each of those.
const EVENTS: usize = 200;
/// Orders of one name: shops count from 1001 each.
const ORDERS: usize = 20;
/// Events whose entries are looked for one by one, beyond those that the look found.
const SINGLY: usize = 50;

/// Which order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TraceQuery {
    /// Its id, or its name (`#1042`).
    pub order: String,
    /// Only of this shop.
    pub shop: Option<String>,
}

/// Everything that is retained of an order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Trace {
    /// What was asked for.
    pub order: String,
    /// The orders that this is, one a shop; as the warehouse has them now.
    pub orders: Vec<TracedOrder>,
    /// What happened, in the order of time; what has no time comes last.
    pub moments: Vec<TimelineEvent>,
    /// Entries of the stream looked at.
    pub entries_looked_at: u64,
    /// When the oldest of those was appended, RFC 3339.
    pub looked_back_to: Option<String>,
    /// Dead letters looked at.
    pub letters_looked_at: u64,
    /// When the oldest of those was written, RFC 3339.
    pub letters_looked_back_to: Option<String>,
    /// Events of this node's spool looked at; `None` where it has none, or one that cannot be looked into.
    pub spooled_looked_at: Option<u64>,
    /// When the oldest of those was spooled, RFC 3339.
    pub spooled_looked_back_to: Option<String>,
    /// What this cannot know, each a sentence.
    pub unknown: Vec<String>,
}

/// An order as the warehouse has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedOrder {
    /// Shop; empty where it is not known.
    pub shop: String,
    /// Its id.
    pub order_id: String,
    /// What people call it.
    pub name: Option<String>,
    /// One word for where it stands.
    pub status: Option<String>,
    /// Order total, as it was written.
    pub total_amount: Option<String>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// Event that made this state.
    pub last_event_id: Option<String>,
    /// When the order came to be so, RFC 3339.
    pub as_of: Option<String>,
    /// When it was deleted, RFC 3339.
    pub deleted_at: Option<String>,
}

impl Operations {
    /// What is retained of an order.
    ///
    /// # Errors
    /// The order is empty, or order or shop hold a NUL character; or nothing that was asked answers.
    pub async fn trace(&self, query: &TraceQuery) -> Result<Trace, OperationsError> {
        if query.order.trim().is_empty() || has_nul(&query.order) || query.shop.as_deref().is_some_and(has_nul) {
            return Err(OperationsError::Invalid("give the id of an order, or its name"));
        }
        let _look = self.look().await?;
        let mut trace = Trace {
            order: query.order.clone(),
            ..Trace::default()
        };
        let mut events = BTreeMap::new();
        let mut parts = Parts::default();
        if let Some(warehouse) = &self.warehouse {
            let looked = search_warehouse(&**warehouse, query, &mut trace, &mut events).await;
            let lacks = "The warehouse does not answer, so whether anything was loaded is not known";
            parts.asked(looked, lacks, &mut trace);
        } else {
            trace
                .unknown
                .push("This process has no warehouse: whether anything was loaded is not known.".to_owned());
        }
        let mut wanted = vec![query.order.clone()];
        wanted.extend(trace.orders.iter().map(|order| order.order_id.clone()));
        wanted.dedup();
        // Before the stream: what is moved on meanwhile is seen twice then, and not missed.
        if let Some(spool) = &self.spool {
            let looked = self.search_spool(spool, query, &wanted, &mut trace, &mut events).await;
            parts.asked(looked, "The spool of this node cannot be looked into", &mut trace);
        }
        let looked = self.search_stream(query, &wanted, &mut trace, &mut events).await;
        let lacks = "The stream does not answer, so what it and the dead letters hold is not known";
        parts.asked(looked, lacks, &mut trace);
        parts.answered()?;
        for known in events.into_values() {
            known.tell(&trace.orders, &mut trace.moments);
        }
        trace.moments.sort_by_cached_key(TimelineEvent::place);
        let spools = match self.spool {
            Some(_) => {
                "Only the spool of this node was looked into: what another one spooled shows once it is in the stream."
            }
            None => "This node has no spool to look into: what another one spooled shows once it is in the stream.",
        };
        trace.unknown.extend([
            "Deliveries that were refused, or answered as duplicates, leave no trace.".to_owned(),
            spools.to_owned(),
        ]);
        Ok(trace)
    }

    async fn search_stream(
        &self,
        query: &TraceQuery,
        wanted: &[String],
        trace: &mut Trace,
        events: &mut BTreeMap<String, KnownEvent>,
    ) -> Result<(), OperationsError> {
        self.search_entries(query, wanted, trace, events).await?;
        self.find_entries(events).await?;
        self.search_dead_letters(query, wanted, trace).await
    }

    async fn search_entries(
        &self,
        query: &TraceQuery,
        wanted: &[String],
        trace: &mut Trace,
        events: &mut BTreeMap<String, KnownEvent>,
    ) -> Result<(), OperationsError> {
        let range = Range::all(Destination::Stream, Order::NewestFirst, usize::MAX);
        let mut pager = Pager::new(&*self.stream, range, ENTRIES);
        let (mut others, mut has_more) = (0, false);
        while let Some(page) = pager.page().await? {
            trace.entries_looked_at += page.len() as u64;
            trace.looked_back_to = page
                .last()
                .and_then(|entry| appended_at(entry.id))
                .or(trace.looked_back_to.take());
            for entry in &page {
                let line = is_of_any(entry, wanted);
                let Some(line) = line.filter(|line| query.shop.is_none() || query.shop == line.shop) else {
                    continue;
                };
                let id = line.event_id.clone().unwrap_or_else(|| line.id.to_string());
                // The newest entry of each event that was found elsewhere is shown in any case.
                if events.get(&id).is_none_or(|known| !known.entries.is_empty()) {
                    if others >= EVENTS {
                        has_more = true;
                        continue;
                    }
                    others += 1;
                }
                events.entry(id).or_default().entries.push(line.into());
            }
        }
        if has_more {
            trace.unknown.push(format!(
                "Of the entries beside one for each loaded event shown, only the newest {EVENTS} are shown."
            ));
        }
        if pager.rest().is_some() {
            trace.unknown.push(format!(
                "Only the newest {} entries of the stream were looked through; older ones show where they were loaded.",
                trace.entries_looked_at
            ));
        }
        Ok(())
    }

    /// Whether the entries of loaded events still stand, and how far each group came with those that do.
    async fn find_entries(&self, events: &mut BTreeMap<String, KnownEvent>) -> Result<(), OperationsError> {
        let mut lookups = SINGLY;
        for known in events.values_mut() {
            if let (Some(id), Some(left)) = (known.unseen(), lookups.checked_sub(1)) {
                lookups = left;
                let page = self.stream.range(only(Destination::Stream, id)).await?;
                let found = page.entries.first().map(EntrySummary::of);
                known.is_gone = found.is_none();
                known.entries.extend(found.map(RetainedEntry::from));
            }
            for RetainedEntry { line, fates } in &mut known.entries {
                let found = self.stream.fates(line.id).await?;
                *fates = found.into_iter().map(GroupProgress::from).collect();
            }
        }
        Ok(())
    }
}

/// Whether the parts of the pipeline that were asked answered.
#[derive(Default)]
struct Parts {
    answered: bool,
    failure: Option<OperationsError>,
}

impl Parts {
    fn asked(&mut self, looked: Result<(), OperationsError>, lacks: &str, trace: &mut Trace) {
        match looked {
            Ok(()) => self.answered = true,
            Err(error) => {
                trace.unknown.push(format!("{lacks}: {error}."));
                self.failure.get_or_insert(error);
            }
        }
    }

    /// One did, or the first failure.
    fn answered(self) -> Result<(), OperationsError> {
        match self.failure {
            Some(error) if !self.answered => Err(error),
            _ => Ok(()),
        }
    }
}

/// The entry, where it is of one of those orders.
fn is_of_any(entry: &Entry, orders: &[String]) -> Option<EntrySummary> {
    let mut orders = orders.iter().filter(|order| may_mention(entry, order)).peekable();
    orders.peek()?;
    let line = EntrySummary::of(entry);
    orders.any(|order| line.is_of(order)).then_some(line)
}

/// Rows of the order, and of its events.
async fn search_warehouse(
    warehouse: &dyn Warehouse,
    query: &TraceQuery,
    trace: &mut Trace,
    events: &mut BTreeMap<String, KnownEvent>,
) -> Result<(), OperationsError> {
    let shop = query.shop.as_deref();
    let mut named = warehouse.orders_named(&query.order, shop, ORDERS + 1).await?;
    if named.len() > ORDERS {
        named.truncate(ORDERS);
        trace.unknown.push(format!(
            "More orders have that name than the {ORDERS} that are shown: name a shop."
        ));
    }
    let mut stored = newest(warehouse, &query.order, shop, trace).await?;
    for order in named.iter().filter(|order| order.order_id != query.order) {
        stored.extend(newest(warehouse, &order.order_id, Some(&order.shop), trace).await?);
    }
    trace.orders = orders(warehouse, named, &stored).await?;
    for event in stored {
        let known = events.entry(event.event_id.clone()).or_default();
        known.stored = Some(event);
    }
    Ok(())
}

/// The newest loaded events of that order; says where there are more.
async fn newest(
    warehouse: &dyn Warehouse,
    order_id: &str,
    shop: Option<&str>,
    trace: &mut Trace,
) -> Result<Vec<StoredEvent>, OperationsError> {
    let mut events = warehouse.events_of(order_id, shop, EVENTS + 1).await?;
    if events.len() > EVENTS {
        events.truncate(EVENTS);
        trace.unknown.push(format!(
            "Order {order_id} has more loaded events than the newest {EVENTS}; what was loaded before those is not shown."
        ));
    }
    Ok(events)
}

/// The rows behind those events, and those of that name.
async fn orders(
    warehouse: &dyn Warehouse,
    named: Vec<OrderState>,
    events: &[StoredEvent],
) -> Result<Vec<TracedOrder>, OperationsError> {
    let mut keys = Vec::from_iter(events.iter().map(|event| (event.shop.clone(), event.order_id.clone())));
    keys.extend(named.into_iter().map(|order| (order.shop, order.order_id)));
    keys.sort();
    keys.dedup();
    let mut orders = warehouse.orders(&keys).await?;
    orders.sort_by(|a, b| (&a.shop, &a.order_id).cmp(&(&b.shop, &b.order_id)));
    Ok(orders.into_iter().map(TracedOrder::from).collect())
}

/// Whether a body that nobody could read as an event names the order, by id or name: wherever that stands in it, with
/// neither letter nor digit beside it. Another figure of the same digits is taken for it.
fn mentions(body: &str, order: &str) -> bool {
    let is_alone = |at: usize| {
        let before = body[..at].chars().next_back();
        let after = body[at + order.len()..].chars().next();
        [before, after].into_iter().flatten().all(|c| !c.is_alphanumeric())
    };
    body.match_indices(order).any(|(at, _)| is_alone(at))
}

impl From<OrderState> for TracedOrder {
    fn from(order: OrderState) -> Self {
        Self {
            shop: order.shop,
            order_id: order.order_id,
            name: order.name,
            status: order.status,
            total_amount: order.total_amount,
            currency: order.currency,
            last_event_id: order.last_event_id,
            as_of: order.as_of.and_then(written),
            deleted_at: order.deleted_at.and_then(written),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_an_order_by_the_whole_of_it() {
        for (body, order, names) in [
            (r#"{"id":1042}"#, "1042", true),
            (r#"{"id": "1042", "x": 1}"#, "1042", true),
            (r#"{"id":10425}"#, "1042", false),
            (r#"{"id":91042}"#, "1042", false),
            (r##"{"name":"#1042"}"##, "#1042", true),
            (r##"{"name":"#10421"}"##, "#1042", false),
            ("é1042", "1042", false),
        ] {
            assert_eq!(mentions(body, order), names, "{body} {order}");
        }
    }
}
