//! Both stores say the same of the same events: every table, every view, every column.

use orderstream::warehouse::Warehouse;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::Config;
use rust_decimal::Decimal;
use serde_json::json;

use super::Store;
use super::events::{Sample, records};
use super::store::{Answer, WarehouseFile};
use crate::harness::postgres::Database;
use crate::harness::seeded;

const BATCHES: usize = 6;
const EVENTS: usize = 60;

/// Columns that hold when and where it was loaded, which differs.
const OWN: [&str; 3] = ["loaded_at", "slowest_load", "applied_at"];

pub const EVERYTHING: [&str; 23] = [
    "schema_migrations",
    "order_events",
    "orders",
    "order_items",
    "order_refunds",
    "order_refund_items",
    "order_sale_rows",
    "order_transactions",
    "forgotten",
    "payments",
    "daily_payments",
    "order_discounts",
    "order_tax_lines",
    "order_shipping_lines",
    "order_fulfillments",
    "order_tags",
    "sales",
    "refund_reversals",
    "order_sales",
    "daily_sales",
    "product_sales",
    "customer_orders",
    "hourly_arrivals",
];

/// As producers write it: cents, no decimals, many decimals, what a float left, large, negative.
fn amount() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (-500_000..5_000_000_i64).prop_map(|cents| rust_decimal::Decimal::new(cents, 2).to_string()),
        2 => (0..100_000_i64).prop_map(|whole| whole.to_string()),
        2 => (any::<i32>(), 0..10_u32).prop_map(|(digits, scale)| {
            rust_decimal::Decimal::new(digits.into(), scale).to_string()
        }),
        1 => Just("0.300000001".to_owned()),
        1 => Just("-0.000000001".to_owned()),
        // A float of the file tells its cents, also beside small amounts.
        1 => Just("99999999.99".to_owned()),
        1 => Just("-0.00".to_owned()),
    ]
}

fn maybe(strategy: impl Strategy<Value = String>) -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.7, strategy)
}

/// One of few, so that they meet.
fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(words)
}

/// Days on both sides of new years, leap days and midnights.
fn time() -> impl Strategy<Value = String> {
    let day = one_of(&[
        "1999-12-31",
        "2000-02-29",
        "2000-03-01",
        "2026-01-31",
        "2026-02-28",
        "2026-03-01",
        "2100-03-01",
    ]);
    let rest = one_of(&[
        "T00:00:00Z",
        "T23:59:59.999999Z",
        "T23:30:00-05:00",
        "T00:15:00.5+02:00",
        "T12:00:00+14:00",
    ]);
    (day, rest).prop_map(|(day, rest)| format!("{day}{rest}"))
}

fn item() -> impl Strategy<Value = serde_json::Value> {
    let skus = prop::option::of(one_of(&["", "A", "B"]));
    (
        skus,
        0..5_i64,
        amount(),
        maybe(amount()),
        maybe(amount()),
        any::<bool>(),
    )
        .prop_map(|(sku, qty, price, discount, tax, titled)| {
            json!({"sku": sku, "qty": qty, "price": price, "discount": discount, "tax": tax, "product_id": "p",
                   "title": titled.then_some("Mug")})
        })
}

fn refund() -> impl Strategy<Value = serde_json::Value> {
    let currency = prop::option::of(one_of(&["EUR", "USD"]));
    (0..20_u8, amount(), maybe(amount()), currency, maybe(time())).prop_map(|(id, amount, tax, currency, at)| {
        json!({"refund_id": format!("r{id}"), "amount": amount, "tax": tax, "currency": currency, "processed_at": at})
    })
}

fn transaction() -> impl Strategy<Value = serde_json::Value> {
    let words = (
        one_of(&["authorization", "sale", "capture", "refund"]),
        one_of(&["pending", "success", "success", "failure"]),
        prop::option::of(one_of(&["bogus", "gift_card"])),
    );
    let currency = prop::option::of(one_of(&["EUR", "USD"]));
    let test = prop::bool::weighted(0.1);
    (0..20_u8, words, maybe(amount()), currency, maybe(time()), test).prop_map(
        |(id, (kind, status, gateway), amount, currency, at, test)| {
            json!({"transaction_id": format!("t{id}"), "kind": kind, "status": status, "gateway": gateway,
                   "amount": amount, "currency": currency, "processed_at": at, "test": test})
        },
    )
}

/// What else an order says.
fn details() -> impl Strategy<Value = serde_json::Value> {
    let text = || one_of(&["State \"x\" Tax", "é, \\ and '", "TENOFF", ""]);
    let tax = (text(), maybe(amount()), maybe(amount()), any::<bool>()).prop_map(|(title, rate, amount, liable)| {
        json!({"line_id": "1", "title": title, "rate": rate, "amount": amount, "channel_liable": liable})
    });
    let discount = (text(), maybe(amount()), maybe(amount())).prop_map(
        |(code, value, amount)| json!({"type": "discount_code", "code": code, "value": value, "amount": amount}),
    );
    let fulfillment = (text(), maybe(time()))
        .prop_map(|(status, at)| json!({"fulfillment_id": 7, "status": status, "created_at": at}));
    let tags = prop::collection::vec(text(), 0..3);
    let lists = (
        prop::collection::vec(tax, 0..3),
        prop::collection::vec(discount, 0..3),
        prop::collection::vec(fulfillment, 0..2),
    );
    (lists, tags, prop::option::of(0..9_i64)).prop_map(|((taxes, discounts, fulfillments), tags, weight)| {
        json!({"tax_lines": taxes, "discounts": discounts, "fulfillments": fulfillments, "tags": tags, "weight": weight})
    })
}

fn shipping_line() -> impl Strategy<Value = serde_json::Value> {
    (maybe(amount()), maybe(amount()), maybe(amount()), any::<bool>()).prop_map(|(price, discounted, tax, removed)| {
        json!({"line_id": 5, "title": "Post", "price": price, "discounted_price": discounted, "tax": tax,
               "removed": removed})
    })
}

fn event() -> impl Strategy<Value = Sample> {
    let kind = one_of(&[
        "order.created",
        "order.updated",
        "order.cancelled",
        "order.updated",
        "order.deleted",
        "refund.created",
    ]);
    let about = (
        any::<u64>(),
        one_of(&["", "one.myshopify.com"]),
        0..12_u8,
        one_of(&["EUR", "USD", "JPY"]),
    );
    let amounts = (
        amount(),
        maybe(amount()),
        maybe(amount()),
        maybe(amount()),
        maybe(amount()),
    );
    let lists = (
        prop::collection::vec(item(), 0..4),
        prop::collection::vec(refund(), 0..3),
        prop::collection::vec(transaction(), 0..3),
        prop::collection::vec(shipping_line(), 0..2),
        prop::option::of(details()),
    );
    let flags = (
        prop::option::of(any::<bool>()),
        prop::bool::weighted(0.1),
        prop::option::of(0..3_u8),
    );
    let times = (time(), maybe(time()), maybe(time()), maybe(time()));
    (kind, about, amounts, lists, flags, times).prop_map(
        |(kind, (id, shop, order_id, currency), amounts, lists, flags, times)| {
            let (items, mut refunds, transactions, shipping_lines, details) = lists;
            let (taxes_included, test, customer) = flags;
            let (timestamp, updated_at, processed_at, cancelled_at) = times;
            let mut transactions = transactions.into_iter();
            if let Some(refund) = refunds.first_mut() {
                refund["transactions"] = transactions.next().into_iter().collect();
            }
            let transactions: Vec<serde_json::Value> = transactions.collect();
            let mut event = json!({
                "event_type": kind, "event_id": format!("e{id}"), "timestamp": timestamp, "shop": shop,
                "order_id": order_id.to_string(), "test": test, "refunds": refunds,
                "transactions": transactions,
            });
            if kind.starts_with("order.") && kind != "order.deleted" {
                let (total, subtotal, discounts, shipping, tax) = amounts;
                let whole = json!({
                    "total_amount": total, "subtotal": subtotal, "total_discounts": discounts,
                    "total_shipping": shipping, "total_tax": tax, "currency": currency, "items": items,
                    "taxes_included": taxes_included, "customer_id": customer.map(|n| n.to_string()),
                    "updated_at": updated_at, "processed_at": processed_at, "cancelled_at": cancelled_at,
                    "presentment_currency": "USD", "presentment_total_amount": "12.30", "shipping_lines": shipping_lines,
                    "details": details, "order_number": id % 1000, "closed_at": cancelled_at, "app_id": id,
                    "shipping_country": "CA", "rounding": "0.02", "current_subtotal": "1.10",
                });
                let event = event.as_object_mut().unwrap();
                event.extend(whole.as_object().unwrap().clone());
                if id % 8 == 0 {
                    // A plain producer's: a total, but no lines.
                    event.remove("items");
                }
            }
            event.into()
        },
    )
}

/// Without the columns of its own, in an order of its own.
pub fn comparable(answer: Answer) -> Answer {
    let kept: Vec<usize> = (0..answer.columns.len())
        .filter(|at| !OWN.contains(&answer.columns[*at].as_str()))
        .collect();
    let mut rows: Vec<Vec<String>> = answer
        .rows
        .iter()
        .map(|row| kept.iter().map(|at| row[*at].clone()).collect())
        .collect();
    rows.sort_by_key(|row| Vec::from_iter(row.iter().map(|cell| rounded(cell))));
    Answer { rows, ..answer }
}

/// Views of the file answer floats, rounded to the 6th decimal.
fn rounded(cell: &str) -> String {
    let number = cell.contains('.').then(|| cell.parse::<Decimal>().ok()).flatten();
    number.map_or_else(|| cell.to_owned(), |number| format!("{:.3}", number.round_dp(3)))
}

/// The same text, or amounts that are equal to the 6th decimal, as far as a float of 15 digits can tell.
fn is_close(one: &str, other: &str) -> bool {
    let number = |text: &str| text.parse::<Decimal>().ok();
    match (number(one), number(other)) {
        (Some(one), Some(other)) => {
            let tolerance = Decimal::new(1, 6) + one.abs() * Decimal::new(1, 13);
            (one - other).abs() <= tolerance
        }
        _ => one == other,
    }
}

#[tokio::test]
async fn the_same_events_make_the_same_tables_and_views() {
    let (database, file) = (Database::migrated().await, WarehouseFile::migrated().await);
    let mut runner = seeded(Config::default());
    for _ in 0..BATCHES {
        let events = prop::collection::vec(event(), EVENTS)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let ours = file.open().load(&records(&events)).await.unwrap();
        assert_eq!(database.warehouse().load(&records(&events)).await.unwrap(), ours);
        for name in EVERYTHING {
            let sql = format!("SELECT * FROM {name}");
            let expected = comparable(database.query(&sql).await);
            let found = comparable(file.query(&sql).await);
            assert_eq!(found.columns, expected.columns, "{name}");
            for (found, expected) in found.rows.iter().zip(&expected.rows) {
                let differs = found
                    .iter()
                    .zip(expected)
                    .any(|(found, expected)| !is_close(found, expected));
                assert!(!differs, "{name}: {found:?} in the file, {expected:?} in PostgreSQL");
            }
            assert_eq!(found.rows.len(), expected.rows.len(), "{name}");
        }
    }
}
