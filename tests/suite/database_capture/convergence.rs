//! The same orders from Shopify's webhooks and from the shop's database.

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use serde_json::json;

use super::shop::Shop;
use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::service::{Service, order};
use crate::harness::site::PATIENCE;

const ORDERS: u64 = 40;
const VERSIONS: u32 = 5;

/// A mapping of what an application mirrors of Shopify, `updated_at` included.
const MIRROR: &str = r#"
shop = "tests.myshopify.com"
timezone = "UTC"
[orders]
table = "public.mirror"
key = "id"
version = "updated_at"
query = """
SELECT m.id AS key, m.id AS order_id, m.total AS total_amount, 'EUR' AS currency, m.updated_at, m.created_at, m.name, '[]'::json AS items
  FROM mirror m WHERE m.id = ANY($1)"""
"#;

fn updated_at(version: u32) -> String {
    format!("2026-01-05T10:0{version}:00Z")
}

#[tokio::test]
async fn from_both_sides_the_newest_state_stands() {
    let (shop, local) = (Shop::new().await, Local::new());
    shop.sql(
        "CREATE TABLE mirror (id bigint PRIMARY KEY, name text, total numeric(12,2), updated_at timestamptz, created_at timestamptz)",
    );
    shop.map(&format!("source = \"{}\"\n{MIRROR}", shop.database));
    let service = Service::start("run", &shop.with(local.settings())).await;
    let mirror = shop
        .cluster()
        .session(&shop.database, "SET synchronous_commit = off")
        .await;
    let mut rng = rand::rng();
    // Each version comes by one of the sides, or by both, and in no order.
    let mut steps = Vec::new();
    for id in 1..=ORDERS {
        for version in 1..=VERSIONS {
            match rng.random_range(0..3) {
                0 => steps.push((id, version, true)),
                1 => steps.push((id, version, false)),
                _ => steps.extend([(id, version, true), (id, version, false)]),
            }
        }
    }
    steps.shuffle(&mut rng);
    for (id, version, is_webhook) in steps {
        if is_webhook {
            let mut body = order(id);
            body["updated_at"] = json!(updated_at(version));
            body["total_price"] = json!(format!("{version}.00"));
            let name = format!("{id}-{version}");
            let answer = service
                .deliver("orders/updated", &name, body.to_string().as_bytes())
                .await;
            assert_eq!(answer.unwrap().status(), 200);
        } else {
            // As a mirror takes what it is sent: an older state does not replace a newer one.
            let sql = format!(
                "INSERT INTO mirror VALUES ({id}, '#{id}', {version}, '{0}', '2026-01-05 15:00Z')
                 ON CONFLICT (id) DO UPDATE SET total = excluded.total, updated_at = excluded.updated_at
                  WHERE mirror.updated_at < excluded.updated_at",
                updated_at(version)
            );
            mirror.batch_execute(&sql).await.unwrap();
        }
    }
    let expected = Vec::from_iter((1..=ORDERS).map(|id| format!("tests.myshopify.com|{id}|{VERSIONS}.00")));
    eventually("the newest state of each order stands", PATIENCE, async || {
        let rows = local.sql("SELECT shop, order_id, total_amount FROM orders ORDER BY CAST(order_id AS INTEGER)");
        (rows == expected).then_some(())
    })
    .await;
}
