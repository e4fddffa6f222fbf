//! Bodies, headers and signatures that others captured from Shopify, where they are at hand: `../shared/fixtures`, or
//! where `ORDERSTREAM_FIXTURES` points. What is expected of each was worked out from the files by other means.

use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue};
use orderstream::event::OrderEvent;
use orderstream::shopify::{self, ConvertError, DeliveryHints, Keyring, Topic, TopicError};
use serde_json::Value;
use time::OffsetDateTime;

/// The folder, if it is at hand.
pub fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("ORDERSTREAM_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures")),
        PathBuf::from,
    );
    folder.is_dir().then_some(folder)
}

/// A whole order: (file, topic, order, customer, total, currency, lines, units, discounts, taxes of the lines).
pub type Whole = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
    &'static str,
    usize,
    i64,
    &'static [&'static str],
    &'static [&'static str],
);

#[rustfmt::skip]
pub const WHOLE: [Whole; 13] = [
    ("derived_big_250_lines", "orders/create", "820982911946154508", Some("115310627314723954"), "36.99", "CAD", 250, 1243, &["0.00"], &["0"]),
    ("derived_wire_2023-01_orders_create", "orders/create", "820982911946154508", Some("115310627314723954"), "36.99", "CAD", 2, 2, &["0.00", "0.00"], &["0", "0"]),
    ("docs_2026-04_orders_create", "orders/create", "820982911946154500", Some("115310627314723950"), "404.95", "USD", 5, 5, &["0.00", "0.00", "0.00", "0.00", "0.00"], &["0", "0", "0", "0", "0"]),
    ("go_2019_order_with_coupon_unicode", "orders/cancelled", "123456", Some("1197552697433"), "1667.80", "USD", 1, 1, &["1022.20"], &["0"]),
    ("hookdeck_2023-01_orders_cancelled", "orders/cancelled", "820982911946154500", Some("115310627314723950"), "36.99", "CAD", 2, 2, &["0.00", "0.00"], &["0", "0"]),
    ("hookdeck_2023-01_orders_create", "orders/create", "820982911946154500", Some("115310627314723950"), "36.99", "CAD", 2, 2, &["0.00", "0.00"], &["0", "0"]),
    ("hookdeck_2023-01_orders_paid", "orders/paid", "820982911946154500", Some("115310627314723950"), "36.99", "CAD", 2, 2, &["0.00", "0.00"], &["0", "0"]),
    ("laravel_2017_orders_create", "orders/create", "820982911946154508", Some("115310627314723954"), "57.98", "USD", 2, 2, &["0.00", "5.00"], &["0", "0"]),
    ("php_2019_order_price_sets", "orders/create", "450789469", Some("207119551"), "598.94", "USD", 3, 3, &["3.34", "3.33", "3.33"], &["3.98", "3.98", "3.98"]),
    ("rest_2025-01_customer_removed_partial_refund", "orders/updated", "450789469", None, "598.94", "USD", 3, 3, &["3.34", "3.33", "3.33"], &["3.98", "3.98", "3.98"]),
    ("rest_2025-01_guest_eur_null_sku", "orders/create", "1073459976", None, "238.47", "EUR", 1, 3, &["0.00"], &["13.50"]),
    ("webhookdb_order_customer_key_absent", "orders/create", "450789469", None, "409.94", "USD", 1, 1, &["5.00"], &["25.81"]),
    ("wire_2022-01_real_compact_null_sku", "orders/create", "4689295835390", None, "10.00", "USD", 1, 1, &["0.00"], &["0"]),
];

/// A refund: (file, refund, processed at, amount, tax, currency).
type Given = (
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
    Option<&'static str>,
    &'static str,
);

/// Of `refunds/create` and of orders' `refunds[]`.
#[rustfmt::skip]
const REFUNDS: [Given; 6] = [
    ("docs_2026-04_refunds_create", "890088186047892400", Some("2021-12-31T19:00:00-05:00"), "85.00", Some("0"), "USD"),
    ("hookdeck_2023-01_refunds_create", "890088186047892400", None, "0", Some("0"), "CAD"),
    ("go_2019_order_with_coupon_unicode", "42214031449", Some("2019-02-14T15:50:33-06:00"), "0", Some("0.00"), "USD"),
    ("php_2019_order_price_sets", "509562969", Some("2020-12-04T14:53:36-05:00"), "209.00", Some("7.96"), "USD"),
    ("rest_2025-01_customer_removed_partial_refund", "509562969", Some("2025-01-02T11:29:59-05:00"), "209.00", Some("7.96"), "USD"),
    ("webhookdb_order_customer_key_absent", "18423447608", Some("2018-03-06T09:35:37-05:00"), "0", Some("0"), "USD"),
];

/// (file, topic, order, time).
#[rustfmt::skip]
const PARTIAL: [(&str, &str, &str, &str); 7] = [
    ("docs_2026-04_orders_delete", "orders/delete", "820982911946154500", "1970-01-01T00:00:00.000Z"),
    ("docs_2026-04_orders_edited", "orders/edited", "820982911946154500", "2021-12-31T19:00:00-05:00"),
    ("docs_2026-04_refunds_create", "refunds/create", "820982911946154500", "2021-12-31T19:00:00-05:00"),
    ("gadget_2024-01_order_transaction", "order_transactions/create", "123", "2019-01-01 00:00:00.000Z"),
    ("gadget_2025-04_orders_edited", "orders/edited", "123", "2019-01-01 00:00:00.000Z"),
    ("gadget_2025-04_risk_assessment_changed", "orders/risk_assessment_changed", "example string", "2019-01-01 00:00:00.000Z"),
    ("hookdeck_2023-01_refunds_create", "refunds/create", "820982911946154500", "1970-01-01T00:00:00.000Z"),
];

/// (file, topic, customer, orders, request).
type Request = (
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static [&'static str],
    Option<&'static str>,
);

#[rustfmt::skip]
const REQUESTS: [Request; 3] = [
    ("docs_2026-04_customers_data_request", "customers/data_request", Some("191167"), &["299938", "280263", "220458"], Some("9999")),
    ("docs_2026-04_customers_redact", "customers/redact", Some("191167"), &["299938", "280263", "220458"], None),
    ("docs_2026-04_shop_redact", "shop/redact", None, &[], None),
];

/// (file, topic, what the reason must say).
#[rustfmt::skip]
const REFUSED: [(&str, &str, &str); 8] = [
    ("docs_2026-04_orders_risk_assessment_changed", "orders/risk_assessment_changed", "lacks order_id"),
    ("gadget_2023-10_order_a", "orders/updated", "expected an exact decimal amount"),
    ("gadget_2024-01_order_12_lines", "orders/updated", "expected an exact decimal amount"),
    ("gadget_2025-04_order", "orders/updated", "expected an exact decimal amount"),
    ("gadget_2025-04_refund_a", "refunds/create", "expected an exact decimal amount"),
    ("go_2016_order_customer_id_null", "orders/create", "id, total_price, currency, line_items: this is an answer of Shopify's API"),
    ("python_orders_list_envelope", "orders/create", "id, total_price, currency, line_items: this is an answer of Shopify's API"),
    ("rest_2025-01_fields_filtered_tiny", "orders/updated", "lacks currency, line_items: does the subscription filter fields"),
];

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

pub fn convert<'a>(topic: &str, body: &'a [u8], hints: &'a DeliveryHints<'a>) -> Result<OrderEvent<'a>, Refusal> {
    let event_id = shopify::event_id(hints, body);
    let topic = Topic::parse(Some(topic))?;
    Ok(shopify::convert(
        topic,
        body,
        hints,
        event_id,
        OffsetDateTime::UNIX_EPOCH,
    )?)
}

pub fn read(name: &str) -> Option<Vec<u8>> {
    let path = folder()?.join("shopify").join(name).with_extension("json");
    // `with_extension` would eat a version's dot; none of the names has one.
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

#[test]
fn every_captured_body_is_in_one_of_the_tables() {
    let Some(folder) = folder() else { return };
    for entry in std::fs::read_dir(folder.join("shopify")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let known = WHOLE.iter().any(|row| row.0 == name)
                || PARTIAL.iter().any(|row| row.0 == name)
                || REQUESTS.iter().any(|row| row.0 == name)
                || REFUSED.iter().any(|row| row.0 == name);
            assert!(known, "{name} has no expectation");
        }
    }
}

#[test]
fn whole_orders_convert_exactly() {
    for (name, topic, order, customer, total, currency, lines, units, discounts, taxes) in WHOLE {
        let Some(body) = read(name) else { return };
        let hints = DeliveryHints::default();
        let event = convert(topic, &body, &hints).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(event.is_whole(), "{name}");
        assert_eq!(event.order_id.as_str(), order, "{name}");
        assert_eq!(event.customer_id.as_ref().map(|id| id.as_str()), customer, "{name}");
        assert_eq!(event.total_amount.unwrap().to_string(), total, "{name}");
        assert_eq!(event.currency.as_ref().unwrap().as_str(), currency, "{name}");
        assert_eq!(event.item_count(), units, "{name}");
        let items = event.items.as_ref().unwrap();
        assert_eq!(items.len(), lines, "{name}");
        for (item, (discount, tax)) in items.iter().zip(discounts.iter().zip(taxes)) {
            assert_eq!(item.discount.unwrap().to_string(), *discount, "{name}");
            assert_eq!(item.tax.unwrap().to_string(), *tax, "{name}");
        }
        let source: Value = serde_json::from_slice(&body).unwrap();
        for (item, line) in items.iter().zip(source["line_items"].as_array().unwrap()) {
            assert_eq!(
                item.sku.as_ref().map(|sku| sku.as_str()),
                line["sku"].as_str(),
                "{name}"
            );
            assert_eq!(item.price.to_string(), line["price"].as_str().unwrap(), "{name}");
            assert_eq!(
                item.title.as_ref().map(|title| title.as_str()),
                line["title"].as_str(),
                "{name}"
            );
        }
        assert_eq!(
            event.timestamp.as_str(),
            source["updated_at"].as_str().unwrap(),
            "{name}"
        );
        assert_eq!(event.test, source["test"].as_bool(), "{name}");
        assert_nothing_personal(name, &source, &event);
    }
}

/// No personal value of the source stands in the event's JSON.
fn assert_nothing_personal(name: &str, source: &Value, event: &OrderEvent<'_>) {
    let json = serde_json::to_string(event).unwrap();
    let customer = &source["customer"];
    for value in [
        &source["email"],
        &source["phone"],
        &customer["email"],
        &customer["phone"],
        &customer["last_name"],
        &source["billing_address"]["address1"],
        &source["shipping_address"]["address1"],
        &source["token"],
        &source["order_status_url"],
    ] {
        if let Some(text) = value.as_str().filter(|text| text.len() > 3) {
            assert!(!json.contains(text), "{name}: {text}");
        }
    }
}

#[test]
fn refunds_amount_to_what_their_transactions_gave_back() {
    for (name, id, processed_at, amount, tax, currency) in REFUNDS {
        let Some(body) = read(name) else { return };
        let topic = if name.contains("refunds_create") {
            "refunds/create"
        } else {
            "orders/updated"
        };
        let hints = DeliveryHints::default();
        let event = convert(topic, &body, &hints).unwrap_or_else(|error| panic!("{name}: {error}"));
        let [refund] = event.refunds.as_deref().unwrap() else {
            panic!("{name}: not one refund")
        };
        assert_eq!(refund.refund_id.as_str(), id, "{name}");
        assert_eq!(
            refund.processed_at.as_ref().map(|at| at.as_str()),
            processed_at,
            "{name}"
        );
        assert_eq!(refund.amount.to_string(), amount, "{name}");
        assert_eq!(refund.tax.map(|tax| tax.to_string()).as_deref(), tax, "{name}");
        assert_eq!(refund.currency.as_ref().unwrap().as_str(), currency, "{name}");
    }
}

#[test]
fn thin_bodies_name_order_and_time_and_never_are_whole() {
    for (name, topic, order, timestamp) in PARTIAL {
        let Some(body) = read(name) else { return };
        let hints = DeliveryHints::default();
        let event = convert(topic, &body, &hints).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!event.is_whole(), "{name}");
        assert_eq!(event.order_id.as_str(), order, "{name}");
        assert_eq!(event.timestamp.as_str(), timestamp, "{name}");
        assert!(event.total_amount.is_none() && event.items.is_none(), "{name}");
    }
}

#[test]
fn privacy_requests_keep_ids_only_and_are_not_taken_for_each_other() {
    for (name, topic, customer, orders, request) in REQUESTS {
        let Some(body) = read(name) else { return };
        let hints = DeliveryHints {
            shop: Some("one.myshopify.com".into()),
            ..DeliveryHints::default()
        };
        let event = convert(topic, &body, &hints).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(event.customer_id.as_ref().map(|id| id.as_str()), customer, "{name}");
        assert_eq!(event.request_id.as_ref().map(|id| id.as_str()), request, "{name}");
        assert!(
            event.order_ids.iter().map(|id| id.as_str()).eq(orders.iter().copied()),
            "{name}"
        );
        assert_eq!(event.order_id.as_str(), "", "{name}");
        let json = serde_json::to_string(&event).unwrap();
        assert!(
            !json.contains("john@example.com") && !json.contains("555-625"),
            "{json}"
        );
        let topics = REQUESTS
            .iter()
            .map(|row| row.1)
            .chain(["orders/create", "orders/delete"]);
        for other in topics.filter(|other| *other != topic) {
            assert!(convert(other, &body, &hints).is_err(), "{name} as {other}");
        }
    }
}

#[test]
fn what_is_no_event_is_refused_with_its_reason() {
    for (name, topic, reason) in REFUSED {
        let Some(body) = read(name) else { return };
        let hints = DeliveryHints::default();
        let refusal = convert(topic, &body, &hints).expect_err(name).to_string();
        assert!(refusal.contains(reason), "{name}: {refusal}");
        assert!(!refusal.contains("example string"), "{name}: {refusal}");
    }
}

#[test]
fn every_signature_vector_is_judged_as_it_says() {
    let Some(folder) = folder() else { return };
    let vectors: Value = serde_json::from_slice(&std::fs::read(folder.join("hmac_vectors.json")).unwrap()).unwrap();
    for vector in vectors["vectors"].as_array().unwrap() {
        let name = &vector["name"];
        let body = match vector["body_file"].as_str() {
            Some(file) => std::fs::read(folder.join(file)).unwrap(),
            None => vector["body_utf8"].as_str().unwrap().as_bytes().to_vec(),
        };
        let keyring = Keyring::new(&[vector["secret"].as_str().unwrap().into()]).unwrap();
        let signature = vector["header_base64"].as_str().unwrap().as_bytes();
        let verdict = keyring.claim(None, signature).and_then(|claim| claim.verify(&body));
        assert_eq!(
            verdict.is_ok(),
            vector["source_expects_valid"].as_bool().unwrap(),
            "{name}"
        );
    }
}

#[test]
fn captured_headers_are_understood() {
    let Some(folder) = folder() else { return };
    let captures: Value =
        serde_json::from_slice(&std::fs::read(folder.join("captured_headers.json")).unwrap()).unwrap();
    for capture in captures["captures"].as_array().unwrap() {
        let source = capture["headers"].as_object().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in source {
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value.as_str().unwrap()).unwrap(),
            );
        }
        let said = |name: &str| source.get(name).and_then(Value::as_str);
        let hints = DeliveryHints::new(&headers);
        assert_eq!(hints.topic, said("x-shopify-topic"));
        assert_eq!(hints.shop.as_deref(), said("x-shopify-shop-domain"));
        assert_eq!(hints.webhook_id, said("x-shopify-webhook-id"));
        assert_eq!(hints.api_version, said("x-shopify-api-version"));
        assert_eq!(hints.order_id, said("x-shopify-order-id"));
        assert_eq!(
            shopify::signature(&headers).unwrap(),
            said("x-shopify-hmac-sha256").unwrap().as_bytes()
        );
    }
}
