//! `reconcile`, and the role that does the same.

use std::time::Duration;

use orderstream::sample_orders::Generator;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::holds_nothing_personal;
use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::service::{Service, Settings};
use crate::harness::shopify::{FakeShopify, SHOP};
use crate::harness::site::{PATIENCE, Site};

/// Lines of a large order.
const LINES: usize = 230;

/// The body of an order, as that topic sends it: `orders/create` before `orders/updated`.
fn body(topic: &str, number: u64) -> Value {
    let generator = Generator::new(17, Generator::epoch());
    serde_json::from_str(&generator.body(topic, SHOP, number)).unwrap()
}

fn id(number: u64) -> u64 {
    body("orders/create", number)["id"].as_u64().unwrap()
}

async fn deliver(service: &Service, topic: &str, number: u64, body: &Value) {
    let answer = service
        .deliver(topic, &format!("{topic}-{number}"), body.to_string().as_bytes())
        .await;
    assert_eq!(answer.unwrap().status(), 200);
}

/// Exit code and report.
pub(super) fn reconcile(settings: &Settings, args: &[&str]) -> (i32, Value) {
    let args = [&["reconcile", "--json", "--since", "2025-12-01"], args].concat();
    let output = settings.command(&args).output().unwrap();
    let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{errors}"));
    (output.status.code().unwrap(), report["shops"][0].clone())
}

/// The counts of a report that are not 0.
pub(super) fn counts(report: &Value) -> Value {
    let names = [
        "missing",
        "stale",
        "deleted",
        "repaired",
        "waiting",
        "dead_lettered",
        "vanished",
        "ours_newer",
        "failed",
    ];
    let counted = names.iter().filter(|name| report[**name] != 0);
    counted
        .map(|name| ((*name).to_owned(), report[*name].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_came_is_found_and_repaired_once() {
    let (site, shopify) = (Site::new().await, FakeShopify::start().await);
    let service = Service::start("run", &site.settings()).await;
    let settings = shopify.known_to(&site.settings());
    // Of 60 orders 4 never came, 3 came in an older state, and 2 were deleted later.
    for number in 0..60 {
        let mut newest = body("orders/updated", number);
        if number == 3 {
            // More lines than a page has.
            newest = Generator::new(17, Generator::epoch()).order_of_lines(SHOP, number, LINES);
        }
        match number {
            0..4 => {}
            4..7 => deliver(&service, "orders/create", number, &body("orders/create", number)).await,
            _ => deliver(&service, "orders/updated", number, &newest).await,
        }
        shopify.with(|shop| shop.put(newest));
    }
    shopify.with(|shop| {
        shop.delete(id(10), "2026-01-03T00:00:00Z");
        shop.delete(id(11), "2026-01-03T00:00:01Z");
        // As if only few could be asked for at once.
        shop.bucket.maximum = 4000.0;
        shop.bucket.available = 4000.0;
    });
    site.has_rows(56).await;
    let found = json!({"missing": 4, "stale": 3, "deleted": 2});
    let (code, report) = reconcile(&settings, &["--dry-run"]);
    assert_eq!((code, counts(&report)), (69, found), "{report}");
    assert_eq!(report["seen"], 58);
    let (code, report) = reconcile(&settings, &[]);
    assert_eq!(
        (code, counts(&report)),
        (0, json!({"missing": 4, "stale": 3, "deleted": 2, "repaired": 9})),
        "{report}"
    );
    site.has_rows(65).await;
    let events = "SELECT string_agg(DISTINCT event_type || ' ' || source, ', ') FROM orderstream.order_events \
                  WHERE source = 'reconcile'";
    assert_eq!(site.sql(events), "order.deleted reconcile, order.reconciled reconcile");
    let orders = "SELECT count(*) || ' ' || count(deleted_at) FROM orderstream.orders";
    assert_eq!(site.sql(orders), "60 2");
    let lines = format!(
        "SELECT count(*) FROM orderstream.order_items WHERE order_id = '{}'",
        id(3)
    );
    assert_eq!(site.sql(&lines), LINES.to_string());
    let (code, report) = reconcile(&settings, &[]);
    assert_eq!((code, counts(&report)), (0, json!({})), "{report}");
    assert_eq!(site.rows(), 65);
    let noted = "SELECT string_agg(concat_ws(' ', by_hand, seen, missing, stale, deleted, repaired), ', ' ORDER BY ended_at) \
                 FROM orderstream.reconciliations";
    assert_eq!(site.sql(noted), "t 58 4 3 2 9, t 58 0 0 0 0");

    site.sql(
        "INSERT INTO orderstream.reconcile_locks VALUES ('tests.myshopify.com', 'another', now() + interval '1 min')",
    );
    let mut kept = service.stderr() + &report.to_string();
    for table in ["order_events", "orders", "order_items", "reconciliations"] {
        kept += &site.sql(&format!("SELECT string_agg(t::text, ' ') FROM orderstream.{table} t"));
    }
    for log in ["orders_stream", "dead_letters"] {
        let entries: redis::Value = site.redis.command(&["XRANGE", log, "-", "+"]).await;
        kept += &format!("{entries:?}");
    }
    holds_nothing_personal(&kept);

    let refused = settings.command(&["reconcile"]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.status.code() == Some(69) && said.contains("another process compares the orders of tests"),
        "{said}"
    );
    site.sql("UPDATE orderstream.reconcile_locks SET until = now() - interval '1 min'");
    assert_eq!(reconcile(&settings, &[]).0, 0, "of a process that died");
    assert_eq!(site.sql("SELECT count(*) FROM orderstream.reconcile_locks"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_elsewhere_is_not_called_missing() {
    let (site, shopify) = (Site::new().await, FakeShopify::start().await);
    let settings = shopify.known_to(&site.settings());
    let mut service = Service::start("run", &site.settings()).await;
    for number in 0..4 {
        shopify.with(|shop| shop.put(body("orders/updated", number)));
    }
    deliver(&service, "orders/updated", 0, &body("orders/updated", 0)).await;
    // Quarantined, since it has no total.
    let mut broken = body("orders/updated", 1);
    broken.as_object_mut().unwrap().remove("total_price");
    deliver(&service, "orders/updated", 1, &broken).await;
    site.has_rows(1).await;
    service.kill();
    let (total, updated) = (json!(1), body("orders/updated", 2)["updated_at"].clone());
    let waiting = json!({
        "event_type": "order.updated", "event_id": "e-2", "timestamp": updated, "order_id": id(2).to_string(), "shop": SHOP,
        "customer_id": null, "total_amount": total, "currency": "EUR", "items": [], "updated_at": updated,
    });
    site.produce(&waiting).await;
    // The first one is gone without a record.
    shopify.with(|shop| shop.orders.remove(&id(0)).unwrap());
    let (code, report) = reconcile(&settings, &["--dry-run"]);
    let found = json!({"missing": 1, "waiting": 1, "dead_lettered": 1, "vanished": 1});
    assert_eq!((code, counts(&report)), (69, found), "{report}");
    let orders = report["orders"].as_array().unwrap();
    let finding = |number: u64| {
        let id = id(number).to_string();
        let own = orders.iter().find(|one| one["order_id"] == id.as_str());
        own.map(|one| one["finding"].as_str().unwrap().to_owned())
    };
    let found = [0, 1, 2, 3].map(finding);
    let named = |finding: &str| Some(finding.to_owned());
    assert_eq!(
        found,
        [named("vanished"), named("dead_lettered"), None, named("missing")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_access_repairs_by_itself() {
    let (local, shopify) = (Local::new(), FakeShopify::start().await);
    let mut order = body("orders/updated", 1);
    let now = OffsetDateTime::now_utc() - Duration::from_secs(3600);
    for time in ["created_at", "processed_at", "updated_at"] {
        order[time] = json!(now.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap());
    }
    order["refunds"] = json!([]);
    shopify.with(|shop| shop.put(order));
    let service = Service::start("run", &shopify.known_to_app(&local.settings())).await;
    eventually("the order is there", PATIENCE, async || {
        (local.rows() == 1).then_some(())
    })
    .await;
    assert_eq!(
        local.sql("SELECT event_type, source FROM order_events"),
        ["order.reconciled|reconcile"]
    );
    // A run counts at its end, after the row is there.
    eventually("it is counted", PATIENCE, async || {
        let metrics = service.get(&service.admin_url("/metrics")).await.ok()?;
        let metrics = metrics.text().await.ok()?;
        metrics
            .contains("orderstream_orders_reconciled_total 1\n")
            .then_some(())
    })
    .await;
    let noted = "SELECT by_hand, missing, repaired FROM reconciliations";
    assert_eq!(local.sql(noted), ["0|1|1"]);
    drop(service);
    let _service = Service::start("run", &shopify.known_to_app(&local.settings())).await;
    let runs = "SELECT since FROM reconciliations ORDER BY ended_at";
    eventually("another process goes on", PATIENCE, async || {
        (local.sql(runs).len() == 2).then_some(())
    })
    .await;
    let began = local.sql(runs);
    assert!(began[0] < began[1], "it began where the other ended: {began:?}");
    // The files are its own.
    let settings = shopify.known_to(&local.settings());
    let refused = settings.command(&["reconcile"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(69));
    assert!(
        String::from_utf8(refused.stderr)
            .unwrap()
            .contains("reconciles every 15 minutes")
    );
}

/// Orders of the generator in currency and offset of the shop, whose days are then the webhooks'; neighbours share the
/// ids of their refunds.
fn in_new_york() -> impl Iterator<Item = (u64, Value)> {
    let orders = (0..).map(|place| (place * 5, body("orders/updated", place * 5)));
    orders.filter(|(_, order)| order["created_at"].as_str().unwrap().ends_with("-05:00") && order["currency"] == "EUR")
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_compared_with_shopifys_by_day_and_by_order_and_silent_topics_are_named() {
    let (site, shopify) = (Site::new().await, FakeShopify::start().await);
    let service = Service::start("run", &site.settings()).await;
    let settings = shopify.known_to(&site.settings());
    let orders = Vec::from_iter(in_new_york().take(40));
    for (number, order) in &orders {
        deliver(&service, "orders/create", *number, order).await;
        shopify.with(|shop| shop.put(order.clone()));
    }
    site.has_rows(orders.len()).await;
    let lacking = settings.command(&["reconcile", "--figures"]).output().unwrap();
    let said = String::from_utf8(lacking.stderr).unwrap();
    assert_eq!(lacking.status.code(), Some(78), "{said}");
    assert!(said.contains("the app lacks the access scope read_reports"), "{said}");
    shopify.with(|shop| shop.scopes.push("read_reports"));
    let (code, report) = reconcile(&settings, &["--figures"]);
    assert_eq!((code, counts(&report)), (0, json!({})), "{report}");
    assert_eq!(report["figures"]["days"], 2, "{report}");
    assert_eq!(report["figures"]["differences"], json!([]));
    // Of these topics one brought all, the other nothing.
    let topics = Vec::from_iter(report["silent"].as_array().unwrap().iter().map(|one| &one["topic"]));
    assert_eq!(topics, ["orders/updated"]);
    deliver(&service, "orders/updated", orders[0].0, &orders[0].1).await;
    site.has_rows(orders.len() + 1).await;

    // Shopify's books say something else of one order, which was not changed since.
    let changed = orders
        .iter()
        .find(|(_, order)| order["refunds"] == json!([]) && order["taxes_included"] == false);
    let mut changed = changed.unwrap().1.clone();
    let shipping: f64 = changed["shipping_lines"][0]["price"].as_str().unwrap().parse().unwrap();
    let price = format!("{:.2}", shipping + 1.25);
    let line = &mut changed["shipping_lines"][0];
    for name in ["price", "discounted_price"] {
        line[name] = json!(price);
        line[format!("{name}_set")]["shop_money"]["amount"] = json!(price);
    }
    let (id, day) = (
        changed["id"].to_string(),
        changed["processed_at"].as_str().unwrap()[..10].to_owned(),
    );
    shopify.with(|shop| shop.put(changed));
    let (code, report) = reconcile(&settings, &["--figures"]);
    assert_eq!((code, counts(&report)), (69, json!({})), "{report}");
    assert_eq!(report["silent"], json!([]));
    let figures = &report["figures"];
    assert_eq!(figures["days_differ"], 1, "{report}");
    let found = figures["differences"].as_array().unwrap().iter().map(|one| {
        let text = |name: &str| one[name].as_str().unwrap_or("all").to_owned();
        [text("day"), text("order_id"), text("column"), text("difference")].join(" ")
    });
    let wanted = ["all", &id].map(|of| ["shipping", "total"].map(|column| format!("{day} {of} {column} -1.25")));
    assert_eq!(Vec::from_iter(found), wanted.as_flattened());
    let printed = settings
        .command(&["reconcile", "--figures", "--since", "2025-12-01"])
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let line = printed.lines().find(|line| line.contains(&id)).unwrap();
    assert!(line.contains("shipping") && line.contains("-1.25"), "{printed}");
}
