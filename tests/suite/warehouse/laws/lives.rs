//! What the ledger holds of generated orders, against what their bodies say of them as they stand.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rust_decimal::Decimal;
use serde_json::Value;

use super::super::events::{Sample, records};
use super::super::lives::Life;
use super::Store;

const LIVES: u64 = 150;
/// Orders of arrival; the first is the one in which it happened.
const ARRIVALS: u64 = 4;
const BATCH: usize = 40;

pub async fn the_ledger_adds_up_to_what_each_order_is_worth(store: &dyn Store) {
    let lives: Vec<Life> = (0..LIVES).map(Life::new).collect();
    let warehouse = store.open();
    let mut told = None;
    for arrival in 0..ARRIVALS {
        let shop = format!("lives-{arrival}");
        let mut rng = StdRng::seed_from_u64(arrival);
        let mut samples: Vec<Sample> = lives.iter().flat_map(|life| of_shop(life, &shop)).collect();
        if arrival > 0 {
            samples.shuffle(&mut rng);
        }
        let mut rest = samples.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(rng.random_range(1..=BATCH).min(rest.len()));
            warehouse.load(&records(batch)).await.unwrap();
            rest = later;
        }
        let worth = worth_by_order(store, &shop).await;
        for (seed, life) in lives.iter().enumerate() {
            let order = life.order_id.to_string();
            let found = worth.get(&order).copied().unwrap_or_default();
            assert_eq!(
                found,
                life.expected(),
                "life {seed}, arrival {arrival}: {}",
                history(life)
            );
        }
        let days = days(store, &shop).await;
        assert_eq!(*told.get_or_insert_with(|| days.clone()), days, "arrival {arrival}");
        let sum: Decimal = days.iter().map(|day| day[2].parse::<Decimal>().unwrap()).sum();
        let expected: Decimal = lives.iter().map(Life::expected).sum();
        assert_eq!(sum.round_dp(3), expected, "daily_sales, arrival {arrival}");
    }
}

/// The events as a shop of that name would have sent them.
fn of_shop(life: &Life, shop: &str) -> Vec<Sample> {
    let renamed = |sample: &Sample| {
        let mut event: Value = serde_json::from_str(&sample.payload).unwrap();
        event["shop"] = shop.into();
        event["event_id"] = format!("{}-{shop}", event["event_id"].as_str().unwrap()).into();
        event.into()
    };
    life.samples.iter().map(renamed).collect()
}

/// Everything that Shopify's reports count, by order.
async fn worth_by_order(store: &dyn Store, shop: &str) -> BTreeMap<String, Decimal> {
    let sql = format!(
        "SELECT order_id, sum(CASE WHEN line_type IN ('gift_card', 'tip') THEN tax ELSE total END) FROM order_sales \
         WHERE shop = '{shop}' GROUP BY order_id"
    );
    let rows = store.query(&sql).await.rows;
    let worth = rows.into_iter().map(|row| {
        let sum: Decimal = row[1].parse().unwrap();
        (row[0].clone(), sum.round_dp(3).normalize())
    });
    worth.collect()
}

async fn days(store: &dyn Store, shop: &str) -> Vec<Vec<String>> {
    let sql = format!(
        "SELECT currency, local_date, total, gross, discounts, reversals, shipping, tax, duties, fees, tips, gift_cards, \
                orders FROM daily_sales WHERE shop = '{shop}' ORDER BY 1, 2"
    );
    let mut days = store.query(&sql).await.rows;
    for cell in days.iter_mut().flat_map(|row| row.iter_mut().skip(2)) {
        *cell = cell.parse::<Decimal>().unwrap().round_dp(3).normalize().to_string();
    }
    days
}

fn history(life: &Life) -> String {
    let lines = life.samples.iter().map(|sample| sample.payload.as_str());
    lines.collect::<Vec<_>>().join("\n")
}
