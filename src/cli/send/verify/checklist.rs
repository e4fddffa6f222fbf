//! What the warehouse or the dead letters must hold of each delivery, what was found, and what of
//! that does not agree.
//!
//! Pure. An answer decides only whether a delivery was promised to land; ids and times come from
//! what was sent. Invariant: only what was promised can be missing; what was not answered may have
//! landed or not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::deliveries::TestDelivery;
use super::super::mix::DeliveryKind;
use super::super::summary::Response;
use crate::shopify::{self, DeliveryHints, Shape, Topic};
use crate::warehouse::history::{OrderKey, OrderState};

/// Examples of each fault that are named.
const MAX_EXAMPLES: usize = 10;

/// The event of a delivery, as far as it can be found again.
#[derive(Debug, Clone)]
pub(in crate::cli::send) struct SentEvent {
    event_id: String,
    order: Option<(OrderKey, Effect)>,
}

/// What an event does to the row of its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It carries the whole order, as of that time (Unix microseconds); `None` where it does not
    /// say.
    State(Option<i128>),
    Deletion,
}

impl SentEvent {
    pub(in crate::cli::send) fn of(delivery: &TestDelivery) -> Self {
        /// Declared here once more, so that the check does not share a mistake of the service.
        #[derive(Deserialize)]
        struct SentOrder {
            id: serde_json::Number,
            updated_at: Option<String>,
        }
        let hints = DeliveryHints::new(&delivery.headers);
        let order = serde_json::from_slice::<SentOrder>(&delivery.body).ok();
        let shape = Topic::parse(hints.topic).map(Topic::shape).ok();
        let order = order.filter(|_| matches!(shape, Some(Shape::Order | Shape::Deletion)));
        let shop = hints.shop.as_deref().unwrap_or_default().to_owned();
        Self {
            event_id: shopify::event_id(&hints, &delivery.body).to_string(),
            order: order.map(|order| {
                let updated_at = order
                    .updated_at
                    .and_then(|at| OffsetDateTime::parse(&at, &Rfc3339).ok());
                let effect = match shape {
                    Some(Shape::Deletion) => Effect::Deletion,
                    _ => Effect::State(updated_at.map(micros)),
                };
                ((shop, order.id.to_string()), effect)
            }),
        }
    }
}

/// Time to the precision of the tables.
fn micros(at: OffsetDateTime) -> i128 {
    at.unix_timestamp_nanos().div_euclid(1000)
}

/// Where an event must be. Of several answers to the same event, the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Expected {
    /// Nowhere: it was refused for its signature.
    Nowhere,
    /// Anywhere or nowhere: there was no answer, or one that promises nothing.
    Anything,
    /// In the warehouse or the dead letters.
    Somewhere,
    /// In the dead letters.
    Quarantined,
}

struct Event {
    expected: Expected,
    rows: u64,
    /// The entries that dead letters about it came from; copies of one dead letter have the same.
    dead_letters: BTreeSet<String>,
}

impl Event {
    fn is_missing(&self) -> bool {
        match self.expected {
            Expected::Nowhere | Expected::Anything => false,
            Expected::Somewhere => self.rows == 0 && self.dead_letters.is_empty(),
            Expected::Quarantined => self.dead_letters.is_empty(),
        }
    }
}

/// All events of a run.
#[derive(Default)]
pub(in crate::cli::send) struct Checklist {
    events: BTreeMap<String, Event>,
    orders: BTreeMap<OrderKey, Vec<(String, Effect)>>,
    faults: Faults,
    orders_found: u64,
}

#[derive(Debug, Default, Serialize)]
struct Faults {
    missing: Fault,
    doubled: Fault,
    refused_and_there: Fault,
    orders_wrong: Fault,
}

/// How many, and the first of them.
#[derive(Debug, Default, Serialize)]
struct Fault {
    count: u64,
    first: Vec<String>,
}

impl Fault {
    fn add(&mut self, example: String) {
        self.count += 1;
        if self.first.len() < MAX_EXAMPLES {
            self.first.push(example);
        }
    }
}

/// The result of a check.
#[derive(Debug, Serialize)]
pub(in crate::cli::send) struct Verified {
    /// Events that were promised to land.
    promised: u64,
    /// Those in the warehouse.
    loaded: u64,
    /// Those in the dead letters.
    in_dead_letters: u64,
    /// Orders whose row was checked.
    orders: u64,
    #[serde(flatten)]
    faults: Faults,
}

impl Checklist {
    pub(in crate::cli::send) fn add(&mut self, sent_event: SentEvent, kind: DeliveryKind, answer: &Response) {
        let expected = match (kind, answer) {
            (_, answer) if answer.is_quarantined() => Expected::Quarantined,
            (_, answer) if answer.is_success() => Expected::Somewhere,
            (DeliveryKind::BadSignature, Response::Status(..)) => Expected::Nowhere,
            _ => Expected::Anything,
        };
        let event = self.events.entry(sent_event.event_id.clone()).or_insert_with(|| {
            if let Some((key, effect)) = sent_event.order {
                self.orders.entry(key).or_default().push((sent_event.event_id, effect));
            }
            Event {
                expected,
                rows: 0,
                dead_letters: BTreeSet::new(),
            }
        });
        event.expected = event.expected.max(expected);
    }

    /// Events that were promised and not found so far.
    pub(super) fn missing(&self) -> Vec<String> {
        let missing = self.events.iter().filter(|(_, event)| event.is_missing());
        missing.map(|(id, _)| id.clone()).collect()
    }

    /// All events, also those that must not be found.
    pub(super) fn ids(&self) -> Vec<String> {
        self.events.keys().cloned().collect()
    }

    pub(super) fn promised(&self) -> u64 {
        self.events
            .values()
            .filter(|event| event.expected >= Expected::Somewhere)
            .count() as u64
    }

    /// Of the events asked for, these have rows, once for each row.
    pub(super) fn found(&mut self, asked: &[String], loaded: &[String]) {
        for id in asked {
            if let Some(event) = self.events.get_mut(id) {
                event.rows = 0;
            }
        }
        for id in loaded {
            if let Some(event) = self.events.get_mut(id) {
                event.rows += 1;
            }
        }
    }

    /// There is a dead letter about that event, of that origin.
    pub(super) fn add_dead_letter(&mut self, event_id: &str, origin: String) {
        if let Some(event) = self.events.get_mut(event_id) {
            event.dead_letters.insert(origin);
        }
    }

    /// Orders whose rows this run changed.
    pub(super) fn orders(&self) -> Vec<OrderKey> {
        self.orders.keys().cloned().collect()
    }

    /// Compares the rows of these orders with what was found of their events.
    pub(super) fn judge(&mut self, asked: &[OrderKey], rows: &[OrderState]) {
        for key in asked {
            let is_its = |row: &&OrderState| (row.shop.as_str(), row.order_id.as_str()) == (&*key.0, &*key.1);
            let row = rows.iter().find(is_its);
            self.orders_found += u64::from(row.is_some());
            if let Some(fault) = self.fault(key, row) {
                self.faults.orders_wrong.add(format!("{} {fault}", key.1));
            }
        }
    }

    /// What is wrong with the row of an order. It may be newer than this run: other senders may
    /// write the same order.
    fn fault(&self, key: &OrderKey, row: Option<&OrderState>) -> Option<String> {
        let is_loaded = |id: &String| self.events.get(id).is_some_and(|event| event.rows > 0);
        let loaded = Vec::from_iter(self.orders.get(key)?.iter().filter(|(id, _)| is_loaded(id)));
        let Some(row) = row else {
            return (!loaded.is_empty()).then(|| "has no row".to_owned());
        };
        if loaded.iter().any(|(_, effect)| *effect == Effect::Deletion) && row.deleted_at.is_none() {
            return Some("was deleted, and its row does not say so".to_owned());
        }
        let newest = loaded.iter().filter_map(|(id, effect)| match effect {
            Effect::State(at) => Some((*at, id)),
            Effect::Deletion => None,
        });
        let (newest, event_id) = newest.max()?;
        (row.as_of.map(micros) < newest).then(|| format!("is older than event {event_id}"))
    }

    /// The result, after everything was looked up.
    pub(super) fn close(mut self) -> Verified {
        let (mut loaded, mut in_dead_letters) = (0, 0);
        for (id, event) in &self.events {
            let faults = &mut self.faults;
            if event.is_missing() {
                faults.missing.add(id.clone());
            }
            if event.expected == Expected::Nowhere && (event.rows > 0 || !event.dead_letters.is_empty()) {
                faults.refused_and_there.add(id.clone());
            }
            if event.rows + event.dead_letters.len() as u64 > 1 {
                faults.doubled.add(id.clone());
            }
            if event.expected >= Expected::Somewhere {
                loaded += u64::from(event.rows > 0);
                in_dead_letters += u64::from(event.rows == 0 && !event.dead_letters.is_empty());
            }
        }
        Verified {
            promised: self.promised(),
            loaded,
            in_dead_letters,
            orders: self.orders_found,
            faults: self.faults,
        }
    }
}

impl Verified {
    fn faults(&self) -> [(&'static str, &Fault); 4] {
        let faults = &self.faults;
        [
            ("missing", &faults.missing),
            ("doubled", &faults.doubled),
            ("refused, and there all the same", &faults.refused_and_there),
            ("order rows wrong", &faults.orders_wrong),
        ]
    }

    pub(in crate::cli::send) fn is_right(&self) -> bool {
        self.faults().iter().all(|(_, fault)| fault.count == 0)
    }

    pub(in crate::cli::send) fn text(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "landed     {} of {} promised events: {} in the warehouse, {} in the dead letters; {} orders checked",
            self.loaded + self.in_dead_letters,
            self.promised,
            self.loaded,
            self.in_dead_letters,
            self.orders
        )];
        for (name, fault) in self.faults() {
            if fault.count > 0 {
                lines.push(format!("finding    {} {name}:", fault.count));
                lines.extend(fault.first.iter().map(|example| format!("           {example}")));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    const SHOP: &str = "example.myshopify.com";

    fn sent_event(topic: &'static str, webhook: &str, body: &'static str) -> SentEvent {
        let mut headers = HeaderMap::new();
        headers.insert("x-shopify-topic", HeaderValue::from_static(topic));
        headers.insert("x-shopify-shop-domain", HeaderValue::from_static(SHOP));
        headers.insert("x-shopify-webhook-id", HeaderValue::try_from(webhook).unwrap());
        headers.insert(
            "x-shopify-triggered-at",
            HeaderValue::from_static("2026-01-05T10:00:09Z"),
        );
        SentEvent::of(&TestDelivery {
            kind: DeliveryKind::Event,
            headers,
            body: Bytes::from_static(body.as_bytes()),
        })
    }

    fn said(word: &str) -> Response {
        Response::Status(200, Some(word.to_owned()))
    }

    /// The older and the newer state of order 1, promised and loaded.
    fn two_states() -> (Checklist, [String; 2]) {
        let mut checklist = Checklist::default();
        let older = sent_event(
            "orders/create",
            "w-1",
            r#"{"id":1,"updated_at":"2026-01-05T10:00:00Z"}"#,
        );
        let newer = sent_event(
            "orders/paid",
            "w-2",
            r#"{"id":1,"updated_at":"2026-01-05T11:00:01+01:00"}"#,
        );
        let ids = [older.event_id.clone(), newer.event_id.clone()];
        checklist.add(newer, DeliveryKind::Event, &said("accepted"));
        checklist.add(older, DeliveryKind::Late, &said("accepted"));
        checklist.found(&ids, &ids);
        (checklist, ids)
    }

    fn row(last: &str, as_of: &str) -> OrderState {
        OrderState {
            shop: SHOP.to_owned(),
            order_id: "1".to_owned(),
            name: None,
            status: None,
            total_amount: None,
            currency: None,
            last_event_id: Some(last.to_owned()),
            as_of: Some(OffsetDateTime::parse(as_of, &Rfc3339).unwrap()),
            deleted_at: None,
        }
    }

    #[test]
    fn only_what_was_promised_can_be_missing() {
        let mut checklist = Checklist::default();
        let answers = [
            (said("accepted"), true),
            (said("duplicate"), true),
            (said("spooled"), true),
            (said("quarantined"), true),
            (Response::Status(401, None), false),
            (Response::Status(503, None), false),
            (Response::Timeout, false),
        ];
        let mut expected = BTreeSet::new();
        for (at, (answer, is_promised)) in (0..).zip(answers) {
            let sent_event = sent_event("refunds/create", &format!("w-{at}"), "{}");
            if is_promised {
                expected.insert(sent_event.event_id.clone());
            }
            checklist.add(sent_event, DeliveryKind::Event, &answer);
        }
        assert_eq!(BTreeSet::from_iter(checklist.missing()), expected);
        assert!(!checklist.close().is_right());
    }

    #[test]
    fn a_promise_stands_whatever_other_deliveries_of_it_were_answered() {
        let mut checklist = Checklist::default();
        for answer in [Response::Timeout, said("duplicate"), Response::Status(503, None)] {
            checklist.add(
                sent_event("refunds/create", "w-1", "{}"),
                DeliveryKind::Duplicate,
                &answer,
            );
        }
        assert_eq!(checklist.missing().len(), 1);
    }

    #[test]
    fn the_quarantined_must_be_letters_and_the_refused_nothing() {
        let mut checklist = Checklist::default();
        let (bad, forged) = (
            sent_event("orders/create", "w-1", "["),
            sent_event("orders/create", "w-2", "{}"),
        );
        let [bad_id, forged_id] = [&bad, &forged].map(|sent_event| sent_event.event_id.clone());
        checklist.add(bad, DeliveryKind::Malformed, &said("quarantined"));
        checklist.add(forged, DeliveryKind::BadSignature, &Response::Status(401, None));
        assert_eq!(checklist.missing(), std::slice::from_ref(&bad_id));
        checklist.add_dead_letter(&bad_id, "1-1".to_owned());
        checklist.add_dead_letter(&bad_id, "1-1".to_owned());
        assert!(checklist.missing().is_empty());
        let ids = [bad_id, forged_id.clone()];
        checklist.found(&ids, &ids[1..]);
        let verified = checklist.close();
        assert_eq!(verified.faults.refused_and_there.first, [forged_id]);
        assert_eq!((verified.promised, verified.in_dead_letters), (1, 1));
        assert_eq!(verified.faults.doubled.count, 0, "copies of one dead letter are one");
    }

    #[test]
    fn what_is_there_twice_is_doubled() {
        let (mut checklist, ids) = two_states();
        assert_eq!(checklist.faults.doubled.count, 0);
        checklist.found(&ids[..1], &[ids[0].clone(), ids[0].clone()]);
        checklist.add_dead_letter(&ids[1], "1-1".to_owned());
        assert_eq!(checklist.close().faults.doubled.count, 2);
    }

    #[test]
    fn a_row_may_be_newer_than_the_newest_but_not_older() {
        let key = [(SHOP.to_owned(), "1".to_owned())];
        let (_, [older, newer]) = two_states();
        let judged = |row: Option<OrderState>| {
            let (mut checklist, _) = two_states();
            checklist.judge(&key, row.as_slice());
            checklist.close().is_right()
        };
        assert!(judged(Some(row(&newer, "2026-01-05T10:00:01Z"))));
        assert!(judged(Some(row("another's", "2026-01-05T10:00:02Z"))));
        assert!(!judged(Some(row(&older, "2026-01-05T10:00:00Z"))));
        assert!(!judged(Some(row("another's", "2026-01-05T10:00:00Z"))));
        assert!(
            !judged(Some(row(&newer, "2026-01-05T10:00:00Z"))),
            "the row and its event disagree"
        );
        assert!(!judged(None));
    }

    /// What is in the dead letters changed no row.
    #[test]
    fn the_newest_is_the_newest_that_was_loaded() {
        let (mut checklist, [older, newer]) = two_states();
        checklist.found(std::slice::from_ref(&newer), &[]);
        checklist.add_dead_letter(&newer, "1-1".to_owned());
        checklist.judge(
            &[(SHOP.to_owned(), "1".to_owned())],
            &[row(&older, "2026-01-05T10:00:00Z")],
        );
        assert!(checklist.close().is_right());
    }

    #[test]
    fn a_deletion_must_show() {
        let (mut checklist, [_, newer]) = two_states();
        let gone = sent_event("orders/delete", "w-3", r#"{"id":1}"#);
        let id = [gone.event_id.clone()];
        checklist.add(gone, DeliveryKind::Event, &said("accepted"));
        checklist.found(&id, &id);
        checklist.judge(
            &[(SHOP.to_owned(), "1".to_owned())],
            &[row(&newer, "2026-01-05T10:00:01Z")],
        );
        assert_eq!(
            checklist.close().faults.orders_wrong.first,
            ["1 was deleted, and its row does not say so"]
        );
    }
}
