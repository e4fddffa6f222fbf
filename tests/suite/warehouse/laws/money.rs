//! Money apart from sales: transactions, and what of them moved on which day.

use orderstream::shopify::DeliveryHints;
use serde_json::{Value, json};

use super::super::events::{Sample, order};
use super::{Store, empty, load, rows};
use crate::captured::convert;

const SHOP: &str = "one.myshopify.com";

/// `order_transactions/create`, so many seconds after the first.
fn told(event_id: &str, seconds: i64, transaction: &Value) -> Sample {
    let mut event = order(event_id, "1", 1, seconds);
    event["event_type"] = json!("order_transaction.created");
    for whole in ["total_amount", "items"] {
        event.as_object_mut().unwrap().remove(whole);
    }
    event["transactions"] = json!([transaction]);
    event.into()
}

fn transaction(status: &str) -> Value {
    json!({"transaction_id": "t1", "parent_id": "t0", "kind": "refund", "status": status, "gateway": "bogus",
           "amount": 4, "currency": "EUR", "processed_at": "2026-02-02T23:30:00-05:00"})
}

pub async fn a_final_status_of_a_transaction_stands(store: &dyn Store) {
    let mut whole = order("later", "1", 1, 3600);
    whole["refunds"] =
        json!([{"refund_id": "r1", "amount": 0, "pending_amount": 4, "transactions": [transaction("pending")]}]);
    let samples = [
        told("first", 0, &transaction("pending")),
        told("settled", 60, &transaction("success")),
        // Of a state that was read before it settled, and says so an hour later.
        whole.into(),
    ];
    for batches in [
        &[&samples[..1], &samples[1..2], &samples[2..]][..],
        &[&samples[2..], &samples[1..2], &samples[..1]],
        &[&samples[1..2], &samples[2..], &samples[..1]],
        &[&samples],
    ] {
        empty(store).await;
        for batch in batches {
            load(store, batch).await;
        }
        assert_eq!(
            rows(
                store,
                "SELECT shop, transaction_id, refund_id, order_id, parent_id, kind, status, gateway, amount, currency, \
                        processed_at, local_date, test, is_final, last_event_id FROM order_transactions"
            )
            .await,
            format!("{SHOP}|t1|r1|1|t0|refund|success|bogus|4|EUR|2026-02-03T04:30:00.000000Z|2026-02-02|0|1|settled")
        );
    }
    load(store, &[told("failed", 120, &transaction("failure"))]).await;
    let status = "SELECT status, refund_id FROM order_transactions";
    assert_eq!(
        rows(store, status).await,
        "failure|r1",
        "of two final ones the newer counts"
    );
}

pub async fn payments_are_money_that_moved_in_the_shops_currency(store: &dyn Store) {
    let moved = |id: &str, kind: &str, status: &str, gateway: &str, amount: &str, currency: &str, at: &str| {
        json!({"transaction_id": id, "kind": kind, "status": status, "gateway": gateway, "amount": amount,
               "currency": currency, "processed_at": at})
    };
    let (morning, night) = ("2026-02-01T09:00:00-05:00", "2026-02-01T23:59:59-05:00");
    let later = "2026-02-03T00:00:00-05:00";
    let mut paid = order("e1", "1", 1, 0);
    paid["presentment_currency"] = json!("USD");
    paid["presentment_total_amount"] = json!("12.50");
    paid["transactions"] = json!([
        moved("a", "authorization", "success", "card", "10", "EUR", morning),
        moved("c", "capture", "success", "card", "6.00", "EUR", morning),
        moved("g", "sale", "success", "gift_card", "4.00", "EUR", night),
        moved("f", "sale", "failure", "card", "10", "EUR", morning),
        moved("p", "refund", "pending", "card", "1", "EUR", morning),
        moved("r", "refund", "success", "card", "1.50", "EUR", later),
        // 20 in cash for 13.50: the change is no refund.
        moved("s", "sale", "success", "cash", "20.00", "EUR", morning),
        moved("k", "change", "success", "cash", "6.50", "EUR", morning),
    ]);
    // Only in what the customer paid in: the order tells that 12.50 dollars are 10 euros.
    let abroad = told("e2", 1, &moved("x", "capture", "success", "card", "2.50", "USD", night));
    let mut test = order("e3", "2", 1, 0);
    test["test"] = json!(true);
    test["transactions"] = json!([moved("t", "sale", "success", "card", "9", "EUR", morning)]);
    let mut bogus = moved("b", "sale", "success", "card", "9", "EUR", morning);
    bogus["test"] = json!(true);
    let mut unknown = moved("u", "sale", "success", "card", "7.00", "GBP", night);
    unknown["paid_amount"] = json!("8.00");
    unknown["paid_currency"] = json!("CHF");
    let mut of_unknown: Value = serde_json::from_str(&told("e5", 0, &unknown).payload).unwrap();
    of_unknown["order_id"] = json!("nobody knows");
    let samples = [
        abroad,
        paid.into(),
        test.into(),
        told("e4", 2, &bogus),
        of_unknown.into(),
    ];
    load(store, &samples).await;
    assert_eq!(
        rows(
            store,
            "SELECT transaction_id, order_id, kind, gateway, currency, amount, paid_currency, local_date \
             FROM payments ORDER BY 1"
        )
        .await,
        "c|1|capture|card|EUR|6|EUR|2026-02-01\n\
         g|1|sale|gift_card|EUR|4|EUR|2026-02-01\n\
         k|1|change|cash|EUR|-6.5|EUR|2026-02-01\n\
         r|1|refund|card|EUR|-1.5|EUR|2026-02-03\n\
         s|1|sale|cash|EUR|20|EUR|2026-02-01\n\
         u|nobody knows|sale|card|GBP|7|CHF|2026-02-01\n\
         x|1|capture|card|EUR|2|USD|2026-02-01"
    );
    assert_eq!(
        rows(
            store,
            "SELECT shop, currency, local_date, gateway, payments, paid, refunds, refunded, net FROM daily_payments \
             ORDER BY currency, local_date, gateway"
        )
        .await,
        format!(
            "{SHOP}|EUR|2026-02-01|card|2|8|0|0|8\n\
             {SHOP}|EUR|2026-02-01|cash|1|13.5|0|0|13.5\n\
             {SHOP}|EUR|2026-02-01|gift_card|1|4|0|0|4\n\
             {SHOP}|EUR|2026-02-03|card|0|0|1|1.5|-1.5\n\
             {SHOP}|GBP|2026-02-01|card|1|7|0|0|7"
        )
    );
}

/// As Shopify sends it, of that topic.
fn delivered(topic: &str, webhook_id: &str, body: &Value) -> Sample {
    let hints = DeliveryHints {
        webhook_id: Some(webhook_id),
        shop: Some(SHOP.into()),
        ..DeliveryHints::default()
    };
    let body = body.to_string();
    let event = convert(topic, body.as_bytes(), &hints).unwrap();
    serde_json::to_string(&event).unwrap().into()
}

pub async fn a_refund_without_id_in_two_currencies_counts_once_whether_or_not_its_order_is_known(store: &dyn Store) {
    let set = |euros: &str, dollars: &str| {
        json!({"shop_money": {"amount": euros, "currency_code": "EUR"},
               "presentment_money": {"amount": dollars, "currency_code": "USD"}})
    };
    // 12 euros went back: 4 of them as such, 8 as 10 dollars.
    let refund = json!({
        "id": null, "order_id": 917_001, "created_at": "2026-02-03T09:00:00+01:00",
        "processed_at": "2026-02-03T09:00:00+01:00",
        "refund_line_items": [{"line_item_id": 11, "quantity": 1, "subtotal": "12.00", "total_tax": "0.00",
                               "subtotal_set": set("12.00", "15.00"), "total_tax_set": set("0.00", "0.00")}],
        "transactions": [
            {"id": 21, "kind": "refund", "status": "success", "gateway": "card", "amount": "10.00", "currency": "USD"},
            {"id": 22, "kind": "refund", "status": "success", "gateway": "cash", "amount": "4.00", "currency": "EUR"}],
    });
    let state = |hour: u8, refunds: &[&Value]| {
        json!({
            "id": 917_001, "name": "#1", "currency": "EUR", "presentment_currency": "USD", "test": false,
            "created_at": "2026-02-01T09:00:00+01:00", "processed_at": "2026-02-01T09:00:00+01:00",
            "updated_at": format!("2026-02-03T{hour:02}:30:00+01:00"),
            "total_price": "24.00", "total_price_set": set("24.00", "30.00"),
            "line_items": [{"id": 11, "sku": "A", "quantity": 2, "price": "12.00", "price_set": set("12.00", "15.00")}],
            "refunds": refunds,
        })
    };
    let samples = [
        delivered("orders/create", "w1", &state(8, &[])),
        delivered("refunds/create", "w2", &refund),
        delivered("orders/updated", "w3", &state(9, &[&refund])),
    ];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]] {
        empty(store).await;
        for at in order {
            load(store, &samples[at..=at]).await;
            if order[0] == 1 && at == 1 {
                assert_eq!(
                    rows(store, "SELECT order_id, amount, currency FROM order_refunds").await,
                    "917001|12|EUR",
                    "alone"
                );
            }
        }
        assert_eq!(
            rows(
                store,
                "SELECT order_id, amount, currency, local_date FROM order_refunds"
            )
            .await,
            "917001|12|EUR|2026-02-03",
            "{order:?}"
        );
        assert_eq!(
            rows(
                store,
                "SELECT local_date, currency, orders, gross, reversals, net, total FROM daily_sales ORDER BY 1"
            )
            .await,
            "2026-02-01|EUR|1|24|0|24|24\n2026-02-03|EUR|0|0|12|-12|-12",
            "{order:?}"
        );
        assert_eq!(
            rows(
                store,
                "SELECT transaction_id, amount, currency, paid_amount, paid_currency FROM order_transactions ORDER BY 1"
            )
            .await,
            "21|8|EUR|10|USD\n22|4|EUR||",
            "{order:?}"
        );
    }
}
