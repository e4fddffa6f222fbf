//! Orders that others captured, in the tables: `crate::captured` knows what each must become.

use orderstream::shopify::DeliveryHints;
use orderstream::warehouse::Warehouse;

use super::events::{Sample, records};
use crate::captured::{WHOLE, convert, read};
use crate::harness::postgres::Database;

/// Samples that do not add up in themselves: lines were multiplied, or made up.
const CROOKED: [&str; 2] = ["derived_big_250_lines", "webhookdb_order_customer_key_absent"];

#[tokio::test]
async fn captured_orders_add_up() {
    let mut samples = Vec::new();
    for (name, topic, ..) in WHOLE {
        let Some(body) = read(name) else { return };
        let hints = DeliveryHints::default();
        let mut event = convert(topic, &body, &hints).unwrap();
        // The same order stands in several files: each gets a shop of its own. And some are test orders.
        event.shop = Some(name.into());
        event.test = None;
        samples.push(Sample::from(serde_json::to_string(&event).unwrap()));
    }
    let database = Database::migrated().await;
    let loaded = database.warehouse().load(&records(&samples)).await.unwrap();
    assert_eq!(loaded.inserted, WHOLE.len() as u64);
    for (name, _, order, customer, total, currency, lines, units, ..) in WHOLE {
        let row = database.sql(&format!(
            "SELECT order_id, customer_id, total_amount, currency, item_count, \
                    (SELECT count(*) FROM orderstream.order_items i WHERE i.shop = o.shop) \
             FROM orderstream.orders o WHERE shop = '{name}'"
        ));
        let customer = customer.unwrap_or_default();
        assert_eq!(
            row,
            format!("{order}|{customer}|{total}|{currency}|{units}|{lines}"),
            "{name}"
        );
    }
    let crooked = database
        .sql("SELECT shop FROM orderstream.sales WHERE gross - discounts + shipping + tax <> total ORDER BY shop");
    assert_eq!(crooked, CROOKED.join("\n"));
}
