//! End to end: from when a webhook is due to when its row is committed, as PostgreSQL itself notes it; workers in the
//! process of the service, or one in a process of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::ensure;

use crate::lab::{Lab, trial};
use crate::load::{Load, Outcome, Pace, Payload};
use crate::orders::{FIRST_ID, Orders, USUAL_LINES};
use crate::postgres::Postgres;
use crate::process::eventually;
use crate::redis::{Persistence, Redis};
use crate::results::{Figures, Trial};
use crate::sides::{Services, Side};

/// Webhooks a second, all day on most days.
const RATES: [u32; 2] = [200, 2000];

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let postgres = Postgres::start().await?;
    let mut trials = Vec::new();
    for _ in 0..lab.plan.rounds {
        for rate in RATES {
            let pace = Pace::Open { rate, connections: 64 };
            let figures = one(lab, &redis, &postgres, Side::Run, pace).await?;
            trials.push(trial(format!("{rate} webhooks a second"), figures));
        }
        for (name, side) in [
            ("64 connections, as fast as answered", Side::Run),
            ("the same, `serve` and one `work`", Side::Orderstream),
        ] {
            let figures = one(lab, &redis, &postgres, side, Pace::Closed { connections: 64 }).await?;
            trials.push(trial(name, figures));
        }
    }
    Ok(trials)
}

async fn one(lab: &Lab, redis: &Redis, postgres: &Postgres, side: Side, pace: Pace) -> anyhow::Result<Figures> {
    redis.clear().await?;
    postgres.fresh("bench").await?;
    let services = Services {
        database_url: Some(postgres.url("bench")),
        ..Services::redis(redis)
    };
    lab.programs.migrate(&services).await?;
    let started = lab.programs.start(side, &services).await?;
    let worker = match side {
        Side::Run => None,
        _ => Some(lab.programs.start_workers(&services, 1)?),
    };
    let load = Load {
        addr: started.addr,
        pace,
        idle: 0,
        payload: Payload::Webhooks(Arc::new(Orders::new(USUAL_LINES))),
        warm_up: Duration::ZERO,
        measured: lab.plan.warm_up + lab.plan.measured,
        at_most: u64::MAX,
        first: 0,
    };
    let outcome = load.start().await?.finish().await?;
    ensure!(outcome.failed == 0, "{} webhooks were not taken", outcome.failed);
    let commits = commits(postgres, outcome.sent).await?;
    let mut figures = Figures::new();
    figures.insert("rss".to_owned(), started.process.peak_megabytes()?);
    match pace {
        Pace::Open { rate, .. } => figures.extend(latencies(lab, &outcome, &commits, rate)?),
        Pace::Closed { .. } => {
            let last = commits.values().max().copied().unwrap_or_default();
            let took = (last - micros(outcome.began)?) as f64 / 1e6;
            figures.insert(
                "rate".to_owned(),
                outcome.answered as f64 / (lab.plan.warm_up + lab.plan.measured).as_secs_f64(),
            );
            figures.insert("sustained".to_owned(), outcome.sent as f64 / took);
        }
    }
    started.process.end().await?;
    if let Some(worker) = worker {
        worker.end().await?;
    }
    Ok(figures)
}

/// When each webhook's row was committed, by number; Unix time in microseconds. Waits until all are there.
async fn commits(postgres: &Postgres, count: u64) -> anyhow::Result<HashMap<u64, i64>> {
    let client = postgres.connect("bench").await?;
    eventually("all rows are committed", Duration::from_secs(600), async || {
        let counted = client
            .query_one("SELECT count(*) FROM orderstream.order_events", &[])
            .await;
        (counted.ok()?.try_get::<_, i64>(0).ok()? as u64 == count).then_some(())
    })
    .await?;
    let rows = client
        .query(
            "SELECT order_id::bigint, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint
             FROM orderstream.order_events",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get::<_, i64>(0)? as u64 - FIRST_ID, row.try_get(1)?)))
        .collect()
}

/// From due to committed, once warm.
fn latencies(lab: &Lab, outcome: &Outcome, commits: &HashMap<u64, i64>, rate: u32) -> anyhow::Result<Figures> {
    let began = micros(outcome.began)?;
    let warm = (lab.plan.warm_up.as_secs_f64() * f64::from(rate)) as u64;
    let mut waited: Vec<i64> = commits
        .iter()
        .filter(|(number, _)| **number >= warm)
        .map(|(number, committed)| committed - (began + (number * 1_000_000 / u64::from(rate)) as i64))
        .collect();
    ensure!(!waited.is_empty(), "nothing was committed within the measured time");
    waited.sort_unstable();
    let at = |quantile: f64| waited[((waited.len() - 1) as f64 * quantile) as usize] as f64 / 1000.0;
    let figures = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)];
    Ok(figures.map(|(name, quantile)| (name.to_owned(), at(quantile))).into())
}

fn micros(at: SystemTime) -> anyhow::Result<i64> {
    Ok(at.duration_since(SystemTime::UNIX_EPOCH)?.as_micros().try_into()?)
}
