//! Signed orders, each another one, at hardly any cost to the machine that they are to measure.
//!
//! A body is one of some hundred prepared orders (varied lines, prices, buyers; compact JSON with `\/` and `\u0026`, as
//! Shopify sends it) with the order's own number at its end. So only the last block has to be hashed anew for a
//! signature over the whole: the HMAC state after the prepared part is kept.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
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
            let mut json = order(variant, lines)
                .to_string()
                .replace('/', "\\/")
                .replace('&', "\\u0026");
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

const PRODUCTS: [(&str, u64); 8] = [
    ("Merino Crew Sweater & Scarf", 8900),
    ("Café Crème Mug, 350 ml", 1450),
    ("Trail Running Shoe \"Fjäll\"", 12_900),
    ("Linen Bed Set", 18_900),
    ("抹茶ボウル", 2400),
    ("Refillable Soap Bottle", 1875),
    ("USB-C Cable 2 m", 1299),
    ("Gift Wrapping", 500),
];

fn price(variant: u64, line: u64) -> (usize, u64, u64) {
    let product = ((variant * 5 + line * 3) % PRODUCTS.len() as u64) as usize;
    (product, PRODUCTS[product].1 + variant, 1 + (variant + line) % 3)
}

fn text(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// An amount in shop and presentment currency.
fn set(cents: u64) -> Value {
    json!({
        "shop_money": {"amount": text(cents), "currency_code": "EUR"},
        "presentment_money": {"amount": text(cents), "currency_code": "EUR"},
    })
}

/// An order as a webhook carries it, without its number.
fn order(variant: u64, lines: usize) -> Value {
    let lines: Vec<_> = (0..lines as u64).map(|at| line(variant, at)).collect();
    let total: u64 = (0..lines.len() as u64)
        .map(|at| price(variant, at))
        .map(|(_, price, quantity)| price * quantity)
        .sum();
    let tax = total * 19 / 119;
    let address = json!({
        "first_name": "Zoë", "last_name": format!("Sample{variant}"), "name": format!("Zoë Sample{variant}"),
        "address1": format!("{variant} Example Street"), "address2": null, "city": "Berlin", "company": null,
        "country": "Germany", "country_code": "DE", "zip": format!("{:05}", 10_000 + variant), "latitude": 52.5, "longitude": 13.4,
        "phone": null, "province": null, "province_code": null,
    });
    let mut order = json!({
        "admin_graphql_api_id": format!("gid://shopify/Order/{variant}"), "app_id": 580_111, "browser_ip": "203.0.113.7",
        "buyer_accepts_marketing": false, "cancel_reason": null, "cancelled_at": null,
        "cart_token": format!("{variant:032x}"), "checkout_id": 37_000_000_000_u64 + variant,
        "checkout_token": format!("{variant:032x}"), "client_details": {"accept_language": "de-DE", "browser_height": null,
            "browser_ip": "203.0.113.7", "browser_width": null, "session_hash": null,
            "user_agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)"},
        "closed_at": null, "company": null, "confirmation_number": format!("{variant:09X}"), "confirmed": true,
        "created_at": "2026-01-31T16:30:00-05:00", "currency": "EUR", "customer_locale": "de-DE", "device_id": null,
        "duties_included": false, "estimated_taxes": false, "financial_status": "paid", "fulfillment_status": null,
        "landing_site": "/collections/all?utm_source=mail&utm_campaign=spring", "landing_site_ref": null, "location_id": null,
        "note": null, "note_attributes": [], "number": variant, "order_status_url":
            format!("https://bench.myshopify.com/60021178580/orders/{variant:032x}/authenticate?key=none&utm=mail"),
        "original_total_duties_set": null, "payment_gateway_names": ["shopify_payments"], "payment_terms": null,
        "phone": null, "po_number": null, "presentment_currency": "EUR", "processed_at": "2026-01-31T16:30:00-05:00",
        "reference": null, "referring_site": "https://www.example.com/", "refunds": [], "source_identifier": null,
        "source_name": "web", "source_url": null, "tags": "spring, newsletter", "tax_exempt": false, "taxes_included": true,
        "test": false, "token": format!("{:032x}", variant * 7), "updated_at": "2026-01-31T16:30:02-05:00", "user_id": null,
        "discount_codes": [], "discount_applications": [], "shipping_lines": [], "fulfillments": [], "total_weight": 1200,
        "tax_lines": [{"channel_liable": false, "price": text(tax), "price_set": set(tax), "rate": 0.19, "title": "VAT"}],
        "billing_address": address, "shipping_address": address, "contact_email": format!("customer{variant}@example.com"),
        "email": format!("customer{variant}@example.com"),
        "customer": {"id": 6_900_000_000_000_u64 + variant, "email": format!("customer{variant}@example.com"),
            "created_at": "2024-03-01T09:00:00-05:00", "updated_at": "2025-03-01T09:00:00-05:00", "first_name": "Zoë",
            "last_name": format!("Sample{variant}"), "state": "enabled", "note": null, "verified_email": true,
            "tax_exempt": false, "tags": "", "currency": "EUR", "phone": null, "default_address": address},
        "line_items": lines,
    });
    for (name, cents) in [
        ("current_subtotal_price", total),
        ("current_total_discounts", 0),
        ("current_total_price", total),
        ("current_total_tax", tax),
        ("subtotal_price", total),
        ("total_discounts", 0),
        ("total_line_items_price", total),
        ("total_outstanding", 0),
        ("total_price", total),
        ("total_tax", tax),
        ("total_tip_received", 0),
    ] {
        order[name] = text(cents).into();
        order[format!("{name}_set")] = set(cents);
    }
    order["total_shipping_price_set"] = set(0);
    order
}

fn line(variant: u64, at: u64) -> Value {
    let (product, price, quantity) = price(variant, at);
    let title = PRODUCTS[product].0;
    let id = 12_000_000_000_000 + variant * 100 + at;
    let tax = price * quantity * 19 / 119;
    json!({
        "id": id, "admin_graphql_api_id": format!("gid://shopify/LineItem/{id}"), "attributed_staffs": [],
        "current_quantity": quantity, "fulfillable_quantity": quantity, "fulfillment_service": "manual",
        "fulfillment_status": null, "gift_card": false, "grams": 300, "name": format!("{title} - Navy / M"),
        "price": text(price), "price_set": set(price), "product_exists": true, "product_id": 7_000_000_000_000 + product,
        "properties": [], "quantity": quantity, "requires_shipping": true, "sku": format!("EX-{product:02}-{at}"),
        "taxable": true, "title": title, "total_discount": "0.00", "total_discount_set": set(0),
        "variant_id": 40_000_000_000_000 + product, "variant_inventory_management": "shopify", "variant_title": "Navy / M",
        "vendor": "Example & Co.", "duties": [], "discount_allocations": [],
        "tax_lines": [{"channel_liable": false, "price": text(tax), "price_set": set(tax), "rate": 0.19, "title": "VAT"}],
    })
}

/// An event as `/events/batch` takes it, without its ids.
fn event(variant: u64) -> Value {
    let lines = (0..USUAL_LINES as u64).map(|at| price(variant, at));
    let total: u64 = lines.clone().map(|(_, price, quantity)| price * quantity).sum();
    json!({
        "event_type": "order.created", "timestamp": "2026-01-31T16:30:02-05:00", "shop": "bench.myshopify.com",
        "customer_id": (6_900_000_000_000_u64 + variant).to_string(), "total_amount": total, "currency": "EUR",
        "created_at": "2026-01-31T16:30:00-05:00", "updated_at": "2026-01-31T16:30:02-05:00", "financial_status": "paid",
        "source_name": "web",
        "items": lines.map(|(product, price, quantity)| json!({
            "sku": format!("EX-{product:02}"), "qty": quantity, "price": price, "title": PRODUCTS[product].0,
        })).collect::<Vec<_>>(),
    })
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
