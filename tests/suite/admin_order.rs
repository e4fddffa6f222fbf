//! Orders of the Admin API into events: the same as their webhooks give.

use orderstream::event::OrderEvent;
use orderstream::sample_orders::Generator;
use orderstream::shopify::{
    AdminOrder, Asked, DeliveryHints, EventDelivery, Request, ShopZone, deleted_order, rest_order,
};
use serde_json::{Value, json};
use time::macros::datetime;
use uuid::Uuid;

use crate::captured;
use crate::harness::shopify::render;

const SHOP: &str = "example.myshopify.com";

fn request(asked: Asked) -> Request<'static> {
    Request {
        asked,
        shop: SHOP,
        received_at: datetime!(2026-12-01 12:00 UTC),
    }
}

/// A zone that is at the offset in which the body is written.
fn zone_of(body: &Value) -> ShopZone {
    let written = body["created_at"].as_str().unwrap();
    let name = match &written[19..] {
        "Z" | "+00:00" => "Etc/UTC".to_owned(),
        offset => {
            let hours: i32 = offset[..3].parse().unwrap();
            format!("Etc/GMT{}{}", if hours < 0 { '+' } else { '-' }, hours.abs())
        }
    };
    ShopZone::named(&name).unwrap()
}

/// What both ways to an order must agree on: all but the identity of the event, the ledger, and the landing page, which no
/// query asks for.
fn comparable(mut event: OrderEvent<'_>) -> Value {
    event.event_id = "e".into();
    event.event_type = "order.updated".into();
    event.sales = None;
    event.shop = None;
    if let Some(details) = &mut event.details {
        details.utm = None;
    }
    serde_json::to_value(&event).unwrap()
}

fn of_webhook(body: &Value) -> Value {
    let text = body.to_string();
    let hints = DeliveryHints::default();
    let event = captured::convert("orders/updated", text.as_bytes(), &hints).unwrap();
    comparable(event)
}

fn of_admin_api(node: &Value, zone: ShopZone) -> Value {
    let order = AdminOrder::of(node, zone).unwrap();
    comparable(order.event(request(Asked::Import)).unwrap())
}

/// Every state of so many generated histories.
fn generated() -> impl Iterator<Item = Value> {
    let generator = Generator::new(17, Generator::epoch());
    (0..150)
        .flat_map(move |number| {
            let steps = generator.history(number);
            steps.into_iter().map(move |step| generator.step(step, SHOP, number))
        })
        .map(|body| serde_json::from_str::<Value>(&body).unwrap())
        .filter(|body| !body["line_items"].is_null())
}

#[test]
fn an_order_of_the_admin_api_is_the_order_of_its_webhook() {
    let mut compared = 0;
    let berlin = ShopZone::named("Europe/Berlin").unwrap();
    let generated = generated().map(|body| (zone_of(&body), body));
    for (zone, body) in generated.chain(histories().map(|body| (berlin, body))) {
        assert_eq!(of_admin_api(&render::order(&body), zone), of_webhook(&body), "{body}");
        compared += 1;
    }
    assert!(compared > 300, "{compared}");
}

/// But for the event's type, which is the topic's, and its id, which is the delivery's.
#[test]
fn a_delivery_of_events_is_the_order_of_its_webhook() {
    let berlin = ShopZone::named("Europe/Berlin").unwrap();
    for body in histories() {
        let data = json!({"order": render::order(&body), "shop": {"ianaTimezone": "Europe/Berlin"}});
        let delivered = json!({"topic": "Order", "action": "update", "data": data}).to_string();
        let hints = DeliveryHints::default();
        let delivery = EventDelivery::read(delivered.as_bytes(), &hints).unwrap();
        let (id, at) = (Uuid::from_u128(7), datetime!(2026-12-01 12:00 UTC));
        let event = delivery.event(&hints, id, at).unwrap();
        assert_eq!(
            (event.event_type.as_str(), event.event_id.as_str()),
            ("order.updated", &*id.to_string())
        );
        assert!(event.sales.is_some(), "the ledger is in the answer");
        assert_eq!(comparable(event), of_admin_api(&render::order(&body), berlin));
        assert_eq!(of_admin_api(&render::order(&body), berlin), of_webhook(&body));
    }
}

#[test]
fn what_events_bring_besides_is_refused_with_its_remedy() {
    let order = render::order(&histories().next().unwrap());
    let shop = json!({"ianaTimezone": "Etc/UTC"});
    for (body, remedy) in [
        (
            json!({"topic": "Product", "action": "update", "data": {"order": order, "shop": shop}}),
            "webhook topic",
        ),
        (
            json!({"topic": "Order", "action": "delete", "data": {"order": order, "shop": shop}}),
            "webhook topic",
        ),
        (
            json!({"topic": "Order", "action": "create", "data": {"order": order}}),
            "docs/SHOPIFY.md",
        ),
        (
            json!({"topic": "Order", "action": "create", "data": {"order": null, "shop": shop}}),
            "docs/SHOPIFY.md",
        ),
        (json!({"topic": "Order", "action": "create"}), "docs/SHOPIFY.md"),
        (
            json!({"topic": "Order", "action": "create", "data": {"order": {"id": "gid://shopify/Order/1"}, "shop": shop}}),
            "updatedAt",
        ),
        (json!([]), "cannot be read"),
    ] {
        let text = body.to_string();
        let error = EventDelivery::read(text.as_bytes(), &DeliveryHints::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("Shopify's Events") && error.contains(remedy),
            "{body}: {error}"
        );
    }
}

/// The whole states of this repository's histories, of a shop in Berlin.
fn histories() -> impl Iterator<Item = Value> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/histories");
    let bodies = std::fs::read_dir(folder).unwrap().flat_map(|file| {
        let history: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        history["deliveries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["body"].clone())
            .collect::<Vec<_>>()
    });
    // Refunded shipping in the form of before 2024-10 is in the newer one there.
    bodies.filter(|body| !body["line_items"].is_null() && !body.to_string().contains("shipping_refund"))
}

#[test]
fn a_bulk_operations_order_takes_refund_lines_from_its_ledger() {
    let mut refunded = 0;
    for body in generated().filter(|body| !body["refunds"].as_array().unwrap().is_empty()) {
        let whole = render::order(&body);
        let bulk = AdminOrder::of(&render::without_refund_details(whole.clone()), zone_of(&body)).unwrap();
        let by_id = AdminOrder::of(&whole, zone_of(&body)).unwrap();
        let (bulk, by_id) = (
            bulk.event(request(Asked::Import)).unwrap(),
            by_id.event(request(Asked::Import)).unwrap(),
        );
        assert_ne!(bulk.event_id, by_id.event_id, "they are not the same event");
        for (one, other) in bulk.refunds.iter().flatten().zip(by_id.refunds.iter().flatten()) {
            assert_eq!(
                (one.amount, one.tax, &one.currency),
                (other.amount, other.tax, &other.currency)
            );
            let lines = |refund: &orderstream::event::Refund<'_>| {
                let lines = refund.lines.iter().flatten();
                Vec::from_iter(lines.map(|line| {
                    (
                        line.line_id.as_ref().unwrap().as_str().to_owned(),
                        line.qty,
                        line.subtotal,
                        line.tax,
                    )
                }))
            };
            assert_eq!(lines(one), lines(other));
        }
        refunded += 1;
    }
    assert!(refunded > 15, "{refunded}");
}

fn small() -> Value {
    json!({
        "id": "gid://shopify/Order/7", "name": "#1007", "createdAt": "2026-11-02T04:30:00Z", "processedAt": "2026-11-02T04:30:00Z",
        "updatedAt": "2026-11-03T10:00:00Z", "currencyCode": "KWD", "taxesIncluded": false,
        "displayFulfillmentStatus": "FULFILLMENT_NOT_REQUIRED", "customer": null,
        "totalPriceSet": {"shopMoney": {"amount": "12.5", "currencyCode": "KWD"}},
        "lineItems": [{"id": "gid://shopify/LineItem/1", "quantity": 1, "currentQuantity": 0,
                       "originalUnitPriceSet": {"shopMoney": {"amount": "12.0"}}}],
        "agreements": {"nodes": [{
            "id": "gid://shopify/SalesAgreement/1", "happenedAt": "2026-11-02T04:30:00Z", "reason": "ORDER",
            "sales": {"nodes": [{
                "id": "gid://shopify/Sale/5", "actionType": "ORDER", "lineType": "PRODUCT", "quantity": 1,
                "totalAmount": {"shopMoney": {"amount": "12.5"}}, "totalTaxAmount": {"shopMoney": {"amount": "0.5"}},
                "totalDiscountAmountBeforeTaxes": {"shopMoney": {"amount": "0.0"}},
                "lineItem": {"id": "gid://shopify/LineItem/1"},
            }], "pageInfo": {"hasNextPage": false}},
        }], "pageInfo": {"hasNextPage": false}},
    })
}

#[test]
fn days_are_the_shops_and_amounts_have_its_currencys_digits() {
    let new_york = ShopZone::named("America/New_York").unwrap();
    let order = AdminOrder::of(&small(), new_york).unwrap();
    let event = order.event(request(Asked::Reconcile)).unwrap();
    // 04:30 in UTC is the evening before in New York.
    assert_eq!(
        event.processed_at.as_ref().unwrap().as_str(),
        "2026-11-01T23:30:00-05:00"
    );
    assert_eq!(
        (event.order_id.as_str(), event.event_type.as_str()),
        ("7", "order.reconciled")
    );
    assert_eq!(
        (event.total_amount.unwrap().to_string(), event.customer_id.is_none()),
        ("12.500".to_owned(), true)
    );
    assert_eq!(event.fulfillment_status, None);
    assert_eq!(
        event.items.as_ref().unwrap()[0].current_qty,
        Some(0),
        "a line that an edit removed stays"
    );
    let sale = &event.sales.as_ref().unwrap()[0];
    assert_eq!(
        (sale.total.to_string(), sale.tax.to_string(), sale.qty),
        ("12.500".to_owned(), "0.500".to_owned(), 1)
    );
    assert_eq!(sale.happened_at.as_str(), "2026-11-01T23:30:00-05:00");
    assert_eq!(
        (sale.line_type.as_str(), sale.line_id.as_ref().unwrap().as_str()),
        ("product", "1")
    );
    // Made with Python's `uuid.uuid5`. It must never change: a known event would be new.
    let imported = order.event(request(Asked::Import)).unwrap();
    assert_eq!(imported.event_id.as_str(), "ad94ad0d-d69f-5183-a648-9b0731f422ac");
}

#[test]
fn half_a_ledger_is_none() {
    let mut cut_off = small();
    cut_off["lineItems"] = json!({"nodes": [], "pageInfo": {"hasNextPage": true}});
    assert!(
        AdminOrder::of(&cut_off, ShopZone::named("Etc/UTC").unwrap()).is_err(),
        "half of its lines is no order"
    );
    for place in ["/agreements/pageInfo", "/agreements/nodes/0/sales/pageInfo"] {
        let mut order = small();
        order.pointer_mut(place).unwrap()["hasNextPage"] = true.into();
        let order = AdminOrder::of(&order, ShopZone::named("Etc/UTC").unwrap()).unwrap();
        assert_eq!(order.event(request(Asked::Import)).unwrap().sales, None);
    }
}

#[test]
fn what_is_no_order_says_why() {
    let utc = ShopZone::named("Etc/UTC").unwrap();
    let error = AdminOrder::of(&json!({"id": "gid://shopify/Order/1"}), utc)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("updatedAt, currencyCode, totalPriceSet, lineItems"),
        "{error}"
    );
    let mut order = small();
    order["totalPriceSet"]["shopMoney"]["amount"] = "secret".into();
    let error = AdminOrder::of(&order, utc)
        .unwrap()
        .event(request(Asked::Import))
        .unwrap_err()
        .to_string();
    assert!(error.contains("total_price") && !error.contains("secret"), "{error}");
    let deleted = |id, at| deleted_order(id, at, utc, request(Asked::Reconcile));
    assert!(deleted("gid://shopify/Order/1", "yesterday").is_err());
    let event = deleted("gid://shopify/Order/1", "2026-11-02T04:30:00Z").unwrap();
    assert_eq!(
        (event.order_id.as_str(), event.event_type.as_str(), event.is_deletion()),
        ("1", "order.deleted", true)
    );
}

#[test]
fn an_order_of_the_rest_api_is_that_of_a_webhook() {
    let body = generated().next().unwrap();
    let text = body.to_string();
    let event = rest_order(text.as_bytes(), request(Asked::Import)).unwrap();
    assert_eq!(event.event_type.as_str(), "order.imported");
    assert_eq!(comparable(event), of_webhook(&body));
}
