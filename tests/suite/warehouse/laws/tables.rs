//! What each table and view holds.

use orderstream::warehouse::Loaded;
use rust_decimal::Decimal;
use serde_json::json;
use time::macros::datetime;

use super::super::events::{ARRIVAL, Sample, order, records};
use super::{Store, empty, load, rows};

/// With tax within the prices, a discount, a refund, and everything else an order can say.
fn full_order() -> Sample {
    json!({
        "event_type": "order.created", "event_id": "e1", "timestamp": "2026-01-31T23:30:00-05:00",
        "order_id": "5550000000000000001", "customer_id": "9007199254740993", "total_amount": 0, "currency": "USD",
        "shop": "one.myshopify.com", "name": "#1042", "created_at": "2026-01-31T23:30:00-05:00",
        "processed_at": "2026-01-31T23:30:00-05:00", "updated_at": "2026-01-31T23:31:00-05:00",
        "financial_status": "partially_refunded", "fulfillment_status": "partial",
        "taxes_included": true, "presentment_currency": "CAD", "source_name": "web",
        "items": [
            {"sku": "A", "qty": 2, "price": 11, "line_id": "1", "variant_id": "2", "product_id": "3",
             "title": "Mug", "current_qty": 1, "discount": 0, "tax": 2},
            {"sku": null, "qty": 1, "price": 0},
            {"sku": "", "qty": 1, "price": 0}
        ],
        "refunds": [{"refund_id": "r1", "processed_at": "2026-02-03T01:00:00-05:00", "amount": 0, "tax": 1}]
    })
    .to_string()
    .replace(r#""total_amount":0"#, r#""total_amount":26.50,"total_shipping":6.60,"total_tax":2.60,"total_discounts":2.10,"subtotal":19.90,"current_total_amount":15.50,"presentment_total_amount":35.00"#)
    .replace(r#""amount":0"#, r#""amount":11.00"#)
    .replace(r#""price":11"#, r#""price":11.00"#)
    .into()
}

impl From<String> for Sample {
    fn from(payload: String) -> Self {
        Self {
            payload,
            triggered_at: None,
        }
    }
}

pub async fn an_order_fills_every_column(store: &dyn Store) {
    let mut sample = full_order();
    sample.triggered_at = Some(time::macros::datetime!(2026-02-01 04:31:01.5 UTC));
    load(store, &[sample]).await;
    assert_eq!(
        rows(
            store,
            "SELECT event_id, event_type, source, shop, order_id, customer_id, total_amount, currency, item_count, \
                    avg_item_price, test, occurred_at, triggered_at, received_at, \
                    loaded_at > '2026-01-01', stream_id, payload->>'total_amount', raw \
             FROM order_events"
        )
        .await,
        "e1|order.created|shopify|one.myshopify.com|5550000000000000001|9007199254740993|26.5|USD|4|6.625|0|\
         2026-02-01T04:30:00.000000Z|2026-02-01T04:31:01.500000Z|2026-02-01T12:00:00.000000Z|1|1769947200000-0|26.5|"
    );
    assert_eq!(
        rows(
            store,
            "SELECT shop, order_id, name, customer_id, status, total_amount, currency, item_count, avg_item_price, \
                    local_date, created_at, processed_at, updated_at, cancelled_at, financial_status, \
                    fulfillment_status, subtotal, total_discounts, total_shipping, total_tax, taxes_included, \
                    current_total_amount, presentment_currency, presentment_total_amount, source_name, test, \
                    deleted_at, last_event_id, version_at, version_triggered_at \
             FROM orders"
        )
        .await,
        "one.myshopify.com|5550000000000000001|#1042|9007199254740993|partially_fulfilled|26.5|USD|4|\
         6.625|2026-01-31|2026-02-01T04:30:00.000000Z|2026-02-01T04:30:00.000000Z|2026-02-01T04:31:00.000000Z||\
         partially_refunded|partial|19.9|2.1|6.6|2.6|1|15.5|CAD|35|web|0||e1|2026-02-01T04:31:00.000000Z|\
         2026-02-01T04:31:01.500000Z"
    );
    let digits = "SELECT length(CAST(total_amount AS text)), length(CAST(current_total_amount AS text)) FROM orders";
    assert_eq!(rows(store, digits).await, "5|5", "26.50 and 15.50 keep their zeros");
    assert_eq!(
        rows(
            store,
            "SELECT line_no, line_id, COALESCE(sku, 'null'), variant_id, product_id, title, qty, current_qty, price, \
                    discount, tax FROM order_items ORDER BY line_no"
        )
        .await,
        "1|1|A|2|3|Mug|2|1|11|0|2\n2||null||||1||0||\n3||||||1||0||"
    );
    assert_eq!(
        rows(
            store,
            "SELECT refund_id, order_id, processed_at, local_date, amount, tax, currency FROM order_refunds"
        )
        .await,
        "r1|5550000000000000001|2026-02-03T06:00:00.000000Z|2026-02-03|11|1|USD"
    );
}

pub async fn a_plain_event_is_enough(store: &dyn Store) {
    let event = json!({
        "event_type": "order.created", "event_id": "plain", "timestamp": "2026-01-31T09:30:00Z", "order_id": 17,
        "customer_id": null, "total_amount": 59, "currency": "JPY", "items": []
    });
    load(store, &[event.into()]).await;
    assert_eq!(
        rows(
            store,
            "SELECT shop, order_id, customer_id, total_amount, item_count, avg_item_price, status, local_date, test \
             FROM orders"
        )
        .await,
        "|17||59|0|59|open|2026-01-31|0"
    );
    assert_eq!(rows(store, "SELECT count(*) FROM order_items").await, "0");
}

pub async fn an_event_has_effects_once(store: &dyn Store) {
    let samples = [
        order("e1", "1", 1, 0).into(),
        order("e2", "1", 2, 1).into(),
        order("e1", "1", 9, 9).into(),
    ];
    let warehouse = store.open();
    let first = warehouse.load(&records(&samples)).await.unwrap();
    assert_eq!((first.inserted, first.known), (2, 1), "the first of a batch stands");
    let again = warehouse.load(&records(&samples)).await.unwrap();
    assert_eq!((again.inserted, again.known), (0, 3));
    assert_eq!(warehouse.load(&[]).await.unwrap(), Loaded::default());
    assert_eq!(
        rows(store, "SELECT event_id, item_count FROM order_events ORDER BY 1").await,
        "e1|1\ne2|2"
    );
    assert_eq!(
        rows(
            store,
            "SELECT last_event_id, o.item_count, i.qty FROM orders o JOIN order_items i USING (shop, order_id)"
        )
        .await,
        "e2|2|2"
    );
}

pub async fn another_payload_under_a_known_id_is_told(store: &dyn Store) {
    let samples: Vec<Sample> = [
        order("e1", "1", 1, 0),
        order("e1", "2", 1, 0),
        order("e2", "3", 5900, 0),
        order("e1", "1", 1, 0),
    ]
    .into_iter()
    .map(Sample::from)
    .collect();
    let warehouse = store.open();
    let mut batch = records(&samples);
    for (place, record) in batch.iter_mut().enumerate() {
        record.stream_id = format!("1-{place}");
    }
    let first = warehouse.load(&batch).await.unwrap();
    let loaded = |inserted, known, conflicts: &[usize]| Loaded {
        inserted,
        known,
        conflicts: conflicts.to_vec(),
    };
    assert_eq!(first, loaded(2, 1, &[1]), "the second order under e1 is another one");
    assert_eq!(
        warehouse.load(&batch).await.unwrap(),
        loaded(0, 3, &[1]),
        "also the second time"
    );
    batch.reverse();
    assert_eq!(
        warehouse.load(&batch).await.unwrap(),
        loaded(0, 3, &[2]),
        "in any order"
    );
    assert_eq!(warehouse.load(&batch[2..3]).await.unwrap(), loaded(0, 0, &[0]), "alone");
    assert_eq!(rows(store, "SELECT order_id FROM orders ORDER BY 1").await, "1\n3");

    let same = Sample {
        payload: samples[2]
            .payload
            .replace("59000", "59000.0")
            .replace("{\"event_type\"", "{ \"event_type\" "),
        triggered_at: None,
    };
    assert_ne!(same.payload, samples[2].payload);
    let mut same = records(std::slice::from_ref(&same));
    same[0].stream_id = "2-0".to_owned();
    assert_eq!(
        warehouse.load(&same).await.unwrap(),
        loaded(0, 1, &[]),
        "written otherwise, it is the same"
    );
}

pub async fn an_edited_row_stays_when_its_entry_comes_again(store: &dyn Store) {
    let sample: Sample = order("e1", "1", 1, 0).into();
    load(store, std::slice::from_ref(&sample)).await;
    store
        .change("UPDATE order_events SET payload = '{\"order_id\":\"1\"}'; UPDATE orders SET customer_id = NULL")
        .await;
    let again = store
        .open()
        .load(&records(std::slice::from_ref(&sample)))
        .await
        .unwrap();
    assert_eq!(
        (again.known, again.conflicts.len()),
        (1, 0),
        "an erasure is no conflict"
    );
    assert_eq!(
        rows(store, "SELECT COALESCE(customer_id, 'none') FROM orders").await,
        "none"
    );
}

pub async fn a_webhook_without_a_time_is_known_when_it_comes_again(store: &dyn Store) {
    let deleted = |at: &str| -> Sample {
        json!({"event_type": "order.deleted", "event_id": "d", "timestamp": at, "order_id": "1"}).into()
    };
    let samples = [deleted("2026-02-01T00:00:00Z"), deleted("2026-02-01T00:00:09Z")];
    let mut batch = records(&samples);
    batch[1].stream_id = "9-0".to_owned();
    let warehouse = store.open();
    let receipts = warehouse.load(&batch).await.unwrap();
    assert_eq!((receipts.inserted, receipts.known), (1, 1), "both times are of receipt");
    batch[1].triggered_at = Some(ARRIVAL);
    let triggered = warehouse.load(&batch).await.unwrap();
    assert_eq!(triggered.conflicts, [1], "a time of the body's counts");
    batch[1].triggered_at = Some(datetime!(2026-02-01 00:00:09 UTC));
    let triggered = warehouse.load(&batch).await.unwrap();
    assert_eq!(
        (triggered.known, triggered.conflicts),
        (2, Vec::new()),
        "a header's does not"
    );
}

pub async fn a_deletion_marks_and_nothing_clears_it(store: &dyn Store) {
    let deleted = |id: &str, at: &str| -> Sample {
        json!({"event_type": "order.deleted", "event_id": id, "timestamp": at, "order_id": "1",
               "shop": "one.myshopify.com"})
        .into()
    };
    let warehouse = store.open();
    let state = "SELECT status, item_count, deleted_at, last_event_id, version_at FROM orders";
    let late = [deleted("d1", "2026-02-02T00:00:00Z")];
    warehouse.load(&records(&late)).await.unwrap();
    assert_eq!(
        rows(store, state).await,
        "||2026-02-02T00:00:00.000000Z||-infinity",
        "a tombstone"
    );
    let rest = [deleted("d0", "2026-02-01T00:00:00Z"), order("e1", "1", 3, 0).into()];
    warehouse.load(&records(&rest)).await.unwrap();
    assert_eq!(
        rows(store, state).await,
        "open|3|2026-02-01T00:00:00.000000Z|e1|2026-01-31T09:30:00.000000Z",
        "the earliest deletion, beside the newest state"
    );
    assert_eq!(rows(store, "SELECT count(*) FROM daily_sales").await, "0");
    assert_eq!(rows(store, "SELECT count(*) FROM order_items").await, "1");
}

pub async fn the_newest_word_on_a_refund_stands(store: &dyn Store) {
    let refund = |id: &str, at: &str, amount: i64| -> Sample {
        json!({"event_type": "refund.created", "event_id": id, "timestamp": at, "order_id": "1",
               "shop": "one.myshopify.com", "refunds": [{"refund_id": "r1", "amount": amount, "processed_at": at}]})
        .into()
    };
    load(
        store,
        &[
            refund("b", "2026-02-02T00:00:00Z", 7),
            refund("a", "2026-02-01T00:00:00Z", 5),
        ],
    )
    .await;
    let state = "SELECT refund_id, order_id, amount, currency, last_event_id FROM order_refunds";
    assert_eq!(rows(store, state).await, "r1|1|7||b");
    let mut whole = order("c", "1", 1, 10 * 86_400);
    whole["refunds"] = json!([{"refund_id": "r1", "amount": 8}, {"refund_id": "r2", "amount": 1}]);
    load(store, &[whole.into()]).await;
    assert_eq!(
        rows(store, &format!("{state} ORDER BY 1")).await,
        "r1|1|8|EUR|c\nr2|1|1|EUR|c"
    );
    let thin = "SELECT total_amount IS NULL, item_count IS NULL, avg_item_price IS NULL FROM order_events \
                WHERE event_id = 'a'";
    assert_eq!(rows(store, thin).await, "1|1|1");
}

pub async fn a_refund_of_a_test_order_stays_one(store: &dyn Store) {
    let refund = |id: &str, at: &str| -> Sample {
        json!({"event_type": "refund.created", "event_id": id, "timestamp": at, "order_id": "1",
               "shop": "one.myshopify.com", "refunds": [{"refund_id": "r1", "amount": 5}]})
        .into()
    };
    let mut whole = order("w", "1", 1, 0);
    whole["test"] = json!(true);
    whole["refunds"] = json!([{"refund_id": "r1", "amount": 4}, {"refund_id": "r2", "amount": 1}]);
    let samples = [
        refund("a", "2025-01-01T00:00:00Z"),
        whole.into(),
        refund("b", "2027-01-01T00:00:00Z"),
    ];
    for batches in [
        &[&samples[..1], &samples[1..2], &samples[2..]][..],
        &[&samples[2..], &samples[1..2]],
        &[&samples],
    ] {
        empty(store).await;
        for batch in batches {
            load(store, batch).await;
        }
        assert_eq!(
            rows(store, "SELECT refund_id, amount, test FROM order_refunds ORDER BY 1").await,
            "r1|5|1\nr2|1|1"
        );
        assert_eq!(rows(store, "SELECT count(*) FROM daily_sales").await, "0");
    }
}

/// Orders in three currencies, among them what must not count.
fn mixed_days() -> Vec<Sample> {
    let mut test = order("t", "9", 5, 0);
    test["test"] = json!(true);
    test["refunds"] = json!([{"refund_id": "rt", "amount": 50}]);
    // A test notification of an order that is not there.
    let test_refund = json!({
        "event_type": "refund.created", "event_id": "tr", "timestamp": "2026-01-31T09:30:00Z", "order_id": "10",
        "shop": "one.myshopify.com", "test": true, "refunds": [{"refund_id": "rtr", "amount": 40, "currency": "EUR"}],
    });
    // Of a producer that knows no cap.
    let mut overtaxed = order("o", "4", 1, 6);
    overtaxed["currency"] = json!("CHF");
    overtaxed["refunds"] = json!([{"refund_id": "ro", "amount": 2, "tax": 3}]);
    let mut cancelled = order("c", "3", 1, 5);
    cancelled["cancelled_at"] = json!("2026-01-31T10:00:00Z");
    vec![
        full_order(),
        order("e2", "2", 2, 0).into(),
        cancelled.into(),
        test.into(),
        test_refund.into(),
        overtaxed.into(),
    ]
}

pub async fn daily_sales_add_up_by_currency_and_day_without_test_orders(store: &dyn Store) {
    load(store, &mixed_days()).await;
    assert_eq!(
        rows(
            store,
            "SELECT shop, currency, local_date, orders, gross, discounts, reversals, net, tax, shipping, total \
             FROM daily_sales ORDER BY currency, local_date"
        )
        .await,
        "one.myshopify.com|CHF|2026-01-31|1|10|0|0|10|-2|0|8\n\
         one.myshopify.com|EUR|2026-01-31|2|30|0|0|30|0|0|30\n\
         one.myshopify.com|USD|2026-01-31|1|19.79|1.89|0|17.9|2.6|6|26.5\n\
         one.myshopify.com|USD|2026-02-03|0|0|0|10|-10|-1|0|-11"
    );
    let dollars = store
        .query("SELECT net, tax, shipping FROM daily_sales WHERE currency = 'USD'")
        .await;
    let paid: Decimal = dollars
        .rows
        .iter()
        .flatten()
        .map(|cell| cell.parse::<Decimal>().unwrap())
        .sum();
    assert_eq!(
        paid,
        Decimal::new(1550, 2),
        "what the customer paid less what was paid back"
    );
    assert_eq!(
        rows(
            store,
            "SELECT currency, sku, orders, units, gross FROM product_sales WHERE sku = 'A' ORDER BY 1"
        )
        .await,
        "CHF|A|1|1|10\nEUR|A|2|3|30\nUSD|A|1|2|19.79"
    );
    assert_eq!(
        rows(
            store,
            "SELECT customer_id, currency, orders, total_amount FROM customer_orders ORDER BY 2"
        )
        .await,
        "900|CHF|1|10\n900|EUR|2|30\n9007199254740993|USD|1|26.5"
    );
    assert_eq!(
        rows(
            store,
            "SELECT hour, source, sum(events) FROM hourly_arrivals GROUP BY 1, 2"
        )
        .await,
        "2026-02-01T12:00:00.000000Z|shopify|4"
    );
}
