//! `import`: a shop's history from files, over the real binary.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use orderstream::sample_orders::Generator;
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::service::Service;
use crate::harness::shopify::{bulk, render};
use crate::harness::site::{PATIENCE, Site};

const SHOP: &str = "example.myshopify.com";
/// In every order that is imported, and nowhere afterwards.
const PERSONAL: [&str; 4] = ["planted@example.com", "Planted Person", "1 Planted Street", "+15550100"];

/// The last state of so many generated orders, with what is personal.
fn bodies(count: u64) -> Vec<Value> {
    let generator = Generator::new(29, Generator::epoch());
    let bodies = (1..=count).map(|number| {
        let mut body: Value = serde_json::from_str(&generator.body("orders/updated", SHOP, number)).unwrap();
        body["email"] = PERSONAL[0].into();
        body["phone"] = PERSONAL[3].into();
        body["customer"] = json!({"id": 900 + number, "email": PERSONAL[0], "first_name": PERSONAL[1]});
        body["shipping_address"] = json!({"name": PERSONAL[1], "address1": PERSONAL[2], "country_code": "CA"});
        body
    });
    bodies.collect()
}

/// The same as another program's bulk operation has them.
fn bulk_file(count: u64) -> String {
    let nodes = bodies(count).into_iter().map(|body| {
        let mut node = render::without_refund_details(render::order(&body));
        node["email"] = PERSONAL[0].into();
        node["customer"]["displayName"] = PERSONAL[1].into();
        node["shippingAddress"] = json!({"name": PERSONAL[1], "address1": PERSONAL[2], "countryCodeV2": "CA"});
        node
    });
    bulk::lines(&Vec::from_iter(nodes)).join("\n") + "\n"
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(crate::harness::folder::temporary("import-"))
    }

    fn plain(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    fn compressed(&self, name: &str, content: &str) -> String {
        let mut file = GzEncoder::new(std::fs::File::create(self.path(name)).unwrap(), Compression::fast());
        file.write_all(content.as_bytes()).unwrap();
        file.finish().unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// No file of the folder holds what is personal.
fn is_impersonal(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let content = std::fs::read(&path).unwrap_or_default();
        for secret in PERSONAL {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
    }
}

fn ends(local: &Local, args: &[&str], code: i32) -> String {
    let output = local.run(args);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_a_bulk_operation_is_regrouped_and_imported_once() {
    let (local, files) = (Local::new(), Files::new());
    let service = Service::start("run", &local.bare()).await;
    let file = files.compressed("bulk.jsonl.gz", &bulk_file(60));
    let command = ["import", "--shop", SHOP, "--time-zone", "America/New_York", &file];
    let said = ends(&local, &["import", "--shop", SHOP, &file], 64);
    assert!(said.contains("--time-zone"), "{said}");
    let said = ends(&local, &[&command[..], &["--dry-run"]].concat(), 0);
    assert!(
        said.contains("60 orders of example.myshopify.com would be sent"),
        "{said}"
    );
    assert_eq!(local.rows(), 0);

    let said = local.succeeds(&command);
    assert!(said.contains("60 orders of example.myshopify.com sent"), "{said}");
    local.has_rows(60).await;
    let told = |sql: &str| local.sql(sql)[0].clone();
    assert_eq!(
        told("SELECT count(*) FROM orders WHERE shop = 'example.myshopify.com'"),
        "60"
    );
    assert_eq!(
        told("SELECT count(DISTINCT event_type || source) FROM order_events WHERE source = 'import'"),
        "1"
    );
    assert_eq!(
        told("SELECT count(*) FROM order_sales WHERE origin = 'derived'"),
        "0",
        "each order has its books"
    );
    let lines: usize = bodies(60)
        .iter()
        .map(|body| body["line_items"].as_array().unwrap().len())
        .sum();
    assert_eq!(told("SELECT count(*) FROM order_items"), lines.to_string());

    let said = local.succeeds(&command);
    assert!(said.contains("1 files were imported before"), "{said}");
    local.succeeds(&[&command[..], &["--restart"]].concat());
    service.settled(120).await;
    assert_eq!(local.rows(), 60, "a second run changes nothing");
    is_impersonal(&local.data_dir());
    let logged = service.stderr();
    assert!(!PERSONAL.iter().any(|secret| logged.contains(secret)), "{logged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_the_rest_api_are_imported_and_what_is_none_is_named() {
    let (local, files) = (Local::new(), Files::new());
    let _service = Service::start("run", &local.bare()).await;
    let mut orders = bodies(12);
    orders[2].as_object_mut().unwrap().remove("currency");
    let envelope = files.plain(
        "orders.json",
        &serde_json::to_string_pretty(&json!({"orders": orders[..6]})).unwrap(),
    );
    let lines = Vec::from_iter(orders[6..].iter().map(Value::to_string)).join("\n");
    let lines = files.compressed("lines.ndjson.gz", &lines);
    let said = ends(&local, &["import", &envelope], 64);
    assert!(said.contains("Give --shop"), "{said}");

    let said = ends(&local, &["import", "--json", "--shop", SHOP, &envelope, &lines], 69);
    let summary: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&summary["orders"], &summary["rejected"]["count"]),
        (&11.into(), &1.into()),
        "{said}"
    );
    let rejected = &summary["rejected"]["first"][0];
    assert_eq!(rejected["line"], 3, "{said}");
    assert!(rejected["file"].as_str().unwrap().ends_with("orders.json"), "{said}");
    assert!(
        rejected["reason"].as_str().unwrap().contains("lacks currency"),
        "{said}"
    );
    local.has_rows(11).await;
    is_impersonal(&local.data_dir());

    let other = files.plain("other.json", "{\"products\": []}\n");
    let said = ends(&local, &["import", "--shop", SHOP, &other], 1);
    assert!(said.contains("neither a bulk operation's JSONL"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_goes_on_where_it_was() {
    const ORDERS: u64 = 400;
    let (local, files) = (Local::new(), Files::new());
    let settings = local.bare();
    let service = Service::start("run", &settings).await;
    let file = files.plain("bulk.jsonl", &bulk_file(ORDERS));
    let command = [
        "import",
        "--shop",
        SHOP,
        "--time-zone",
        "Etc/UTC",
        &file,
        "--rate",
        "100",
    ];
    let nothing = crate::harness::service::Settings::nothing().within(local.data_dir().parent().unwrap());
    // While it reads, and while it sends.
    for rows in [0, 1, 150] {
        let mut child = nothing
            .command(&command)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let staged = local.data_dir().join("import.db");
        eventually("enough is imported", PATIENCE, async || {
            (staged.exists() && local.rows() >= rows).then_some(())
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    local.succeeds(&command[..command.len() - 2]);
    local.has_rows(usize::try_from(ORDERS).unwrap()).await;
    assert_eq!(local.sql("SELECT count(*) FROM orders"), [ORDERS.to_string()]);
    assert_eq!(
        local.sql("SELECT count(DISTINCT order_id) FROM order_events"),
        [ORDERS.to_string()]
    );
    let said = service.stderr();
    assert!(!said.contains("ERROR"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_yields_to_webhooks_and_leaves_no_dedupe_keys() {
    let (site, files) = (Site::new().await, Files::new());
    let settings = site
        .settings()
        .with("ORDERSTREAM_STREAM_MAXLEN", "800")
        .within(files.0.path());
    let lines = Vec::from_iter(bodies(500).iter().map(Value::to_string)).join("\n");
    let file = files.plain("orders.ndjson", &lines);
    let length = async || site.redis.command::<u64>(&["XLEN", "orders_stream"]).await;
    let mut import = settings
        .command(&["import", "--json", "--shop", SHOP, &file])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // A quarter of 800 are 200: the batch that passes it is the last.
    eventually("the backlog is filled", PATIENCE, async || {
        (length().await > 200).then_some(())
    })
    .await;
    let filled = length().await;
    assert!(filled <= 400, "{filled}");
    let keys: Vec<String> = site.redis.command(&["KEYS", "*"]).await;
    assert!(!keys.iter().any(|key| key.contains(":ids")), "{keys:?}");
    assert!(import.try_wait().unwrap().is_none(), "it waits");

    let _worker = Service::start("work", &settings).await;
    let output = tokio::task::block_in_place(|| import.wait_with_output().unwrap());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &summary["orders"]),
        (Some(0), &500.into()),
        "{summary}"
    );
    site.has_rows(500).await;
    assert_eq!(
        site.sql("SELECT count(DISTINCT order_id) FROM orderstream.orders"),
        "500"
    );
}
