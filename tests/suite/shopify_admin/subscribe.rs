//! `subscribe`, and the role that watches subscriptions.

use serde_json::{Value, json};

use crate::harness::service::{Service, Settings, TOKEN};
use crate::harness::shopify::FakeShopify;
use crate::harness::site::PATIENCE;
use crate::harness::{eventually, folder};

const URI: &str = "https://example.com/webhooks/orders";

/// Exit code, and what was printed.
fn subscribe(settings: &Settings, args: &[&str]) -> (i32, String) {
    let output = settings.command(&[&["subscribe"], args].concat()).output().unwrap();
    let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), out + &errors)
}

/// Topic, kind and whether it was repaired, of each finding.
fn findings(settings: &Settings, args: &[&str]) -> (i32, Vec<(String, String, bool)>) {
    let (code, said) = subscribe(settings, &[&["--json"], args].concat());
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = report["shops"][0]["findings"].as_array().unwrap().iter();
    let found = found.map(|one| (text(&one["topic"]), text(&one["kind"]), one["fixed"].as_bool().unwrap()));
    (code, found.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_created_and_repaired_and_none_is_deleted() {
    let shopify = FakeShopify::start().await;
    let folder = folder::temporary("subscribe-");
    let bare = Settings::nothing().within(folder.path());
    let (code, said) = subscribe(&bare, &[]);
    assert!(code == 78 && said.contains("ORDERSTREAM_SHOPIFY_SHOP"), "{said}");
    let settings = shopify.known_to(&bare);
    let (code, said) = subscribe(&settings, &["--check"]);
    assert!(
        code == 0 && said.contains("no subscription of these topics is listed"),
        "{said}"
    );
    let (code, said) = subscribe(&settings, &["--fix"]);
    assert!(code == 64 && said.contains("--uri"), "{said}");
    let (code, found) = findings(&settings, &["--fix", "--uri", URI]);
    assert_eq!((code, found.len()), (0, 7), "{found:?}");
    let (topics, is_named) = shopify.with(|shop| {
        let all = &shop.subscriptions;
        let name = |topic: &str| {
            all.iter()
                .any(|one| one["topic"] == topic && one["name"] == "orderstream-orders-create")
        };
        (all.len(), name("ORDERS_CREATE"))
    });
    assert!(topics == 7 && is_named);
    assert_eq!(findings(&settings, &[]), (0, vec![]));

    shopify.with(|shop| {
        let find = |topic: &str| shop.subscriptions.iter().position(|one| one["topic"] == topic).unwrap();
        let (deleted, created) = (find("ORDERS_DELETE"), find("ORDERS_CREATE"));
        let (updated, edited) = (find("ORDERS_UPDATED"), find("ORDERS_EDITED"));
        shop.subscriptions[created]["filter"] = json!("total_price:>100");
        shop.subscriptions[created]["format"] = json!("XML");
        shop.subscriptions[updated]["includeFields"] = json!(["id", "total_price"]);
        shop.subscriptions[edited]["apiVersion"] = json!({"handle": "2025-01", "supported": false});
        shop.subscriptions.remove(deleted);
        shop.subscribe("REFUNDS_CREATE", "https://elsewhere.example.com/");
    });
    let wrong = |is_repaired: bool| {
        [
            ("orders/create", "format", is_repaired),
            ("orders/create", "filter", is_repaired),
            ("orders/updated", "include_fields", is_repaired),
            ("orders/delete", "missing", is_repaired),
            ("refunds/create", "doubled", false),
            ("orders/edited", "api_version", false),
        ]
        .map(|(topic, kind, fixed)| (topic.to_owned(), kind.to_owned(), fixed))
        .to_vec()
    };
    assert_eq!(findings(&settings, &[]), (69, wrong(false)));
    // What is answered counts, not that nothing was objected to.
    shopify.with(|shop| shop.keeps_fields = true);
    let (code, said) = subscribe(&settings, &["--fix", "--topic", "orders/updated"]);
    assert!(
        code == 69 && said.contains("Shopify took the change and kept includeFields"),
        "{said}"
    );
    shopify.with(|shop| shop.keeps_fields = false);
    assert_eq!(findings(&settings, &["--fix"]), (69, wrong(true)));
    assert_eq!(findings(&settings, &[]), (69, wrong(false)[4..].to_vec()));
    assert_eq!(shopify.with(|shop| shop.subscriptions.len()), 8);

    shopify.with(|shop| shop.refusal = Some("You cannot create a webhook subscription with the specified topic"));
    let (code, said) = subscribe(&settings, &["--fix", "--topic", "orders/paid"]);
    assert!(code == 64, "without an address: {said}");
    let (code, said) = subscribe(&settings, &["--fix", "--topic", "orders/paid", "--uri", URI]);
    assert!(
        code == 69 && said.contains("refused: You cannot create a webhook subscription with"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_access_warns_of_a_subscription_that_is_gone() {
    let shopify = FakeShopify::start().await;
    shopify.with(|shop| {
        for topic in ["ORDERS_CREATE", "ORDERS_UPDATED"] {
            shop.subscribe(topic, URI);
        }
    });
    let folder = folder::temporary("subscribed-");
    let settings = shopify.known_to_app(&Settings::embedded().within(folder.path()));
    let service = Service::start("run", &settings).await;
    let check = eventually("health warns", PATIENCE, async || {
        service.health_check("subscriptions").await
    })
    .await;
    assert_eq!(check["status"], "warning");
    let detail = check["detail"].as_str().unwrap();
    assert!(
        detail.contains("orders/cancelled") && detail.contains("and 4 more"),
        "{detail}"
    );
    let metrics = service
        .get(&service.admin_url("/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(metrics.contains("orderstream_subscription_findings 5\n"), "{metrics}");
    let checked = settings
        .with("ORDERSTREAM_ADMIN_TOKEN", TOKEN)
        .command(&["check"])
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(
        said.contains("! shopify tests.myshopify.com: orders/cancelled: there is no subscription"),
        "{said}"
    );
}
