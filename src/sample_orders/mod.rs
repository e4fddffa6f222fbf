//! Sample orders as Shopify posts them: the full payload in compact JSON, 5 to 30 KB, with sums
//! that agree.
//!
//! Serves `send`, the benchmark and tests. Pure: a seed and a number decide every byte. Names and
//! addresses are invented. Orders are not marked as test orders, so that they show in every view of
//! the warehouse.

mod amount;
mod history;
mod order;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use time::{Duration, OffsetDateTime, UtcOffset};

pub use self::history::OrderStep;
use self::order::SampleOrder;

/// When repeatable orders begin: 2026-01-01T00:00:00Z.
const EPOCH: i64 = 1_767_225_600;
/// Order ids are 13 digits, as a shop's are.
const FIRST_ID: u64 = 5_000_000_000_000;

/// Minutes in which whatever is sent of an order by itself has happened.
const OF_ONE_TOPIC: i64 = 36;

/// Generates orders by number.
#[derive(Debug, Clone, Copy)]
pub struct Generator {
    seed: u64,
    base: OffsetDateTime,
    /// Whether the last that happened to any order was at `base`.
    ends_at_base: bool,
}

impl Generator {
    /// The same seed and base give the same orders, over a day about two days before `base`.
    #[must_use]
    pub fn new(seed: u64, base: OffsetDateTime) -> Self {
        Self {
            seed,
            base,
            ends_at_base: false,
        }
    }

    /// Orders to which the last happened just before `now`, and nothing after it.
    #[must_use]
    pub fn up_to(seed: u64, now: OffsetDateTime) -> Self {
        Self {
            seed,
            base: now,
            ends_at_base: true,
        }
    }

    /// Base of repeatable orders.
    #[must_use]
    pub fn epoch() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(EPOCH).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// The body of a topic for order `number`, by itself. The same number is the same order under
    /// every topic.
    #[must_use]
    pub fn body(&self, topic: &str, shop: &str, number: u64) -> String {
        let order = self.order(number, None, OF_ONE_TOPIC);
        wire(&order.payload(topic, order.progress(topic), shop))
    }

    /// The body of `orders/create` for order `number`, with so many lines.
    #[must_use]
    pub fn order_of_lines(&self, shop: &str, number: u64, lines: usize) -> Value {
        let order = self.order(number, Some(lines), OF_ONE_TOPIC);
        order.payload("orders/create", order.progress("orders/create"), shop)
    }

    /// The webhooks of order `number`, in the order in which they happen.
    #[must_use]
    pub fn history(&self, number: u64) -> Vec<OrderStep> {
        history::history(&mut self.rng(!number))
    }

    /// The body of one step of that order's history.
    #[must_use]
    pub fn step(&self, step: OrderStep, shop: &str, number: u64) -> String {
        let order = self.order(number, None, self.length(number));
        wire(&order.payload(step.topic, step.progress, shop))
    }

    /// When Shopify triggers that step's delivery: each step of a history has its own second.
    #[must_use]
    pub fn triggered_at(&self, step: OrderStep, place: usize, number: u64) -> OffsetDateTime {
        let place = i64::try_from(place).unwrap_or_default();
        let order = self.order(number, None, self.length(number));
        order.at(step.progress.updated) + Duration::seconds(1 + place)
    }

    /// Minutes from its creation to the last step of its history.
    fn length(&self, number: u64) -> i64 {
        let history = self.history(number);
        history.last().map_or(0, |step| step.progress.updated)
    }

    fn rng(&self, number: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// `length`: minutes from its creation to the last that happened to it.
    fn order(&self, number: u64, lines: Option<usize>, length: i64) -> SampleOrder {
        let mut rng = self.rng(number);
        let id = FIRST_ID + (self.seed.wrapping_mul(1_000_003).wrapping_add(number)) % 4_000_000_000_000;
        let offset = UtcOffset::from_hms([-5, 0, 1, 2, 9][rng.random_range(0..5)], 0, 0).unwrap_or(UtcOffset::UTC);
        let before = if self.ends_at_base {
            // The minute is for deliveries, each of which is triggered a second after the one before.
            Duration::minutes(length + 1)
        } else {
            // Within a day, so that a seed's orders of any number stay in one week; and so long ago
            // that no history reaches into the future.
            Duration::days(2) - Duration::minutes(i64::try_from(number % 1440).unwrap_or_default())
        };
        SampleOrder::new(&mut rng, id, number, (self.base - before).to_offset(offset), lines)
    }
}

/// JSON as Shopify writes it: without spaces, `/` and `&` escaped (which are only within strings).
#[must_use]
pub fn wire(value: &Value) -> String {
    value.to_string().replace('/', "\\/").replace('&', "\\u0026")
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

    fn seeded(seed: u64) -> Generator {
        Generator::new(seed, Generator::epoch())
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let body = |seed, number| seeded(seed).body("orders/create", "a.myshopify.com", number);
        assert_eq!(body(7, 3), body(7, 3));
        assert_ne!(body(7, 3), body(7, 4));
        assert_ne!(body(7, 3), body(8, 3));
    }

    #[test]
    fn orders_have_the_size_and_shape_of_real_ones() {
        let generator = seeded(1);
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
    fn orders_of_chosen_lines_have_the_size_that_the_benchmark_promises() {
        for (lines, expected) in [(3, 8_500..10_000), (24, 30_000..35_000)] {
            let bodies = (0..128).map(|number| wire(&seeded(1).order_of_lines("a.myshopify.com", number, lines)));
            let sizes = Vec::from_iter(bodies.map(|body| body.len()));
            let mean = sizes.iter().sum::<usize>() / sizes.len();
            assert!(expected.contains(&mean), "{lines} lines: {mean} bytes, {sizes:?}");
        }
    }

    #[test]
    fn sums_are_right() {
        let cents = |value: &Value| -> i64 { value.as_str().unwrap().replace('.', "").parse().unwrap() };
        for number in 0..200 {
            let body = seeded(2).body("orders/create", "a.myshopify.com", number);
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
    fn orders_up_to_now_are_of_today_and_never_of_the_future() {
        let now = Generator::epoch() + Duration::hours(20);
        let generator = Generator::up_to(5, now);
        let time = |order: &Value, name: &str| {
            OffsetDateTime::parse(
                order[name].as_str().unwrap(),
                &time::format_description::well_known::Rfc3339,
            )
            .unwrap()
        };
        for number in 0..300 {
            let history = generator.history(number);
            for (place, step) in history.iter().enumerate() {
                assert!(
                    generator.triggered_at(*step, place, number) <= now,
                    "{number}: {step:?}"
                );
            }
            let last = history.iter().rfind(|step| step.topic == "orders/updated");
            let first: Value = serde_json::from_str(&generator.step(history[0], "a", number)).unwrap();
            assert!(time(&first, "created_at") > now - Duration::hours(20));
            if let Some(last) = last.filter(|last| Some(*last) == history.last()) {
                let last: Value = serde_json::from_str(&generator.step(*last, "a", number)).unwrap();
                assert!(now - time(&last, "updated_at") <= Duration::minutes(2), "{number}");
            }
            for topic in TOPICS {
                let order: Value = serde_json::from_str(&generator.body(topic, "a", number)).unwrap();
                assert!(time(&order, "updated_at") <= now && time(&order, "created_at") > now - Duration::hours(1));
            }
        }
    }

    #[test]
    fn orders_vary() {
        let generator = seeded(3);
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
