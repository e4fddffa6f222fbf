//! What an order says beside its sales, over the wire: money that moved, and details.

use serde_json::{Value, json};

use crate::harness::ground::{Place, in_any_place};
use crate::harness::service::{Service, event, order};
use crate::harness::site::Site;

in_any_place!(money_and_details_become_rows, named_attributes_are_kept_and_no_others);

fn transaction(status: &str) -> Vec<u8> {
    json!({
        "id": 71, "order_id": 1, "kind": "capture", "status": status, "gateway": "shopify_payments", "parent_id": 70,
        "amount": "20.50", "currency": "EUR", "processed_at": "2026-01-05T23:59:00-05:00",
        "created_at": "2026-01-05T10:00:00-05:00", "test": false,
        "receipt": {"email": "ada@example.com"}, "payment_details": {"credit_card_number": "•••• 4242"},
        "total_unsettled_set": {"shop_money": {"amount": "20.5", "currency": "EUR"},
                                "presentment_money": {"amount": "20.5", "currency": "EUR"}}
    })
    .to_string()
    .into_bytes()
}

/// An order with everything that is kept, and what must not be.
fn full_order() -> Value {
    let mut body = order(1);
    let more = json!({
        "order_number": 1042, "tags": "vip, wholesale", "customer_locale": "de", "payment_gateway_names": ["shopify_payments"],
        "landing_site": "/?utm_source=news&email=ada%40example.com", "total_weight": 0,
        "shipping_address": {"address1": "Chestnut Street 92", "country_code": "AT"},
        "note_attributes": [{"name": "colour", "value": "green"}, {"name": "secret", "value": "Ada's"}],
        "fulfillments": [{"id": 9, "status": "success", "service": "manual", "tracking_number": "1Z2345",
                          "created_at": "2026-01-06T09:00:00-05:00"}],
        "discount_codes": [{"code": "TENOFF", "amount": "1.00", "type": "fixed_amount"}],
        "tax_lines": [{"title": "VAT", "rate": 0.2, "price": "3.42"}]
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body["line_items"][0]["properties"] =
        json!([{"name": "Engraving", "value": "For Ada"}, {"name": "_id", "value": 7}]);
    body
}

async fn money_and_details_become_rows(place: impl Place) {
    let settings = place.settings().with("ORDERSTREAM_KEEP_RAW", "off");
    let service = Service::start("run", &settings).await;
    let taken = async |topic: &str, id: &str, body: &[u8]| {
        let answer = service.deliver(topic, id, body).await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "accepted", "{id}");
    };
    // The settled one overtakes.
    taken("order_transactions/create", "t-2", &transaction("success")).await;
    taken("order_transactions/create", "t-1", &transaction("pending")).await;
    taken("orders/create", "o-1", full_order().to_string().as_bytes()).await;
    service.settled(3).await;
    assert_eq!(
        place.query(
            "SELECT transaction_id, order_id, parent_id, kind, status, gateway, amount, currency, local_date \
             FROM {}order_transactions"
        ),
        ["71|1|70|capture|success|shopify_payments|20.5|EUR|2026-01-05"]
    );
    assert_eq!(
        place.query(
            "SELECT currency, local_date, gateway, payments, paid, refunds, refunded, net FROM {}daily_payments"
        ),
        ["EUR|2026-01-05|shopify_payments|1|20.5|0|0|20.5"]
    );
    for (view, row) in [
        (
            "SELECT order_number, shipping_country, utc_offset_minutes FROM {}orders",
            "1042|AT|-300",
        ),
        (
            "SELECT code, value_type, amount FROM {}order_discounts",
            "TENOFF|fixed_amount|1",
        ),
        ("SELECT title, rate, amount FROM {}order_tax_lines", "VAT|0.2|3.42"),
        ("SELECT fulfillment_id, status FROM {}order_fulfillments", "9|success"),
        ("SELECT tag FROM {}order_tags WHERE no = 2", "wholesale"),
        ("SELECT details ->> 'locale' FROM {}orders", "de"),
        (
            "SELECT topic, webhook_id FROM {}order_events WHERE event_type = 'order.created'",
            "orders/create|o-1",
        ),
    ] {
        assert_eq!(place.query(view), [row], "{view}");
    }
    let everything =
        place.query("SELECT payload FROM {}order_events").concat() + &place.query("SELECT details FROM {}orders")[0];
    for personal in ["ada", "Ada", "Chestnut", "1Z2345", "4242", "colour"] {
        assert!(!everything.contains(personal), "{personal}");
    }
}

async fn named_attributes_are_kept_and_no_others(place: impl Place) {
    let settings = place
        .settings()
        .with("ORDERSTREAM_KEEP_NOTE_ATTRIBUTES", "size, colour")
        .with("ORDERSTREAM_KEEP_LINE_PROPERTIES", "Engraving");
    let service = Service::start("run", &settings).await;
    let body = full_order().to_string();
    service.deliver("orders/create", "o-1", body.as_bytes()).await.unwrap();
    service.settled(1).await;
    let rows = place.query("SELECT details FROM {}orders").concat()
        + &place.query("SELECT properties FROM {}order_items").concat();
    assert!(
        rows.contains("colour") && rows.contains("green") && rows.contains("For Ada"),
        "{rows}"
    );
    let payload = place.query("SELECT payload FROM {}order_events").concat();
    assert!(!payload.contains("secret") && !payload.contains("\"_id\""), "{payload}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_dated_by_its_receipt_and_not_by_its_id() {
    let site = Site::new().await;
    let worker = Service::start("work", &site.settings()).await;
    let append = async |id: &str, number: u64, received_at: Option<&str>| {
        let event = event(number);
        let payload = event.to_string();
        let mut command = vec!["XADD", "orders_stream", id, "payload", &payload];
        for name in ["event_type", "event_id", "timestamp"] {
            command.extend([name, event[name].as_str().unwrap()]);
        }
        command.extend(received_at.into_iter().flat_map(|at| ["received_at", at]));
        let _: String = site.redis.command(&command).await;
    };
    append("1-1", 1, None).await;
    append("*", 2, Some("2026-01-05T15:00:00.250Z")).await;
    // Microseconds.
    append("1796000000000000-0", 3, Some("2026-01-05T15:00:01Z")).await;
    append("1796000000000000-1", 4, None).await;
    site.has_rows(4).await;
    let received = site.sql(
        "SET timezone = 'UTC'; SELECT order_id, received_at < '1970-01-02' OR received_at > now(), \
                CASE WHEN order_id IN ('2', '3') THEN received_at END \
         FROM orderstream.order_events ORDER BY 1",
    );
    let rows: Vec<&str> = received.lines().filter(|line| line.contains('|')).collect();
    assert_eq!(
        rows,
        [
            "1|t|",
            "2|f|2026-01-05 15:00:00.25+00",
            "3|f|2026-01-05 15:00:01+00",
            "4|t|"
        ]
    );
    worker
        .says("an entry's id is of a time before the entry was received")
        .await;
    worker.says("an entry's id is ahead of the clock").await;
    let said = worker.stderr();
    for cause in [
        "an entry's id is ahead of the clock",
        "an entry's id is of a time before",
    ] {
        assert_eq!(said.lines().filter(|line| line.contains(cause)).count(), 1, "{cause}");
    }
}
