//! One invented order, and its payloads.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::history::{Stand, USUAL_REFUND};
use super::money::{CURRENCIES, Purse};
use super::stamp;

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

pub(super) struct Order {
    id: u64,
    number: u64,
    created: OffsetDateTime,
    purse: Purse,
    lines: Vec<Line>,
    shipping: i64,
    taxes_included: bool,
    person: Option<usize>,
    channel: &'static str,
    refunded: bool,
}

impl Order {
    pub(super) fn new(rng: &mut StdRng, id: u64, number: u64, created: OffsetDateTime) -> Self {
        let shop = CURRENCIES[rng.random_range(0..CURRENCIES.len())];
        let buyer = if rng.random_bool(0.2) {
            CURRENCIES[rng.random_range(0..CURRENCIES.len())]
        } else {
            shop
        };
        let purse = Purse { shop, buyer };
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
        let lines = (0..count)
            .map(|_| line(rng, purse, percent_off, taxes_included))
            .collect();
        Self {
            id,
            number,
            created,
            purse,
            lines,
            shipping: if rng.random_bool(0.3) {
                0
            } else {
                purse.priced(rng.random_range(3..20) * 100)
            },
            taxes_included,
            person: rng.random_bool(0.85).then(|| rng.random_range(0..PEOPLE.len())),
            channel: CHANNELS[rng.random_range(0..CHANNELS.len())],
            refunded: rng.random_bool(0.3),
        }
    }

    /// Where it stands when only that is told of it.
    pub(super) fn stand(&self, topic: &str) -> Stand {
        Stand::of_topic(topic, self.number.is_multiple_of(3), self.refunded)
    }

    /// So many minutes after its creation.
    pub(super) fn at(&self, minutes: i64) -> OffsetDateTime {
        self.created + Duration::minutes(minutes)
    }

    /// What a topic carries when the order has come so far.
    pub(super) fn told(&self, topic: &str, stand: Stand, shop: &str) -> Value {
        match topic {
            "orders/delete" => json!({ "id": self.id }),
            "orders/edited" => self.edit(stand.updated),
            "refunds/create" => self.refund(stand.refunded.unwrap_or(USUAL_REFUND)),
            _ => self.payload(stand, shop),
        }
    }

    /// The whole of it.
    fn payload(&self, stand: Stand, shop: &str) -> Value {
        let updated = self.at(stand.updated);
        let cancelled = if stand.is_cancelled {
            stamp(updated)
        } else {
            Value::Null
        };
        let mut order = json!({
            "admin_graphql_api_id": format!("gid://shopify/Order/{}", self.id),
            "cancel_reason": if cancelled.is_null() { Value::Null } else { json!("customer") },
            "cancelled_at": cancelled,
            "created_at": stamp(self.created),
            "financial_status": stand.financial_status(),
            "fulfillment_status": stand.fulfillment,
            "id": self.id,
            "order_status_url": format!("https://{shop}/60021178580/orders/{:032x}/authenticate?key=none&utm=mail", self.id),
            "processed_at": stamp(self.created),
            "refunds": stand.refunded.map(|at| self.refund(at)).into_iter().collect::<Vec<_>>(),
            "updated_at": stamp(updated),
        });
        for part in [self.head(), self.sums(), self.parties()] {
            if let (Value::Object(order), Value::Object(part)) = (&mut order, part) {
                order.extend(part);
            }
        }
        order
    }

    /// What `orders/edited` carries: what was changed, without the order.
    fn edit(&self, minutes: i64) -> Value {
        let at = stamp(self.at(minutes));
        json!({"order_edit": {
            "id": self.id / 7, "app_id": null, "created_at": at, "committed_at": at, "notify_customer": false,
            "order_id": self.id, "staff_note": "asked for by phone", "user_id": 5,
            "line_items": {"additions": [{"id": self.id * 2, "delta": 1}], "removals": []},
            "discounts": {"line_item": {"additions": [], "removals": []}},
            "shipping_lines": {"additions": [], "removals": []},
        }})
    }

    /// What `refunds/create` carries: one unit of the first line goes back.
    fn refund(&self, minutes: i64) -> Value {
        let id = self.id / 5;
        let at = stamp(self.at(minutes));
        let purse = self.purse;
        let lines = self.lines.first().into_iter().map(|line| {
            let (amount, tax) = ((line.total() - line.discount) / line.quantity, line.tax / line.quantity);
            json!({
                "id": id + 1, "line_item": self.line(0, line), "line_item_id": self.id * 2, "location_id": null,
                "quantity": 1, "restock_type": "no_restock",
                "subtotal": purse.text(amount), "subtotal_set": purse.set(amount),
                "total_tax": purse.text(tax), "total_tax_set": purse.set(tax),
            })
        });
        let paid: i64 = self.lines.first().map_or(0, |line| {
            let tax = if self.taxes_included {
                0
            } else {
                line.tax / line.quantity
            };
            (line.total() - line.discount) / line.quantity + tax
        });
        json!({
            "id": id, "order_id": self.id, "created_at": at, "processed_at": at, "note": "one came back",
            "user_id": null, "restock": false, "return": null, "duties": [], "order_adjustments": [],
            "admin_graphql_api_id": format!("gid://shopify/Refund/{id}"),
            "refund_line_items": lines.collect::<Vec<_>>(),
            "transactions": [{
                "id": id + 2, "order_id": self.id, "kind": "refund", "status": "success", "gateway": "shopify_payments",
                "amount": purse.text(paid), "currency": purse.shop.code, "created_at": at, "processed_at": at,
                "parent_id": id + 3, "test": false, "message": "Refunded", "source_name": "1830279", "receipt": {},
            }],
        })
    }

    fn head(&self) -> Value {
        json!({
            "app_id": 580_111, "browser_ip": null, "buyer_accepts_marketing": false, "cart_token": null,
            "checkout_id": self.id + 17, "checkout_token": format!("{:032x}", self.id * 3), "client_details": null,
            "closed_at": null, "company": null, "confirmation_number": format!("{:09X}", self.id % 68_719_476_736),
            "confirmed": true, "customer_locale": "en", "device_id": null, "duties_included": false, "estimated_taxes": false,
            "landing_site": "/collections/all?utm_source=mail&utm_campaign=spring", "landing_site_ref": null,
            "location_id": null, "merchant_business_entity_id": "MTYwMDIxMTc4NTgw", "merchant_of_record_app_id": null,
            "name": format!("#{}", 1001 + self.number), "note": null, "note_attributes": [], "number": 1 + self.number,
            "order_number": 1001 + self.number, "original_total_duties_set": null,
            "payment_gateway_names": ["shopify_payments"], "payment_terms": null, "phone": null, "po_number": null,
            "reference": null, "referring_site": "https://www.example.com/", "source_identifier": null,
            "source_name": self.channel, "source_url": null, "tags": "spring, newsletter", "tax_exempt": false,
            "taxes_included": self.taxes_included, "test": false, "token": format!("{:032x}", self.id * 7), "user_id": null,
        })
    }

    fn sums(&self) -> Value {
        let sum = |part: fn(&Line) -> i64| self.lines.iter().map(part).sum::<i64>();
        let (gross, discount, tax) = (sum(Line::total), sum(|line| line.discount), sum(|line| line.tax));
        let subtotal = gross - discount;
        let total = subtotal + self.shipping + if self.taxes_included { 0 } else { tax };
        let purse = self.purse;
        let code = if discount > 0 {
            vec![json!({"code": "SPRING & SUN", "amount": purse.text(discount), "type": "percentage"})]
        } else {
            Vec::new()
        };
        json!({
            "currency": purse.shop.code, "presentment_currency": purse.buyer.code, "discount_codes": code,
            "discount_applications": code.iter().map(|code| json!({
                "target_type": "line_item", "type": "discount_code", "value": "10.0", "value_type": "percentage",
                "allocation_method": "across", "target_selection": "all", "code": code["code"],
            })).collect::<Vec<_>>(),
            "current_subtotal_price": purse.text(subtotal), "current_subtotal_price_set": purse.set(subtotal),
            "current_total_additional_fees_set": null,
            "current_total_discounts": purse.text(discount), "current_total_discounts_set": purse.set(discount),
            "current_total_duties_set": null,
            "current_total_price": purse.text(total), "current_total_price_set": purse.set(total),
            "current_total_tax": purse.text(tax), "current_total_tax_set": purse.set(tax),
            "subtotal_price": purse.text(subtotal), "subtotal_price_set": purse.set(subtotal),
            "tax_lines": [self.tax(tax)],
            "total_discounts": purse.text(discount), "total_discounts_set": purse.set(discount),
            "total_line_items_price": purse.text(gross), "total_line_items_price_set": purse.set(gross),
            "total_outstanding": purse.text(0), "total_price": purse.text(total), "total_price_set": purse.set(total),
            "total_shipping_price_set": purse.set(self.shipping), "total_tax": purse.text(tax),
            "total_tax_set": purse.set(tax), "total_tip_received": purse.text(0), "total_weight": 1200,
        })
    }

    fn parties(&self) -> Value {
        let purse = self.purse;
        let (customer, address) = match self.person {
            None => (Value::Null, Value::Null),
            Some(person) => customer(person, purse.shop.code),
        };
        let email = customer["email"].clone();
        json!({
            "billing_address": address, "shipping_address": address, "contact_email": email, "email": email,
            "customer": customer, "fulfillments": [],
            "line_items": self.lines.iter().enumerate().map(|(at, line)| self.line(at, line)).collect::<Vec<_>>(),
            "shipping_lines": [{
                "id": self.id + 41, "carrier_identifier": null, "code": "Standard", "phone": null,
                "discounted_price": purse.text(self.shipping), "discounted_price_set": purse.set(self.shipping),
                "is_removed": false, "price": purse.text(self.shipping), "price_set": purse.set(self.shipping),
                "source": "shopify", "title": "Standard", "tax_lines": [], "discount_allocations": [],
                "requested_fulfillment_service_id": null,
            }],
        })
    }

    fn line(&self, at: usize, line: &Line) -> Value {
        let (title, variant, _) = PRODUCTS[line.product];
        let place = u64::try_from(at).unwrap_or_default();
        let product = 7_000_000_000_000 + u64::try_from(line.product).unwrap_or_default();
        let id = self.id * 2 + place;
        let purse = self.purse;
        let allocation = json!({
            "amount": purse.text(line.discount), "amount_set": purse.set(line.discount), "discount_application_index": 0,
        });
        json!({
            "id": id, "admin_graphql_api_id": format!("gid://shopify/LineItem/{id}"), "attributed_staffs": [],
            "current_quantity": line.quantity, "fulfillable_quantity": line.quantity, "fulfillment_service": "manual",
            "fulfillment_status": null, "gift_card": false, "grams": 300, "name": format!("{title} - {variant}"),
            "price": purse.text(line.price), "price_set": purse.set(line.price), "product_exists": true,
            "product_id": product, "properties": [], "quantity": line.quantity, "requires_shipping": true, "sku": line.sku,
            "taxable": true, "title": title, "total_discount": purse.text(0), "total_discount_set": purse.set(0),
            "variant_id": product + 30_000_000_000_000, "variant_inventory_management": "shopify",
            "variant_title": variant, "vendor": "Example & Co.", "tax_lines": [self.tax(line.tax)], "duties": [],
            "discount_allocations": if line.discount > 0 { vec![allocation] } else { Vec::new() },
        })
    }

    fn tax(&self, amount: i64) -> Value {
        json!({
            "channel_liable": false, "price": self.purse.text(amount), "price_set": self.purse.set(amount), "rate": 0.19,
            "title": "VAT",
        })
    }
}

fn line(rng: &mut StdRng, purse: Purse, percent_off: i64, taxes_included: bool) -> Line {
    let product = rng.random_range(0..PRODUCTS.len());
    let quantity = if rng.random_bool(0.2) {
        rng.random_range(2..=6)
    } else {
        1
    };
    let price = purse.priced(PRODUCTS[product].2);
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
    let address = json!({
        "first_name": first, "last_name": last, "name": format!("{first} {last}"), "address1": "1 Example Street",
        "address2": null, "city": city, "company": null, "country": country, "country_code": code, "zip": "00000",
        "latitude": null, "longitude": null, "phone": null, "province": null, "province_code": null,
    });
    let customer = json!({
        "id": id, "admin_graphql_api_id": format!("gid://shopify/Customer/{id}"), "currency": currency,
        "created_at": "2024-03-01T09:00:00-05:00", "updated_at": "2025-03-01T09:00:00-05:00",
        "email": format!("customer{person}@example.com"), "first_name": first, "last_name": last, "state": "enabled",
        "note": null, "verified_email": true, "multipass_identifier": null, "tax_exempt": false, "tags": "",
        "phone": null, "tax_exemptions": [], "sms_marketing_consent": null,
        "email_marketing_consent": { "state": "not_subscribed", "opt_in_level": "single_opt_in", "consent_updated_at": null },
        "default_address": address,
    });
    (customer, address)
}
