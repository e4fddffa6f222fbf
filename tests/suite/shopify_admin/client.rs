//! The client: tokens, scopes and versions, the rate limit, retries.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use orderstream::config::{AdminAccess, ShopifyAdminConfig};
use orderstream::shopify_admin::{AdminClient, AdminError, documents};
use serde_json::{Value, json};

use crate::harness::folder;
use crate::harness::service::{Settings, order};
use crate::harness::shopify::{FIXED_TOKEN, FakeShopify, Fault, SHOP};

fn config(shopify: &FakeShopify) -> ShopifyAdminConfig {
    ShopifyAdminConfig {
        shops: BTreeMap::new(),
        api_version: "2026-07".to_owned(),
        budget_percent: 50,
        url: Some(shopify.url().into()),
    }
}

pub(super) async fn connect(shopify: &FakeShopify, access: AdminAccess) -> Result<AdminClient, AdminError> {
    AdminClient::connect(&config(shopify), SHOP, &access).await
}

pub(super) fn fixed() -> AdminAccess {
    AdminAccess::Token(FIXED_TOKEN.into())
}

fn app(secret: &str) -> AdminAccess {
    AdminAccess::ClientCredentials {
        id: "client id of the tests".to_owned(),
        secret: secret.into(),
    }
}

async fn count(client: &AdminClient) -> Result<Value, AdminError> {
    let query = "updated_at:>='2026-01-01T00:00:00Z'";
    client.query(documents::COUNT, json!({ "query": query })).await
}

#[tokio::test]
async fn what_an_app_lacks_is_named() {
    let shopify = FakeShopify::start().await;
    let client = connect(&shopify, fixed()).await.unwrap();
    assert_eq!(
        (&*client.identity().shop, &*client.identity().timezone),
        (SHOP, "America/New_York")
    );
    let error = async || match connect(&shopify, fixed()).await {
        Ok(_) => panic!("it connects"),
        Err(error) => error,
    };
    shopify.with(|shop| shop.scopes.retain(|scope| *scope != "read_all_orders"));
    let lacking = error().await;
    assert!(
        lacking.is_configuration() && lacking.to_string().contains("read_all_orders"),
        "{lacking}"
    );
    shopify.with(|shop| shop.scopes.extend(["read_all_orders"]));
    shopify.with(|shop| shop.versions.retain(|(handle, _)| *handle != "2026-07"));
    assert!(matches!(error().await, AdminError::Version { .. }));
    shopify.with(|shop| shop.domain = "other.myshopify.com".to_owned());
    assert!(matches!(error().await, AdminError::OtherShop { .. }));
    for (status, is_configuration) in [(402, false), (403, true), (404, true), (423, false)] {
        shopify.with(|shop| shop.faults.push_back(Fault::Status(status, None)));
        let refused = error().await;
        assert!(refused.is_configuration() == is_configuration, "{refused}");
        assert!(refused.to_string().contains(&format!("({status})")), "{refused}");
    }
}

#[tokio::test]
async fn tokens_are_renewed_before_their_end_and_when_they_are_refused() {
    let shopify = FakeShopify::start().await;
    let client = connect(&shopify, app("client secret of the tests")).await.unwrap();
    count(&client).await.unwrap();
    assert_eq!(shopify.with(|shop| shop.grants), 1);
    // As after a secret was rotated.
    shopify.with(|shop| shop.tokens.clear());
    count(&client).await.unwrap();
    assert_eq!(shopify.with(|shop| shop.grants), 2);
    // 80 % of no time have passed at once.
    shopify.with(|shop| shop.token_life = Duration::ZERO);
    shopify.with(|shop| shop.tokens.clear());
    assert!(matches!(count(&client).await, Err(AdminError::Denied { .. })));
    let refused = connect(&shopify, app("wrong")).await.err().unwrap().to_string();
    assert!(
        refused.contains("invalid_client") && !refused.contains("wrong"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_token_file_is_read_again() {
    let shopify = FakeShopify::start().await;
    let folder = folder::temporary("token-");
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{FIXED_TOKEN}\n")).unwrap();
    let client = connect(&shopify, AdminAccess::TokenFile(file.clone())).await.unwrap();
    shopify.with(|shop| {
        shop.tokens.clear();
        shop.tokens.insert("shpat_second".to_owned(), None);
    });
    let refused = count(&client).await.unwrap_err().to_string();
    assert!(refused.contains("401") && !refused.contains("shpat"), "{refused}");
    std::fs::write(&file, "shpat_second").unwrap();
    count(&client).await.unwrap();
}

#[tokio::test]
async fn failures_that_pass_are_waited_out_and_mutations_are_not_sent_twice() {
    let shopify = FakeShopify::start().await;
    let client = connect(&shopify, fixed()).await.unwrap();
    shopify.with(|shop| {
        shop.put(order(7));
        let throttled = json!([{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]);
        shop.faults.extend([
            Fault::Status(429, Some("0.1")),
            Fault::Reset,
            Fault::Status(502, Some("0")),
            Fault::Errors(throttled),
        ]);
    });
    let found = count(&client).await.unwrap();
    assert_eq!(found["ordersCount"]["count"], 1);
    shopify.with(|shop| shop.faults.push_back(Fault::Status(502, None)));
    let input = json!({"topic": "ORDERS_CREATE", "s": {"uri": "https://example.com/webhooks/orders"}});
    let unknown = client.query::<Value>(documents::SUBSCRIBE, &input).await.unwrap_err();
    assert!(matches!(unknown, AdminError::Unavailable { .. }), "{unknown}");
    assert_eq!(
        shopify.with(|shop| (shop.asked("Subscribe"), shop.faults.len())),
        (0, 0)
    );
}

#[tokio::test]
async fn at_most_half_of_the_bucket_is_used_and_a_query_that_is_too_costly_is_said_to_be() {
    let shopify = FakeShopify::start().await;
    shopify.with(|shop| shop.bucket.maximum = 400.0);
    let client = connect(&shopify, fixed()).await.unwrap();
    let start = Instant::now();
    for _ in 0..25 {
        count(&client).await.unwrap();
    }
    // 250 points: 200 at once, the others at 50 a second.
    assert!(start.elapsed() > Duration::from_millis(700), "{:?}", start.elapsed());
    assert!(shopify.with(|shop| shop.bucket.available) > 150.0);
    let ids = vec!["gid://shopify/Order/1"; 100];
    let costly = client
        .query::<Value>(documents::ORDERS_BY_ID, json!({ "ids": ids }))
        .await;
    assert!(matches!(costly, Err(AdminError::TooCostly { document: "Orders" })));
}

fn check(settings: &Settings) -> (Option<i32>, String) {
    let output = settings.command(&["check"]).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_reaches_the_shop_and_names_what_is_missing() {
    let shopify = FakeShopify::start().await;
    let folder = folder::temporary("check-");
    let settings = Settings::embedded().within(folder.path());
    let (code, said) = check(&shopify.known_to_app(&settings));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("✓ shopify tests.myshopify.com: "), "{said}");
    shopify.with(|shop| shop.scopes.retain(|scope| *scope != "read_products"));
    let (code, said) = check(&shopify.known_to(&settings));
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("read_products"), "{said}");
    let shops = shops_file(folder.path());
    let in_file = settings
        .with("ORDERSTREAM_SHOPIFY_ADMIN_URL", &shopify.url())
        .with("ORDERSTREAM_SHOP_SECRETS_FILE", shops.to_str().unwrap());
    let (_, said) = check(&in_file);
    assert!(said.contains("shopify tests.myshopify.com"), "{said}");
}

fn shops_file(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("shops.toml");
    let text =
        format!("\"{SHOP}\" = [\"a secret of the tests\"]\n[shops.\"{SHOP}\"]\nadmin_token = \"{FIXED_TOKEN}\"\n");
    std::fs::write(&file, text).unwrap();
    file
}
