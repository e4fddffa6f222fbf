//! What a trace is asked for, what it answers, and what its parts share while they search.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::timeline::{KnownEvent, TimelineEvent};
use crate::operations::events::{EntrySummary, may_mention};
use crate::stream::Entry;
use crate::warehouse::history::OrderState;

/// Asks for a trace of an order.
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
    pub orders: Vec<OrderState>,
    /// What happened, in the order of time; what has no time comes last.
    #[serde(rename = "moments")]
    pub timeline: Vec<TimelineEvent>,
    /// Entries of the stream read.
    pub entries_looked_at: u64,
    /// When the oldest of those was appended, RFC 3339.
    pub looked_back_to: Option<String>,
    /// Dead letters read.
    pub letters_looked_at: u64,
    /// When the oldest of those was written, RFC 3339.
    pub letters_looked_back_to: Option<String>,
    /// Events of this node's spool read; `None` where it has none, or one that cannot be read.
    pub spooled_looked_at: Option<u64>,
    /// When the oldest of those was spooled, RFC 3339.
    pub spooled_looked_back_to: Option<String>,
    /// What this cannot know, each a sentence.
    pub unknown: Vec<String>,
}

/// A search under way.
pub(super) struct Search<'a> {
    pub(super) query: &'a TraceQuery,
    /// What the order is called: what was asked for, and the ids of orders of that name.
    pub(super) orders: Vec<String>,
    pub(super) trace: Trace,
    /// By event id; by entry id where there is none.
    pub(super) events: BTreeMap<String, KnownEvent>,
}

impl<'a> Search<'a> {
    pub(super) fn new(query: &'a TraceQuery) -> Self {
        Self {
            query,
            orders: vec![query.order.clone()],
            trace: Trace {
                order: query.order.clone(),
                ..Trace::default()
            },
            events: BTreeMap::new(),
        }
    }

    pub(super) fn unknown(&mut self, sentence: impl Into<String>) {
        self.trace.unknown.push(sentence.into());
    }

    pub(super) fn is_of_shop(&self, shop: Option<&String>) -> bool {
        self.query.shop.is_none() || self.query.shop.as_ref() == shop
    }

    /// The event that an entry carries.
    pub(super) fn event_of(&mut self, entry: &EntrySummary) -> &mut KnownEvent {
        self.events.entry(key(entry)).or_default()
    }

    pub(super) fn finish(mut self) -> Trace {
        for event in self.events.into_values() {
            event.append_to(&mut self.trace.timeline, &self.trace.orders);
        }
        self.trace.timeline.sort_by_cached_key(TimelineEvent::place);
        self.trace
    }
}

/// What an entry's event is known by.
pub(super) fn key(entry: &EntrySummary) -> String {
    entry.event_id.clone().unwrap_or_else(|| entry.id.to_string())
}

/// The entry, where it is of one of those orders.
pub(super) fn entry_of(entry: &Entry, orders: &[String]) -> Option<EntrySummary> {
    let mut orders = orders.iter().filter(|order| may_mention(entry, order)).peekable();
    orders.peek()?;
    let found = EntrySummary::of(entry);
    orders.any(|order| found.is_of(order)).then_some(found)
}
