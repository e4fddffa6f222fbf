//! Which secret is in use, as an operator sees it through a rotation.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::ground::{Place, in_any_place};
use crate::harness::local::Local;
use crate::harness::service::{SECRET, Service, TOKEN, order, signed_webhook};
use crate::harness::site::{PATIENCE, Site};
use crate::openapi::assert_is;

in_any_place!(a_rotation_is_seen_and_a_count_stays_with_its_secret);

async fn secrets(service: &Service) -> Value {
    let asked = reqwest::Client::new().get(service.admin_url("/api/secrets"));
    let secrets: Value = asked.bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap();
    assert_is("Secrets", &secrets);
    secrets
}

/// Deliveries that each verified, by place.
fn deliveries(secrets: &Value) -> Vec<u64> {
    let all = secrets["secrets"].as_array().unwrap();
    all.iter().map(|one| one["deliveries"].as_u64().unwrap()).collect()
}

async fn a_rotation_is_seen_and_a_count_stays_with_its_secret(place: impl Place) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SECRET).unwrap();
    let settings = place.settings().with_file("ORDERSTREAM_SHOPIFY_SECRETS", file.path());
    let service = Service::start("run", &settings).await;
    for id in 1..4 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    let before = secrets(&service).await;
    assert_eq!(deliveries(&before), [3]);
    assert!(before["secrets"][0]["last_used_at"].is_string());

    std::fs::write(file.path(), format!("a newer secret,{SECRET}")).unwrap();
    service.signal(Signal::SIGHUP);
    let rotated = eventually("there are two", PATIENCE, async || {
        Some(secrets(&service).await).filter(|secrets| deliveries(secrets).len() == 2)
    })
    .await;
    assert_eq!(deliveries(&rotated), [0, 3]);
    assert_eq!(service.deliver_order(4).await, Some(200));
    let after = secrets(&service).await;
    assert_eq!(deliveries(&after), [0, 4]);
    assert_eq!(after["secrets"][0]["last_used_at"], Value::Null);
    // Nothing was signed with the newer one, so the older one is needed.
    assert_eq!(after["secrets"][1]["removable"], json!(false));
    assert_eq!(after["since"], before["since"]);
    assert!(!after.to_string().contains("secret of") && !after.to_string().contains("newer secret"));

    let admin = service.admin_url("").replace("http://", "");
    let status = settings.with("ORDERSTREAM_ADMIN_ADDR", &admin).with("RUST_LOG", "warn");
    let output = status.command(&["status"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("secret 1 (newest): unused for "), "{said}");
    assert!(said.contains("secret 2 (previous): 4 deliveries, the last "), "{said}");
    let output = status.command(&["status", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_is("Secrets", &report["secrets"]);
    assert_eq!(deliveries(&report["secrets"]), [0, 4]);
    assert!(report["checks"].is_array(), "{report:#}");

    let anybody = service.get(&service.admin_url("/api/secrets")).await.unwrap();
    assert_eq!(anybody.status(), 401);
}

/// As `deliver_order`, signed with that secret.
async fn deliver(service: &Service, secret: &str, id: u64) -> u16 {
    let (client, body) = (reqwest::Client::new(), order(id).to_string());
    let name = format!("webhook-{id}");
    let request = signed_webhook(
        secret,
        &client,
        &service.url(""),
        "orders/create",
        &name,
        body.as_bytes(),
    );
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_in_the_file_of_shops_concerns_one_shop() {
    const NEWER: &str = "a newer secret";
    let local = Local::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |ours: &[&str]| {
        let text = format!("\"other.myshopify.com\" = [\"another\"]\n\"tests.myshopify.com\" = {ours:?}\n");
        std::fs::write(file.path(), text).unwrap();
    };
    write(&[SECRET]);
    let settings = local.settings().with_file("ORDERSTREAM_SHOP_SECRETS", file.path());
    let service = Service::start("run", &settings).await;
    // By shop, then by place.
    let counts = async |expected: &[u64]| {
        let found = async || (deliveries(&secrets(&service).await) == expected).then_some(());
        eventually(&format!("{expected:?}"), PATIENCE, found).await;
    };
    assert_eq!(deliver(&service, SECRET, 1).await, 200);
    assert_eq!(deliver(&service, "another", 2).await, 401, "a secret of another shop");
    counts(&[0, 1]).await;

    write(&[NEWER, SECRET]);
    service.signal(Signal::SIGHUP);
    counts(&[0, 0, 1]).await;
    assert_eq!(deliver(&service, SECRET, 3).await, 200, "the old one still verifies");
    assert_eq!(deliver(&service, NEWER, 4).await, 200);
    counts(&[0, 1, 2]).await;
    let told = secrets(&service).await;
    let places = told["secrets"].as_array().unwrap().iter();
    let places = Vec::from_iter(places.map(|secret| (secret["shop"].as_str().unwrap(), secret["index"].clone())));
    let (ours, other) = ("tests.myshopify.com", "other.myshopify.com");
    assert_eq!(places, [(other, json!(0)), (ours, json!(0)), (ours, json!(1))]);

    // What cannot be read changes nothing.
    std::fs::write(file.path(), "\"tests.myshopify.com\" = [").unwrap();
    service.signal(Signal::SIGHUP);
    service.says("the old ones stay in use").await;
    assert_eq!(deliver(&service, SECRET, 5).await, 200);

    write(&[NEWER]);
    service.signal(Signal::SIGHUP);
    counts(&[0, 1]).await;
    assert_eq!(deliver(&service, SECRET, 6).await, 401, "the old one is gone");
    assert_eq!(deliver(&service, NEWER, 7).await, 200);
    counts(&[0, 2]).await;
    assert!(!service.stderr().contains(NEWER), "a secret is in the log");
}

/// Any node answers for all: their counts are added up, and a node that ends takes its own along.
#[tokio::test(flavor = "multi_thread")]
async fn any_node_tells_the_use_of_secrets_on_all_of_them() {
    const NEWER: &str = "a newer secret of the tests";
    let site = Site::new().await;
    let settings = site
        .settings()
        .with("ORDERSTREAM_SHOPIFY_SECRETS", &format!("{NEWER},{SECRET}"));
    let mut first = Service::start("serve", &settings).await;
    let mut second = Service::start("serve", &settings).await;
    let working = Service::start("work", &settings).await;
    assert_eq!(deliver(&first, NEWER, 1).await, 200);
    assert_eq!(deliver(&second, NEWER, 2).await, 200);
    assert_eq!(deliver(&second, SECRET, 3).await, 200);
    for service in [&first, &second, &working] {
        let told = eventually("the deliveries of both", PATIENCE, async || {
            Some(secrets(service).await).filter(|told| deliveries(told) == [2, 1])
        })
        .await;
        let used = &told["secrets"][1]["last_used_at"];
        assert!(used.is_string(), "{told}");
        let note = told["note"].as_str().unwrap();
        assert!(note.contains("of 2 live nodes"), "{note}");
    }
    second.signal(Signal::SIGTERM);
    second.ended(PATIENCE).await;
    let told = eventually("one is gone", PATIENCE, async || {
        Some(secrets(&working).await).filter(|told| deliveries(told) == [1, 0])
    })
    .await;
    assert_eq!(told.get("note"), None);
    first.signal(Signal::SIGTERM);
    first.ended(PATIENCE).await;
    eventually("none takes webhooks", PATIENCE, async || {
        let told = secrets(&working).await;
        (told["note"] == "no live node takes webhooks").then_some(())
    })
    .await;
}
