//! `import` by bulk operations, against the fake.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use orderstream::sample_orders::Generator;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::holds_nothing_personal;
use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::service::{Service, Settings};
use crate::harness::shopify::bulk::{Download, Outcome};
use crate::harness::shopify::{FakeShopify, SHOP};
use crate::harness::site::PATIENCE;

/// The days within which the generator's orders are created.
const DAYS: [&str; 4] = ["--since", "2025-12-29", "--until", "2026-01-02"];

/// So many orders, one every `minutes` of a day.
fn fill(shopify: &FakeShopify, orders: u64, minutes: u64) {
    let generator = Generator::new(31, Generator::epoch());
    shopify.with(|shop| {
        for number in 0..orders {
            let body = generator.body("orders/updated", SHOP, number * minutes);
            shop.put(serde_json::from_str(&body).unwrap());
        }
    });
}

/// Exit code, stdout and stderr.
fn run(settings: &Settings, args: &[&str]) -> (Option<i32>, String) {
    let output = settings.command(&[&["import"], args].concat()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn imports(settings: &Settings, args: &[&str]) -> Value {
    let (code, said) = run(settings, &[&["--json"], &DAYS[..], args].concat());
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str(&said).unwrap()
}

/// That each order is in the warehouse once, with Shopify's own books.
fn has_each_once(local: &Local, orders: u64) {
    let told = |sql: &str| local.sql(sql)[0].clone();
    assert_eq!(told("SELECT count(DISTINCT order_id) FROM orders"), orders.to_string());
    assert_eq!(
        told("SELECT count(*) || ' ' || count(DISTINCT order_id) || ' ' || min(event_type) FROM order_events"),
        format!("{orders} {orders} order.imported")
    );
    assert_eq!(told("SELECT count(*) FROM order_sales WHERE origin = 'derived'"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shops_history_is_imported_whatever_becomes_of_its_operations() {
    const ORDERS: u64 = 60;
    let (local, shopify) = (Local::new(), FakeShopify::start().await);
    fill(&shopify, ORDERS, 24);
    let service = Service::start("run", &local.settings()).await;
    let settings = shopify.known_to(&local.settings());
    shopify.with(|shop| {
        // Nothing is left.
        shop.bucket.available = 0.0;
    });
    let counted = imports(&settings, &["--dry-run"]);
    assert_eq!(
        (&counted["orders"], &counted["history"]["windows_left"]),
        (&ORDERS.into(), &1.into())
    );
    assert_eq!(shopify.with(|shop| shop.bulk.started()), 0);

    shopify.with(|shop| {
        shop.bulk.too_large = 400;
        shop.bulk.outcomes.extend([
            Outcome::Canceled,
            Outcome::Expired,
            Outcome::Failed("INTERNAL_SERVER_ERROR"),
        ]);
        let downloads = [
            Download::Cut(2000),
            Download::Status(503),
            Download::FromStart,
            Download::Damaged,
        ];
        shop.bulk.downloads.extend(downloads);
    });
    let summary = imports(&settings, &[]);
    assert_eq!(summary["orders"], ORDERS, "{summary}");
    assert_eq!(summary["history"]["counted"], ORDERS, "{summary}");
    local.has_rows(ORDERS.try_into().unwrap()).await;
    has_each_once(&local, ORDERS);
    shopify.with(|shop| {
        assert!(
            shop.bulk.outcomes.is_empty() && shop.bulk.downloads.is_empty(),
            "{:?}",
            shop.bulk.downloads
        );
        let resumed = shop.bulk.ranges.iter().filter(|from| **from > 0).count();
        assert!(resumed >= 2, "{:?}", shop.bulk.ranges);
    });
    let left = std::fs::read_dir(local.data_dir())
        .unwrap()
        .map(|file| file.unwrap().file_name());
    assert!(
        !left.into_iter().any(|name| name.to_string_lossy().ends_with("jsonl")),
        "files are removed"
    );

    let started = shopify.with(|shop| shop.bulk.started());
    let (code, said) = run(&settings, &DAYS);
    assert!(code == Some(0) && said.contains("imported before"), "{said}");
    assert_eq!(shopify.with(|shop| shop.bulk.started()), started);
    shopify.with(|shop| (shop.bulk.polls, shop.bulk.too_large) = (1, usize::MAX));
    assert_eq!(imports(&settings, &["--restart"])["orders"], ORDERS);
    assert_eq!(local.rows() as u64, ORDERS, "the same events");

    // Also what the freed pages of files hold.
    let mut kept = service.stderr();
    for file in std::fs::read_dir(local.data_dir()).unwrap() {
        // Files come and go while it runs.
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        kept += &String::from_utf8_lossy(&bytes);
    }
    holds_nothing_personal(&kept);
}

fn spawn(settings: &Settings, args: &[&str]) -> Child {
    let mut command: Command = settings.command(&[&["import"], &DAYS[..], args].concat());
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Lines of the file that are staged.
fn staged(local: &Local) -> Option<u64> {
    let file = local.data_dir().join("import.db");
    let file = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let count = file
        .query_one("SELECT count(*) FROM piece", (), |row| row.get::<_, i64>(0))
        .ok()?;
    Some(count.unsigned_abs())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_at_any_step_goes_on() {
    const ORDERS: u64 = 90;
    let (local, shopify) = (Local::new(), FakeShopify::start().await);
    fill(&shopify, ORDERS, 16);
    let _service = Service::start("run", &local.settings()).await;
    let settings = shopify.known_to(&local.settings());
    let command = ["--parallel", "1", "--rate", "40"];
    // While it plans; once an operation is started and not noted; while that is found, and watched.
    for step in ["Count", "Run", "BulkList", "Poll"] {
        shopify.with(|shop| shop.stall_at = Some(step));
        let child = spawn(&settings, &command);
        eventually(step, PATIENCE, async || {
            shopify.with(|shop| shop.stall_at.is_none()).then_some(())
        })
        .await;
        kill(child);
    }
    // While it downloads; its start stays.
    for downloads in [1, 2] {
        shopify.with(|shop| shop.bulk.downloads.push_back(Download::Stalled(3000)));
        let child = spawn(&settings, &command);
        let folder = local.data_dir();
        eventually("a part is on the disk", PATIENCE, async || {
            let asked = shopify.with(|shop| shop.bulk.ranges.len()) == downloads;
            let files = std::fs::read_dir(&folder).unwrap().map(Result::unwrap);
            let part = files
                .into_iter()
                .find(|file| file.file_name().to_string_lossy().ends_with("jsonl"))?;
            (asked && part.metadata().ok()?.len() >= 3000 * downloads as u64).then_some(())
        })
        .await;
        kill(child);
    }
    // While it stages, and while it sends.
    let child = spawn(&settings, &command);
    eventually("lines are staged", PATIENCE, async || {
        staged(&local).filter(|lines| *lines > 0)
    })
    .await;
    kill(child);
    for rows in [1, 45] {
        let child = spawn(&settings, &command);
        eventually("some are sent", PATIENCE, async || (local.rows() >= rows).then_some(())).await;
        kill(child);
    }
    let (code, said) = run(&settings, &[&DAYS[..], &["--parallel", "1"]].concat());
    assert_eq!(code, Some(0), "{said}");
    local.has_rows(ORDERS.try_into().unwrap()).await;
    has_each_once(&local, ORDERS);
    shopify.with(|shop| {
        assert_eq!(shop.bulk.started(), 1, "what was started before a crash is found");
        let ranges: BTreeSet<u64> = shop.bulk.ranges.iter().copied().collect();
        assert!(
            ranges.contains(&0) && ranges.contains(&3000) && ranges.contains(&6000),
            "{ranges:?}"
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_is_said() {
    let (local, shopify) = (Local::new(), FakeShopify::start().await);
    fill(&shopify, 3, 1);
    let _service = Service::start("run", &local.settings()).await;
    let settings = shopify.known_to(&local.settings());
    let says = |settings: &Settings, args: &[&str], code: i32, text: &str| {
        let (ended, said) = run(settings, args);
        assert!(ended == Some(code) && said.contains(text), "{ended:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    };
    says(
        &local.settings(),
        &[],
        78,
        "no access to the Admin API of a shop is configured",
    );
    let other = settings.with("ORDERSTREAM_SHOPIFY_ADMIN_TOKEN", "shpat_wrong");
    says(&other, &[], 78, "the access token is not valid (401)");
    shopify.with(|shop| shop.scopes.retain(|scope| *scope != "read_all_orders"));
    says(&settings, &[], 78, "the app lacks the access scope read_all_orders");
    shopify.with(|shop| shop.scopes.push("read_all_orders"));
    says(
        &settings,
        &["--since", "2026-01-02", "--until", "2026-01-01"],
        64,
        "--since must be before --until",
    );

    // As many as Shopify allows run already.
    shopify.with(|shop| {
        shop.bulk.most = 1;
        shop.bulk.run_other(4711);
    });
    let busy = "in progress: gid://shopify/BulkOperation/4711.";
    says(&settings, &[&DAYS[..], &["--wait", "0s"]].concat(), 69, busy);
    let child = spawn(&settings, &[]);
    let asked = shopify.with(|shop| shop.asked("Run"));
    eventually("it asks again", PATIENCE, async || {
        shopify.with(|shop| shop.asked("Run") > asked).then_some(())
    })
    .await;
    shopify.with(|shop| shop.bulk.operations[0].status = "COMPLETED");
    let ended = tokio::task::block_in_place(|| child.wait_with_output().unwrap());
    assert!(ended.status.success());
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("waiting for their end, at most 10m"), "{said}");
    local.has_rows(3).await;

    shopify.with(|shop| shop.bulk.outcomes.push_back(Outcome::Failed("ACCESS_DENIED")));
    says(
        &settings,
        &[&DAYS[..], &["--restart"]].concat(),
        78,
        "ACCESS_DENIED: give the app protected customer",
    );
    assert_eq!(imports(&settings, &[])["orders"], 3, "what failed is asked for again");
}

/// `cargo test --release --test suite -- --ignored --nocapture a_hundred_thousand_orders`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_hundred_thousand_orders_are_imported_within_bounded_memory() {
    const ORDERS: u64 = 100_000;
    let (local, shopify) = (Local::new(), FakeShopify::start().await);
    fill(&shopify, ORDERS, 1);
    shopify.with(|shop| {
        shop.bucket.restore_rate = 50.0;
        shop.bucket.maximum = 1000.0;
        shop.bucket.available = 0.0;
    });
    let service = Service::start("run", &local.settings()).await;
    let settings = shopify.known_to(&local.settings());
    let (start, mut peak, mut kills) = (std::time::Instant::now(), 0, 0_u64);
    // Killed after a time that grows, so that each step is hit and it ends.
    loop {
        let life = Duration::from_millis(500 + 700 * kills * kills);
        let born = std::time::Instant::now();
        let mut child = spawn(&settings, &[]);
        let ended = loop {
            peak = peak.max(peak_memory(child.id()));
            if child.try_wait().unwrap().is_some_and(|status| status.success()) {
                break true;
            }
            if born.elapsed() > life {
                break false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        if ended {
            break;
        }
        kill(child);
        kills += 1;
    }
    let took = start.elapsed();
    eventually("all are loaded", Duration::from_secs(1800), async || {
        (local.rows() as u64 >= ORDERS).then_some(())
    })
    .await;
    has_each_once(&local, ORDERS);
    let (started, points) = shopify.with(|shop| (shop.bulk.started(), shop.requests.len()));
    eprintln!(
        "{ORDERS} orders in {took:?} with {kills} kills, {started} bulk operations, {points} queries, {peak} KiB of memory at \
         most; service {} KiB",
        peak_memory(service.pid())
    );
    assert!(peak < 100 * 1024, "{peak} KiB");
}

/// KiB; 0 once it has ended.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0)
}
