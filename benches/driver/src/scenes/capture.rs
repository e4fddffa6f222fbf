//! A shop's own PostgreSQL into the stream: `orderstream capture` beside a row-wise consumer of `pgoutput`, as people write
//! one: `pg_recvlogical` and a small Python program with redis-py, an entry a row.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use redis::streams::StreamRangeReply;
use tokio::process::Command;
use tokio::time::sleep_until;

use crate::lab::{Lab, Usage, seconds, trial};
use crate::postgres::{Postgres, program};
use crate::process::{Process, eventually};
use crate::redis::{Persistence, Redis, STREAM};
use crate::results::{Figures, Trial};
use crate::sides::Services;

/// Orders of the backlog of small transactions: an order and three lines each.
const SMALL: u64 = 40_000;
/// Orders of one transaction, with a note of 4 kB each.
const ONE: u64 = 51_319;
/// Rows of an order.
const ROWS: u64 = 4;
/// Orders a second for latency.
const RATE: u32 = 200;
/// Longer than any backlog here takes.
const AT_MOST: Duration = Duration::from_secs(1800);
/// A round takes a minute or two.
const ROUNDS: usize = 3;
const DATABASE: &str = "shop";
const SLOT: &str = "orderstream_shop";

const TABLES: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, number text, total numeric(12,2) NOT NULL, note text,
                         created_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE order_items (id bigserial, order_id bigint NOT NULL, sku text, qty int NOT NULL, price numeric(12,2) NOT NULL,
                              PRIMARY KEY (order_id, id));
    CREATE PUBLICATION orderstream_shop FOR TABLE orders, order_items
        WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
    CREATE FUNCTION place(n bigint, note text) RETURNS void LANGUAGE sql AS $$
        INSERT INTO orders (id, number, total, note) VALUES (n, '#' || n, n + 0.10, note);
        INSERT INTO order_items (order_id, sku, qty, price) SELECT n, 'SKU-' || x, x, n FROM generate_series(1, 3) x $$;
    CREATE PROCEDURE place_each(first bigint, last bigint) LANGUAGE plpgsql AS $$
        BEGIN FOR n IN first..last LOOP PERFORM place(n, NULL); COMMIT; END LOOP; END $$;";

const MAPPING: &str = r#"
source = "shop"
[orders]
table = "public.orders"
key = "id"
query = """
SELECT o.id AS key, o.id AS order_id, o.number AS name, o.total AS total_amount, 'EUR' AS currency, o.created_at,
       (SELECT coalesce(json_agg(json_build_object('line_id', i.id, 'sku', i.sku, 'qty', i.qty, 'price', i.price) ORDER BY i.id), '[]')
          FROM order_items i WHERE i.order_id = o.id) AS items
  FROM orders o WHERE o.id = ANY($1)"""
[[watch]]
table = "public.order_items"
key = "order_id"
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consumer {
    Ours,
    RowWise,
}

impl Consumer {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "orderstream capture",
            Self::RowWise => "pg_recvlogical + Python",
        }
    }

    /// Entries of one order.
    fn entries(self) -> u64 {
        match self {
            Self::Ours => 1,
            Self::RowWise => ROWS,
        }
    }
}

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let postgres = Postgres::start_with(&["wal_level=logical"]).await?;
    let mut trials = Vec::new();
    for _ in 0..lab.rounds(ROUNDS) {
        for consumer in [Consumer::Ours, Consumer::RowWise] {
            let scene = Scene {
                lab,
                redis: &redis,
                postgres: &postgres,
                consumer,
            };
            trials.extend(scene.run().await?);
        }
    }
    Ok(trials)
}

struct Scene<'a> {
    lab: &'a Lab,
    redis: &'a Redis,
    postgres: &'a Postgres,
    consumer: Consumer,
}

impl Scene<'_> {
    async fn run(&self) -> anyhow::Result<Vec<Trial>> {
        self.postgres.fresh(DATABASE).await?;
        let shop = self.postgres.connect(DATABASE).await?;
        shop.batch_execute(TABLES).await?;
        std::fs::write(self.lab.scratch("capture.toml"), MAPPING)?;
        self.redis.clear().await?;
        // The slot is there before the backlog is.
        match self.consumer {
            Consumer::Ours => {
                let capture = self.start()?;
                self.streams(&shop).await?;
                self.end(&shop, capture).await?;
            }
            Consumer::RowWise => {
                let slot = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')::text";
                shop.query_one(slot, &[&SLOT]).await?;
            }
        }
        let (small, one) = (self.lab.size(SMALL), self.lab.size(ONE));
        let mut trials = Vec::new();
        shop.batch_execute(&format!("CALL place_each(1, {small})")).await?;
        trials.push(self.trial("small transactions", self.drained(&shop, small).await?));
        self.redis.clear_stream().await?;
        let last = small + one;
        shop.batch_execute(&format!(
            "SELECT place(n, md5(n::text) || repeat('x', 4000)) FROM generate_series({}, {last}) n",
            small + 1
        ))
        .await?;
        trials.push(self.trial("one transaction", self.drained(&shop, one).await?));
        self.redis.clear_stream().await?;
        trials.push(self.trial("200 orders/s", self.latency(&shop, last + 1).await?));
        Ok(trials)
    }

    fn trial(&self, what: &str, figures: Figures) -> Trial {
        trial(format!("{}, {what}", self.consumer.name()), figures)
    }

    fn start(&self) -> anyhow::Result<Process> {
        let mapping = self.lab.scratch("capture.toml");
        match self.consumer {
            Consumer::Ours => {
                let services = Services {
                    settings: vec![
                        ("ORDERSTREAM_CAPTURE_DATABASE_URL", self.postgres.url(DATABASE)),
                        ("ORDERSTREAM_CAPTURE_FILE", mapping.display().to_string()),
                        // What it would read at its first start are orders that the scene does not count.
                        ("ORDERSTREAM_CAPTURE_SNAPSHOT", "none".to_owned()),
                    ],
                    ..Services::redis(self.redis)
                };
                self.lab.programs.start_capture(&services)
            }
            Consumer::RowWise => {
                let receive = program("pg_recvlogical")?;
                let receive = receive.as_std();
                let words = std::iter::once(receive.get_program()).chain(receive.get_args());
                let receive: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
                let script = format!(
                    "{} --dbname '{}' --slot {SLOT} --start --no-loop --file - \
                     -o proto_version=1 -o publication_names={SLOT} | exec \"$0\" \"$1\"",
                    receive.join(" "),
                    self.postgres.url(DATABASE)
                );
                let programs = &self.lab.programs;
                let mut command = Command::new("sh");
                command
                    .arg("-c")
                    .arg(script)
                    .arg(programs.python.join("bin/python"))
                    .arg(programs.rivals.join("pgoutput/writer.py"))
                    .env("REDIS_URL", self.redis.url())
                    .env("STREAM", STREAM);
                Process::start(&mut command, &programs.scratch.join("sides.log"))
            }
        }
    }

    /// Waits until somebody streams from the slot.
    async fn streams(&self, shop: &tokio_postgres::Client) -> anyhow::Result<()> {
        let active = "SELECT 1 FROM pg_replication_slots WHERE slot_name = $1 AND active";
        let asked = async || shop.query_opt(active, &[&SLOT]).await.ok().flatten();
        eventually("the slot is streamed from", Duration::from_secs(60), asked).await?;
        Ok(())
    }

    /// Ends the consumer, and waits until the slot is free.
    async fn end(&self, shop: &tokio_postgres::Client, process: Process) -> anyhow::Result<()> {
        process.end().await?;
        let free = "SELECT 1 FROM pg_replication_slots WHERE slot_name = $1 AND NOT active";
        let asked = async || shop.query_opt(free, &[&SLOT]).await.ok().flatten();
        eventually("the slot is free", Duration::from_secs(60), asked).await?;
        if self.consumer == Consumer::RowWise {
            // It tells the server its position every ten seconds: else the next trial would begin with this one's rows.
            let advance = "SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())::text";
            shop.query_one(advance, &[&SLOT]).await?;
        }
        Ok(())
    }

    /// Starts the consumer on a backlog of so many orders and waits until all are in the stream. Rate and CPU are those
    /// from a tenth of them on: how a process starts is not its speed.
    async fn drained(&self, shop: &tokio_postgres::Client, orders: u64) -> anyhow::Result<Figures> {
        let process = self.start()?;
        let watched = [
            ("side", &process),
            ("redis", self.redis.process()?),
            ("postgres", self.postgres.process()),
        ];
        let began = Instant::now();
        let reached = async |wanted: u64| loop {
            let done = self.redis.length().await? / self.consumer.entries();
            if done >= wanted {
                return Ok(done);
            }
            ensure!(process.is_running(), "the consumer ended; see sides.log");
            ensure!(began.elapsed() < AT_MOST, "the backlog is not worked off");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let before = reached(orders / 10).await?;
        let (since, usage) = (Instant::now(), Usage::begin(&watched)?);
        let done = (reached(orders).await? - before) as f64;
        let mut figures = usage.end(&watched)?.per_events(done);
        figures.remove("cpu_load");
        figures.insert("rate".to_owned(), done / seconds(since));
        figures.insert("rss".to_owned(), process.peak_megabytes()?);
        self.end(shop, process).await?;
        Ok(figures)
    }

    /// Orders at a fixed rate: from the commit, as PostgreSQL notes it, to the entry's id, as Redis gave it.
    async fn latency(&self, shop: &tokio_postgres::Client, first: u64) -> anyhow::Result<Figures> {
        let process = self.start()?;
        self.streams(shop).await?;
        let (warm, count) = (
            u64::from(RATE),
            (self.lab.plan.measured.as_secs_f64() * 5.0 * f64::from(RATE)) as u64,
        );
        let place = shop.prepare("SELECT place($1, NULL)").await?;
        let began = tokio::time::Instant::now();
        for number in 0..warm + count {
            sleep_until(began + Duration::from_secs_f64(number as f64 / f64::from(RATE))).await;
            shop.execute(&place, &[&((first + number) as i64)]).await?;
        }
        let entries = (warm + count) * self.consumer.entries();
        let asked = async || (self.redis.length().await.ok()? >= entries).then_some(());
        eventually("all orders are in the stream", Duration::from_secs(60), asked).await?;
        let sql =
            "SELECT id, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000)::float8 FROM orders WHERE id >= $1";
        let rows = shop.query(sql, &[&((first + warm) as i64)]).await?;
        let commits: HashMap<i64, f64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let mut waited: Vec<f64> = Vec::with_capacity(commits.len());
        let mut connection = self.redis.connect().await?;
        let reply: StreamRangeReply = redis::cmd("XRANGE")
            .arg(STREAM)
            .arg("-")
            .arg("+")
            .query_async(&mut connection)
            .await?;
        for entry in reply.ids {
            let millis: f64 = entry.id.split('-').next().unwrap_or_default().parse()?;
            let payload: String = entry.get("payload").context("an entry without a payload")?;
            let payload: serde_json::Value = serde_json::from_str(&payload)?;
            // The row of the order is the first of a transaction.
            let Some(order) = payload
                .get("order_id")
                .or(payload.get("id"))
                .filter(|_| payload.get("qty").is_none())
            else {
                continue;
            };
            let order = order.as_i64().or_else(|| order.as_str()?.parse().ok());
            if let Some(commit) = order.and_then(|order| commits.get(&order)) {
                // An id has no fraction of a millisecond.
                waited.push((millis - commit).max(0.0));
            }
        }
        ensure!(
            waited.len() as u64 == count,
            "{} of {count} orders are in the stream",
            waited.len()
        );
        waited.sort_unstable_by(f64::total_cmp);
        let at = |quantile: f64| waited[((waited.len() - 1) as f64 * quantile) as usize];
        let mut figures: Figures = [("p50", 0.5), ("p99", 0.99)]
            .map(|(name, quantile)| (name.to_owned(), at(quantile)))
            .into();
        figures.insert("rss".to_owned(), process.peak_megabytes()?);
        self.end(shop, process).await?;
        Ok(figures)
    }
}
