//! One in a hundred deliveries withheld, one in a hundred in an older state, one in a hundred orders deleted without a
//! webhook: `reconcile` finds and repairs them all, and doubles none.

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use orderstream::sample_orders::Generator;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::reconcile::{counts, reconcile};
use crate::chaos::given;
use crate::harness::service::Service;
use crate::harness::shopify::{FakeShopify, SHOP};
use crate::harness::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn one_in_a_hundred_of_a_thousand_orders_is_repaired_once() {
    repairs(1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/chaos --scene reconcile"]
async fn one_in_a_hundred_of_twenty_thousand_orders_is_repaired_once() {
    repairs(20_000).await;
}

async fn repairs(orders: u64) {
    let seed = given("ORDERSTREAM_CHAOS_SEED", 1);
    let (site, shopify) = (Site::new().await, FakeShopify::start().await);
    let service = Service::start("run", &site.settings()).await;
    let settings = shopify.known_to(&site.settings());
    let generator = Generator::new(seed, Generator::epoch());
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut deliveries, mut deleted) = (Vec::new(), Vec::new());
    let (mut withheld, mut stale) = (0, 0);
    for number in 0..orders {
        let [created, newest] = ["orders/create", "orders/updated"].map(|topic| generator.body(topic, SHOP, number));
        let body: Value = serde_json::from_str(&newest).unwrap();
        match rng.random_range(0..100) {
            0 => withheld += 1,
            1 => {
                stale += 1;
                deliveries.push(("orders/create", number, created));
            }
            fate => {
                if fate == 2 {
                    deleted.push(body["id"].as_u64().unwrap());
                }
                deliveries.push(("orders/updated", number, newest));
            }
        }
        shopify.with(|shop| shop.put(body));
    }
    let delivered = deliveries.len();
    let sent = stream::iter(deliveries).for_each_concurrent(32, async |(topic, number, body)| {
        let answer = service.deliver(topic, &format!("w-{number}"), body.as_bytes()).await;
        assert_eq!(answer.unwrap().status(), 200);
    });
    sent.await;
    site.has_rows(delivered).await;
    shopify.with(|shop| {
        for id in &deleted {
            shop.delete(*id, "2026-01-03T00:00:00Z");
        }
        // Of a shop on the largest plan; the time is not what is tested.
        shop.bucket.restore_rate = 2000.0;
    });
    let lost = withheld + stale + deleted.len();
    let wanted = json!({"missing": withheld, "stale": stale, "deleted": deleted.len(), "repaired": lost});
    let began = Instant::now();
    let (code, report) = reconcile(&settings, &[]);
    assert_eq!((code, counts(&report)), (0, wanted), "seed {seed}: {report}");
    let took = began.elapsed().as_secs_f64();
    site.has_rows(delivered + lost).await;
    let again = reconcile(&settings, &[]);
    assert_eq!((again.0, counts(&again.1)), (0, json!({})), "seed {seed}");
    assert_eq!(site.rows(), delivered + lost, "seed {seed}: none is doubled");

    is_as_the_shop_has_it(&site, &shopify);
    eprintln!(
        "| orders | withheld | stale | deleted | repaired | left | doubled | points | seconds |\n\
         |---|---|---|---|---|---|---|---|---|\n\
         | {orders} | {withheld} | {stale} | {} | {} | 0 | 0 | {} | {took:.0} |",
        deleted.len(),
        report["repaired"],
        report["points"]
    );
}

/// The warehouse has each order in the state in which the shop has it.
pub(super) fn is_as_the_shop_has_it(site: &Site, shopify: &FakeShopify) {
    let rows = site.sql(
        "SELECT string_agg(order_id || ' ' || extract(epoch FROM version_at)::bigint, ',') \
                         FROM orderstream.orders WHERE deleted_at IS NULL",
    );
    let ours = BTreeMap::from_iter(rows.split(',').map(|row| row.split_once(' ').unwrap()));
    let theirs = shopify.with(|shop| {
        let states = shop.orders.iter().map(|(id, order)| {
            let updated = order.body()["updated_at"].as_str().unwrap().to_owned();
            (
                id.to_string(),
                OffsetDateTime::parse(&updated, &Rfc3339)
                    .unwrap()
                    .unix_timestamp()
                    .to_string(),
            )
        });
        Vec::from_iter(states)
    });
    assert_eq!(ours.len(), theirs.len());
    for (id, updated) in &theirs {
        assert_eq!(ours.get(&**id), Some(&&**updated), "order {id}");
    }
}
