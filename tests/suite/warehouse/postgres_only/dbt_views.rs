//! The views that the public dbt package reads as Fivetran's tables.

use serde_json::{Value, json};

use super::super::Store;
use super::super::events::records;
use crate::harness::postgres::Database;

const VIEWS: [&str; 17] = [
    "order",
    "order_line",
    "refund",
    "order_line_refund",
    "order_adjustment",
    "transaction",
    "order_discount_code",
    "discount_application",
    "discount_allocation",
    "tax_line",
    "order_shipping_line",
    "order_shipping_tax_line",
    "order_tag",
    "order_url_tag",
    "fulfillment",
    "customer",
    "shop",
];

fn order(order_id: &str) -> Value {
    json!({
        "event_type": "order.updated", "event_id": format!("e-{order_id}"), "timestamp": "2026-01-31T23:30:00-05:00",
        "order_id": order_id, "customer_id": "900", "total_amount": 57.20, "currency": "EUR", "shop": "one.myshopify.com",
        "created_at": "2026-01-31T23:30:00-05:00", "subtotal": 45, "total_discounts": 5, "total_shipping": 5,
        "total_tax": 7.20, "taxes_included": false, "financial_status": "partially_refunded",
        "items": [{"sku": "A", "qty": 2, "price": 25, "line_id": "11", "product_id": "100", "variant_id": "10",
                   "title": "Mug", "discount": 5, "tax": 7.20}],
        "refunds": [{"refund_id": "70", "processed_at": "2026-02-01T10:00:00Z", "amount": 20, "tax": 3.60,
                     "currency": "EUR", "adjustments": 6.10,
                     "lines": [{"line_id": "11", "qty": 1, "subtotal": 22.50, "tax": 3.60, "restock_type": "return"}]}],
    })
}

#[tokio::test]
async fn the_views_for_dbt_tell_orders_and_refunds() {
    let database = Database::migrated().await;
    // Its id is no number: another producer's.
    let other = json!({"event_type": "order.created", "event_id": "other", "timestamp": "2026-02-01T10:00:00Z",
        "order_id": "web-1", "total_amount": 1, "currency": "EUR", "items": []});
    let samples = [order("5001").into(), other.into()];
    database.open().load(&records(&samples)).await.unwrap();
    let answers = |sql: &'static str| {
        let database = &database;
        async move { database.query(sql).await.text() }
    };
    for view in VIEWS {
        // Every row and column can be read.
        database.query(&format!("SELECT * FROM shopify_{view}")).await;
    }
    let orders = "SELECT id, customer_id, total_price, created_at, total_shipping_price_set::json #>> '{shop_money,amount}' \
                  FROM shopify_order";
    assert_eq!(answers(orders).await, "5001|900|57.2|2026-02-01 04:30:00|5");
    let lines = "SELECT id, order_id, product_id, quantity, price, pre_tax_price FROM shopify_order_line";
    assert_eq!(answers(lines).await, "11|5001|100|2|25|45");
    assert_eq!(
        answers("SELECT order_line_id, amount FROM shopify_discount_allocation").await,
        "11|5"
    );
    let refunds = "SELECT r.id, r.order_id, l.order_line_id, l.quantity, l.subtotal, l.total_tax, a.kind, a.amount \
                   FROM shopify_refund r JOIN shopify_order_line_refund l ON l.refund_id = r.id \
                   JOIN shopify_order_adjustment a ON a.refund_id = r.id";
    assert_eq!(answers(refunds).await, "70|5001|11|1|22.5|3.6|refund_discrepancy|6.1");
    let customers = "SELECT id, orders_count, total_spent FROM shopify_customer";
    assert_eq!(answers(customers).await, "900|1|57.2");
}
