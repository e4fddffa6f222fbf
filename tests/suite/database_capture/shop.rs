//! A merchant's shop with a PostgreSQL of its own, and what a capture of it left in the stream.

use std::collections::{BTreeMap, HashSet};
use std::process::Output;

use redis::streams::StreamRangeReply;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::harness::eventually;
use crate::harness::postgres::Cluster;
use crate::harness::redis::RedisServer;
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;

pub const TABLES: &str = "
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

pub const MAPPING: &str = r#"
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
pub struct Shop {
    cluster: Source,
    pub database: String,
    pub folder: TempDir,
}

enum Source {
    Shared(&'static Cluster),
    Own(Cluster),
}

pub const LOGICAL: [(&str, &str); 4] = [
    ("wal_level", "logical"),
    ("max_replication_slots", "100"),
    ("max_wal_senders", "60"),
    ("fsync", "off"),
];

impl Shop {
    /// A database of a server that the tests here share.
    pub async fn new() -> Self {
        Self::on(Self::shared().await)
    }

    /// The same without tables and mapping.
    pub async fn empty() -> Self {
        Self::without_tables(Self::shared().await)
    }

    async fn shared() -> Source {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        Source::Shared(SHARED.get_or_init(|| Cluster::start(&LOGICAL, &[])).await)
    }

    /// A server of the test's own.
    pub async fn own(settings: &[(&str, &str)]) -> Self {
        let settings = [&LOGICAL[..], settings].concat();
        Self::of(Cluster::start(&settings, &[]).await)
    }

    /// On that server.
    pub fn of(cluster: Cluster) -> Self {
        Self::on(Source::Own(cluster))
    }

    fn on(cluster: Source) -> Self {
        let shop = Self::without_tables(cluster);
        shop.sql(TABLES);
        // A slot is unique in its cluster.
        shop.map(&MAPPING.replace("shopdb", &shop.database));
        shop
    }

    fn without_tables(cluster: Source) -> Self {
        let shop = Self {
            cluster,
            database: format!("shop{}", rand::random::<u32>()),
            folder: tempfile::tempdir().unwrap(),
        };
        let sql = format!("CREATE DATABASE {}", shop.database);
        shop.cluster().sql("postgres", &sql);
        shop.map("");
        shop
    }

    pub fn cluster(&self) -> &Cluster {
        match &self.cluster {
            Source::Shared(cluster) => cluster,
            Source::Own(cluster) => cluster,
        }
    }

    pub fn sql(&self, sql: &str) -> String {
        self.cluster().sql(&self.database, sql)
    }

    pub fn slot(&self) -> String {
        format!("orderstream_{}", self.database)
    }

    pub fn mapping(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("capture.toml")).unwrap()
    }

    pub fn map(&self, text: &str) {
        std::fs::write(self.folder.path().join("capture.toml"), text).unwrap();
    }

    pub fn with(&self, settings: Settings) -> Settings {
        settings
            .with("ORDERSTREAM_CAPTURE_DATABASE_URL", &self.cluster().url(&self.database))
            .with(
                "ORDERSTREAM_CAPTURE_FILE",
                self.folder.path().join("capture.toml").to_str().unwrap(),
            )
            .with("ORDERSTREAM_CAPTURE_ACK_DELAY", "0s")
    }

    /// Of a capture alone, into that Redis.
    pub fn settings(&self, redis: &RedisServer) -> Settings {
        let settings = Settings::nothing().with("REDIS_URL", &redis.url());
        self.with(settings.with("RUST_LOG", "info,orderstream=debug"))
    }

    /// Adds orders of two lines.
    pub fn add(&self, ids: std::ops::RangeInclusive<u32>) {
        let (first, last) = (ids.start(), ids.end());
        self.sql(&format!(
            "BEGIN; INSERT INTO orders (id, number, total) SELECT n, '#' || n, n + 0.10 FROM generate_series({first}, {last}) n;
             INSERT INTO order_items (order_id, sku, price) SELECT n, 'A', n FROM generate_series({first}, {last}) n;
             INSERT INTO order_items (order_id, sku, price) SELECT n, 'B', 0.10 FROM generate_series({first}, {last}) n; COMMIT"
        ));
    }

    /// Order → total and number of lines, as the shop has it.
    pub fn orders(&self) -> BTreeMap<String, String> {
        self.orders_of(self.cluster(), "orders", "order_items", "order_id")
    }

    /// The same of tables that were renamed, and on another server.
    pub fn orders_of(&self, server: &Cluster, orders: &str, lines: &str, key: &str) -> BTreeMap<String, String> {
        let rows = server.sql(
            &self.database,
            &format!("SELECT id, total::float8 || ' ' || (SELECT count(*) FROM {lines} i WHERE i.{key} = o.id) FROM {orders} o"),
        );
        let pair = |row: &str| row.split_once('|').map(|(id, state)| (id.to_owned(), state.to_owned()));
        rows.lines().filter_map(pair).collect()
    }

    pub fn command(&self, redis: &RedisServer, args: &[&str]) -> Output {
        self.settings(redis).command(args).output().unwrap()
    }
}

/// What the stream holds of capture: the fields of each entry, and its id as `id`.
pub struct Events(pub Vec<BTreeMap<String, String>>);

impl Events {
    pub async fn of(redis: &RedisServer) -> Self {
        let reply: StreamRangeReply = redis.command(&["XRANGE", "orders_stream", "-", "+"]).await;
        let fields = |entry: redis::streams::StreamId| {
            let text = |(name, value)| (name, redis::from_redis_value::<String>(value).unwrap());
            let id = ("id".to_owned(), entry.id);
            entry.map.into_iter().map(text).chain([id]).collect()
        };
        let entries = reply.ids.into_iter().map(fields);
        let is_captured = |entry: &BTreeMap<_, _>| entry.get("source").is_some_and(|source| source == "capture");
        Self(entries.filter(is_captured).collect())
    }

    /// The first id behind them.
    pub fn behind(&self) -> Option<String> {
        let (ms, seq) = self.0.last()?["id"].split_once('-')?;
        Some(format!("{ms}-{}", seq.parse::<u64>().ok()? + 1))
    }

    pub fn payloads(&self) -> Vec<Value> {
        self.0
            .iter()
            .map(|entry| serde_json::from_str(&entry["payload"]).unwrap())
            .collect()
    }

    /// Types of the events of one order, in order.
    pub fn types(&self, order: &str) -> Vec<String> {
        let payloads = self
            .payloads()
            .into_iter()
            .filter(|payload| text(&payload["order_id"]) == order);
        payloads.map(|payload| text(&payload["event_type"])).collect()
    }

    /// Order → total and number of lines, by the newest version; deletions stay.
    pub fn orders(&self) -> BTreeMap<String, String> {
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

    pub fn has_no_event_twice(&self) {
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

pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A time that sorts.
pub fn instant(text: &str) -> String {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap();
    format!("{:025}", at.unix_timestamp_nanos())
}

/// Waits until the stream tells of the shop's orders what the shop has.
pub async fn agrees(shop: &Shop, redis: &RedisServer) -> Events {
    agrees_with(redis, || shop.orders()).await
}

/// The same of what the shop has elsewhere.
pub async fn agrees_with(redis: &RedisServer, orders: impl Fn() -> BTreeMap<String, String>) -> Events {
    eventually("the stream agrees with the shop", PATIENCE, async || {
        let events = Events::of(redis).await;
        (events.orders() == orders()).then_some(events)
    })
    .await
}

/// The figures of a capture in its process' health.
pub async fn figures(capture: &Service) -> Option<Value> {
    let answer = capture.get(&capture.admin_url("/health")).await.ok()?;
    let report: Value = answer.json().await.ok()?;
    Some(report["capture"].clone())
}
