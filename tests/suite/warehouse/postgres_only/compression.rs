//! How large values are stored.

use orderstream::warehouse::Warehouse;
use serde_json::json;

use super::super::events::{Sample, order, records};
use crate::harness::postgres::Database;

#[tokio::test]
async fn payloads_are_compressed_by_lz4_where_the_operator_chose_nothing() {
    for (chosen, method) in [(None, "lz4"), (Some("pglz"), "pglz")] {
        let database = Database::empty().await;
        if let Some(chosen) = chosen {
            let name = database.name();
            database.sql(&format!(
                "ALTER DATABASE {name} SET default_toast_compression = {chosen}"
            ));
        }
        let warehouse = database.warehouse();
        warehouse.migrate().await.unwrap();
        let mut large = order("large", "1", 1, 0);
        large["items"] = vec![json!({"sku": "A-LONG-SKU", "qty": 1, "price": 10}); 100].into();
        warehouse.load(&records(&[Sample::from(large)])).await.unwrap();
        let found = database.sql("SELECT pg_column_compression(payload) FROM orderstream.order_events");
        assert_eq!(found.trim(), method, "{chosen:?}");
    }
}

#[tokio::test]
async fn large_values_are_left_out_of_statistics() {
    let database = Database::migrated().await;
    let mut large = order("large", "1", 1, 0);
    large["details"] = json!({"tags": ["a", "b"]});
    database
        .warehouse()
        .load(&records(&[Sample::from(large)]))
        .await
        .unwrap();
    database.sql("ANALYZE orderstream.order_events, orderstream.orders");
    let analyzed = database.sql(
        "SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_stats \
         WHERE schemaname = 'orderstream' AND attname IN ('event_id', 'payload', 'raw', 'details', 'name')",
    );
    assert_eq!(analyzed.trim(), "event_id name");
}
