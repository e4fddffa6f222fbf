//! Orders as Shopify posts them: full payload, compact wire style, 5 to 30 KB, all sums right.
//!
//! Pure: a seed and a number decide every byte. Names and addresses are invented. Orders are not marked test, so that
//! they show in every view of the warehouse.

mod money;
mod order;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

use self::order::Order;

/// When repeatable orders begin: 2026-01-01T00:00:00Z.
const EPOCH: i64 = 1_767_225_600;
/// Order ids are 13 digits, as a shop's are.
const FIRST_ID: u64 = 5_000_000_000_000;

pub(super) struct Generator {
    seed: u64,
    base: OffsetDateTime,
}

impl Generator {
    /// Repeatable with a seed; without one, new orders of this moment each time.
    pub(super) fn new(seed: Option<u64>) -> Self {
        let epoch = OffsetDateTime::from_unix_timestamp(EPOCH).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        match seed {
            Some(seed) => Self { seed, base: epoch },
            None => Self {
                seed: rand::random(),
                base: OffsetDateTime::now_utc(),
            },
        }
    }

    /// The body of webhook `number` of a topic. The same number is the same order under every topic.
    pub(super) fn body(&self, topic: &str, shop: &str, number: u64) -> String {
        let mut rng = StdRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let id = FIRST_ID + (self.seed.wrapping_mul(1_000_003).wrapping_add(number)) % 4_000_000_000_000;
        let offset = UtcOffset::from_hms([-5, 0, 1, 2, 9][rng.random_range(0..5)], 0, 0).unwrap_or(UtcOffset::UTC);
        // Within a day, so that a seed's orders of any number stay in one year.
        let minutes = i64::try_from(number % 1440).unwrap_or_default();
        let created = (self.base + Duration::minutes(minutes) - Duration::days(1)).to_offset(offset);
        let order = Order::new(&mut rng, id, number, created);
        wire(&match topic {
            "orders/delete" => json!({ "id": id }),
            "refunds/create" => order.refund(),
            _ => order.payload(topic, shop),
        })
    }
}

/// Shopify's JSON: no spaces, `/` and `&` escaped. Neither stands outside strings.
fn wire(value: &Value) -> String {
    value.to_string().replace('/', "\\/").replace('&', "\\u0026")
}

fn stamp(moment: OffsetDateTime) -> Value {
    json!(
        moment
            .replace_nanosecond(0)
            .unwrap_or(moment)
            .format(&Rfc3339)
            .unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPICS: [&str; 5] = [
        "orders/create",
        "orders/paid",
        "orders/updated",
        "orders/fulfilled",
        "orders/cancelled",
    ];

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let body = |seed, number| Generator::new(Some(seed)).body("orders/create", "a.myshopify.com", number);
        assert_eq!(body(7, 3), body(7, 3));
        assert_ne!(body(7, 3), body(7, 4));
        assert_ne!(body(7, 3), body(8, 3));
    }

    #[test]
    fn orders_have_the_size_and_shape_of_real_ones() {
        let generator = Generator::new(Some(1));
        for number in 0..200 {
            let body = generator.body(TOPICS[usize::try_from(number % 5).unwrap()], "a.myshopify.com", number);
            assert!((5_000..=30_000).contains(&body.len()), "{number}: {} bytes", body.len());
            assert!(!body.contains(": ") || !body.contains("\n"));
            let order: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(order["test"], false);
            assert!(order["total_price"].is_string() && order["line_items"][0]["price"].is_string());
        }
    }

    #[test]
    fn sums_are_right() {
        let cents = |value: &Value| -> i64 { value.as_str().unwrap().replace('.', "").parse().unwrap() };
        for number in 0..200 {
            let body = Generator::new(Some(2)).body("orders/create", "a.myshopify.com", number);
            let order: Value = serde_json::from_str(&body).unwrap();
            let lines: i64 = order["line_items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| cents(&line["price"]) * line["quantity"].as_i64().unwrap())
                .sum();
            assert_eq!(lines, cents(&order["total_line_items_price"]));
            assert_eq!(
                lines - cents(&order["total_discounts"]),
                cents(&order["subtotal_price"])
            );
            let shipping = cents(&order["total_shipping_price_set"]["shop_money"]["amount"]);
            let added_tax = if order["taxes_included"] == true {
                0
            } else {
                cents(&order["total_tax"])
            };
            assert_eq!(
                cents(&order["subtotal_price"]) + shipping + added_tax,
                cents(&order["total_price"])
            );
        }
    }

    #[test]
    fn orders_vary() {
        let generator = Generator::new(Some(3));
        let orders: Vec<Value> = (0..200)
            .map(|number| serde_json::from_str(&generator.body("orders/updated", "a", number)).unwrap())
            .collect();
        let some = |what: &dyn Fn(&Value) -> bool| orders.iter().any(what) && !orders.iter().all(what);
        assert!(some(&|order| order["customer"].is_null()), "guests");
        assert!(some(&|order| order["currency"] == "JPY"), "currencies without cents");
        assert!(
            some(&|order| order["currency"] != order["presentment_currency"]),
            "foreign buyers"
        );
        assert!(
            some(&|order| order["total_discounts"].as_str().unwrap().parse::<f64>().unwrap() > 0.0),
            "discounts"
        );
        assert!(some(&|order| order["refunds"][0].is_object()), "refunds");
        assert!(
            some(&|order| order["line_items"][0]["sku"].is_null()),
            "lines without SKU"
        );
        assert!(some(&|order| order["taxes_included"] == true), "gross prices");
    }
}
