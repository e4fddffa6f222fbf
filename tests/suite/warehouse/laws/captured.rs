//! Orders that others captured, in the tables: `crate::captured` knows what each must become.

use orderstream::shopify::DeliveryHints;
use rust_decimal::Decimal;

use super::super::events::{Sample, records};
use super::{Store, empty, rows};
use crate::bodies;
use crate::captured::{WHOLE, convert, read};

const FIGURES: &str = "local_date, orders, gross, discounts, reversals, net, shipping, tax, total, tips";

/// (table or view, file, row or rows): worked out from the files by other means.
#[rustfmt::skip]
const ROWS: [(&str, &str, &str); 27] = [
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "derived_big_250_lines", "1234|customer||-300|||US|US|31.99|0|10|0"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "derived_wire_2023-01_orders_create", "1234|customer||-300|||US|US|31.99|0|10|0"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "hookdeck_2023-01_orders_cancelled", "1234|customer||-300|||US|US|31.99|0|10|0"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "hookdeck_2023-01_orders_paid", "1234|customer||-300|||US|US|31.99|0|10|0"),
    ("line_id, variant_title, vendor, taxable, requires_shipping, fulfillable_qty, added_on FROM order_items ORDER BY line_no", "derived_wire_2023-01_orders_create", "866550311766439020|||1|1|1|2023-02-20\n141249953214522974|||1|1|1|2023-02-20"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "docs_2026-04_orders_create", "1234|customer||-300|||US|US|414.95|0|0|0"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "go_2019_order_with_coupon_unicode", "123154|inventory||0|||MX|MX|1667.8|1022.2|0|"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "hookdeck_2023-01_orders_create", "1234|customer||-300|||US|US|31.99|0|10|0"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "laravel_2017_orders_create", "1234|customer||-240|||US|US|47.98|5|10|0"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "php_2019_order_price_sets", "1001|||-300|||US|US|597|10|0|11.94"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "rest_2025-01_customer_removed_partial_refund", "1001|||-300|||US|US|195.67|3.33|0|3.98"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "rest_2025-01_guest_eur_null_sku", "1002|||-300|755357713||||224.97|0|0|13.5"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "webhookdb_order_customer_key_absent", "1001|customer|2008-01-10T16:00:00.000000Z|-300|1966818|49202758||CA|10|10|30|10"),
    ("order_number, cancel_reason, closed_at, utc_offset_minutes, app_id, location_id, billing_country, shipping_country, current_subtotal, current_total_discounts, current_total_shipping, current_total_tax FROM orders", "wire_2022-01_real_compact_null_sku", "1043|||-360|6511765||||10|0|0|0"),
    ("line_id, variant_title, vendor, taxable, requires_shipping, fulfillable_qty, added_on FROM order_items ORDER BY line_no", "go_2019_order_with_coupon_unicode", "1875411206233|L|LOVI|1|1|0|2016-05-17"),
    ("line_id, variant_title, vendor, taxable, requires_shipping, fulfillable_qty, added_on FROM order_items ORDER BY line_no", "rest_2025-01_customer_removed_partial_refund", "466157049|green||1|1|0|2008-01-10\n518995019|red||1|1|1|2008-01-10\n703073504|black||1|1|0|2008-01-10"),
    ("no, type, code, title, target_type, target_selection, allocation_method, value_type, value, amount FROM order_discounts ORDER BY no", "go_2019_order_with_coupon_unicode", "1|discount_code|Lovi||line_item|all|across|percentage|38|1022.2"),
    ("no, type, code, title, target_type, target_selection, allocation_method, value_type, value, amount FROM order_discounts ORDER BY no", "php_2019_order_price_sets", "1|discount_code|TENOFF||line_item|all|across|fixed_amount|10|10"),
    ("line_id, shipping_line_id, title, rate, amount, channel_liable FROM order_tax_lines ORDER BY no", "php_2019_order_price_sets", "466157049||State Tax|0.06|3.98|0\n518995019||State Tax|0.06|3.98|0\n703073504||State Tax|0.06|3.98|0"),
    ("line_id, shipping_line_id, title, rate, amount, channel_liable FROM order_tax_lines ORDER BY no", "rest_2025-01_guest_eur_null_sku", "1071823188||State tax|0.06|13.5|0"),
    ("line_id, title, code, source, price, discount, discounted_price, tax, removed FROM order_shipping_lines", "docs_2026-04_orders_create", "271878346596884000|Generic Shipping|Generic Shipping|shopify|10|10|0|0|0"),
    ("line_id, title, code, source, price, discount, discounted_price, tax, removed FROM order_shipping_lines", "webhookdb_order_customer_key_absent", "|Small Packet International Air|INT.TP|canada_post|4|0|4|0|0"),
    ("fulfillment_id, status, shipment_status, service, carrier, location_id, created_at, updated_at FROM order_fulfillments", "rest_2025-01_customer_removed_partial_refund", "255858046|failure||manual|USPS|655441491|2025-01-02T16:29:59.000000Z|2025-01-02T16:29:59.000000Z"),
    ("fulfillment_id, status, shipment_status, service, carrier, location_id, created_at, updated_at FROM order_fulfillments", "webhookdb_order_customer_key_absent", "255858046|failure|||USPS||2012-03-13T20:09:54.000000Z|2012-05-01T18:22:25.000000Z"),
    ("no, tag FROM order_tags ORDER BY no", "docs_2026-04_orders_create", "1|tag1\n2|tag2"),
    ("transaction_id, refund_id, parent_id, kind, status, gateway, amount, currency, local_date FROM order_transactions", "rest_2025-01_customer_removed_partial_refund", "179259969|509562969|801038806|refund|success|bogus|209|USD|2005-08-05"),
    ("currency, local_date, gateway, payments, paid, refunds, refunded, net FROM daily_payments", "php_2019_order_price_sets", "USD|2005-08-05|bogus|0|0|1|209|-209"),
];

/// What `daily_sales` says of each order, test orders counted like others; worked out by hand from
/// prices, quantities, allocations, tax lines, shipping lines, duties and refunds.
#[rustfmt::skip]
const DAYS: [(&str, &str); 13] = [
    ("derived_big_250_lines", "2023-02-20|1|19867.78|5|0|19862.78|10|0|19872.78|0"),
    ("derived_wire_2023-01_orders_create", "2023-02-20|1|31.99|5|0|26.99|10|0|36.99|0"),
    ("docs_2026-04_orders_create", "2021-12-31|1|414.95|10|0|404.95|0|0|404.95|0"),
    ("go_2019_order_with_coupon_unicode", "2016-05-17|1|2690|1022.2|0|1667.8|0|0|1667.8|0\n2019-02-14|0|0|0|0|0|0|0|0|0"),
    ("hookdeck_2023-01_orders_cancelled", "2023-02-20|1|31.99|5|0|26.99|10|0|36.99|0"),
    ("hookdeck_2023-01_orders_create", "2023-02-20|1|31.99|5|0|26.99|10|0|36.99|0"),
    ("hookdeck_2023-01_orders_paid", "2023-02-20|1|31.99|5|0|26.99|10|0|36.99|0"),
    ("laravel_2017_orders_create", "2017-07-17|1|52.98|5|0|47.98|10|0|57.98|0"),
    ("php_2019_order_price_sets", "2008-01-10|1|597|10|0|587|0|11.94|598.94|0\n2020-12-04|0|0|0|391.33|-391.33|0|-7.96|-399.29|0"),
    ("rest_2025-01_customer_removed_partial_refund", "2008-01-10|1|597|10|0|587|0|11.94|598.94|0\n2025-01-02|0|0|0|391.33|-391.33|0|-7.96|-399.29|0"),
    ("rest_2025-01_guest_eur_null_sku", "2025-01-02|1|224.97|0|0|224.97|0|13.5|238.47|0"),
    ("webhookdb_order_customer_key_absent", "2008-01-10|1|199.99|5|0|194.99|4|25.81|389.66|4.87\n2018-03-06|0|0|0|0|0|0|0|0|0"),
    ("wire_2022-01_real_compact_null_sku", "2022-02-24|1|10|0|0|10|0|0|10|0"),
];

/// (file, topic, query, rows) of bodies that are no orders.
#[rustfmt::skip]
const PARTIAL: [(&str, &str, &str, &str); 9] = [
    ("docs_2026-04_orders_delete", "orders/delete", "SELECT order_id, deleted_at, total_amount FROM orders", "820982911946154500|1970-01-01T00:00:00.000000Z|"),
    ("docs_2026-04_orders_edited", "orders/edited", "SELECT order_id, has_sale_rows, total_amount FROM orders", "820982911946154500|1|"),
    ("docs_2026-04_refunds_create", "refunds/create", "SELECT refund_id, order_id, local_date, amount, currency, reversed_lines, reversed_tax, adjustments FROM order_refunds", "890088186047892400|820982911946154500|2021-12-31|85|USD|414.95|0|0"),
    ("docs_2026-04_refunds_create", "refunds/create", "SELECT line_no, line_id, qty, subtotal, tax, restock_type FROM order_refund_items ORDER BY 1", "1|487817672276298560|1|89.99|0|no_restock\n2|789012345678901200|1|19.99|0|no_restock\n3|890123456789012400|1|24.99|0|no_restock\n4|976318377106520300|1|159.99|0|no_restock\n5|315789986012684400|1|119.99|0|no_restock"),
    ("gadget_2024-01_order_transaction", "order_transactions/create", "SELECT event_type, order_id, (SELECT count(*) FROM order_transactions) FROM order_events", "order_transaction.created|123|0"),
    ("gadget_2025-04_orders_edited", "orders/edited", "SELECT order_id, has_sale_rows, total_amount FROM orders", "123|1|"),
    ("gadget_2025-04_risk_assessment_changed", "orders/risk_assessment_changed", "SELECT event_type, order_id, (SELECT count(*) FROM orders) FROM order_events", "order.risk_assessment_changed|example string|0"),
    ("hookdeck_2023-01_refunds_create", "refunds/create", "SELECT refund_id, order_id, amount, currency, reversed_lines, reversed_tax, adjustments FROM order_refunds", "890088186047892400|820982911946154500|0|CAD|31.99|0|0"),
    ("hookdeck_2023-01_refunds_create", "refunds/create", "SELECT line_no, line_id, qty, subtotal, tax, restock_type FROM order_refund_items ORDER BY 1", "1|866550311766439000|1|1.99|0|no_restock\n2|141249953214522980|1|30|0|no_restock"),
];

/// Bodies of the project's own in the same shapes, and what `daily_sales` says of them together.
const OWN: [(&str, &str); 6] = [
    ("order_usd", "orders/create"),
    ("order_edited", "orders/edited"),
    ("refund", "refunds/create"),
    ("transaction", "order_transactions/create"),
    ("order_guest_eur", "orders/create"),
    ("order_multi_currency_refunded", "orders/updated"),
];

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

pub async fn captured_bodies_tell_the_rest(store: &dyn Store) {
    let mut samples = Vec::new();
    for (name, topic, ..) in WHOLE {
        let Some(body) = read(name) else { return };
        let hints = DeliveryHints::default();
        let mut event = convert(topic, &body, &hints).unwrap();
        event.shop = Some(name.into());
        event.test = None;
        samples.push(Sample::from(serde_json::to_string(&event).unwrap()));
    }
    store.open().load(&records(&samples)).await.unwrap();
    for (file, expected) in DAYS {
        let sql = format!("SELECT {FIGURES} FROM daily_sales WHERE shop = '{file}' ORDER BY local_date");
        assert_eq!(rows(store, &sql).await, expected, "{file}");
    }
    samples.clear();
    let refund = read("docs_2026-04_refunds_create").unwrap();
    let hints = DeliveryHints::default();
    let event = convert("refunds/create", &refund, &hints).unwrap();
    samples.push(Sample::from(serde_json::to_string(&event).unwrap()));
    store.open().load(&records(&samples)).await.unwrap();
    for (columns, file, expected) in ROWS {
        let (what, from) = columns.split_once(" FROM ").unwrap();
        let (from, order) = from.split_once(" ORDER BY ").unwrap_or((from, "1"));
        let sql = format!("SELECT {what} FROM {from} WHERE shop = '{file}' ORDER BY {order}");
        assert_eq!(rows(store, &sql).await, expected, "{file}: {columns}");
    }
    assert_eq!(
        rows(
            store,
            "SELECT transaction_id, refund_id, kind, status, amount, currency, local_date FROM order_transactions \
             WHERE shop = '' ORDER BY 1"
        )
        .await,
        "245135271310201180|890088186047892400|refund|success|75|USD|2019-12-31\n\
         839212141605670500|890088186047892400|refund|success|10|USD|2020-01-01"
    );
}

pub async fn captured_bodies_that_are_no_orders_have_rows(store: &dyn Store) {
    for (file, topic, query, expected) in PARTIAL {
        let Some(body) = read(file) else { return };
        let hints = DeliveryHints::default();
        let event = convert(topic, &body, &hints).unwrap();
        empty(store).await;
        let sample = Sample::from(serde_json::to_string(&event).unwrap());
        store.open().load(&records(&[sample])).await.unwrap();
        assert_eq!(rows(store, query).await, expected, "{file}: {query}");
    }
}

pub async fn own_bodies_of_these_shapes_have_their_figures(store: &dyn Store) {
    let samples = OWN.map(|(file, topic)| {
        let body = bodies::read(file);
        let hints = DeliveryHints::default();
        let event = convert(topic, &body, &hints).unwrap();
        Sample::from(serde_json::to_string(&event).unwrap())
    });
    store.open().load(&records(&samples)).await.unwrap();
    let sql = format!("SELECT currency, {FIGURES} FROM daily_sales ORDER BY currency, local_date");
    assert_eq!(
        rows(store, &sql).await,
        "EUR|2026-03-29|1|5899.8|0|0|5899.8|4.9|0.1|5904.8|0\n\
         USD|2026-01-31|1|112.75|11.28|0|101.47|7|8.1|116.57|0\n\
         USD|2026-02-03|0|0|0|43.75|-43.75|0|-3.14|-46.89|0\n\
         USD|2026-02-10|1|90|0|0|90|0|10|100|0\n\
         USD|2026-02-20|0|0|0|45|-45|0|-5|-50|0"
    );
    let moved =
        "SELECT currency, local_date, gateway, payments, paid, refunds, refunded FROM daily_payments ORDER BY 1, 2";
    assert_eq!(
        rows(store, moved).await,
        "USD|2026-01-31|shopify_payments|1|116.57|0|0\n\
         USD|2026-02-03|shopify_payments|1|100|2|46.89\n\
         USD|2026-02-20|shopify_payments|0|0|1|30"
    );
}
