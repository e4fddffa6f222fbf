//! `POST /events/batch`, beside a bare client that runs the same script on entries that it need not make first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use redis::{Cmd, Script};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::lab::{Lab, Usage, trial};
use crate::load::{Load, Pace, Payload};
use crate::orders::Batches;
use crate::redis::{Persistence, Redis, STREAM};
use crate::results::{Figures, Trial};
use crate::sides::{Services, Side};

const APPEND: &str = include_str!("../../../../src/stream/redis/append.lua");
/// Entries of one call of the script.
const PIPELINE: u64 = 256;
/// Calls in flight: Redis never waits for the client.
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
    let script = Script::new(APPEND);
    let batches = Arc::new(Batches::new(PIPELINE));
    let begins = Instant::now() + lab.plan.warm_up;
    let ends = begins + lab.plan.measured;
    let (next, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let mut connection = redis.connect().await?;
        script.load_async(&mut connection).await?;
        let (batches, hash) = (Arc::clone(&batches), script.get_hash().to_owned());
        let (next, answered) = (Arc::clone(&next), Arc::clone(&answered));
        clients.spawn(async move {
            while Instant::now() < ends {
                let call = call(&batches, &hash, next.fetch_add(1, Ordering::Relaxed));
                let answers: Vec<String> = call.query_async(&mut connection).await?;
                anyhow::ensure!(
                    answers.iter().all(|answer| answer.starts_with('a')),
                    "not all were taken"
                );
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

/// Pipeline `number`, as `orderstream` writes it (`src/stream/redis/writer.rs`).
fn call(batches: &Batches, hash: &str, number: u64) -> Cmd {
    let mut call = Cmd::with_capacity(16 * PIPELINE as usize, 2048 * PIPELINE as usize);
    let events: Vec<_> = (0..PIPELINE)
        .map(|item| batches.event(number * PIPELINE + item))
        .collect();
    call.arg("EVALSHA").arg(hash).arg(1 + PIPELINE).arg(STREAM);
    for (event_id, _) in &events {
        call.arg(format!("{STREAM}:dedupe:{event_id}"));
    }
    call.arg(100_000_000).arg(6 * 3_600_000);
    for (event_id, payload) in &events {
        call.arg("0123456789abcdef0123456789abcdef").arg(10);
        call.arg("event_type")
            .arg("order.created")
            .arg("event_id")
            .arg(event_id);
        call.arg("timestamp")
            .arg("2026-01-31T16:30:02-05:00")
            .arg("payload")
            .arg(payload);
        call.arg("source").arg("batch");
    }
    call
}
