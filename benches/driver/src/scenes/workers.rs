//! Workers from a full stream into PostgreSQL, orders of three lines each; beside a bare driver that runs the same SQL
//! on events decoded beforehand, and the loop that most write first: one INSERT, one XACK.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use orderstream::config::DatabaseConfig;
use orderstream::event::EventRecord;
use orderstream::stream::{Entry, codec};
use orderstream::warehouse::Warehouse;
use orderstream::warehouse::postgres::PostgresWarehouse;
use redis::AsyncCommands as _;
use redis::streams::{StreamReadOptions, StreamReadReply};
use serde_json::Value;

use super::stock::{drained, fill};
use crate::lab::{Lab, Usage, seconds, trial};
use crate::orders::{Orders, USUAL_LINES};
use crate::postgres::Postgres;
use crate::redis::{GROUP, Persistence, Redis, STREAM};
use crate::results::{Figures, Trial};
use crate::sides::Services;

/// Entries of the stream.
const ENTRIES: u64 = 200_000;
/// One fills a stream with a million entries.
const GROWTH_ROUNDS: usize = 3;
/// Events of one load, as `ORDERSTREAM_READ_COUNT` has it.
const BATCH: usize = 500;

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let postgres = Postgres::start().await?;
    let count = lab.size(ENTRIES);
    let orders = Arc::new(Orders::new(USUAL_LINES));
    fill(lab, &redis, &orders, 0, count).await?;
    let entries = entries(&redis).await?;
    let records: Vec<_> = entries.iter().map(codec::decode).collect::<Result<_, _>>()?;
    let mut trials = Vec::new();
    for _ in 0..lab.plan.rounds {
        for workers in [1, 2] {
            let services = fresh(lab, &redis, &postgres).await?;
            let figures = work(lab, &redis, &postgres, &services, workers, count).await?;
            trials.push(trial(format!("orderstream work, {workers} of them"), figures));
        }
        let services = fresh(lab, &redis, &postgres).await?;
        trials.push(trial("bare driver", bare(&services, &postgres, &records).await?));
        fresh(lab, &redis, &postgres).await?;
        let figures = one_by_one(&redis, &postgres, lab.size(ENTRIES / 50)).await?;
        trials.push(trial("one INSERT, one XACK", figures));
    }
    Ok(trials)
}

/// The same backlog with other batch sizes and numbers of workers.
pub async fn tuning(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let postgres = Postgres::start().await?;
    let count = lab.size(ENTRIES / 2);
    fill(lab, &redis, &Arc::new(Orders::new(USUAL_LINES)), 0, count).await?;
    let mut trials = Vec::new();
    for _ in 0..lab.plan.rounds {
        for (workers, read_count) in [(1, 100), (1, 250), (1, 500), (1, 1000), (1, 2000), (2, 500), (4, 500)] {
            let mut services = fresh(lab, &redis, &postgres).await?;
            services.settings = vec![("ORDERSTREAM_READ_COUNT", read_count.to_string())];
            let figures = work(lab, &redis, &postgres, &services, workers, count).await?;
            trials.push(trial(format!("WORKERS={workers}, READ_COUNT={read_count}"), figures));
        }
    }
    Ok(trials)
}

/// The speed with a short and a long stream, and with empty and grown tables.
pub async fn growth(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let postgres = Postgres::start().await?;
    let orders = Arc::new(Orders::new(USUAL_LINES));
    let sizes = [
        ("stream of 10,000", lab.size(10_000)),
        ("stream of 1,000,000", lab.size(1_000_000)),
    ];
    // What is worked off of the longer ones.
    let part = lab.size(100_000);
    let mut trials = Vec::new();
    for _ in 0..lab.rounds(GROWTH_ROUNDS) {
        for (name, count) in sizes {
            fill(lab, &redis, &orders, 0, count).await?;
            let services = fresh(lab, &redis, &postgres).await?;
            let figures = work(lab, &redis, &postgres, &services, 1, count.min(part)).await?;
            trials.push(trial(name, figures));
        }
    }
    let services = fresh(lab, &redis, &postgres).await?;
    preload(&postgres, lab.size(5_000_000)).await?;
    for round in 0..lab.rounds(GROWTH_ROUNDS) as u64 {
        // Other events each time: known ones would be passed over.
        fill(lab, &redis, &Arc::new(Orders::new(USUAL_LINES)), round * part, part).await?;
        redis.rewind().await?;
        let figures = work(lab, &redis, &postgres, &services, 1, part).await?;
        trials.push(trial("tables of 5,000,000 rows", figures));
    }
    Ok(trials)
}

/// An unread stream and an empty warehouse.
async fn fresh(lab: &Lab, redis: &Redis, postgres: &Postgres) -> anyhow::Result<Services> {
    redis.rewind().await?;
    postgres.fresh("bench").await?;
    let services = Services {
        database_url: Some(postgres.url("bench")),
        ..Services::redis(redis)
    };
    lab.programs.migrate(&services).await?;
    Ok(services)
}

async fn work(
    lab: &Lab,
    redis: &Redis,
    postgres: &Postgres,
    services: &Services,
    workers: usize,
    until: u64,
) -> anyhow::Result<Figures> {
    let process = lab.programs.start_workers(services, workers)?;
    let watched = [
        ("side", &process),
        ("redis", redis.process()?),
        ("postgres", postgres.process()),
    ];
    let figures = drained(redis, &process, until, &watched).await?;
    process.end().await?;
    Ok(figures)
}

/// All entries of the stream.
async fn entries(redis: &Redis) -> anyhow::Result<Vec<Entry>> {
    let mut connection = redis.connect().await?;
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let start = entries
            .last()
            .map_or_else(|| "-".to_owned(), |last| format!("({}", last.id));
        let mut range = redis::cmd("XRANGE");
        range.arg(STREAM).arg(start).arg("+").arg("COUNT").arg(10_000);
        let page: Vec<Entry> = range.query_async(&mut connection).await?;
        if page.is_empty() {
            return Ok(entries);
        }
        entries.extend(page);
    }
}

async fn bare(services: &Services, postgres: &Postgres, records: &[EventRecord<'_>]) -> anyhow::Result<Figures> {
    let url = services.database_url.as_deref().context("no database")?;
    let warehouse = PostgresWarehouse::new(&DatabaseConfig {
        url: url.to_owned().into(),
        migrate_url: None,
        schema: "orderstream".to_owned(),
        pool_size: 1,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
        forget_key: None,
    })?;
    let (early, measured) = records.split_at(records.len() / 10);
    for batch in early.chunks(BATCH) {
        warehouse.load(batch).await?;
    }
    let watched = [("postgres", postgres.process())];
    let (since, usage) = (Instant::now(), Usage::begin(&watched)?);
    for batch in measured.chunks(BATCH) {
        warehouse.load(batch).await?;
    }
    let mut figures = usage.end(&watched)?.per_events(measured.len() as f64);
    figures.insert("rate".to_owned(), measured.len() as f64 / seconds(since));
    Ok(figures)
}

/// Reads ten at a time, and for each event: parse, INSERT, XACK. Into one table only.
async fn one_by_one(redis: &Redis, postgres: &Postgres, count: u64) -> anyhow::Result<Figures> {
    let client = postgres.connect("bench").await?;
    client
        .batch_execute("CREATE TABLE events (event_id text PRIMARY KEY, order_id text, total numeric, payload jsonb)")
        .await?;
    let insert = client
        .prepare("INSERT INTO events VALUES ($1, $2, ($3::text)::numeric, ($4::text)::jsonb) ON CONFLICT DO NOTHING")
        .await?;
    let mut connection = redis.connect().await?;
    let options = StreamReadOptions::default().group(GROUP, "one").count(10);
    let watched = [("redis", redis.process()?), ("postgres", postgres.process())];
    let (since, usage) = (Instant::now(), Usage::begin(&watched)?);
    let mut done = 0;
    while done < count {
        let read: Option<StreamReadReply> = connection.xread_options(&[STREAM], &[">"], &options).await?;
        let entries: Vec<_> = read
            .into_iter()
            .flat_map(|read| read.keys)
            .flat_map(|key| key.ids)
            .collect();
        anyhow::ensure!(!entries.is_empty(), "the stream ended early");
        for entry in entries {
            let payload: String = entry.get("payload").context("an entry without a payload")?;
            let event: Value = serde_json::from_str(&payload)?;
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let total = event["total_amount"].to_string();
            client
                .execute(&insert, &[&text("event_id"), &text("order_id"), &total, &payload])
                .await?;
            let _: u64 = connection.xack(STREAM, GROUP, &[&entry.id]).await?;
            done += 1;
        }
    }
    let mut figures = usage.end(&watched)?.per_events(done as f64);
    figures.insert("rate".to_owned(), done as f64 / seconds(since));
    Ok(figures)
}

/// Rows of other orders.
async fn preload(postgres: &Postgres, rows: u64) -> anyhow::Result<()> {
    let client = postgres.connect("bench").await?;
    let order_id = "(4000000000000 + n)::text";
    client
        .batch_execute(&format!(
            "INSERT INTO orderstream.order_events (event_id, event_type, source, shop, order_id, total_amount, currency,
                 item_count, test, occurred_at, received_at, stream_id, payload)
             SELECT md5(n::text), 'order.created', 'shopify', 'bench.myshopify.com', {order_id}, 19.99, 'EUR', 1, false,
                 now(), now(), '1-' || n, '{{\"items\": []}}' FROM generate_series(1, {rows}) n;
             INSERT INTO orderstream.orders (shop, order_id, name, customer_id, status, total_amount, currency, item_count,
                 local_date, last_event_id)
             SELECT 'bench.myshopify.com', {order_id}, '#' || n, (n % 100000)::text, 'paid', 19.99, 'EUR', 1, current_date,
                 md5(n::text) FROM generate_series(1, {rows}) n;
             INSERT INTO orderstream.order_items (shop, order_id, line_no, sku, title, qty, price)
             SELECT 'bench.myshopify.com', {order_id}, 1, 'EX-1', 'Linen Bed Set', 1, 19.99
             FROM generate_series(1, {rows}) n;
             ANALYZE; CHECKPOINT"
        ))
        .await?;
    Ok(())
}
