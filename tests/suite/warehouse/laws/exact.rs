//! Orders that come with Shopify's own books (imported or reconciled), alone and among their webhooks: the figures are the
//! same as of the webhooks.

use std::collections::BTreeMap;

use orderstream::shopify::{AdminOrder, Asked, Request, ShopZone};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::Value;

use super::super::events::{ARRIVAL, Sample, records};
use super::histories::{History, all};
use super::{Store, rows};
use crate::harness::shopify::render;

/// The orders that these deliveries leave behind, each with its books, as events of that shop.
fn with_books(deliveries: &[(String, Value)], shop: &str) -> Vec<Sample> {
    let mut orders: BTreeMap<String, Vec<(&str, &Value)>> = BTreeMap::new();
    for (topic, body) in deliveries {
        let id = match topic.as_str() {
            "refunds/create" | "order_transactions/create" => &body["order_id"],
            "orders/edited" => &body["order_edit"]["order_id"],
            _ => &body["id"],
        };
        orders.entry(id.to_string()).or_default().push((topic, body));
    }
    let wholes = orders
        .into_values()
        .filter(|one| one.iter().any(|(_, body)| !body["line_items"].is_null()));
    let events = wholes.map(|deliveries| {
        let zone = match Value::from_iter(deliveries.iter().map(|(_, body)| (*body).clone())).to_string() {
            text if text.contains("-05:00") || text.contains("-04:00") => "America/New_York",
            _ => "Europe/Berlin",
        };
        let node = render::of_history(&deliveries);
        let order = AdminOrder::of(&node, ShopZone::named(zone).unwrap()).unwrap();
        let request = Request {
            asked: Asked::Import,
            shop,
            received_at: ARRIVAL,
        };
        let event = order.event(request).unwrap();
        Sample {
            payload: serde_json::to_string(&event).unwrap(),
            triggered_at: None,
        }
    });
    events.collect()
}

fn changed_at(body: &Value) -> time::OffsetDateTime {
    let times = [
        &body["updated_at"],
        &body["order_edit"]["committed_at"],
        &body["processed_at"],
    ];
    render::instant(times.into_iter().find(|at| at.is_string()).unwrap_or(&Value::Null))
}

async fn check(store: &dyn Store, history: &History, what: &str, load: impl Fn(&str) -> Vec<Sample>, batched: bool) {
    let shop = format!("{}-exact-{what}", history.name);
    let samples = load(&shop);
    let warehouse = store.open();
    if batched {
        warehouse.load(&records(&samples)).await.unwrap();
    } else {
        for sample in &samples {
            warehouse.load(&records(std::slice::from_ref(sample))).await.unwrap();
        }
    }
    history.is_told(store, &shop, what).await;
}

pub async fn shopifys_books_take_the_place_of_what_is_derived(store: &dyn Store) {
    for history in all() {
        let deliveries = &history.deliveries;
        let books = |shop: &str| with_books(deliveries, shop);
        check(store, &history, "alone", books, true).await;
        check(
            store,
            &history,
            "last",
            |shop| [history.of_shop(shop), books(shop)].concat(),
            false,
        )
        .await;
        let shuffled = |shop: &str| {
            let mut samples = [books(shop), history.of_shop(shop)].concat();
            samples.shuffle(&mut StdRng::seed_from_u64(3));
            samples
        };
        check(store, &history, "among", shuffled, true).await;
        // Books of the middle of the history, and webhooks of what came after.
        let is_earlier = |until: &usize| {
            let (before, after) = deliveries.split_at(*until);
            before.iter().map(|(_, body)| changed_at(body)).max() < after.iter().map(|(_, body)| changed_at(body)).min()
        };
        for until in (1..deliveries.len()).filter(is_earlier) {
            let older = |shop: &str| with_books(&deliveries[..until], shop);
            let mixed = |shop: &str| {
                let mut samples = [older(shop), history.of_shop(shop)].concat();
                samples.shuffle(&mut StdRng::seed_from_u64(until as u64));
                samples
            };
            check(store, &history, &format!("until {until}"), mixed, true).await;
        }
    }
    assert_ne!(
        rows(store, "SELECT count(*) FROM order_sales WHERE origin = 'exact'").await,
        "0"
    );
    assert_ne!(
        rows(store, "SELECT count(*) FROM order_sales WHERE origin = 'derived'").await,
        "0"
    );
}
