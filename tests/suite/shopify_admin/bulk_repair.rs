//! Many orders of a window are repaired by one bulk operation; what that does not bring is asked for by id.

use std::collections::BTreeSet;
use std::path::Path;

use orderstream::metrics::Metrics;
use orderstream::sample_orders::Generator;
use orderstream::shopify_admin::reconcile::{Reconciler, Reconciliation};
use orderstream::shopify_admin::{AdminClient, OrderSpan};
use orderstream::stream::redis::RedisStream;
use orderstream::warehouse::postgres::PostgresWarehouse;
use serde_json::{Value, json};
use time::Duration;
use time::macros::datetime;

use super::client::{connect, fixed};
use super::reconcile::counts;
use super::withheld::is_as_the_shop_has_it;
use crate::harness::folder;
use crate::harness::postgres::database_config;
use crate::harness::redis::stream_config;
use crate::harness::service::Service;
use crate::harness::shopify::bulk::{Download, Outcome};
use crate::harness::shopify::{FakeShopify, SHOP};
use crate::harness::site::Site;

const ORDERS: u64 = 40;

struct Stores {
    stream: RedisStream,
    warehouse: PostgresWarehouse,
}

impl Stores {
    /// A run that asks for more than `above` orders by a bulk operation.
    async fn reconcile(&self, client: &AdminClient, above: usize, folder: &Path) -> Reconciliation {
        let reconciler = Reconciler {
            client,
            stream: &self.stream,
            warehouse: &self.warehouse,
            dry_run: false,
            by_hand: true,
            bulk_above: above,
            folder,
        };
        let all = OrderSpan::new(datetime!(2025-12-01 00:00 UTC), datetime!(2026-06-01 00:00 UTC));
        reconciler.run(all, |_| ()).await.unwrap()
    }
}

/// The orders of these numbers, last changed so many hours later than they were made.
fn put(shopify: &FakeShopify, numbers: impl Iterator<Item = u64>, later: i64) -> BTreeSet<u64> {
    let generator = Generator::new(17, Generator::epoch());
    let mut with_refunds = BTreeSet::new();
    for number in numbers {
        let mut body: Value = serde_json::from_str(&generator.body("orders/updated", SHOP, number)).unwrap();
        let at =
            datetime!(2026-02-01 00:00 UTC) + Duration::hours(later) + Duration::seconds(number.try_into().unwrap());
        body["updated_at"] = json!(at.format(&time::format_description::well_known::Rfc3339).unwrap());
        if body["refunds"] != json!([]) {
            with_refunds.insert(body["id"].as_u64().unwrap());
        }
        shopify.with(|shop| shop.put(body));
    }
    with_refunds
}

/// Ids of the orders that were asked for by id since then.
fn asked_by_id(shopify: &FakeShopify, since: usize) -> BTreeSet<u64> {
    let number = |gid: &Value| gid.as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap();
    shopify.with(|shop| {
        let asked = shop.requests[since..].iter().filter(|(name, _)| name == "Orders");
        asked
            .flat_map(|(_, variables)| variables["ids"].as_array().unwrap().iter().map(number))
            .collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_operation_repairs_many_orders_and_what_it_lacks_is_asked_for_by_id() {
    let (site, shopify) = (Site::new().await, FakeShopify::start().await);
    let _service = Service::start("run", &site.settings()).await;
    let client = connect(&shopify, fixed()).await.unwrap();
    let stores = Stores {
        stream: RedisStream::new(&site.redis.config(), &stream_config(), Metrics::new()).unwrap(),
        warehouse: PostgresWarehouse::new(&database_config(&site.database_url())).unwrap(),
    };
    let temporary = folder::temporary("bulk-repair-");
    let folder = temporary.path().join("made by the run");
    let with_refunds = put(&shopify, 0..ORDERS, 0);
    assert!(!with_refunds.is_empty() && with_refunds.len() < 20);
    shopify.with(|shop| {
        shop.bucket.restore_rate = 2000.0;
        shop.bulk.polls = 1;
        shop.bulk.downloads.push_back(Download::Cut(2000));
    });
    let report = stores.reconcile(&client, 20, &folder).await;
    let found = |finding: &str, orders: u64| json!({finding: orders, "repaired": orders});
    assert_eq!(counts(&json!(report)), found("missing", ORDERS), "{report:?}");
    assert_eq!(shopify.with(|shop| shop.bulk.started()), 1);
    assert_eq!(
        asked_by_id(&shopify, 0),
        with_refunds,
        "a bulk file has no lines of refunds"
    );
    site.has_rows(40).await;
    is_as_the_shop_has_it(&site, &shopify);
    let restocked = "SELECT count(*) FROM orderstream.order_refund_items WHERE restock_type IS NULL";
    assert_eq!(site.sql(restocked), "0");
    let left = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().file_name());
    assert_eq!(Vec::from_iter(left), ["reconcile.lock"], "nothing of the file stays");
    assert_eq!(counts(&json!(stores.reconcile(&client, 20, &folder).await)), json!({}));

    // An operation that fails, one that another program leaves no room for, and one that is not worth it.
    let mut rows = 40;
    for (case, later) in [("failed", 1), ("busy", 2), ("few", 3), ("refused", 4)] {
        let (started, asked) = shopify.with(|shop| (shop.bulk.started(), shop.requests.len()));
        put(&shopify, 0..30, later);
        shopify.with(|shop| match case {
            "failed" => shop.bulk.outcomes.push_back(Outcome::Failed("INTERNAL_SERVER_ERROR")),
            "busy" => {
                shop.bulk.most = 1;
                shop.bulk.run_other(4711);
            }
            "few" => shop.bulk.most = 5,
            _ => shop.bulk.outcomes.push_back(Outcome::Failed("ACCESS_DENIED")),
        });
        let report = stores
            .reconcile(&client, if case == "few" { 30 } else { 29 }, &folder)
            .await;
        assert_eq!(counts(&json!(report)), found("stale", 30), "{case}: {report:?}");
        assert_eq!(asked_by_id(&shopify, asked).len(), 30, "{case}");
        let new = shopify.with(|shop| shop.bulk.started()) - started;
        assert_eq!(new, usize::from(matches!(case, "failed" | "refused")), "{case}");
        rows += 30;
        site.has_rows(rows).await;
    }
    is_as_the_shop_has_it(&site, &shopify);
    let doubled = "SELECT count(*) FROM (SELECT 1 FROM orderstream.order_events GROUP BY order_id, payload::jsonb ->> 'updated_at' \
                   HAVING count(*) > 1) doubled";
    assert_eq!(site.sql(doubled), "0");
}
