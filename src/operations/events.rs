//! Entries of the stream to look at: the newest, by type, shop and order; one laid open.
//!
//! Invariant: a look is bounded, and says how far it went.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::entry_view::{EntryContent, text};
use super::pager::{Pager, only};
use super::{Operations, OperationsError, has_nul};
use crate::event::{Amount, Id, Text, json};
use crate::stream::{Destination, Entry, EntryState, Order, REPLAY_CONSUMER, Range, Stage, StreamId};

/// Entries looked at in one call.
const LOOKED_AT: usize = 5_000;
/// Entries of one page at most.
const LIST: usize = 200;

/// What is to be shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EntryQuery {
    /// Only of this type, `order.created`.
    pub event_type: Option<String>,
    /// Only of this shop.
    pub shop: Option<String>,
    /// Only of this order: its id, or its name (`#1042`).
    pub order: Option<String>,
    /// Only entries up to this id: the `next` of the page before.
    pub to: Option<StreamId>,
    /// Entries of one page, 1 to 200; 50 where it is not said.
    pub count: Option<usize>,
}

/// A page of entries, newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntryPage {
    /// The entries.
    pub entries: Vec<EntrySummary>,
    /// Entries looked at for this page.
    pub looked_at: u64,
    /// When the oldest of those was appended, RFC 3339.
    pub looked_back_to: Option<String>,
    /// Where the next page starts; null after the last.
    pub next: Option<StreamId>,
}

/// An entry without what is personal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntrySummary {
    /// Its id.
    pub id: StreamId,
    /// When it was appended, RFC 3339.
    pub received_at: Option<String>,
    /// Type of the event.
    pub event_type: Option<String>,
    /// Id of the event.
    pub event_id: Option<String>,
    /// `shopify`, `batch`, or what a producer wrote.
    pub source: Option<String>,
    /// Shop.
    pub shop: Option<String>,
    /// Topic of the webhook.
    pub topic: Option<String>,
    /// Order it is about; null where the payload cannot be read.
    pub order_id: Option<String>,
    /// What people call the order.
    pub name: Option<String>,
    /// Order total, as it was written.
    pub total_amount: Option<String>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// Bytes of all fields.
    pub bytes: usize,
}

/// One entry laid open.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntryView {
    /// What is known of it.
    pub entry: EntrySummary,
    /// What it holds.
    pub content: EntryContent,
    /// How far each group came with it.
    pub groups: Vec<GroupProgress>,
    /// When the event was loaded, RFC 3339; null where it was not, as far as this process can tell: it may have no
    /// warehouse, or one that does not answer.
    pub loaded_at: Option<String>,
}

/// How far a group came with an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupProgress {
    /// The group.
    pub group: String,
    /// Whether it is the configured one.
    pub ours: bool,
    /// `unread`, `pending` or `settled`.
    pub stage: String,
    /// Whose it is, where it is pending; `None` where a replay made it so and nobody has claimed it yet.
    pub consumer: Option<String>,
    /// How often it was handed out, where it is pending.
    pub deliveries: Option<u64>,
    /// Since it last was, where it is pending; `None` where `consumer` is.
    pub idle_seconds: Option<f64>,
}

impl From<Fate> for GroupProgress {
    fn from(fate: Fate) -> Self {
        let (stage, pending) = match fate.stage {
            Stage::Unread => ("unread", None),
            Stage::Settled => ("settled", None),
            Stage::Pending {
                consumer,
                deliveries,
                idle,
            } => {
                // A replay makes up a consumer and its idle time, so that what it made pending is claimed at once.
                let is_made_up = consumer == REPLAY_CONSUMER && deliveries == 0;
                let held = (!is_made_up).then_some((consumer, idle.as_secs_f64()));
                ("pending", Some((held, deliveries)))
            }
        };
        let (held, deliveries) = pending.unzip();
        let (consumer, idle_seconds) = held.flatten().unzip();
        Self {
            group: fate.group,
            ours: fate.ours,
            stage: stage.to_owned(),
            consumer,
            deliveries,
            idle_seconds,
        }
    }
}

/// What a line shows of a payload.
#[derive(Default, Deserialize)]
struct Glance<'a> {
    #[serde(borrow, default)]
    order_id: Option<Id<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    shop: Option<Text<'a>>,
    #[serde(default)]
    total_amount: Option<Amount>,
    #[serde(borrow, default)]
    currency: Option<Text<'a>>,
}

impl EntrySummary {
    pub(super) fn of(entry: &Entry) -> Self {
        let payload = entry.fields.get("payload").map_or(&[][..], |payload| payload);
        let glance: Glance<'_> = json::parse(payload).unwrap_or_default();
        let own = |text: Option<Text<'_>>| text.map(|text| text.to_string());
        Self {
            id: entry.id,
            received_at: appended_at(entry.id),
            event_type: text(entry, "event_type"),
            event_id: text(entry, "event_id"),
            source: text(entry, "source"),
            shop: own(glance.shop).or_else(|| text(entry, "shop")),
            topic: text(entry, "topic"),
            order_id: glance.order_id.map(|id| id.as_str().to_owned()),
            name: own(glance.name),
            total_amount: glance.total_amount.map(|amount| amount.to_string()),
            currency: own(glance.currency),
            bytes: entry.fields.bytes(),
        }
    }

    fn is_asked_for(&self, query: &EntryQuery) -> bool {
        let agrees = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        agrees(&query.event_type, &self.event_type)
            && agrees(&query.shop, &self.shop)
            && query.order.as_ref().is_none_or(|order| self.is_of(order))
    }

    /// Whether it is about that order, by id or name.
    pub(super) fn is_of(&self, order: &str) -> bool {
        [&self.order_id, &self.name]
            .into_iter()
            .flatten()
            .any(|known| known == order)
    }
}

/// Whether the payload may be about that order: cheaper than reading it. One with escapes may be about any.
pub(super) fn may_mention(entry: &Entry, order: &str) -> bool {
    let payload = entry.fields.get("payload").map_or(&[][..], |payload| payload);
    std::str::from_utf8(payload).is_ok_and(|payload| payload.contains(order) || payload.contains('\\'))
}

/// When the entry of that id was appended, RFC 3339; `None` for ids that are no time.
pub(super) fn appended_at(id: StreamId) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(id.ms) * 1_000_000).ok()?;
    at.format(&Rfc3339).ok()
}

impl Operations {
    /// The newest entries that are asked for. Looks at 5,000 at most; `next` goes on from there.
    ///
    /// # Errors
    /// The stream does not answer.
    pub async fn entries(&self, query: &EntryQuery) -> Result<EntryPage, OperationsError> {
        let _look = self.look().await?;
        let count = query.count.unwrap_or(50).clamp(1, LIST);
        let range = Range {
            to: query.to.unwrap_or(StreamId::MAX),
            // One more than is shown: the last one is known to be the last then.
            ..Range::all(Destination::Stream, Order::NewestFirst, count + 1)
        };
        let mut pager = Pager::new(&*self.stream, range, LOOKED_AT);
        let mut found = EntryPage {
            entries: Vec::new(),
            looked_at: 0,
            looked_back_to: None,
            next: None,
        };
        while let Some(page) = pager.page().await? {
            for entry in &page {
                found.looked_at += 1;
                found.looked_back_to = appended_at(entry.id);
                if query.order.as_ref().is_some_and(|order| !may_mention(entry, order)) {
                    continue;
                }
                let line = EntrySummary::of(entry);
                if line.is_asked_for(query) {
                    found.entries.push(line);
                }
                if found.entries.len() >= count {
                    let is_last = pager.rest().is_none() && page.last().is_some_and(|last| last.id == entry.id);
                    found.next = entry.id.predecessor().filter(|_| !is_last);
                    return Ok(found);
                }
            }
        }
        found.next = pager.rest().map(|rest| rest.to);
        Ok(found)
    }

    /// One entry laid open. Whether it was loaded stays open where the warehouse does not answer.
    ///
    /// # Errors
    /// There is none of that id, or the stream does not answer.
    pub async fn entry(&self, id: StreamId) -> Result<EntryView, OperationsError> {
        let page = self.stream.range(only(Destination::Stream, id)).await?;
        let entry = page.entries.first().ok_or(OperationsError::NotFound("entry"))?;
        let fates = self.stream.fates(id).await?;
        let line = EntrySummary::of(entry);
        Ok(EntryView {
            loaded_at: self.loaded_at(line.event_id.as_deref()).await,
            entry: line,
            content: EntryContent::of(entry, self.body_limit),
            groups: fates.into_iter().map(GroupProgress::from).collect(),
        })
    }

    async fn loaded_at(&self, event_id: Option<&str>) -> Option<String> {
        let event_id = event_id.filter(|id| !has_nul(id))?;
        let event = self.warehouse.as_ref()?.event(event_id).await;
        let event = event.inspect_err(|error| tracing::warn!(%error, "whether an entry was loaded cannot be told"));
        event.ok()??.loaded_at.format(&Rfc3339).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_replay_made_pending_is_nobodys_until_it_is_claimed() {
        for (consumer, deliveries, idle_seconds) in [
            (REPLAY_CONSUMER, 0, None),
            (REPLAY_CONSUMER, 1, Some(3.0)),
            ("w-1", 0, Some(3.0)),
        ] {
            let stage = Stage::Pending {
                consumer: consumer.to_owned(),
                deliveries,
                idle: Duration::from_secs(3),
            };
            let fate = GroupProgress::from(Fate {
                group: "g".to_owned(),
                ours: true,
                stage,
            });
            let holder = idle_seconds.map(|_| consumer.to_owned());
            assert_eq!(
                (fate.consumer, fate.idle_seconds),
                (holder, idle_seconds),
                "{consumer}, {deliveries}"
            );
        }
    }
}
