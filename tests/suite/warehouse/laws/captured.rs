//! Orders that others captured, in the tables: `crate::captured` knows what each must become.

use orderstream::shopify::DeliveryHints;
use rust_decimal::Decimal;

use super::super::events::{Sample, records};
use super::{Store, rows};
use crate::captured::{WHOLE, convert, read};

/// Samples that do not add up in themselves: lines were multiplied, or made up.
const CROOKED: [&str; 2] = ["derived_big_250_lines", "webhookdb_order_customer_key_absent"];

pub async fn captured_orders_add_up(store: &dyn Store) {
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
    let loaded = store.open().load(&records(&samples)).await.unwrap();
    assert_eq!(loaded.inserted, WHOLE.len() as u64);
    for (name, _, order, customer, total, currency, lines, units, ..) in WHOLE {
        let row = rows(
            store,
            &format!(
                "SELECT order_id, customer_id, total_amount, currency, item_count, \
                    (SELECT count(*) FROM order_items i WHERE i.shop = o.shop) \
             FROM orders o WHERE shop = '{name}'"
            ),
        )
        .await;
        let customer = customer.unwrap_or_default();
        let total = total.parse::<Decimal>().unwrap().normalize();
        assert_eq!(
            row,
            format!("{order}|{customer}|{total}|{currency}|{units}|{lines}"),
            "{name}"
        );
    }
    let sales = store
        .query("SELECT shop, gross, discounts, shipping, tax, total FROM sales ORDER BY shop")
        .await;
    let crooked = sales.rows.iter().filter(|row| {
        let amount = |at: usize| row[at].parse::<Decimal>().unwrap();
        amount(1) - amount(2) + amount(3) + amount(4) != amount(5)
    });
    let crooked: Vec<&str> = crooked.map(|row| row[0].as_str()).collect();
    assert_eq!(crooked, CROOKED);
}
