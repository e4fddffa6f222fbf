//! Entries of the stream as an operator reads them (the newest, filtered by type, shop and order;
//! one in full), and the groups and consumers that read it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api::{Carrier, Operation};
use super::context::{Operations, OperationsError};
use super::entry_view::{EntryContent, has_nul, text};
use super::outcome::EntryOutcome;
use super::pager::{Pager, only};
use crate::event::{Amount, Id, Text, json};
use crate::stream::{
    ConsumerReport, Destination, Entry, EntryState, GroupReport, REPLAY_CONSUMER, Range, ReadOrder, Stage, StreamId,
};

/// Entries read in one call.
const MAX_READ: usize = 5_000;
/// Entries of one page at most.
const MAX_PAGE: usize = 200;

/// Asks for a page of entries.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EntryQuery {
    /// Only of this type, `order.created`.
    pub event_type: Option<String>,
    /// Only of this topic of webhooks, `orders/create`.
    pub topic: Option<String>,
    /// Only of this shop.
    pub shop: Option<String>,
    /// Only of this order: its id, or its name (`#1042`).
    pub order: Option<String>,
    /// Only of this customer: the id that the event names.
    pub customer: Option<String>,
    /// Only entries from this id on.
    pub from: Option<StreamId>,
    /// Only entries up to this id: the `next` of the page before.
    pub to: Option<StreamId>,
    /// Entries of one page, 1 to 200; 50 by default.
    pub count: Option<usize>,
    /// Whether to say how far our group came with each.
    #[serde(default)]
    pub states: bool,
}

/// A page of entries, newest first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct EntryPage {
    /// The entries.
    pub entries: Vec<EntrySummary>,
    /// The newest entry that was read for this page; null where there was none.
    #[serde(default)]
    pub newest: Option<StreamId>,
    /// Entries read for this page.
    pub looked_at: u64,
    /// When the oldest of those was appended, RFC 3339.
    pub looked_back_to: Option<String>,
    /// Where the next page starts; null after the last.
    pub next: Option<StreamId>,
}

/// An entry without what is personal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Name of the order, such as `#1042`.
    pub name: Option<String>,
    /// Order total, as it was written.
    pub total_amount: Option<String>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// Bytes of all fields.
    pub bytes: usize,
    /// How far our group came with it; null where that was not asked for, and without the group.
    #[serde(default)]
    pub state: Option<GroupProgress>,
    /// What became of it, where our group has settled it and that is known.
    #[serde(default)]
    pub outcome: Option<EntryOutcome>,
    /// Its customer: for the filter alone, since a list names none.
    #[serde(skip)]
    customer_id: Option<String>,
}

/// Asks for one entry in full.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GetEntry {
    /// Its id.
    pub id: StreamId,
}

/// One entry in full.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntryView {
    /// What is known of it.
    pub entry: EntrySummary,
    /// Its fields, event and body.
    pub content: EntryContent,
    /// How far each group came with it.
    pub groups: Vec<GroupProgress>,
    /// When the event was loaded, RFC 3339; null where it was not, or where this process has no
    /// warehouse that answers.
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
    /// Its consumer, where it is pending; `None` where a replay made it pending and no consumer has
    /// claimed it yet.
    pub consumer: Option<String>,
    /// How often it was delivered, where it is pending.
    pub deliveries: Option<u64>,
    /// Since its last delivery, where it is pending; `None` where `consumer` is.
    pub idle_seconds: Option<f64>,
}

impl From<EntryState> for GroupProgress {
    fn from(fate: EntryState) -> Self {
        let mut progress = Self {
            group: fate.group,
            ours: fate.ours,
            stage: "pending".to_owned(),
            consumer: None,
            deliveries: None,
            idle_seconds: None,
        };
        match fate.stage {
            Stage::Unread => "unread".clone_into(&mut progress.stage),
            Stage::Settled => "settled".clone_into(&mut progress.stage),
            Stage::Pending {
                consumer,
                deliveries,
                idle,
            } => {
                progress.deliveries = Some(deliveries);
                // A replay makes up a consumer and its idle time, so that what it made pending is
                // claimed at once.
                if consumer != REPLAY_CONSUMER || deliveries > 0 {
                    (progress.consumer, progress.idle_seconds) = (Some(consumer), Some(idle.as_secs_f64()));
                }
            }
        }
        progress
    }
}

/// The parts of a payload that a summary shows.
#[derive(Default, Deserialize)]
struct PartialEvent<'a> {
    #[serde(borrow, default)]
    order_id: Option<Id<'a>>,
    #[serde(borrow, default)]
    customer_id: Option<Id<'a>>,
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
        let event: PartialEvent<'_> = json::parse(payload).unwrap_or_default();
        let own = |text: Option<Text<'_>>| text.map(|text| text.to_string());
        Self {
            id: entry.id,
            received_at: appended_at(entry.id),
            event_type: text(entry, "event_type"),
            event_id: text(entry, "event_id"),
            source: text(entry, "source"),
            shop: own(event.shop).or_else(|| text(entry, "shop")),
            topic: text(entry, "topic"),
            order_id: event.order_id.map(|id| id.as_str().to_owned()),
            name: own(event.name),
            total_amount: event.total_amount.map(|amount| amount.to_string()),
            currency: own(event.currency),
            bytes: entry.fields.bytes(),
            state: None,
            outcome: None,
            customer_id: event.customer_id.map(|id| id.as_str().to_owned()),
        }
    }

    /// Whether it is about that order, by id or name.
    pub(super) fn is_of(&self, order: &str) -> bool {
        [&self.order_id, &self.name]
            .into_iter()
            .flatten()
            .any(|known| known == order)
    }
}

/// Whether the payload may be about that order: cheaper than parsing it. One with escapes may be
/// about any.
pub(super) fn may_mention(entry: &Entry, order: &str) -> bool {
    let payload = entry.fields.get("payload").map_or(&[][..], |payload| payload);
    std::str::from_utf8(payload).is_ok_and(|payload| payload.contains(order) || payload.contains('\\'))
}

/// When the entry of that id was appended, RFC 3339; `None` for ids that are no time.
pub(super) fn appended_at(id: StreamId) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(id.ms) * 1_000_000).ok()?;
    at.format(&Rfc3339).ok()
}

impl EntryQuery {
    /// The summary of an entry that is asked for.
    fn matching(&self, entry: &Entry) -> Option<EntrySummary> {
        let mut wanted = [&self.order, &self.customer].into_iter().flatten();
        if wanted.any(|wanted| !may_mention(entry, wanted)) {
            return None;
        }
        let agrees = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        Some(EntrySummary::of(entry)).filter(|found| {
            agrees(&self.event_type, &found.event_type)
                && agrees(&self.topic, &found.topic)
                && agrees(&self.shop, &found.shop)
                && agrees(&self.customer, &found.customer_id)
                && self.order.as_ref().is_none_or(|order| found.is_of(order))
        })
    }
}

impl Operation for EntryQuery {
    /// The newest entries that match. Reads 5,000 at most; `next` goes on from there.
    type Answer = EntryPage;
    const PATH: &'static str = "/api/events";

    async fn run(self, operations: &Operations) -> Result<EntryPage, OperationsError> {
        let _permit = operations.read_permit().await?;
        let count = self.count.unwrap_or(50).clamp(1, MAX_PAGE);
        let range = Range {
            from: self.from.unwrap_or(StreamId::MIN),
            to: self.to.unwrap_or(StreamId::MAX),
            // One more than is shown, so that the last page is known to be the last.
            ..Range::all(Destination::Stream, ReadOrder::NewestFirst, count + 1)
        };
        let mut pager = Pager::new(&*operations.stream, range, MAX_READ);
        let mut page = EntryPage::default();
        while page.entries.len() < count {
            let Some(entry) = pager.next().await? else { break };
            page.looked_at += 1;
            page.newest = page.newest.or(Some(entry.id));
            page.looked_back_to = appended_at(entry.id);
            page.entries.extend(self.matching(&entry));
        }
        page.next = pager.next_id();
        if self.states {
            for entry in &mut page.entries {
                let groups = operations.stream.entry_states(entry.id).await?;
                entry.state = groups.into_iter().find(|group| group.ours).map(GroupProgress::from);
            }
            operations.find_outcomes(&mut page.entries).await?;
        }
        Ok(page)
    }
}

impl Operation for GetEntry {
    type Answer = EntryView;
    const PATH: &'static str = "/api/events/{id}";
    const CARRIER: Carrier = Carrier::Path;

    async fn run(self, operations: &Operations) -> Result<EntryView, OperationsError> {
        let page = operations.stream.range(only(Destination::Stream, self.id)).await?;
        let entry = page.entries.first().ok_or(OperationsError::NotFound("entry"))?;
        let groups = operations.stream.entry_states(self.id).await?;
        let summary = EntrySummary::of(entry);
        Ok(EntryView {
            loaded_at: operations.loaded_at(summary.event_id.as_deref()).await,
            entry: summary,
            content: EntryContent::of(entry, operations.body_limit),
            groups: groups.into_iter().map(GroupProgress::from).collect(),
        })
    }
}

/// Asks for groups and consumers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GetConsumers {}

/// All groups, and the consumers of ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Consumers {
    /// Groups of the stream.
    pub groups: Vec<GroupReport>,
    /// Consumers of our group.
    pub consumers: Vec<ConsumerReport>,
    /// Entries ever appended, by any producer; null where the store does not count them.
    #[serde(default)]
    pub entries_added: Option<u64>,
}

impl Operation for GetConsumers {
    type Answer = Consumers;
    const PATH: &'static str = "/api/consumers";

    async fn run(self, operations: &Operations) -> Result<Consumers, OperationsError> {
        let report = operations.stream.report().await?;
        Ok(Consumers {
            groups: report.groups,
            consumers: report.consumers,
            entries_added: report.entries_added,
        })
    }
}

impl Operations {
    async fn loaded_at(&self, event_id: Option<&str>) -> Option<String> {
        let event_id = event_id.filter(|id| !has_nul(id))?;
        let event = self.warehouse.as_ref()?.event(event_id).await;
        let event = event.inspect_err(|error| tracing::warn!(%error, "whether an entry was loaded is unknown"));
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
            let fate = GroupProgress::from(EntryState {
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
