//! What the clients send: a pure function of seed and number, so that a run can be repeated and an oracle can know
//! every value without asking the service.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// Orders that get one event after the other, at a time; the others get a single one.
pub const HOT_ORDERS: u64 = 8;
pub const FIRST_HOT_ORDER: u64 = 1_000;
/// Events after which other orders are hot: a load reads all events of an order whose sales it dates anew, so that one
/// with thousands of changes would take a debug build longer than a statement may.
const HEAT: u64 = 2_000;
const SHOP: &str = "tests.myshopify.com";

/// The way an event takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Door {
    /// `POST /webhooks/orders`.
    Webhook,
    /// A webhook that cannot become an event: the quarantine.
    Unusable,
    /// `POST /events/batch`.
    Batch,
    /// A plain `XADD` with the four basic fields.
    Entry,
    /// The same with a payload that is no event: poison.
    Poison,
}

impl Door {
    /// Whether it ends in the dead letters.
    pub fn is_dead_end(self) -> bool {
        matches!(self, Self::Unusable | Self::Poison)
    }
}

/// What must be found in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    pub door: Door,
    /// Every value that the warehouse must hold, in one line ([`values`]); empty for a dead end.
    pub values: String,
    /// SHA-256 of the bytes sent, where they are kept: of a webhook's body, or a poison entry's payload.
    pub body: Option<String>,
}

/// One event, ready to be sent.
#[derive(Debug, Clone)]
pub struct Sendable {
    pub number: u64,
    pub expected: Expected,
    pub topic: &'static str,
    /// A webhook's body, a batch's item or an entry's payload.
    pub body: String,
}

/// The text by which an event is recognized, whatever becomes of it.
pub fn marker(number: u64) -> String {
    format!("chaos-{number}.")
}

/// The number behind the first marker in a text.
pub fn number_in(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("chaos-")?;
    rest.split_once('.')?.0.parse().ok()
}

pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// An event's values in one line, from whichever side they come.
pub fn values(event_type: &str, order: &str, customer: &str, amount: &str, currency: &str, items: &str) -> String {
    [event_type, order, customer, amount, currency, items].join("|")
}

/// The event of that number.
pub fn sendable(seed: u64, number: u64) -> Sendable {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
    let door = match rng.random_range(0..100) {
        0..70 => Door::Webhook,
        70..72 => Door::Unusable,
        72..94 => Door::Batch,
        94..99 => Door::Entry,
        _ => Door::Poison,
    };
    let order = Order::invent(&mut rng, number);
    let (topic, event_type) = [
        ("orders/create", "order.created"),
        ("orders/updated", "order.updated"),
        ("orders/paid", "order.paid"),
    ][rng.random_range(0..3)];
    let (body, kept) = match door {
        Door::Webhook => (order.as_shopify_sends_it(), true),
        Door::Unusable => (format!("{{\"note\":\"{}\",\"line_items\":7}}", marker(number)), true),
        Door::Batch => (order.as_event(&format!("batch-{number}"), event_type), false),
        Door::Entry => (order.as_event(&format!("entry-{number}"), event_type), false),
        Door::Poison => (format!("not an event: {}", marker(number)), true),
    };
    let values = if door.is_dead_end() {
        String::new()
    } else {
        order.values(event_type)
    };
    Sendable {
        number,
        expected: Expected {
            door,
            values,
            body: kept.then(|| digest(body.as_bytes())),
        },
        topic,
        body,
    }
}

struct Order {
    number: u64,
    id: u64,
    customer: Option<u64>,
    currency: &'static str,
    cents: u64,
    /// sku, quantity, price in cents.
    lines: Vec<(String, u64, u64)>,
    updated_at: String,
    note: String,
}

impl Order {
    fn invent(rng: &mut StdRng, number: u64) -> Self {
        let lines: Vec<_> = (0..rng.random_range(1..4))
            .map(|line| {
                let sku = format!("SKU-{}-{line}", rng.random_range(0..500));
                (sku, rng.random_range(1..5), rng.random_range(1..50_000))
            })
            .collect();
        // Later numbers are newer, so that the newest state of an order is known.
        let base = OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap();
        let updated_at = base + Duration::seconds(number.try_into().unwrap());
        Self {
            number,
            id: if rng.random_ratio(1, 3) {
                FIRST_HOT_ORDER + number / HEAT * HOT_ORDERS + rng.random_range(0..HOT_ORDERS)
            } else {
                // Beyond 2^53, where a float would lose digits.
                9_100_000_000_000_000 + number
            },
            customer: rng.random_ratio(2, 3).then(|| rng.random_range(1..1_000_000)),
            currency: ["EUR", "USD", "JPY"][rng.random_range(0..3)],
            cents: lines.iter().map(|(_, quantity, price)| quantity * price).sum(),
            lines,
            updated_at: updated_at.format(&Rfc3339).unwrap(),
            note: format!("ü&é\u{1f600} a/b {}", "x".repeat(rng.random_range(0..1_500))),
        }
    }

    fn amount(&self) -> String {
        money(self.cents)
    }

    fn values(&self, event_type: &str) -> String {
        let items: Vec<_> = self
            .lines
            .iter()
            .map(|(sku, quantity, price)| format!("{sku}*{quantity}@{}", money(*price)))
            .collect();
        values(
            event_type,
            &self.id.to_string(),
            &self.customer.map(|id| id.to_string()).unwrap_or_default(),
            &self.amount(),
            self.currency,
            &items.join(";"),
        )
    }

    /// Compact JSON with escaped slashes, as Shopify writes it.
    fn as_shopify_sends_it(&self) -> String {
        let items: Vec<Value> = (1..)
            .zip(&self.lines)
            .map(|(line, (sku, quantity, price))| {
                json!({"id": self.number * 10 + line, "sku": sku, "title": "A thing", "quantity": quantity, "price": money(*price)})
            })
            .collect();
        let order = json!({
            "id": self.id,
            "name": marker(self.number),
            "created_at": "2026-01-01T00:00:00Z",
            "processed_at": "2026-01-01T00:00:00Z",
            "updated_at": self.updated_at,
            "cancelled_at": null,
            "currency": self.currency,
            "total_price": self.amount(),
            "subtotal_price": self.amount(),
            "total_discounts": "0.00",
            "total_tax": "0.00",
            "taxes_included": true,
            "financial_status": "paid",
            "fulfillment_status": null,
            "customer": self.customer.map(|id| json!({"id": id, "email": "somebody@example.com"})),
            "note": self.note,
            "line_items": items,
            "refunds": []
        });
        order.to_string().replace('/', "\\/")
    }

    /// An `OrderEvent`; written by hand since its amounts are numbers with exact digits.
    fn as_event(&self, event_id: &str, event_type: &str) -> String {
        let items: Vec<_> = self
            .lines
            .iter()
            .map(|(sku, quantity, price)| format!(r#"{{"sku":"{sku}","qty":{quantity},"price":{}}}"#, money(*price)))
            .collect();
        format!(
            r#"{{"event_type":"{event_type}","event_id":"{event_id}","timestamp":"{at}","order_id":"{order}","customer_id":{customer},"total_amount":{amount},"currency":"{currency}","items":[{items}],"shop":"{SHOP}","name":"{name}","updated_at":"{at}"}}"#,
            at = self.updated_at,
            order = self.id,
            customer = self.customer.map_or("null".to_owned(), |id| format!("\"{id}\"")),
            amount = self.amount(),
            currency = self.currency,
            items = items.join(","),
            name = marker(self.number),
        )
    }
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[test]
fn events_repeat_and_are_recognized() {
    for number in 0..500 {
        let one = sendable(7, number);
        assert_eq!(one.body, sendable(7, number).body);
        assert_eq!(number_in(&one.body), Some(number));
        if !one.expected.door.is_dead_end() {
            serde_json::from_str::<Value>(&one.body).unwrap();
        }
    }
    assert_ne!(sendable(7, 1).body, sendable(8, 1).body);
}
