//! One sample order, and its payloads.

use std::sync::LazyLock;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::amount::{CURRENCIES, CurrencyPair};
use super::history::{Progress, USUAL_REFUND};

const PRODUCTS: [(&str, &str, i64); 10] = [
    ("Merino Crew Sweater", "Navy / M", 8900),
    ("Café Crème Mug, 350 ml", "Blanc", 1450),
    ("Trail Running Shoe \"Fjäll\"", "EU 42", 12_900),
    ("Salt & Vinegar Crisps", "150 g", 349),
    ("Linen Bed Set", "Queen / Sage", 18_900),
    ("抹茶ボウル", "Default Title", 2400),
    ("Refillable Soap Bottle", "500 ml", 1875),
    ("USB-C Cable 2 m", "Black", 1299),
    ("Gift Wrapping", "Default Title", 500),
    ("Scented Candle – Cedar 🌲", "220 g", 2650),
];
const PEOPLE: [(&str, &str, &str, &str, &str); 6] = [
    ("Ada", "Example", "Toronto", "Canada", "CA"),
    ("José", "Muestra", "Madrid", "Spain", "ES"),
    ("Zoë", "Sample", "Berlin", "Germany", "DE"),
    ("花子", "見本", "大阪市", "Japan", "JP"),
    ("Liam", "O'Specimen", "Dublin", "Ireland", "IE"),
    ("Åsa", "Exempel", "Göteborg", "Sweden", "SE"),
];
const CHANNELS: [&str; 4] = ["web", "pos", "shopify_draft_order", "580111"];
/// The members that are the same in every order, line, refund, ...
static TEMPLATES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("templates.json")).unwrap_or_default());
/// Tax of all lines, percent.
const TAX: i64 = 19;

struct Line {
    product: usize,
    quantity: i64,
    price: i64,
    discount: i64,
    tax: i64,
    sku: Value,
}

impl Line {
    fn total(&self) -> i64 {
        self.price * self.quantity
    }
}

pub(super) struct SampleOrder {
    id: u64,
    number: u64,
    created: OffsetDateTime,
    currencies: CurrencyPair,
    lines: Vec<Line>,
    shipping: i64,
    taxes_included: bool,
    person: Option<usize>,
    channel: &'static str,
    refunded: bool,
}

impl SampleOrder {
    pub(super) fn new(rng: &mut StdRng, id: u64, number: u64, created: OffsetDateTime, lines: Option<usize>) -> Self {
        let shop = CURRENCIES[rng.random_range(0..CURRENCIES.len())];
        let buyer = if rng.random_bool(0.2) {
            CURRENCIES[rng.random_range(0..CURRENCIES.len())]
        } else {
            shop
        };
        let currencies = CurrencyPair { shop, buyer };
        let taxes_included = rng.random_bool(0.4);
        let percent_off = if rng.random_bool(0.3) {
            [5, 10, 15, 20][rng.random_range(0..4)]
        } else {
            0
        };
        let count = if rng.random_bool(0.1) {
            rng.random_range(6..=9)
        } else {
            rng.random_range(1..=5)
        };
        let lines = (0..lines.unwrap_or(count))
            .map(|_| line(rng, currencies, percent_off, taxes_included))
            .collect();
        Self {
            id,
            number,
            created,
            currencies,
            lines,
            shipping: if rng.random_bool(0.3) {
                0
            } else {
                currencies.priced(rng.random_range(3..20) * 100)
            },
            taxes_included,
            person: rng.random_bool(0.85).then(|| rng.random_range(0..PEOPLE.len())),
            channel: CHANNELS[rng.random_range(0..CHANNELS.len())],
            refunded: rng.random_bool(0.3),
        }
    }

    /// Its progress where only that webhook is sent.
    pub(super) fn progress(&self, topic: &str) -> Progress {
        Progress::of_topic(topic, self.number.is_multiple_of(3), self.refunded)
    }

    /// So many minutes after its creation.
    pub(super) fn at(&self, minutes: i64) -> OffsetDateTime {
        self.created + Duration::minutes(minutes)
    }

    /// The payload of a topic at that progress.
    pub(super) fn payload(&self, topic: &str, progress: Progress, shop: &str) -> Value {
        match topic {
            "orders/delete" => json!({ "id": self.id }),
            "orders/edited" => self.edit(progress.updated),
            "refunds/create" => self.refund(progress.refunded.unwrap_or(USUAL_REFUND)),
            _ => self.whole(progress, shop),
        }
    }

    fn whole(&self, progress: Progress, shop: &str) -> Value {
        let (id, currencies) = (self.id, self.currencies);
        let updated = self.at(progress.updated);
        let sum = |part: fn(&Line) -> i64| self.lines.iter().map(part).sum::<i64>();
        let (gross, discount, tax) = (sum(Line::total), sum(|line| line.discount), sum(|line| line.tax));
        let subtotal = gross - discount;
        let total = subtotal + self.shipping + if self.taxes_included { 0 } else { tax };
        let (customer, address) = self.person.map(|person| customer(person, currencies.shop.code)).unzip();
        let email = customer.as_ref().map(|customer| customer["email"].clone());
        let code = json!({"code": "SPRING & SUN", "amount": currencies.text(discount), "type": "percentage"});
        let if_discounted = |value: Value| Vec::from_iter((discount > 0).then_some(value));
        let order = json!({
            "admin_graphql_api_id": format!("gid://shopify/Order/{id}"), "id": id, "name": format!("#{}", 1001 + self.number),
            "number": 1 + self.number, "order_number": 1001 + self.number,
            "checkout_id": id + 17, "checkout_token": format!("{:032x}", id * 3), "token": format!("{:032x}", id * 7),
            "confirmation_number": format!("{:09X}", id % 68_719_476_736),
            "order_status_url": format!("https://{shop}/60021178580/orders/{id:032x}/authenticate?key=none&utm=mail"),
            "cancel_reason": progress.is_cancelled.then_some("customer"),
            "cancelled_at": progress.is_cancelled.then(|| stamp(updated)),
            "created_at": stamp(self.created), "processed_at": stamp(self.created), "updated_at": stamp(updated),
            "financial_status": progress.financial_status(), "fulfillment_status": progress.fulfillment,
            "refunds": Vec::from_iter(progress.refunded.map(|at| self.refund(at))),
            "source_name": self.channel, "taxes_included": self.taxes_included,
            "currency": currencies.shop.code, "presentment_currency": currencies.buyer.code,
            "discount_codes": if_discounted(code), "discount_applications": if_discounted(filled("discount_application", [])),
            "billing_address": address, "shipping_address": address, "contact_email": email, "email": email,
            "customer": customer, "tax_lines": [self.tax(tax)],
            "line_items": Vec::from_iter(self.lines.iter().enumerate().map(|(at, line)| self.line(at, line))),
            "shipping_lines": [filled("shipping_line", [
                json!({"id": id + 41}),
                currencies.amounts(&[("discounted_price", self.shipping), ("price", self.shipping)]),
            ])],
            "total_outstanding": currencies.text(0), "total_tip_received": currencies.text(0),
            "total_shipping_price_set": currencies.set(self.shipping),
        });
        let amounts = currencies.amounts(&[
            ("current_subtotal_price", subtotal),
            ("current_total_discounts", discount),
            ("current_total_price", total),
            ("current_total_tax", tax),
            ("subtotal_price", subtotal),
            ("total_discounts", discount),
            ("total_line_items_price", gross),
            ("total_price", total),
            ("total_tax", tax),
        ]);
        filled("order", [order, amounts])
    }

    /// The payload of `orders/edited`: the change, without the order.
    fn edit(&self, minutes: i64) -> Value {
        let at = stamp(self.at(minutes));
        let own = json!({
            "id": self.id / 7, "created_at": at, "committed_at": at, "order_id": self.id,
            "line_items": {"additions": [{"id": self.id * 2, "delta": 1}], "removals": []},
        });
        json!({ "order_edit": filled("edit", [own]) })
    }

    /// The payload of `refunds/create`: one unit of the first line is returned.
    fn refund(&self, minutes: i64) -> Value {
        let id = self.id / 5;
        let at = stamp(self.at(minutes));
        let currencies = self.currencies;
        let first = self.lines.first();
        let of_unit = |line: &Line| ((line.total() - line.discount) / line.quantity, line.tax / line.quantity);
        let (amount, tax) = first.map(of_unit).unwrap_or_default();
        let paid = amount + if self.taxes_included { 0 } else { tax };
        let lines = first.map(|line| {
            filled(
                "refund_line",
                [
                    json!({"id": id + 1, "line_item": self.line(0, line), "line_item_id": self.id * 2}),
                    currencies.amounts(&[("subtotal", amount), ("total_tax", tax)]),
                ],
            )
        });
        let transaction = filled(
            "transaction",
            [json!({
                "id": id + 2, "order_id": self.id, "amount": currencies.text(paid), "currency": currencies.shop.code,
                "created_at": at, "processed_at": at, "parent_id": id + 3,
            })],
        );
        filled(
            "refund",
            [json!({
                "id": id, "order_id": self.id, "created_at": at, "processed_at": at,
                "admin_graphql_api_id": format!("gid://shopify/Refund/{id}"),
                "refund_line_items": Vec::from_iter(lines), "transactions": [transaction],
            })],
        )
    }

    fn line(&self, at: usize, line: &Line) -> Value {
        let (title, variant, _) = PRODUCTS[line.product];
        let product = 7_000_000_000_000 + u64::try_from(line.product).unwrap_or_default();
        let id = self.id * 2 + u64::try_from(at).unwrap_or_default();
        let currencies = self.currencies;
        let allocation = (line.discount > 0).then(|| {
            json!({
                "amount": currencies.text(line.discount), "amount_set": currencies.set(line.discount),
                "discount_application_index": 0,
            })
        });
        let own = json!({
            "id": id, "admin_graphql_api_id": format!("gid://shopify/LineItem/{id}"), "title": title, "sku": line.sku,
            "name": format!("{title} - {variant}"), "variant_title": variant, "product_id": product,
            "variant_id": product + 30_000_000_000_000, "quantity": line.quantity, "current_quantity": line.quantity,
            "fulfillable_quantity": line.quantity, "tax_lines": [self.tax(line.tax)],
            "discount_allocations": Vec::from_iter(allocation),
        });
        filled(
            "line",
            [own, currencies.amounts(&[("price", line.price), ("total_discount", 0)])],
        )
    }

    fn tax(&self, amount: i64) -> Value {
        filled("tax", [self.currencies.amounts(&[("price", amount)])])
    }
}

/// RFC 3339, in whole seconds.
fn stamp(moment: OffsetDateTime) -> Value {
    json!(
        moment
            .replace_nanosecond(0)
            .unwrap_or(moment)
            .format(&Rfc3339)
            .unwrap_or_default()
    )
}

/// The template of that name, with these members added.
fn filled(name: &str, members: impl IntoIterator<Item = Value>) -> Value {
    let mut filled = TEMPLATES[name].clone();
    for members in members {
        if let (Value::Object(filled), Value::Object(members)) = (&mut filled, members) {
            filled.extend(members);
        }
    }
    filled
}

fn line(rng: &mut StdRng, currencies: CurrencyPair, percent_off: i64, taxes_included: bool) -> Line {
    let product = rng.random_range(0..PRODUCTS.len());
    let quantity = if rng.random_bool(0.2) {
        rng.random_range(2..=6)
    } else {
        1
    };
    let price = currencies.priced(PRODUCTS[product].2);
    let discount = price * quantity * percent_off / 100;
    let net = price * quantity - discount;
    let sku = match rng.random_range(0..10) {
        0 => Value::Null,
        1 => json!(""),
        _ => json!(format!("EX-{product:02}-{}", rng.random_range(1..5))),
    };
    let tax = net * TAX / if taxes_included { 100 + TAX } else { 100 };
    Line {
        product,
        quantity,
        price,
        discount,
        tax,
        sku,
    }
}

/// Customer and address.
fn customer(person: usize, currency: &str) -> (Value, Value) {
    let (first, last, city, country, code) = PEOPLE[person];
    let id = 6_900_000_000_000 + u64::try_from(person).unwrap_or_default();
    let name = json!({"first_name": first, "last_name": last});
    let place = json!({"name": format!("{first} {last}"), "city": city, "country": country, "country_code": code});
    let address = filled("address", [name.clone(), place]);
    let own = json!({
        "id": id, "admin_graphql_api_id": format!("gid://shopify/Customer/{id}"), "currency": currency,
        "email": format!("customer{person}@example.com"), "default_address": address,
    });
    (filled("customer", [name, own]), address)
}
