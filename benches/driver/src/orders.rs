//! Signed orders, each another one, at hardly any cost to the machine that they are to measure.
//!
//! A body is one of some hundred sample orders (those of `orderstream send`, with a fixed number of lines) with the
//! order's own number at its end. So only the last block has to be hashed anew for a
//! signature over the whole: the HMAC state after the prepared part is kept.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use orderstream::sample_orders::{Generator, wire};
use serde_json::{Value, json};
use sha2::Sha256;

/// What every side verifies with.
pub const SECRET: &str = "shpss_bench_0123456789abcdef";
/// What opens `/events/batch`.
pub const TOKEN: &str = "bench-token-0123456789abcdef0123456789";
/// Ids of orders and webhooks count up from here.
pub const FIRST_ID: u64 = 5_000_000_000_000;

/// Lines of an order of about 9 KB, which is what most shops' orders have.
pub const USUAL_LINES: usize = 3;
/// Lines of an order of about 32 KB.
pub const MANY_LINES: usize = 24;

const VARIANTS: u64 = 128;
const SHOP: &str = "bench.myshopify.com";

/// An order up to its number.
struct Prepared {
    json: Vec<u8>,
    mac: Hmac<Sha256>,
}

/// All orders of one size.
pub struct Orders {
    prepared: Vec<Prepared>,
    /// Tells the deliveries of one run from those of all others.
    run: u64,
}

/// One webhook on its way: head, shared part of the body, rest of the body.
#[derive(Default)]
pub struct Request {
    head: Vec<u8>,
    rest: Vec<u8>,
}

impl Orders {
    pub fn new(lines: usize) -> Self {
        let key = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length is one");
        let prepared = (0..VARIANTS).map(|variant| {
            let mut json = wire(&order(variant, lines));
            json.pop();
            let mac = key.clone().chain_update(&json);
            Prepared {
                json: json.into_bytes(),
                mac,
            }
        });
        Self {
            prepared: prepared.collect(),
            run: uuid::Uuid::new_v4().as_u64_pair().0,
        }
    }

    /// Writes webhook `number` into `request`; answers the three parts to be sent.
    pub fn write<'a>(&'a self, number: u64, request: &'a mut Request) -> [&'a [u8]; 3] {
        let prepared = &self.prepared[(number % VARIANTS) as usize];
        let Request { head, rest } = request;
        let id = FIRST_ID + number;
        rest.clear();
        write!(rest, r##","id":{id},"name":"#{number}","order_number":{number}}}"##).expect("memory");
        let signature = prepared.mac.clone().chain_update(&rest).finalize().into_bytes();
        head.clear();
        write!(
            head,
            "POST /webhooks/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Shopify-Captain-Hook\r\n\
             Accept: */*\r\nContent-Type: application/json\r\nX-Shopify-Topic: orders/create\r\n\
             X-Shopify-Shop-Domain: bench.myshopify.com\r\nX-Shopify-API-Version: 2026-01\r\n\
             X-Shopify-Triggered-At: 2026-01-31T21:30:02.123456789Z\r\n\
             X-Shopify-Webhook-Id: {run:016x}-{number:016x}\r\nX-Shopify-Event-Id: {run:016x}-{id:016x}\r\n\
             X-Shopify-Hmac-Sha256: {signature}\r\nContent-Length: {length}\r\n\r\n",
            run = self.run,
            signature = STANDARD.encode(signature),
            length = prepared.json.len() + rest.len(),
        )
        .expect("memory");
        [head, &prepared.json, rest]
    }
}

/// Batches of events as trusted services send them.
pub struct Batches {
    /// Everything of an event but its ids.
    events: Vec<String>,
    run: u64,
    items: u64,
}

impl Batches {
    pub fn new(items: u64) -> Self {
        Self {
            events: (0..VARIANTS).map(|variant| event(variant).to_string()).collect(),
            run: uuid::Uuid::new_v4().as_u64_pair().0,
            items,
        }
    }

    pub fn items(&self) -> u64 {
        self.items
    }

    /// Id and JSON of event `number`.
    pub fn event(&self, number: u64) -> (String, String) {
        let event_id = format!("{:016x}-{number:016x}", self.run);
        let rest = &self.events[(number % VARIANTS) as usize][1..];
        let json = format!(r#"{{"event_id":"{event_id}","order_id":"{}",{rest}"#, FIRST_ID + number);
        (event_id, json)
    }

    /// Batch `number`, head and body.
    pub fn write<'a>(&self, number: u64, request: &'a mut Request) -> [&'a [u8]; 2] {
        let Request { head, rest } = request;
        rest.clear();
        rest.push(b'[');
        for item in 0..self.items {
            if item > 0 {
                rest.push(b',');
            }
            rest.extend_from_slice(self.event(number * self.items + item).1.as_bytes());
        }
        rest.push(b']');
        head.clear();
        write!(
            head,
            "POST /events/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            rest.len()
        )
        .expect("memory");
        [head, rest]
    }
}

/// An event as `/events/batch` takes it, without its ids.
fn event(variant: u64) -> Value {
    let order = order(variant, USUAL_LINES);
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let item = |line: &Value| {
        json!({
            "sku": line["sku"], "qty": line["quantity"], "price": number(&line["price"]), "title": line["title"],
        })
    };
    json!({
        "event_type": "order.created", "timestamp": order["updated_at"], "shop": SHOP,
        "customer_id": order["customer"]["id"].as_u64().map(|id| id.to_string()),
        "total_amount": number(&order["total_price"]), "currency": order["currency"], "created_at": order["created_at"],
        "updated_at": order["updated_at"], "financial_status": order["financial_status"], "source_name": "web",
        "items": order["line_items"].as_array().into_iter().flatten().map(item).collect::<Vec<_>>(),
    })
}

/// An order as a webhook carries it, without its id, number and name.
fn order(variant: u64, lines: usize) -> Value {
    let mut order = Generator::new(1, Generator::epoch()).order_of_lines(SHOP, variant, lines);
    if let Value::Object(members) = &mut order {
        members.retain(|name, _| !["id", "name", "order_number"].contains(&name.as_str()));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_signed_distinct_and_of_the_promised_size() {
        for (lines, size) in [(USUAL_LINES, 8_500..10_000), (MANY_LINES, 30_000..35_000)] {
            let orders = Orders::new(lines);
            let mut request = Request::default();
            let [head, shared, rest] = orders.write(200, &mut request);
            let body = [shared, rest].concat();
            assert!(size.contains(&body.len()), "{}", body.len());
            let key = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
            let signature = STANDARD.encode(key.chain_update(&body).finalize().into_bytes());
            let head = std::str::from_utf8(head).unwrap();
            assert!(head.contains(&format!("Hmac-Sha256: {signature}\r\n")));
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
            let order: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(order["id"], FIRST_ID + 200);
            assert_eq!(order["line_items"].as_array().unwrap().len(), lines);
        }
    }

    #[test]
    fn a_batch_is_an_array_of_distinct_events() {
        let batches = Batches::new(64);
        let mut request = Request::default();
        let [_, body] = batches.write(3, &mut request);
        let events: Vec<Value> = serde_json::from_slice(body).unwrap();
        assert_eq!(events.len(), 64);
        assert_eq!(events[0]["order_id"], (FIRST_ID + 192).to_string());
        assert_ne!(events[0]["event_id"], events[63]["event_id"]);
    }
}
