//! What else an order says, and on which day each of its lines came.

use orderstream::event::Provenance;
use serde_json::json;

use super::super::events::{Sample, order, records};
use super::{Store, empty, load, rows};

/// With everything that has a place of its own.
fn full_order() -> Sample {
    let mut event = order("e1", "1", 2, 0);
    let more = json!({
        "order_number": 1042, "created_at": "2026-01-31T23:30:00-05:30", "cancel_reason": "customer",
        "closed_at": "2026-02-01T00:00:00Z", "app_id": 580111, "location_id": "gid://shopify/Location/7",
        "billing_country": "CA", "shipping_country": "US", "rounding": "0.02", "refund_rounding": "-0.01",
        "subtotal": 20, "total_tax": "1.20", "current_subtotal": 10, "total_duties": 3, "current_total_duties": 0,
        "shipping_lines": [
            {"line_id": 5, "title": "Post", "code": "INT", "source": "app", "price": 6, "discounted_price": 4, "tax": "0.20"},
            {"title": "Pickup", "price": 0, "removed": true}
        ],
        "details": {
            "gateways": ["bogus"], "locale": "en-CA", "weight": 300, "tags": ["vip", "say \"hi\""],
            "utm": {"source": "news"},
            "discounts": [{"type": "discount_code", "code": "TENOFF", "target_type": "line_item", "value_type": "percentage",
                           "value": 10, "amount": "2.10"}],
            "tax_lines": [{"line_id": 1, "title": "State", "rate": 0.0625, "amount": 1}, {"shipping_line_id": 5,
                           "title": "State", "amount": "0.20", "channel_liable": true}],
            "fulfillments": [{"fulfillment_id": 9, "status": "success", "service": "manual", "carrier": "USPS",
                              "location_id": 7, "created_at": "2026-02-01T10:00:00+01:00"}],
            "note_attributes": [{"name": "colour", "value": "green"}]
        }
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event["items"] = json!([{"sku": "A", "qty": 2, "price": 10, "line_id": 1, "variant_title": "red", "vendor": "Acme",
                             "taxable": false, "requires_shipping": true, "fulfillable_qty": 1,
                             "properties": [{"name": "Engraving", "value": "Ada"}]}]);
    event.into()
}

pub async fn an_order_lays_out_what_else_it_says(store: &dyn Store) {
    load(store, &[full_order()]).await;
    assert_eq!(
        rows(
            store,
            "SELECT order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, \
                    shipping_country, rounding, refund_rounding, current_subtotal, current_total_tax, \
                    current_total_duties, current_total_fees FROM orders"
        )
        .await,
        "1042|customer|2026-02-01T00:00:00.000000Z|-330|580111|7|CA|US|0.02|-0.01|10|1.2|0|"
    );
    let details = rows(store, "SELECT details FROM orders").await;
    let details: serde_json::Value = serde_json::from_str(&details).unwrap();
    assert_eq!(details["gateways"], json!(["bogus"]));
    assert_eq!((&details["locale"], &details["weight"]), (&json!("en-CA"), &json!(300)));
    assert_eq!(details["utm"], json!({"source": "news"}));
    assert_eq!(
        details["note_attributes"],
        json!([{"name": "colour", "value": "green"}])
    );
    for (view, expected) in [
        (
            "SELECT variant_title, vendor, taxable, requires_shipping, fulfillable_qty, added_on, properties FROM order_items",
            "red|Acme|0|1|1|2026-01-31|[{\"name\":\"Engraving\",\"value\":\"Ada\"}]",
        ),
        (
            "SELECT shop, order_id, no, type, code, title, target_type, value_type, value, amount, currency \
             FROM order_discounts",
            "one.myshopify.com|1|1|discount_code|TENOFF||line_item|percentage|10|2.1|EUR",
        ),
        (
            "SELECT no, line_id, shipping_line_id, title, rate, amount, channel_liable, currency FROM order_tax_lines \
             ORDER BY no",
            "1|1||State|0.0625|1|0|EUR\n2||5|State||0.2|1|EUR",
        ),
        (
            "SELECT no, line_id, title, code, source, price, discount, discounted_price, tax, removed \
             FROM order_shipping_lines ORDER BY no",
            "1|5|Post|INT|app|6|2|4|0.2|0\n2||Pickup|Pickup||0|0|0||1",
        ),
        (
            "SELECT fulfillment_id, status, shipment_status, service, carrier, location_id, created_at, updated_at \
             FROM order_fulfillments",
            "9|success||manual|USPS|7|2026-02-01T09:00:00.000000Z|",
        ),
        ("SELECT no, tag FROM order_tags ORDER BY no", "1|vip\n2|say \"hi\""),
    ] {
        assert_eq!(rows(store, view).await, expected, "{view}");
    }
}

pub async fn the_rest_is_of_the_newest_state_and_a_webhook_is_known(store: &dyn Store) {
    load(store, &[full_order()]).await;
    let mut newer = order("e2", "1", 2, 60);
    newer["test"] = json!(true);
    let sample = Sample::from(newer);
    let mut batch = records(std::slice::from_ref(&sample));
    batch[0].provenance = Provenance {
        topic: Some("orders/updated".into()),
        webhook_id: Some("w-1".into()),
        api_version: Some("2026-07".into()),
        ..Provenance::default()
    };
    store.open().load(&batch).await.unwrap();
    assert_eq!(
        rows(store, "SELECT details, cancel_reason FROM orders").await,
        "|",
        "of the newest state"
    );
    let webhook = "SELECT topic, webhook_id, api_version FROM order_events WHERE event_id = 'e2'";
    assert_eq!(rows(store, webhook).await, "orders/updated|w-1|2026-07");
    let stored = store.open().event("e2").await.unwrap().unwrap();
    assert_eq!(stored.record().unwrap().provenance.topic, Some("orders/updated".into()));
}

pub async fn a_line_says_on_which_day_it_came(store: &dyn Store) {
    let line = |id: u8, qty: i64| json!({"sku": "A", "qty": qty, "price": 10, "line_id": id});
    let placed = order("e1", "1", 1, 0);
    let state = |event_id: &str, seconds: i64, items: &[serde_json::Value]| {
        let mut event = order(event_id, "1", 1, seconds);
        event["processed_at"] = placed["timestamp"].clone();
        event["items"] = json!(items);
        event
    };
    let day = 24 * 60 * 60;
    let edit = json!({"event_type": "order.edited", "event_id": "edit", "timestamp": "2026-02-02T10:00:00Z", "order_id": "1",
                      "shop": "one.myshopify.com", "edit": {"edit_id": 1, "committed_at": "2026-02-02T10:00:00Z",
                      "additions": [{"line_id": 2, "qty": 1}]}});
    let samples: Vec<Sample> = vec![
        state("e1", 0, &[line(1, 1)]).into(),
        edit.into(),
        state("e2", 3 * day, &[line(1, 2), line(2, 1)]).into(),
    ];
    for order_of_arrival in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        empty(store).await;
        for at in order_of_arrival {
            load(store, std::slice::from_ref(&samples[at])).await;
        }
        assert_eq!(
            rows(store, "SELECT line_id, added_on FROM order_items ORDER BY 1").await,
            "1|2026-01-31\n2|2026-02-02",
            "{order_of_arrival:?}"
        );
    }
}
