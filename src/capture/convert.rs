//! From what the query answered to the entries of the stream. Pure.
//!
//! Owns event ids, versions and dead letters of captured events. Invariant: versions never fall,
//! whatever the clocks say: `updated_at` is at least the greatest commit time that was worked on,
//! and each read is later than the last.

use std::collections::HashMap;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::changes::{Subject, Touch};
use super::pgoutput::CommitRecord;
use super::plan::{Deletes, OrderTable, Plan, VersionSource};
use super::standing::TimelineHistory;
use crate::event::{Id, OrderEvent, Provenance, Text, Timestamp, json, validate};
use crate::metrics::GapReason;
use crate::shopify::EVENT_NAMESPACE;
use crate::stream::codec;
use crate::stream::{Destination, Fields, NewEntry, spread};

/// `source` of captured events.
const SOURCE: &str = "capture";

/// An order to be read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) key: Box<str>,
    /// The newest commit that touched it; `None` in a walk.
    pub(super) commit: Option<CommitRecord>,
    pub(super) is_insert: bool,
    /// Its `order_id`, where its row was deleted.
    pub(super) deleted: Option<Box<str>>,
}

impl Wanted {
    pub(super) fn new(key: impl Into<Box<str>>, commit: Option<CommitRecord>) -> Self {
        Self {
            key: key.into(),
            commit,
            is_insert: false,
            deleted: None,
        }
    }
}

/// What a batch asks for, each once, in the order of first touches.
#[derive(Debug, Default)]
pub(super) struct FoldedTouches {
    pub(super) orders: Vec<Wanted>,
    /// By watch: values to be resolved to orders, and the newest commit of each.
    pub(super) watched: HashMap<usize, HashMap<Box<str>, CommitRecord>>,
    /// Why changes are lost, where that was found.
    pub(super) lost: Option<GapReason>,
}

impl FoldedTouches {
    /// Folds touches: each order is read once.
    pub(super) fn of<'a>(touches: impl IntoIterator<Item = &'a Touch>) -> Self {
        let mut folded = Self::default();
        let mut places = HashMap::new();
        for touch in touches {
            match &touch.subject {
                Subject::Order(key) => {
                    let place = *places.entry(key.clone()).or_insert_with(|| {
                        folded.orders.push(Wanted::new(key.clone(), None));
                        folded.orders.len() - 1
                    });
                    if let Some(order) = folded.orders.get_mut(place) {
                        order.commit = Some(touch.commit);
                        order.is_insert |= touch.is_insert;
                        // A row that came back after its deletion is found by the query.
                        order.deleted = touch.deleted.clone().or(order.deleted.take());
                    }
                }
                Subject::Watched(watch, value) => {
                    let values = folded.watched.entry(*watch).or_default();
                    values.insert(value.clone(), touch.commit);
                }
                Subject::Lost(reason) => folded.lost = Some(*reason),
                Subject::Outbox(_) | Subject::Message(..) => {}
            }
        }
        folded
    }

    /// Adds orders that rows of a watched table lead to. Those that are wanted already take the
    /// newer commit.
    pub(super) fn add(&mut self, keys: impl IntoIterator<Item = String>, commit: CommitRecord) {
        for key in keys {
            match self.orders.iter_mut().find(|order| *order.key == *key) {
                Some(order) => order.commit = order.commit.filter(|own| own.lsn >= commit.lsn).or(Some(commit)),
                None => self.orders.push(Wanted::new(key, Some(commit))),
            }
        }
    }
}

/// What the query answered in one snapshot.
#[derive(Debug, Default)]
pub(super) struct ReadResult {
    /// The database's clock, Unix microseconds.
    pub(super) now: i64,
    /// Key → row as JSON.
    pub(super) rows: HashMap<String, String>,
    /// Keys whose row the database cannot compute, with SQLSTATE.
    pub(super) poison: HashMap<String, String>,
    /// The times of the commits, the clock and `now` as the shop's clocks show them, by Unix
    /// microseconds.
    pub(super) local: HashMap<i64, String>,
    /// Reads that came too early.
    pub(super) invisible: u64,
}

/// What is the same for all orders of a read.
pub(super) struct ReadContext<'a> {
    pub(super) plan: &'a Plan,
    /// System identifier of the source, and its timelines.
    pub(super) system: &'a str,
    pub(super) history: &'a TimelineHistory,
    /// Greatest commit time before this batch, Unix microseconds.
    pub(super) clock: i64,
    /// Time of the read, Unix microseconds.
    pub(super) triggered: i64,
    /// Id of the walk, in a walk.
    pub(super) walk: Option<&'a str>,
    pub(super) answer: &'a ReadResult,
}

/// What became of an order.
#[derive(Debug)]
pub(super) enum Converted {
    Event(NewEntry),
    DeadLetter(NewEntry),
    /// The query leaves it out.
    Filtered,
}

/// What is stored of a read.
#[derive(Debug, Default)]
pub(super) struct ConvertedBatch {
    pub(super) entries: Vec<NewEntry>,
    /// Orders that the query leaves out.
    pub(super) filtered: u64,
}

impl ConvertedBatch {
    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.fields.bytes()).sum()
    }
}

impl FromIterator<Converted> for ConvertedBatch {
    fn from_iter<T: IntoIterator<Item = Converted>>(orders: T) -> Self {
        let mut batch = Self::default();
        for order in orders {
            match order {
                Converted::Event(entry) | Converted::DeadLetter(entry) => batch.entries.push(entry),
                Converted::Filtered => batch.filtered += 1,
            }
        }
        batch
    }
}

/// What the query may say beside the fields of an event.
#[derive(Deserialize)]
struct Extra<'a> {
    #[serde(default)]
    deleted: Option<bool>,
    #[serde(borrow, default)]
    event_type: Option<Text<'a>>,
}

impl ReadContext<'_> {
    /// The event of an order that the query answered, or of its deletion where it did not.
    pub(super) fn order(&self, wanted: &Wanted) -> Converted {
        if let Some(error) = self.answer.poison.get(&*wanted.key) {
            return self.dead_letter(wanted, "", error);
        }
        let Some(row) = self.answer.rows.get(&*wanted.key) else {
            return match &wanted.deleted {
                Some(id) if self.orders_are(|orders| orders.deletes == Deletes::Event) => {
                    self.deletion(wanted, Id::from(id.to_string()))
                }
                _ => Converted::Filtered,
            };
        };
        let mended = json::mended(row.as_bytes());
        let read =
            json::parse::<Extra<'_>>(&mended).and_then(|extra| Ok((extra, json::parse::<OrderEvent<'_>>(&mended)?)));
        match read {
            Err(error) => self.dead_letter(wanted, row, &error.to_string()),
            Ok((extra, event)) if extra.deleted == Some(true) => self.deletion(wanted, event.order_id),
            Ok((extra, mut event)) => {
                let usual = match self.walk {
                    Some(_) => "order.snapshot",
                    None if wanted.is_insert => "order.created",
                    None => "order.updated",
                };
                event.event_type = extra.event_type.unwrap_or_else(|| usual.into());
                self.finish(wanted, event, row)
            }
        }
    }

    fn deletion(&self, wanted: &Wanted, order_id: Id<'_>) -> Converted {
        let id = order_id.as_str().to_owned();
        let event = OrderEvent {
            event_type: "order.deleted".into(),
            order_id,
            ..OrderEvent::default()
        };
        self.finish(wanted, event, &id)
    }

    fn finish(&self, wanted: &Wanted, mut event: OrderEvent<'_>, row: &str) -> Converted {
        let version = wanted.commit.map_or(self.clock, |commit| commit.time.max(self.clock));
        if event.is_deletion() || self.orders_are(|orders| orders.version == VersionSource::Commit) {
            event.updated_at = Some(self.time(version));
        }
        event.timestamp = match wanted.commit {
            Some(_) => self.time(version),
            None => self.time(self.triggered),
        };
        event.event_id = self.event_id(wanted, event.event_type.as_str(), row).into();
        self.entry(wanted, event, row)
    }

    /// The event that a row of the outbox or a message holds; `None` for other touches.
    pub(super) fn direct(&self, touch: &Touch) -> Option<Converted> {
        // Its name tells it from others of its commit.
        let (payload, name) = match &touch.subject {
            Subject::Outbox(payload) => (payload, format!("outbox\n{}", touch.before.done)),
            Subject::Message(lsn, payload) => (payload, format!("message\n{lsn:016X}")),
            Subject::Order(_) | Subject::Watched(..) | Subject::Lost(_) => return None,
        };
        let wanted = Wanted::new(name, Some(touch.commit));
        let text = String::from_utf8_lossy(payload);
        let mended = json::mended(text.as_bytes());
        let mut event: OrderEvent<'_> = match json::parse(&mended) {
            Ok(event) => event,
            Err(error) => return Some(self.dead_letter(&wanted, &text, &error.to_string())),
        };
        if event.event_id.as_str().is_empty() {
            event.event_id = self.event_id(&wanted, "", "").into();
        }
        if event.timestamp.is_missing() {
            event.timestamp = self.time(touch.commit.time);
        }
        Some(self.entry(&wanted, event, &text))
    }

    fn entry(&self, wanted: &Wanted, mut event: OrderEvent<'_>, row: &str) -> Converted {
        if event.shop.is_none() && !self.plan.shop.is_empty() {
            event.shop = Some(self.plan.shop.clone().into());
        }
        if let Err(error) = validate(&event) {
            return self.dead_letter(wanted, row, &error.to_string());
        }
        let provenance = Provenance {
            source: Some(SOURCE.into()),
            triggered_at: Some(rfc3339(self.triggered).into()),
            ..Provenance::default()
        };
        match codec::encode(&event, &provenance, None) {
            Ok(fields) => Converted::Event(NewEntry {
                destination: Destination::Stream,
                dedupe_key: event.event_id.as_str().to_owned(),
                digest: [0; 16],
                spread: spread(&event),
                fields,
            }),
            Err(_) => self.dead_letter(wanted, row, "the event has no JSON form"),
        }
    }

    /// A dead letter for an order that cannot be an event; `row` is its JSON, where there is one.
    /// `error` names no content.
    fn dead_letter(&self, wanted: &Wanted, row: &str, error: &str) -> Converted {
        let now = OffsetDateTime::now_utc();
        let id = self.event_id(wanted, "dead", row);
        let mut fields = Fields::default();
        fields.push("event_type", "order.updated");
        fields.push("event_id", id.clone());
        fields.push("timestamp", Timestamp::from(now).as_str().to_owned());
        if row.starts_with('{') {
            fields.push("payload", row.to_owned());
        } else {
            fields.push("order_id", wanted.key.to_string());
        }
        fields.push("source", SOURCE);
        Converted::DeadLetter(NewEntry {
            destination: Destination::DeadLetters,
            dedupe_key: id,
            digest: [0; 16],
            spread: 0,
            fields: codec::dead_letter_fields(fields, error, 0, now),
        })
    }

    fn orders_are(&self, so: impl Fn(&OrderTable) -> bool) -> bool {
        self.plan.orders.as_ref().is_some_and(so)
    }

    /// The same for the same content of the same commit, whenever it is read; another for another
    /// content.
    fn event_id(&self, wanted: &Wanted, event_type: &str, content: &str) -> String {
        let cause = match (self.walk, wanted.commit) {
            (Some(walk), _) => format!("walk\n{walk}"),
            (None, Some(commit)) => format!("{}\n{:016X}", self.history.timeline_of(commit.lsn), commit.lsn),
            (None, None) => String::new(),
        };
        let (source, system, key) = (&self.plan.source, self.system, &wanted.key);
        let name = format!("capture\n{source}\n{system}\n{cause}\n{key}\n{event_type}\n{content}");
        Uuid::new_v5(&EVENT_NAMESPACE, name.as_bytes()).to_string()
    }

    /// As the shop's clocks show it, else in UTC.
    fn time(&self, micros: i64) -> Timestamp<'static> {
        let local = self.answer.local.get(&micros).cloned();
        Timestamp::parse(local.unwrap_or_else(|| rfc3339(micros)).into()).unwrap_or_default()
    }
}

fn rfc3339(micros: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000);
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::super::changes::WalPosition;
    use super::*;
    use crate::stream::{Entry, StreamId};

    fn plan(more: &str) -> Plan {
        let file = format!("source = \"s\"\n[orders]\ntable = \"orders\"\nkey = \"id\"\nquery = \"SELECT $1\"\n{more}");
        Plan::parse(&file).unwrap()
    }

    fn commit(lsn: u64, time: i64) -> CommitRecord {
        CommitRecord { lsn, time, xid: 1 }
    }

    fn wanted(key: &str, commit: Option<CommitRecord>) -> Wanted {
        Wanted::new(key, commit)
    }

    /// What the query answers for order 5.
    fn answer(row: Option<&str>) -> ReadResult {
        ReadResult {
            rows: row.map(|row| ("5".to_owned(), row.to_owned())).into_iter().collect(),
            local: HashMap::from([(2_000_000, "1970-01-01T01:00:02+01:00".to_owned())]),
            ..ReadResult::default()
        }
    }

    fn read<'a>(plan: &'a Plan, answer: &'a ReadResult, walk: Option<&'a str>) -> ReadContext<'a> {
        static HISTORY: LazyLock<TimelineHistory> = LazyLock::new(TimelineHistory::default);
        ReadContext {
            plan,
            system: "7",
            history: &HISTORY,
            clock: 1_000_000,
            triggered: 5_000_000,
            walk,
            answer,
        }
    }

    const ROW: &str = r#"{"key":5,"order_id":9007199254740993,"customer_id":null,"total_amount":40.80,"currency":"EUR","items":[{"line_id":1,"sku":"A","qty":2,"price":20.40}],"deleted":null}"#;

    fn event(converted: Converted) -> (String, serde_json::Value) {
        let Converted::Event(entry) = converted else {
            panic!("{converted:?}")
        };
        let entry = Entry {
            id: StreamId::MIN,
            fields: entry.fields,
        };
        let record = codec::decode(&entry).unwrap();
        (
            record.event.event_id.as_str().to_owned(),
            serde_json::from_str(record.payload).unwrap(),
        )
    }

    #[test]
    fn a_row_becomes_an_event_with_the_version_of_its_commit() {
        let (plan, answer) = (plan(""), answer(Some(ROW)));
        let read = read(&plan, &answer, None);
        let (id, payload) = event(read.order(&wanted("5", Some(commit(16, 2_000_000)))));
        assert_eq!(payload["event_type"], "order.updated");
        assert_eq!(payload["order_id"].to_string().trim_matches('"'), "9007199254740993");
        let Converted::Event(entry) = read.order(&wanted("5", Some(commit(16, 2_000_000)))) else {
            panic!()
        };
        let text = String::from_utf8(entry.fields.get("payload").unwrap().to_vec()).unwrap();
        assert!(text.ends_with("\"total_amount\":40.80}"), "{text}");
        assert_eq!(payload["updated_at"], "1970-01-01T01:00:02+01:00");
        // A clock that went back does not take the version back.
        let (_, older) = event(read.order(&wanted("5", Some(commit(32, 5)))));
        assert_eq!(older["updated_at"], "1970-01-01T00:00:01Z");
        // The same again is the same event; another content, commit or key is another.
        let again = event(read.order(&wanted("5", Some(commit(16, 2_000_000))))).0;
        assert_eq!(again, id);
        let other = ROW.replace("20.40", "20.41");
        for (key, lsn, row) in [("5", 16, &*other), ("5", 17, ROW), ("6", 16, ROW)] {
            let mut answer = super::tests::answer(None);
            answer.rows.insert(key.to_owned(), row.to_owned());
            let read = super::tests::read(&plan, &answer, None);
            let found = event(read.order(&wanted(key, Some(commit(lsn, 2_000_000))))).0;
            assert_ne!(found, id);
        }
    }

    #[test]
    fn what_is_missing_is_deleted_only_where_that_was_seen() {
        let (usual, ignores) = (plan(""), plan("deletes = \"ignore\"\n"));
        let (none, mut gone) = (answer(None), wanted("5", Some(commit(16, 9))));
        assert!(matches!(read(&usual, &none, None).order(&gone), Converted::Filtered));
        gone.deleted = Some("#5".into());
        let (_, payload) = event(read(&usual, &none, None).order(&gone));
        assert_eq!(
            (&payload["event_type"], &payload["order_id"]),
            (&"order.deleted".into(), &"#5".into())
        );
        assert!(matches!(read(&ignores, &none, None).order(&gone), Converted::Filtered));
        let softly = answer(Some(&ROW.replace("\"deleted\":null", "\"deleted\":true")));
        let (_, payload) = event(read(&usual, &softly, None).order(&wanted("5", None)));
        assert_eq!(payload["event_type"], "order.deleted");
    }

    #[test]
    fn a_walk_makes_snapshots_and_a_poor_row_a_dead_letter() {
        let (plan, whole) = (plan(""), answer(Some(ROW)));
        let (_, payload) = event(read(&plan, &whole, Some("w1")).order(&wanted("5", None)));
        assert_eq!(payload["event_type"], "order.snapshot");
        let negative = answer(Some(&ROW.replace("\"qty\":2", "\"qty\":-2")));
        let converted = read(&plan, &negative, Some("w1")).order(&wanted("5", None));
        let Converted::DeadLetter(entry) = converted else {
            panic!("{converted:?}")
        };
        assert_eq!(entry.fields.get("order_id").unwrap(), "9007199254740993");
        assert!(entry.fields.get("error").unwrap().starts_with(b"items[0].qty"));
    }

    #[test]
    fn an_outbox_row_is_taken_as_it_is() {
        let (plan, none) = (plan(""), answer(None));
        let payload = r#"{"event_type":"order.paid","order_id":"1","total_amount":1,"currency":"EUR","items":[],"updated_at":"2026-01-01T00:00:00Z"}"#;
        let touch = Touch {
            subject: Subject::Outbox(payload.into()),
            commit: commit(16, 0),
            before: WalPosition::default(),
            is_insert: true,
            deleted: None,
        };
        let (id, event) = event(read(&plan, &none, None).direct(&touch).unwrap());
        assert_eq!(event["updated_at"], "2026-01-01T00:00:00Z");
        assert_eq!(id.len(), 36);
    }

    #[test]
    fn touches_fold_to_one_read_an_order() {
        let touch = |key: &str, lsn, is_insert, deleted: Option<&str>| Touch {
            subject: Subject::Order(key.into()),
            commit: commit(lsn, 0),
            before: WalPosition::default(),
            is_insert,
            deleted: deleted.map(Into::into),
        };
        let touches = [
            touch("1", 16, true, None),
            touch("2", 16, false, None),
            touch("1", 32, false, Some("1")),
        ];
        let mut folded = FoldedTouches::of(&touches);
        assert_eq!(folded.orders.len(), 2);
        assert_eq!(folded.orders[0].commit.unwrap().lsn, 32);
        assert!(folded.orders[0].is_insert && folded.orders[0].deleted.is_some());
        folded.add(["2".to_owned(), "3".to_owned()], commit(8, 0));
        assert_eq!(folded.orders[1].commit.unwrap().lsn, 16);
        assert_eq!(folded.orders[2].commit.unwrap().lsn, 8);
    }
}
