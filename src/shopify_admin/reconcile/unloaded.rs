//! Which orders are on their way to the warehouse, or in the dead letters.

use std::collections::HashMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::event::NamedOrder;
use crate::nodes;
use crate::stream::codec;
use crate::stream::{Destination, Entry, PAGE, Range, ReadOrder, Stream, StreamError, StreamId};

/// Entries of a backlog that are read; of a longer one every order may be under way.
const BACKLOG: usize = 50_000;
/// Dead letters that are read, the newest.
const DEAD_LETTERS: usize = 20_000;
/// How much older than its age says the oldest entry may be, milliseconds.
const SLACK: u64 = 2000;

/// Where an order is, other than in the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderPlace {
    /// On its way.
    Waiting,
    /// In that dead letter.
    DeadLetter(StreamId),
}

/// What is under way at one moment.
#[derive(Debug, Default)]
pub(super) struct UnloadedOrders {
    /// The newest state of each order in the backlog.
    backlog: HashMap<String, OffsetDateTime>,
    /// A spool holds events, or the backlog is too long to be read: any order may be there.
    is_hidden: bool,
    /// By order: the newest dead letter of it, and the state there, where that can be read.
    dead_letters: HashMap<String, (StreamId, Option<OffsetDateTime>)>,
}

impl UnloadedOrders {
    /// Reads what no worker has loaded yet, and the dead letters.
    pub(super) async fn read(stream: &dyn Stream, shop: &str) -> Result<Self, StreamError> {
        let mut found = Self::default();
        let nodes = nodes::read(stream).await?;
        let spooled = |node: &nodes::Node| {
            let spool = node.record.intake.as_ref().and_then(|intake| intake.spool.as_ref());
            spool.and_then(|spool| spool.depth).is_some_and(|depth| depth > 0)
        };
        found.is_hidden = nodes.iter().any(spooled);
        if let Some(age) = stream.report().await?.oldest_backlog {
            let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
            let now = u64::try_from(now).unwrap_or_default();
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let from = now.saturating_sub(age).saturating_sub(SLACK);
            let all = Range::all(Destination::Stream, ReadOrder::OldestFirst, PAGE);
            let mut rest = Some(all.between(from, u64::MAX));
            let mut read = 0;
            while let Some(range) = rest {
                if read >= BACKLOG {
                    found.is_hidden = true;
                    break;
                }
                let page = stream.range(range).await?;
                read += page.entries.len();
                page.entries.iter().for_each(|entry| found.add_entry(entry, shop));
                rest = page.next;
            }
        }
        let mut rest = Some(Range::all(Destination::DeadLetters, ReadOrder::NewestFirst, PAGE));
        let mut read = 0;
        while let Some(range) = rest.filter(|_| read < DEAD_LETTERS) {
            let page = stream.range(range).await?;
            read += page.entries.len();
            page.entries
                .iter()
                .for_each(|letter| found.add_dead_letter(letter, shop));
            rest = page.next;
        }
        Ok(found)
    }

    fn add_entry(&mut self, entry: &Entry, shop: &str) {
        let Ok(record) = codec::decode(entry) else { return };
        let own = record.event.shop.as_ref().map(|shop| shop.as_str());
        if own.or(record.provenance.shop.as_ref().map(|shop| shop.as_str())) != Some(shop) {
            return;
        }
        // A thin event does not bring the order's state.
        let Some(updated) = record.event.updated_at.as_ref() else {
            return;
        };
        let (id, at) = (record.event.order_id.as_str().to_owned(), updated.instant());
        let newest = self.backlog.entry(id).or_insert(at);
        *newest = at.max(*newest);
    }

    fn add_dead_letter(&mut self, letter: &Entry, shop: &str) {
        let field = |name: &str| {
            let value = letter.fields.get(name)?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        let payload = letter.fields.get("payload");
        let named = payload
            .map(|payload| NamedOrder::of_payload(payload))
            .unwrap_or_default();
        if field("shop").or(named.shop).as_deref() != Some(shop) {
            return;
        }
        let Some(order) = field("order_id").or(named.order_id) else {
            return;
        };
        let updated = payload.and_then(|payload| {
            let payload: serde_json::Value = serde_json::from_slice(payload).ok()?;
            OffsetDateTime::parse(payload["updated_at"].as_str()?, &Rfc3339).ok()
        });
        // The newest comes first.
        self.dead_letters.entry(order).or_insert((letter.id, updated));
    }

    /// Where that state of an order, or a newer one, may be.
    pub(super) fn find(&self, order_id: &str, state: OffsetDateTime) -> Option<OrderPlace> {
        if self.is_hidden || self.backlog.get(order_id).is_some_and(|at| *at >= state) {
            return Some(OrderPlace::Waiting);
        }
        let (letter, updated) = self.dead_letters.get(order_id)?;
        let is_older = updated.is_some_and(|at| at < state);
        (!is_older).then_some(OrderPlace::DeadLetter(*letter))
    }
}
