//! Requests near to what is usual and just past it: the fixtures with values, members and bytes changed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::bodies;
use crate::harness::service::{event, order};

/// Orders that everything is about, so that states, deletions and refunds meet.
const ORDERS: u64 = 40;

/// A value of this text stands for one of [`RAW`], which [`Value`] could not write.
const RAW_MARK: &str = "\u{1}";

/// JSON as it stands: numbers at their bounds and with their digits, odd escapes, and what is no JSON.
const RAW: [&str; 34] = [
    "0",
    "-0",
    "-1",
    "1000000000",
    "1000000001",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "999999999999999",
    "999999999999999.999999999",
    "-999999999999999.99",
    "1000000000000000",
    "1e15",
    "1e3",
    "1E-9",
    "0.0000000001",
    "0.10",
    "1.10",
    "-0.00",
    "0.30000000000000004",
    "1.7763568394002505e-15",
    "1e400",
    "1.5",
    "\"\\ud800\"",
    "\"a\\u0000b\"",
    "\"\\ud83d\\ude00\"",
    "\"\\/\\n\\u001b\\u202e\"",
    "{\"id\":1,\"id\":2}",
    "[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]",
    "NaN",
    "01",
    "tru",
    "",
];

const TEXTS: [&str; 38] = [
    "",
    " ",
    "0",
    "0.10",
    "-0.00",
    "5900",
    "-3.5",
    "1e3",
    "999999999999999.999999999",
    "1000000000000000",
    "0.0000000001",
    " 12.00 ",
    "12,50",
    "NaN",
    "EUR",
    "eur",
    "XXX",
    "refund",
    "success",
    "pending",
    "paid",
    "fulfilled",
    "gid://shopify/Order/7",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+12:00",
    "0000-12-31T23:59:59Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-12:00",
    "2026-02-29T00:00:00Z",
    "2024-02-29T23:59:60Z",
    "2026-01-31T21:30:02-0500",
    "2026-01-31 21:30:02.123456789",
    "2026-03-01T00:15:00.5+14:00",
    "-infinity",
    "a|b\n\"c\"\\'; --",
    "\u{202e}\u{feff}😀",
    "größe",
    "{\"a\":1}",
];

const TOPICS: [&str; 14] = [
    "orders/create",
    "orders/updated",
    "orders/paid",
    "ORDERS_CANCELLED",
    "orders/fulfilled",
    "orders/delete",
    "orders/edited",
    "refunds/create",
    "order_transactions/create",
    "fulfillments/update",
    "fulfillment_events/create",
    "disputes/create",
    "orders/risk_assessment_changed",
    "products/create",
];

#[derive(Debug, Clone)]
pub enum Request {
    Webhook {
        topic: String,
        id: String,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    Batch(Vec<u8>),
}

/// Makes requests out of fixtures; the same ones from the same seed.
pub struct Mutator {
    rng: StdRng,
    bodies: Vec<(&'static str, Value)>,
    events: Vec<Value>,
    number: u64,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        let fixture = |name: &str| serde_json::from_slice(&bodies::read(name)).unwrap();
        let note = json!({"id": 1, "order_id": 1, "created_at": "2026-01-05T10:00:00-05:00", "status": "x"});
        let with = |name: &str, value: Value| {
            let mut note = note.clone();
            note[name] = value;
            note
        };
        Self {
            rng: StdRng::seed_from_u64(seed),
            bodies: vec![
                ("orders/create", fixture("order_usd")),
                ("orders/updated", fixture("order_guest_eur")),
                ("orders/updated", fixture("order_multi_currency_refunded")),
                ("orders/updated", order(1)),
                ("orders/delete", fixture("order_deleted")),
                ("orders/edited", fixture("order_edited")),
                ("refunds/create", fixture("refund")),
                ("order_transactions/create", fixture("transaction")),
                ("fulfillments/update", with("tracking_company", json!("UPS"))),
                ("fulfillment_events/create", with("fulfillment_id", json!(3))),
                ("disputes/create", with("evidence_due_by", Value::Null)),
                ("orders/risk_assessment_changed", with("risk_level", json!("low"))),
            ],
            events: events(),
            number: 0,
        }
    }

    /// Some come again.
    pub fn requests(&mut self, count: usize) -> Vec<Request> {
        let mut requests: Vec<Request> = Vec::with_capacity(count);
        while requests.len() < count {
            let again = requests.last().filter(|_| self.rng.random_bool(0.02)).cloned();
            requests.push(again.unwrap_or_else(|| self.request()));
        }
        requests
    }

    fn request(&mut self) -> Request {
        self.number += 1;
        if self.rng.random_bool(0.3) {
            return self.batch();
        }
        let (topic, mut body) = self.one_of_bodies();
        self.aim(&mut body);
        self.change(&mut body);
        let topic = if self.rng.random_bool(0.1) {
            self.of(&TOPICS)
        } else {
            topic
        };
        Request::Webhook {
            topic: topic.to_owned(),
            id: format!("w-{}", self.number),
            headers: self.headers(),
            body: self.bytes(&body),
        }
    }

    fn batch(&mut self) -> Request {
        let events: Vec<Vec<u8>> = (0..self.rng.random_range(1..6))
            .map(|item| {
                let kind = self.rng.random_range(0..self.events.len());
                let mut event = self.events[kind].clone();
                event["order_id"] = self.rng.random_range(1..=ORDERS).into();
                self.change(&mut event);
                if let Some(event) = event.as_object_mut()
                    && self.rng.random_bool(0.95)
                {
                    event.insert("event_id".to_owned(), format!("e-{}-{item}", self.number).into());
                }
                written(&event).into_bytes()
            })
            .collect();
        if self.rng.random_bool(0.5) {
            return Request::Batch(events.join(&b'\n'));
        }
        let mut body = b"[".to_vec();
        body.extend(events.join(&b','));
        body.push(b']');
        Request::Batch(body)
    }

    fn headers(&mut self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if self.rng.random_bool(0.7) {
            let seconds = ["2026-01-31T12:00:00Z", "2026-01-31T12:00:01.5-05:00"];
            let text = if self.rng.random_bool(0.8) {
                self.of(&seconds)
            } else {
                self.of(&TEXTS)
            };
            if text.is_ascii() && !text.contains('\n') {
                headers.push(("x-shopify-triggered-at", text.to_owned()));
            }
        }
        for (name, value) in [
            ("x-shopify-test", "true".to_owned()),
            ("x-shopify-order-id", self.rng.random_range(1..=ORDERS).to_string()),
            ("x-shopify-event-id", "e".repeat(self.rng.random_range(1..300))),
        ] {
            if self.rng.random_bool(0.2) {
                headers.push((name, value));
            }
        }
        headers
    }

    /// Makes it about one of few orders, at one of few times.
    fn aim(&mut self, body: &mut Value) {
        let order_id: Value = self.rng.random_range(1..=ORDERS).into();
        let place = ["/order_edit/order_id", "/order_id", "/id"];
        let pointer = place.into_iter().find(|pointer| body.pointer(pointer).is_some());
        if let Some(id) = pointer.and_then(|pointer| body.pointer_mut(pointer)) {
            *id = order_id;
        }
        let second = self.rng.random_range(0..5);
        if let Some(at) = body.get_mut("updated_at") {
            *at = format!("2026-01-31T12:00:0{second}-05:00").into();
        }
    }

    /// Changes nothing in every fourth; more and more rarely several places.
    fn change(&mut self, value: &mut Value) {
        while self.rng.random_bool(0.7) {
            let mut at = self.rng.random_range(0..nodes(value));
            let change = self.rng.random_range(0..10);
            let other = self.other(change);
            if let Some(node) = node(value, &mut at) {
                apply(node, change, other);
            }
        }
    }

    /// What is put in a node's place, or beside its members.
    fn other(&mut self, change: u32) -> Value {
        if change == 9 {
            let (_, body) = self.one_of_bodies();
            let mut body = body;
            let mut at = self.rng.random_range(0..nodes(&body));
            return node(&mut body, &mut at).map_or(Value::Null, |node| node.take());
        }
        match self.rng.random_range(0..10) {
            0 => Value::Null,
            1 => self.rng.random_bool(0.5).into(),
            2 => "é".repeat(self.rng.random_range(250..260)).into(),
            3 => "x".repeat(self.rng.random_range(4090..4100)).into(),
            4..7 => self.of(&TEXTS).into(),
            _ => format!("{RAW_MARK}{}", self.rng.random_range(0..RAW.len())).into(),
        }
    }

    /// As bytes, some of them changed as well.
    fn bytes(&mut self, body: &Value) -> Vec<u8> {
        let mut bytes = written(body).into_bytes();
        let at = self.rng.random_range(0..bytes.len().max(1));
        match self.rng.random_range(0..60) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, 0xFF),
            2 => bytes.insert(at, self.rng.random()),
            3 => bytes = [b"\xEF\xBB\xBF", &bytes[..]].concat(),
            4 => bytes.extend(b" {}"),
            5 => bytes.insert(at, 0),
            _ => {}
        }
        bytes
    }

    fn one_of_bodies(&mut self) -> (&'static str, Value) {
        let at = self.rng.random_range(0..self.bodies.len());
        self.bodies[at].clone()
    }

    fn of(&mut self, list: &[&'static str]) -> &'static str {
        list[self.rng.random_range(0..list.len())]
    }
}

/// Events as other services send them: as small as it gets, with every field, and an edit.
fn events() -> Vec<Value> {
    let mut full = event(1);
    let about_it = json!({
        "shop": "one.myshopify.com", "name": "#1", "created_at": "2026-01-05T10:00:00-05:00",
        "processed_at": "2026-01-05T10:00:00-05:00", "updated_at": "2026-01-05T10:00:01-05:00",
        "cancelled_at": "2026-01-05T11:00:00-05:00", "financial_status": "paid", "fulfillment_status": "partial",
        "taxes_included": true, "presentment_currency": "USD", "source_name": "web", "test": false,
    });
    let amounts = json!({
        "subtotal": 20.5, "total_discounts": 1, "total_shipping": 3.1, "total_tax": 0.5, "current_total_amount": 10,
        "presentment_total_amount": 22, "total_tip": 1, "total_duties": 0.5, "total_fees": 0.25,
    });
    let lists = json!({
        "items": [{
            "sku": "A-1", "qty": 2, "price": 10.25, "line_id": 1, "variant_id": 2, "product_id": 3, "title": "Thing",
            "current_qty": 1, "discount": 0.5, "tax": 0.25,
        }],
        "shipping_lines": [{"line_id": 9, "title": "Post", "price": 3.1, "discounted_price": 3, "tax": 0.2}],
        "refunds": [{
            "refund_id": 5, "processed_at": "2026-01-06T10:00:00Z", "amount": 3, "pending_amount": 1, "tax": 1,
            "currency": "EUR", "shipping": 1, "shipping_tax": 0.1, "duties": 0.1, "adjustments": -0.5,
            "lines": [{"line_id": 1, "qty": 1, "subtotal": 10.25, "tax": 0.1, "restock_type": "return", "location_id": 4}],
        }],
    });
    for part in [about_it, amounts, lists] {
        full.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
    }
    let edit = json!({
        "event_type": "order.edited", "event_id": "e", "timestamp": "2026-01-05T10:00:00-05:00", "order_id": "1",
        "edit": {"edit_id": 3, "committed_at": "2026-01-05T12:00:00-05:00", "additions": [{"line_id": 1, "qty": 1}]},
    });
    vec![event(1), full, edit]
}

fn apply(node: &mut Value, change: u32, other: Value) {
    match (change, node) {
        (0, Value::Array(list)) => {
            list.pop();
        }
        (0, Value::Object(members)) => {
            let name = members.keys().next_back().cloned();
            name.and_then(|name| members.remove(&name));
        }
        (1, Value::Array(list)) => {
            let last = list.last().cloned();
            list.extend(last);
        }
        (1, Value::Object(members)) => {
            members.insert("order_id".to_owned(), other);
        }
        (_, node) => *node = other,
    }
}

/// The value and all below it.
fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(nodes).sum::<usize>(),
        Value::Object(members) => members.values().map(nodes).sum::<usize>(),
        _ => 0,
    }
}

/// The node of that number, counted from the top.
fn node<'a>(value: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|value| node(value, at)),
        Value::Object(members) => members.values_mut().find_map(|value| node(value, at)),
        _ => None,
    }
}

/// Its JSON, with the raw values in their places.
fn written(value: &Value) -> String {
    let json = value.to_string();
    let mut parts = json.split("\"\\u0001");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (number, rest) = part.split_once('"').unwrap();
        text.push_str(RAW[number.parse::<usize>().unwrap()]);
        text.push_str(rest);
    }
    text
}
