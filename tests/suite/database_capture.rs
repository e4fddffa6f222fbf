//! `capture`: the changes of a shop's own PostgreSQL, by the real binary on a real server with
//! `wal_level = logical`. The oracle is the shop's tables, read by plain SQL.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use nix::sys::signal::Signal;
use redis::streams::StreamRangeReply;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::OnceCell;

mod observed;

use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::postgres::Cluster;
use crate::harness::redis::RedisServer;
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;

const TABLES: &str = "
    CREATE TABLE customers (id bigint PRIMARY KEY, name text);
    CREATE TABLE orders (
        id bigint PRIMARY KEY, number text, customer_id bigint, total numeric(12,2) NOT NULL, currency text NOT NULL DEFAULT 'EUR',
        created_at timestamptz NOT NULL DEFAULT '2026-03-29 00:30:00Z', note text, divisor int NOT NULL DEFAULT 1
    );
    CREATE TABLE order_items (
        id bigserial PRIMARY KEY, order_id bigint NOT NULL, sku text, qty int NOT NULL DEFAULT 1, price numeric(12,2) NOT NULL
    );
    ALTER TABLE order_items REPLICA IDENTITY FULL;
    CREATE TABLE refunds (id bigint PRIMARY KEY, order_id bigint NOT NULL);
    CREATE TABLE refund_lines (id bigint PRIMARY KEY, refund_id bigint NOT NULL);
    ALTER TABLE refund_lines REPLICA IDENTITY FULL;
    CREATE TABLE outbox (id bigserial PRIMARY KEY, payload jsonb NOT NULL);";

const MAPPING: &str = r#"
source = "shopdb"
timezone = "Europe/Berlin"
[orders]
table = "public.orders"
key = "id"
query = """
SELECT o.id AS key, o.id AS order_id, o.customer_id, round(o.total / o.divisor, 2) AS total_amount, o.currency, o.created_at, o.number AS name,
       (SELECT coalesce(json_agg(json_build_object('line_id', i.id, 'sku', i.sku, 'qty', i.qty, 'price', i.price) ORDER BY i.id), '[]')
          FROM order_items i WHERE i.order_id = o.id) AS items
  FROM orders o WHERE o.id = ANY($1)"""
[[watch]]
table = "public.order_items"
key = "order_id"
[[watch]]
table = "public.refund_lines"
key = "refund_id"
orders = "SELECT order_id FROM refunds WHERE id = ANY($1)"
[outbox]
table = "public.outbox"
payload = "payload"
[messages]
prefix = "orderstream"
"#;

/// A shop's database, and a mapping of it.
struct Shop {
    cluster: Source,
    database: String,
    folder: TempDir,
}

enum Source {
    Shared(&'static Cluster),
    Own(Cluster),
}

const LOGICAL: [(&str, &str); 4] = [
    ("wal_level", "logical"),
    ("max_replication_slots", "40"),
    ("max_wal_senders", "40"),
    ("fsync", "off"),
];

impl Shop {
    /// A database of a server that the tests here share.
    async fn new() -> Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        let shared = SHARED.get_or_init(|| Cluster::start(&LOGICAL, &[])).await;
        Self::on(Source::Shared(shared))
    }

    /// A server of the test's own.
    async fn own(settings: &[(&str, &str)]) -> Self {
        let settings = [&LOGICAL[..], settings].concat();
        Self::on(Source::Own(Cluster::start(&settings, &[]).await))
    }

    fn on(cluster: Source) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("shop{}", rand::random::<u32>());
        let shop = Self {
            cluster,
            database,
            folder,
        };
        shop.cluster()
            .sql("postgres", &format!("CREATE DATABASE {}", shop.database));
        shop.sql(TABLES);
        // A slot is unique in its cluster.
        shop.map(&MAPPING.replace("shopdb", &shop.database));
        shop
    }

    fn cluster(&self) -> &Cluster {
        match &self.cluster {
            Source::Shared(cluster) => cluster,
            Source::Own(cluster) => cluster,
        }
    }

    fn sql(&self, sql: &str) -> String {
        self.cluster().sql(&self.database, sql)
    }

    fn slot(&self) -> String {
        format!("orderstream_{}", self.database)
    }

    fn mapping(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("capture.toml")).unwrap()
    }

    fn map(&self, text: &str) {
        std::fs::write(self.folder.path().join("capture.toml"), text).unwrap();
    }

    fn with(&self, settings: Settings) -> Settings {
        settings
            .with("ORDERSTREAM_CAPTURE_DATABASE_URL", &self.cluster().url(&self.database))
            .with(
                "ORDERSTREAM_CAPTURE_FILE",
                self.folder.path().join("capture.toml").to_str().unwrap(),
            )
            .with("ORDERSTREAM_CAPTURE_ACK_DELAY", "0s")
    }

    /// Of a capture alone, into that Redis.
    fn settings(&self, redis: &RedisServer) -> Settings {
        let settings = Settings::nothing().with("REDIS_URL", &redis.url());
        self.with(settings.with("RUST_LOG", "info,orderstream=debug"))
    }

    /// Adds orders of two lines.
    fn add(&self, ids: std::ops::RangeInclusive<u32>) {
        let (first, last) = (ids.start(), ids.end());
        self.sql(&format!(
            "BEGIN; INSERT INTO orders (id, number, total) SELECT n, '#' || n, n + 0.10 FROM generate_series({first}, {last}) n;
             INSERT INTO order_items (order_id, sku, price) SELECT n, 'A', n FROM generate_series({first}, {last}) n;
             INSERT INTO order_items (order_id, sku, price) SELECT n, 'B', 0.10 FROM generate_series({first}, {last}) n; COMMIT"
        ));
    }

    /// Order → total and number of lines, as the shop has it.
    fn orders(&self) -> BTreeMap<String, String> {
        let rows = self.sql(
            "SELECT id, total::float8 || ' ' || (SELECT count(*) FROM order_items i WHERE i.order_id = o.id) FROM orders o",
        );
        let pair = |row: &str| row.split_once('|').map(|(id, state)| (id.to_owned(), state.to_owned()));
        rows.lines().filter_map(pair).collect()
    }

    fn command(&self, redis: &RedisServer, args: &[&str]) -> Output {
        self.settings(redis).command(args).output().unwrap()
    }
}

/// What the stream holds: the fields of each entry, and its id as `id`.
struct Events(Vec<BTreeMap<String, String>>);

impl Events {
    async fn of(redis: &RedisServer) -> Self {
        let reply: StreamRangeReply = redis.command(&["XRANGE", "orders_stream", "-", "+"]).await;
        let fields = |entry: redis::streams::StreamId| {
            let text = |(name, value)| (name, redis::from_redis_value::<String>(value).unwrap());
            let id = ("id".to_owned(), entry.id);
            entry.map.into_iter().map(text).chain([id]).collect()
        };
        Self(reply.ids.into_iter().map(fields).collect())
    }

    /// The first id behind them.
    fn behind(&self) -> Option<String> {
        let (ms, seq) = self.0.last()?["id"].split_once('-')?;
        Some(format!("{ms}-{}", seq.parse::<u64>().ok()? + 1))
    }

    fn payloads(&self) -> Vec<Value> {
        self.0
            .iter()
            .map(|entry| serde_json::from_str(&entry["payload"]).unwrap())
            .collect()
    }

    /// Types of the events of one order, in order.
    fn types(&self, order: &str) -> Vec<String> {
        let payloads = self
            .payloads()
            .into_iter()
            .filter(|payload| text(&payload["order_id"]) == order);
        payloads.map(|payload| text(&payload["event_type"])).collect()
    }

    /// Order → total and number of lines, by the newest version; deletions stay.
    fn orders(&self) -> BTreeMap<String, String> {
        let mut newest: BTreeMap<String, ((String, String), String)> = BTreeMap::new();
        let mut deleted = HashSet::new();
        for (entry, payload) in self.0.iter().zip(self.payloads()) {
            let order = text(&payload["order_id"]);
            if payload["event_type"] == "order.deleted" {
                deleted.insert(order);
                continue;
            }
            let version = (instant(&text(&payload["updated_at"])), entry["triggered_at"].clone());
            let state = format!(
                "{} {}",
                payload["total_amount"].as_f64().unwrap(),
                payload["items"].as_array().unwrap().len()
            );
            match newest.get(&order) {
                Some((known, _)) if *known >= version => {}
                _ => {
                    newest.insert(order, (version, state));
                }
            }
        }
        let kept = newest.into_iter().filter(|(order, _)| !deleted.contains(order));
        kept.map(|(order, (_, state))| (order, state)).collect()
    }

    fn has_no_event_twice(&self) {
        let mut known = HashSet::new();
        let twice = self.0.iter().filter(|entry| !known.insert(&entry["event_id"]));
        let twice = Vec::from_iter(twice.map(|entry| format!("{} {}", entry["triggered_at"], entry["payload"])));
        assert!(
            twice.is_empty(),
            "events stand in the stream twice:\n{}",
            twice.join("\n")
        );
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A time that sorts.
fn instant(text: &str) -> String {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap();
    format!("{:025}", at.unix_timestamp_nanos())
}

/// Waits until the stream tells of the shop's orders what the shop has.
async fn agrees(shop: &Shop, redis: &RedisServer) -> Events {
    eventually("the stream agrees with the shop", PATIENCE, async || {
        let events = Events::of(redis).await;
        (events.orders() == shop.orders()).then_some(events)
    })
    .await
}

#[tokio::test]
async fn on_files_a_shop_is_in_the_warehouse_with_nothing_else_installed() {
    let (shop, local) = (Shop::new().await, Local::new());
    shop.add(1..=300);
    // Pages of a walk follow the key's own order, which is not that of its text.
    let settings = shop.with(local.settings()).with("ORDERSTREAM_CAPTURE_BATCH", "7");
    let mut service = Service::start("run", &settings).await;
    local.has_rows(300).await;
    shop.sql("UPDATE orders SET total = 99.90 WHERE id = 7; DELETE FROM order_items WHERE order_id = 8 AND sku = 'B'");
    shop.sql("BEGIN; DELETE FROM order_items WHERE order_id = 9; DELETE FROM orders WHERE id = 9; COMMIT");
    shop.add(301..=301);
    let rows = || {
        local.sql("SELECT order_id, total_amount, item_count FROM orders WHERE order_id IN ('7', '8', '9', '301') AND deleted_at IS NULL ORDER BY 1")
    };
    eventually("the changes are loaded", PATIENCE, async || {
        (rows() == ["301|301.10|2", "7|99.90|2", "8|8.10|1"]).then_some(())
    })
    .await;
    service.signal(Signal::SIGTERM);
    service.ended(PATIENCE).await;
    assert_eq!(service.exit_code(), Some(0));
}

#[tokio::test]
async fn every_kind_of_change_becomes_the_event_that_it_means() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=4);
    let _capture = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    shop.add(5..=5);
    shop.sql("UPDATE order_items SET order_id = 2 WHERE order_id = 1 AND sku = 'B'");
    shop.sql("INSERT INTO refunds VALUES (70, 3); INSERT INTO refund_lines VALUES (1, 70)");
    shop.sql("DELETE FROM orders WHERE id = 4");
    let event = r#"{"event_id": "mine", "event_type": "order.paid", "order_id": "900", "total_amount": 1.50, "currency": "EUR", "items": [], "updated_at": "2026-01-01T00:00:00Z"}"#;
    shop.sql(&format!(
        "INSERT INTO outbox (payload) VALUES ('{event}'); DELETE FROM outbox"
    ));
    shop.sql(&format!(
        "SELECT pg_logical_emit_message(true, 'orderstream', '{}'), pg_logical_emit_message(true, 'elsewhere', 'x'),
                pg_logical_emit_message(false, 'orderstream', 'x')",
        event.replace("mine", "told").replace("900", "901")
    ));
    shop.sql("INSERT INTO orders (id, total) VALUES (9007199254740993, 0.10)");
    let events = eventually("all have come", PATIENCE, async || {
        let events = Events::of(&redis).await;
        (!events.types("9007199254740993").is_empty()).then_some(events)
    })
    .await;
    for (order, types) in [
        ("1", &["order.snapshot", "order.updated"][..]),
        ("2", &["order.snapshot", "order.updated"]),
        ("3", &["order.snapshot", "order.updated"]),
        ("4", &["order.snapshot", "order.deleted"]),
        ("5", &["order.created"]),
        ("900", &["order.paid"]),
        ("901", &["order.paid"]),
    ] {
        assert_eq!(events.types(order), types, "{order}");
    }
    events.has_no_event_twice();
    let created = events
        .0
        .iter()
        .find(|entry| entry["event_type"] == "order.created")
        .unwrap();
    assert_eq!(created["source"], "capture");
    let payload: Value = serde_json::from_str(&created["payload"]).unwrap();
    assert!(created["payload"].contains("\"total_amount\":5.10,"), "{payload}");
    assert!(
        text(&payload["created_at"]).starts_with("2026-03-29T01:30:00"),
        "{payload}"
    );
}

#[tokio::test]
async fn killed_at_any_moment_it_stores_every_order_and_none_twice() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=50);
    let settings = shop.settings(&redis).with("ORDERSTREAM_CAPTURE_BATCH", "20");
    for round in 0..12_u32 {
        let mut capture = Service::start("capture", &settings).await;
        let first = 51 + round * 40;
        shop.add(first..=first + 39);
        shop.sql(&format!(
            "UPDATE orders SET total = total + 1 WHERE id % 7 = {}",
            round % 7
        ));
        shop.sql(&format!("DELETE FROM orders WHERE id = {}", round + 1));
        tokio::time::sleep(Duration::from_millis(u64::from(round * 13 % 90))).await;
        capture.kill();
    }
    let _capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await.has_no_event_twice();
}

#[tokio::test]
async fn nothing_is_read_before_it_is_visible() {
    let shop = Shop::own(&[]).await;
    let redis = RedisServer::start().await;
    shop.add(1..=3);
    let _capture = Service::start("capture", &shop.settings(&redis)).await;
    let before = agrees(&shop, &redis).await.0.len();
    // Commits wait for a standby that is not there; the walsender sends them all the same.
    shop.sql("ALTER SYSTEM SET synchronous_standby_names = 'absent'");
    shop.sql("SELECT pg_reload_conf()");
    eventually("commits wait", PATIENCE, async || {
        (shop.sql("SHOW synchronous_standby_names") == "absent").then_some(())
    })
    .await;
    let session = shop
        .cluster()
        .session(&shop.database, "SET synchronous_commit = on")
        .await;
    let waiting = session.batch_execute("UPDATE orders SET total = 55.50 WHERE id = 2");
    let waits = async {
        eventually("the commit waits", PATIENCE, async || {
            (shop.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1").then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            Events::of(&redis).await.0.len(),
            before,
            "an event came before its transaction was visible"
        );
        shop.sql("ALTER SYSTEM RESET synchronous_standby_names");
        shop.sql("SELECT pg_reload_conf()");
    };
    let (updated, ()) = tokio::join!(waiting, waits);
    updated.unwrap();
    let events = agrees(&shop, &redis).await;
    assert_eq!(events.0.len(), before + 1);
    assert_eq!(events.orders()["2"], "55.5 2");
}

#[tokio::test]
async fn each_loss_of_changes_is_a_gap_that_is_told_and_healed() {
    let shop = Shop::own(&[
        ("max_slot_wal_keep_size", "1MB"),
        ("min_wal_size", "32MB"),
        ("max_wal_size", "32MB"),
    ])
    .await;
    let redis = RedisServer::start().await;
    shop.add(1..=5);
    let settings = shop.settings(&redis);
    let mut capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    let (slot, mut next) = (shop.slot(), 100);
    for reason in [
        "slot_missing",
        "slot_lost",
        "checkpoint_missing",
        "checkpoint_behind",
        "publication",
        "truncate",
    ] {
        if reason != "truncate" {
            capture.kill();
            eventually("the slot is free", PATIENCE, async || {
                (shop.sql(&format!(
                    "SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'"
                )) == "f")
                    .then_some(())
            })
            .await;
        }
        next += 1;
        shop.add(next..=next);
        match reason {
            "slot_missing" => drop(shop.sql(&format!("SELECT pg_drop_replication_slot('{slot}')"))),
            "slot_lost" => {
                for _ in 0..6 {
                    shop.sql("SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'x', repeat('x', 100))");
                }
                shop.sql("CHECKPOINT");
                let status = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{slot}'");
                assert_eq!(shop.sql(&status), "lost");
            }
            "checkpoint_missing" => redis.command(&["FLUSHALL"]).await,
            "checkpoint_behind" => {
                let sql = format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())");
                drop(shop.sql(&sql));
            }
            "publication" => {
                // What is written meanwhile is not published.
                shop.sql(&format!("ALTER PUBLICATION {slot} DROP TABLE orders"));
                let refused = shop.command(&redis, &["capture"]);
                let said = String::from_utf8_lossy(&refused.stderr).into_owned();
                assert_eq!(refused.status.code(), Some(78), "{said}");
                assert!(
                    said.contains(&format!("ALTER PUBLICATION {slot} ADD TABLE public.orders")),
                    "{said}"
                );
                shop.sql("DROP TABLE IF EXISTS other; CREATE TABLE orders_2 (LIKE orders INCLUDING ALL)");
                shop.sql("INSERT INTO orders_2 SELECT * FROM orders; DROP TABLE orders; ALTER TABLE orders_2 RENAME TO orders");
                shop.sql(&format!("ALTER PUBLICATION {slot} ADD TABLE orders"));
            }
            _ => drop(shop.sql("TRUNCATE order_items")),
        }
        if reason != "truncate" {
            capture = Service::start("capture", &settings).await;
        }
        capture.says(&format!("reason=\"{reason}\"")).await;
        capture.says("the walk over the orders is finished").await;
        agrees(&shop, &redis).await;
    }
}

#[tokio::test]
async fn of_two_captures_one_waits_and_the_one_that_lost_its_slot_is_fenced() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let first = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    let second = Service::start("capture", &shop.settings(&redis)).await;
    second.says("this one takes over when that ends").await;
    first.signal(Signal::SIGSTOP);
    let slot = shop.slot();
    shop.sql(&format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    ));
    second.says("capturing changes").await;
    shop.add(6..=40);
    agrees(&shop, &redis).await;
    first.signal(Signal::SIGCONT);
    shop.add(41..=60);
    first.says("this one takes over when that ends").await;
    agrees(&shop, &redis).await.has_no_event_twice();
}

#[tokio::test]
async fn one_order_that_cannot_be_computed_is_a_dead_letter_and_its_mending_lands() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    capture.says("the walk over the orders is finished").await;
    shop.sql(
        "BEGIN; INSERT INTO orders (id, total, divisor) SELECT n, n, CASE n WHEN 33 THEN 0 ELSE 1 END FROM generate_series(1, 99) n;
         INSERT INTO order_items (order_id, qty, price) VALUES (50, -1, 1); COMMIT",
    );
    let dead = eventually("two dead letters", PATIENCE, async || {
        let reply: StreamRangeReply = redis.command(&["XRANGE", "dead_letters", "-", "+"]).await;
        (reply.ids.len() == 2).then_some(reply.ids)
    })
    .await;
    let field = |n: usize, name: &str| dead[n].get::<String>(name).unwrap_or_default();
    let found: BTreeMap<_, _> = (0..2).map(|n| (field(n, "order_id"), field(n, "error"))).collect();
    assert!(found["33"].contains("SQLSTATE 22012"), "{found:?}");
    assert!(found["50"].starts_with("items[0].qty"), "{found:?}");
    eventually("the others are in the stream", PATIENCE, async || {
        (Events::of(&redis).await.0.len() == 97).then_some(())
    })
    .await;
    shop.sql("UPDATE orders SET divisor = 1 WHERE id = 33; UPDATE order_items SET qty = 1 WHERE order_id = 50");
    agrees(&shop, &redis).await;
}

#[tokio::test]
async fn an_operator_prepares_tries_resyncs_and_drops() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=3);
    let done = |args: &[&str]| {
        let output = shop.command(&redis, args);
        let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{args:?}: {out}{errors}");
        out
    };
    let sql = done(&["capture", "sql"]);
    assert!(
        sql.contains("CREATE PUBLICATION") && sql.contains("GRANT SELECT ON public.orders"),
        "{sql}"
    );
    let guessed = done(&["capture", "init"]);
    shop.map(&guessed.replace("shopdb", &shop.database));
    let tried = done(&["capture", "try", "--sample", "2"]);
    let events = Vec::from_iter(tried.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    assert_eq!(
        (events.len(), text(&events[0]["total_amount"])),
        (2, "1.1".to_owned()),
        "{guessed}{tried}"
    );
    assert_eq!(events[1]["items"].as_array().unwrap().len(), 2, "{guessed}");
    let mut capture = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    done(&["capture", "resync", "2"]);
    eventually("one order was read again", PATIENCE, async || {
        let events = Events::of(&redis).await;
        (events.types("2").len() == 2 && events.0.len() == 4).then_some(())
    })
    .await;
    let busy = shop.command(&redis, &["capture", "drop", "--yes"]);
    assert_eq!(busy.status.code(), Some(69), "{busy:?}");
    capture.signal(Signal::SIGTERM);
    capture.ended(PATIENCE).await;
    done(&["capture", "drop", "--yes"]);
    assert_eq!(
        shop.sql(&format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'",
            shop.slot()
        )),
        "0"
    );
    assert_eq!(
        redis
            .command::<u64>(&["EXISTS", &format!("orders_stream:capture:{}", shop.database)])
            .await,
        0
    );
}

#[tokio::test]
async fn what_cannot_work_is_one_clear_error_and_hurts_no_write_of_the_shop() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let mapping = shop.mapping();
    let refused = |hint: &str| {
        let output = shop.command(&redis, &["capture"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{hint}: {said}");
        assert!(said.contains(hint), "{hint}: {said}");
        assert_eq!(shop.sql("SELECT count(*) FROM pg_publication"), "0", "{hint}");
    };
    for (from, to, hint) in [
        ("AS total_amount", "AS total_amuont", "a column `total_amuont`"),
        ("o.id AS key, ", "", "lacks the column `key`"),
        ("o.total /", "o.totl /", "column o.totl does not exist"),
        (
            "o.created_at",
            "o.created_at::timestamp AS created_at",
            "`created_at AT TIME ZONE 'UTC' AS created_at`",
        ),
        ("public.order_items", "public.lines", "there is no table public.lines"),
        (
            "key = \"order_id\"",
            "key = \"order\"",
            "the table public.order_items has no column order",
        ),
        ("[[watch]]", "[[wacht]]", "unknown field `wacht`"),
    ] {
        shop.map(&mapping.replacen(from, to, 1));
        refused(hint);
    }
    shop.map(&mapping);
    shop.sql("ALTER TABLE order_items REPLICA IDENTITY DEFAULT");
    refused("ALTER TABLE order_items REPLICA IDENTITY FULL");
    shop.sql("ALTER TABLE order_items REPLICA IDENTITY FULL; ALTER TABLE orders DROP CONSTRAINT orders_pkey");
    refused("the replica identity of orders must hold {\"id\"}");
    shop.sql("INSERT INTO orders (id, total) VALUES (1, 1); UPDATE orders SET total = 2; DELETE FROM orders");
    std::fs::remove_file(Path::new(&shop.folder.path().join("capture.toml"))).unwrap();
    refused("orderstream capture init");
}

#[tokio::test]
async fn check_says_what_may_hurt_later_and_changes_nothing() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.sql(
        "INSERT INTO orders (id, total, divisor) SELECT n, n, least(n - 1, 1) FROM generate_series(1, 20000) n;
         INSERT INTO order_items (order_id, price) SELECT n, n FROM generate_series(1, 20000) n; ANALYZE",
    );
    let name = "coalesce((SELECT c.name FROM customers c WHERE c.id = o.customer_id), o.number) AS name";
    shop.map(&shop.mapping().replace("o.number AS name", name));
    let output = shop.command(&redis, &["check", "capture"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for hint in [
        "max_slot_wal_keep_size",
        "there is no publication yet",
        "the query reads all of public.order_items (20000 rows)",
        "the query reads public.customers, whose changes alone make no event",
        "1 of 100 sampled orders would be dead letters, the first for: ",
    ] {
        assert!(said.contains(hint), "{hint}: {said}");
    }
    assert_eq!(shop.sql("SELECT count(*) FROM pg_publication"), "0");
}

#[tokio::test]
async fn the_printed_rights_are_enough() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let sql = String::from_utf8(shop.command(&redis, &["capture", "sql"]).stdout).unwrap();
    let role = format!("capture_{}", shop.database);
    // Its own role, so that tests do not meet; the query reads one table more than the mapping
    // names.
    shop.sql(&sql.replace("orderstream_capture", &role));
    shop.sql(&format!("GRANT SELECT ON refunds TO {role}"));
    shop.add(1..=2);
    let url = shop
        .cluster()
        .url(&shop.database)
        .replace("postgres://postgres@", &format!("postgres://{role}@"));
    let settings = shop.settings(&redis).with("ORDERSTREAM_CAPTURE_DATABASE_URL", &url);
    let _capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    shop.add(3..=3);
    agrees(&shop, &redis).await;
}

#[tokio::test]
async fn a_column_that_goes_away_stops_it_until_the_mapping_is_mended_and_nothing_is_lost() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=5);
    let capture = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    shop.sql("ALTER TABLE orders RENAME COLUMN total TO total_due; UPDATE orders SET total_due = 7 WHERE id = 3");
    capture.says("capture stopped: ").await;
    shop.sql("UPDATE orders SET total_due = 8 WHERE id = 4; DELETE FROM orders WHERE id = 5");
    shop.map(&shop.mapping().replace("o.total /", "o.total_due /"));
    capture.signal(Signal::SIGHUP);
    let events = eventually("the changes have come", PATIENCE, async || {
        let events = Events::of(&redis).await;
        (events.orders().get("4").map(String::as_str) == Some("8 2")).then_some(events)
    })
    .await;
    assert_eq!(events.orders()["3"], "7 2");
    assert!(!events.orders().contains_key("5"));
    let gaps = shop.sql(&format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'",
        shop.slot()
    ));
    assert_eq!(gaps, "1");
}

#[tokio::test]
async fn a_long_transaction_is_cut_and_goes_on_where_it_was_cut() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let settings = shop
        .settings(&redis)
        .with("ORDERSTREAM_CAPTURE_BATCH", "100")
        .with("ORDERSTREAM_CAPTURE_ACK_DELAY", "30s");
    let mut capture = Service::start("capture", &settings).await;
    capture.says("the walk over the orders is finished").await;
    shop.add(1..=1000);
    let mut before = 0;
    loop {
        eventually("more is stored", PATIENCE, async || {
            let length: usize = redis.command(&["XLEN", "orders_stream"]).await;
            (length > before || length == 1000).then_some(())
        })
        .await;
        capture.kill();
        before = redis.command(&["XLEN", "orders_stream"]).await;
        capture = Service::start("capture", &settings).await;
        if before == 1000 {
            break;
        }
    }
    agrees(&shop, &redis).await.has_no_event_twice();
    capture.kill();
}

#[tokio::test]
async fn near_its_cap_the_stream_is_left_to_others_and_capture_waits() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let settings = shop
        .settings(&redis)
        .with("ORDERSTREAM_STREAM_MAXLEN", "100")
        .with("ORDERSTREAM_RETAIN_ACKED", "10")
        .with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0");
    let capture = Service::start("capture", &settings).await;
    capture.says("the walk over the orders is finished").await;
    shop.add(1..=200);
    capture.says("the stream is near its cap").await;
    let state = async || {
        let report: Value = capture
            .get(&capture.admin_url("/health"))
            .await
            .ok()?
            .json()
            .await
            .ok()?;
        Some(report["capture"].clone())
    };
    eventually("health says that it waits", PATIENCE, async || {
        (state().await?["state"] == "waiting").then_some(())
    })
    .await;
    let length: usize = redis.command(&["XLEN", "orders_stream"]).await;
    assert!(length <= 90, "{length}");
    // What others read and removed makes room.
    let mut seen = BTreeMap::new();
    eventually("all have come", PATIENCE, async || {
        let events = Events::of(&redis).await;
        seen.extend(events.orders());
        if let Some(behind) = events.behind() {
            redis
                .command::<usize>(&["XTRIM", "orders_stream", "MINID", &behind])
                .await;
        }
        (seen == shop.orders()).then_some(())
    })
    .await;
    eventually("health says that it streams", PATIENCE, async || {
        (state().await?["state"] == "streaming").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_idle_source_keeps_no_wal_and_its_canary_comes_back() {
    let shop = Shop::own(&[("wal_sender_timeout", "2s")]).await;
    let redis = RedisServer::start().await;
    let settings = shop
        .settings(&redis)
        .with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0")
        .with("ORDERSTREAM_CAPTURE_HEARTBEAT", "1s");
    let capture = Service::start("capture", &settings).await;
    capture.says("the walk over the orders is finished").await;
    // Another database is busy.
    shop.cluster().sql(
        "postgres",
        "CREATE TABLE busy AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 40000)",
    );
    let figures = async || {
        let report: Value = capture
            .get(&capture.admin_url("/health"))
            .await
            .ok()?
            .json()
            .await
            .ok()?;
        Some(report["capture"].clone())
    };
    eventually("little WAL is retained", PATIENCE, async || {
        shop.sql("CHECKPOINT");
        let figures = figures().await?;
        let is_little = figures["retained_bytes"].as_u64()? < 8 << 20;
        (is_little && figures["canary_seconds"].as_f64()? < 5.0).then_some(())
    })
    .await;
}

/// Orders a second of a backlog of small transactions, and of one large one: `cargo test --release
/// -- --ignored`.
#[tokio::test]
#[ignore = "a measurement"]
async fn measures_a_backlog() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let settings = shop.settings(&redis).with("RUST_LOG", "info");
    let mut capture = Service::start("capture", &settings).await;
    capture.says("the walk over the orders is finished").await;
    capture.kill();
    shop.sql(
        "CREATE PROCEDURE fill(first int, last int) LANGUAGE plpgsql AS $$ BEGIN FOR n IN first..last LOOP
           INSERT INTO orders (id, number, total) VALUES (n, '#' || n, n);
           INSERT INTO order_items (order_id, sku, price) SELECT n, 'A', x FROM generate_series(1, 3) x; COMMIT;
         END LOOP; END $$",
    );
    shop.sql("CALL fill(1, 20000)");
    shop.sql(
        "BEGIN; INSERT INTO orders (id, number, total) SELECT n, '#' || n, n FROM generate_series(20001, 40000) n;
         INSERT INTO order_items (order_id, sku, price) SELECT n, 'A', x FROM generate_series(20001, 40000) n, generate_series(1, 3) x; COMMIT",
    );
    let capture = Service::start("capture", &settings).await;
    let mut marks = Vec::new();
    let began = std::time::Instant::now();
    for mark in [1_usize, 20_000, 40_000] {
        eventually("the mark", PATIENCE, async || {
            (redis.command::<usize>(&["XLEN", "orders_stream"]).await >= mark).then_some(())
        })
        .await;
        marks.push(began.elapsed());
    }
    let rate = |from: Duration, to: Duration| 20_000.0 / (to - from).as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{}/status", capture.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    eprintln!(
        "small transactions {:.0} orders/s, one transaction {:.0} orders/s, {peak}",
        rate(marks[0], marks[1]),
        rate(marks[1], marks[2])
    );
}
