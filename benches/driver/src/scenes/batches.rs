//! `POST /events/batch`, beside a bare client that sends the same commands for entries that it need not make first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use redis::aio::ConnectionLike;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::lab::{Lab, Usage, trial};
use crate::load::{Load, Pace, Payload};
use crate::orders::Batches;
use crate::redis::{Persistence, Redis, STREAM};
use crate::results::{Figures, Trial};
use crate::sides::{Services, Side};

/// Entries of one pipeline.
const PIPELINE: u64 = 256;
/// Pipelines in flight: Redis never waits for the client.
const IN_FLIGHT: usize = 2;

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let mut trials = Vec::new();
    for _ in 0..lab.plan.rounds {
        for (name, items, connections) in [("batches of 64", 64, 16), ("batches of 1,000", 1000, 4)] {
            redis.clear().await?;
            let figures = posted(lab, &redis, items, connections).await?;
            trials.push(trial(name, figures));
        }
        redis.clear().await?;
        trials.push(trial("bare client", bare(lab, &redis).await?));
    }
    Ok(trials)
}

async fn posted(lab: &Lab, redis: &Redis, items: u64, connections: usize) -> anyhow::Result<Figures> {
    let services = Services::redis(redis);
    let started = lab.programs.start(Side::Orderstream, &services).await?;
    let load = Load {
        addr: started.addr,
        pace: Pace::Closed { connections },
        idle: 0,
        payload: Payload::Batches(Arc::new(Batches::new(items))),
        warm_up: lab.plan.warm_up,
        measured: lab.plan.measured,
        at_most: u64::MAX,
        first: 0,
    };
    let watched = [("side", &started.process), ("redis", redis.process()?)];
    let mut figures = lab.measure(load, &watched).await?;
    figures.insert("rss".to_owned(), started.process.peak_megabytes()?);
    started.process.end().await?;
    Ok(figures)
}

async fn bare(lab: &Lab, redis: &Redis) -> anyhow::Result<Figures> {
    let batches = Arc::new(Batches::new(PIPELINE));
    let begins = Instant::now() + lab.plan.warm_up;
    let ends = begins + lab.plan.measured;
    let (next, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::<anyhow::Result<()>>::new();
    for _ in 0..IN_FLIGHT {
        let mut connection = redis.connect().await?;
        let batches = Arc::clone(&batches);
        let (next, answered) = (Arc::clone(&next), Arc::clone(&answered));
        clients.spawn(async move {
            while Instant::now() < ends {
                append(&mut connection, &batches, next.fetch_add(1, Ordering::Relaxed)).await?;
                if (begins..ends).contains(&Instant::now()) {
                    answered.fetch_add(PIPELINE, Ordering::Relaxed);
                }
            }
            Ok(())
        });
    }
    let watched = [("redis", redis.process()?)];
    sleep_until(begins.into()).await;
    let usage = Usage::begin(&watched)?;
    sleep_until(ends.into()).await;
    let used = usage.end(&watched)?;
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let answered = answered.load(Ordering::Relaxed) as f64;
    let mut figures = used.per_events(answered);
    figures.insert("rate".to_owned(), answered / lab.plan.measured.as_secs_f64());
    Ok(figures)
}

/// Appends pipeline `number` as `orderstream` does (`src/stream/redis/dedupe.rs`): reserves the ids, appends, and notes them.
async fn append(connection: &mut impl ConnectionLike, batches: &Batches, number: u64) -> anyhow::Result<()> {
    let events: Vec<_> = (0..PIPELINE)
        .map(|item| batches.event(number * PIPELINE + item))
        .collect();
    let ids = format!("{STREAM}:ids:21600000:1");
    let mut reserve = redis::pipe();
    let mut append = redis::pipe();
    for (event_id, payload) in &events {
        reserve
            .cmd("HSETNX")
            .arg(&ids)
            .arg(event_id)
            .arg("~1769894400000 0123456789abcdef-1");
        let add = append
            .cmd("XADD")
            .arg(STREAM)
            .arg("*")
            .arg("event_type")
            .arg("order.created");
        add.arg("event_id")
            .arg(event_id)
            .arg("timestamp")
            .arg("2026-01-31T16:30:02-05:00");
        add.arg("payload").arg(payload).arg("source").arg("batch");
    }
    let reserved: Vec<u8> = reserve.query_async(connection).await?;
    anyhow::ensure!(reserved.iter().all(|one| *one == 1), "not all were taken");
    let entries: Vec<String> = append.query_async(connection).await?;
    let mut note = redis::cmd("HSET");
    note.arg(&ids);
    for ((event_id, _), entry) in events.iter().zip(entries) {
        note.arg(event_id)
            .arg(format!("{entry} 0123456789abcdef0123456789abcdef"));
    }
    let _: u64 = note.query_async(connection).await?;
    Ok(())
}
