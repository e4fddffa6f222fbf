//! How the planner estimates the views.

use orderstream::warehouse::Warehouse;

use crate::harness::postgres::Database;

/// Many orders and refunds, of which none has gift cards or tips.
const PLAIN_REFUNDS: &str = "
    INSERT INTO orderstream.orders (shop, order_id, currency, local_date, last_event_id)
    SELECT 's', n::text, 'EUR', DATE '2026-01-01' + n / 100, 'e' FROM generate_series(1, 20000) n;
    INSERT INTO orderstream.order_refunds (shop, refund_id, order_id, processed_at, local_date, amount, test,
        last_event_id, version_at, version_triggered_at)
    SELECT shop, order_id, order_id, now(), local_date, 1, false, 'e', now(), now() FROM orderstream.orders;
    ANALYZE orderstream.orders, orderstream.order_refunds";

#[tokio::test]
async fn lines_of_refunds_cost_daily_sales_nothing_where_no_order_has_gift_cards_or_tips() {
    let database = Database::empty().await;
    database.warehouse().migrate().await.unwrap();
    database.sql(PLAIN_REFUNDS);
    let cost = |query: &str| -> f64 {
        let plan = database.sql(&format!("EXPLAIN (FORMAT json) {query}"));
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        plan[0]["Plan"]["Total Cost"].as_f64().unwrap()
    };
    // PostgreSQL compiles a query by its estimated cost (jit_above_cost): that of what is rarely needed must be small.
    let (sums, refunds) = (
        cost("SELECT * FROM orderstream.daily_sales"),
        cost("SELECT * FROM orderstream.order_refunds JOIN orderstream.orders USING (shop, order_id)"),
    );
    assert!(sums < 10.0 * refunds, "{sums}, and {refunds} for the rows alone");
}
