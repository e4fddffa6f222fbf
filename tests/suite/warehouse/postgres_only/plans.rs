//! How the planner estimates the views, and the statements of a load.

use std::time::Duration;

use orderstream::warehouse::Warehouse;
use serde_json::json;

use super::super::events::{Sample, order, records};
use crate::harness::eventually;
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

/// Orders that were loaded before, numbered from $1 to $2, with three lines each.
const OLD_ORDERS: &str = "
    INSERT INTO orderstream.order_events (event_id, event_type, shop, order_id, test, occurred_at, received_at,
        stream_id, payload)
    SELECT 'old' || n, 'order.created', 'one.myshopify.com', 'old' || n, false, now(), now(), '1-0', '{}'
    FROM generate_series($1, $2) n;
    INSERT INTO orderstream.orders (shop, order_id, last_event_id)
    SELECT 'one.myshopify.com', 'old' || n, 'old' || n FROM generate_series($1, $2) n;
    INSERT INTO orderstream.order_items (shop, order_id, line_no, sku, qty, price)
    SELECT 'one.myshopify.com', 'old' || n, line, 'A', 1, 10 FROM generate_series($1, $2) n, generate_series(1, 3) line;
    ANALYZE orderstream.order_events, orderstream.orders, orderstream.order_items";

/// As many orders as a usual read brings. One in ten was edited, so that its sales are dated one by
/// one.
fn usual_load(name: &str) -> Vec<Sample> {
    let events = (0..500).flat_map(|number| {
        let id = format!("{name}-{number}");
        let edit = json!({
            "event_type": "order.edited", "event_id": format!("edit-{id}"), "timestamp": "2026-02-02T10:00:00Z",
            "order_id": id, "shop": "one.myshopify.com",
            "edit": {"edit_id": 1, "committed_at": "2026-02-02T10:00:00Z", "additions": [{"line_id": 2, "qty": 1}]}
        });
        let edit = (number % 10 == 0).then_some(edit);
        [order(&format!("event-{id}"), &id, 1, 0)].into_iter().chain(edit)
    });
    events.map(Sample::from).collect()
}

#[tokio::test]
async fn a_load_finds_its_rows_by_index_in_tables_of_any_size() {
    let database = Database::migrated().await;
    let scans = |kind: &str| -> Vec<u64> {
        let counts = database.sql(&format!(
            "SELECT string_agg({kind}::text, ' ' ORDER BY relname) FROM pg_stat_user_tables \
             WHERE relname IN ('order_events', 'order_items', 'orders')"
        ));
        counts.split(' ').map(|count| count.parse().unwrap()).collect()
    };
    let mut old = 0;
    for size in [10_000, 30_000] {
        let (first, last) = ((old + 1).to_string(), size.to_string());
        database.sql(&OLD_ORDERS.replace("$1", &first).replace("$2", &last));
        old = size;
        let (whole, by_index) = (scans("seq_scan"), scans("idx_scan"));
        let events = usual_load(&size.to_string());
        let warehouse = database.warehouse();
        assert_eq!(warehouse.load(&records(&events)).await.unwrap().inserted, 550);
        assert_eq!(warehouse.load(&records(&events)).await.unwrap().known, 550);
        // The server counts what a connection did when it ends, at the latest.
        drop(warehouse);
        eventually("the scans are counted", Duration::from_secs(60), async || {
            let counted = scans("idx_scan");
            (counted.iter().zip(&by_index).all(|(now, before)| now - before >= 500)).then_some(())
        })
        .await;
        assert_eq!(
            scans("seq_scan"),
            whole,
            "{size} orders: order_events, order_items, orders"
        );
    }
}
