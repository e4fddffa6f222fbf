//! Redis is away: webhooks go to the spool, and from there into Redis once it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stock::post;
use crate::http::Connection;
use crate::lab::{Lab, seconds, trial};
use crate::load::{Load, Pace, Payload};
use crate::orders::{Orders, USUAL_LINES};
use crate::process::eventually;
use crate::redis::{Persistence, Redis};
use crate::results::{Figures, Trial};
use crate::sides::{Services, Side, Started};

/// Records that are drained.
const SPOOLED: u64 = 200_000;
/// One takes most of a minute.
const ROUNDS: usize = 3;
/// Before anything counts: the breaker needs a moment to open.
const BREAKER: Duration = Duration::from_secs(4);

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let mut redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let orders = Arc::new(Orders::new(USUAL_LINES));
    let mut trials = Vec::new();
    for _ in 0..lab.rounds(ROUNDS) {
        redis.restart().await?;
        let spool = tempfile::tempdir_in(&lab.programs.scratch)?;
        let services = Services {
            spool: Some(spool.path().to_owned()),
            ..Services::redis(&redis)
        };
        let started = lab.programs.start(Side::Orderstream, &services).await?;
        redis.kill().await?;
        for (name, pace, first) in [
            (
                "500/s",
                Pace::Open {
                    rate: 500,
                    connections: 64,
                },
                0,
            ),
            ("64 connections", Pace::Closed { connections: 64 }, 1 << 32),
        ] {
            let load = Load {
                addr: started.addr,
                pace,
                idle: 0,
                payload: Payload::Webhooks(Arc::clone(&orders)),
                warm_up: BREAKER,
                measured: lab.plan.measured,
                at_most: u64::MAX,
                first,
            };
            let figures = lab.measure(load, &[("side", &started.process)]).await?;
            trials.push(trial(format!("spooled, {name}"), figures));
        }
        post(started.addr, &orders, 2 << 32, lab.size(SPOOLED)).await?;
        trials.push(trial("drained into Redis", drain(&mut redis, &started).await?));
        started.process.end().await?;
    }
    Ok(trials)
}

/// Starts Redis again and waits until the spool is empty.
async fn drain(redis: &mut Redis, started: &Started) -> anyhow::Result<Figures> {
    let spooled = depth(started).await.unwrap_or_default();
    redis.restart().await?;
    let since = Instant::now();
    eventually("the spool is empty", Duration::from_secs(600), async || {
        (depth(started).await? == 0).then_some(())
    })
    .await?;
    let mut figures = Figures::new();
    figures.insert("seconds".to_owned(), seconds(since));
    figures.insert("drain".to_owned(), spooled as f64 / seconds(since));
    figures.insert("rss".to_owned(), started.process.peak_megabytes()?);
    Ok(figures)
}

/// Records in the spool, as /health tells.
pub async fn depth(started: &Started) -> Option<u64> {
    let mut connection = Connection::open(started.addr).await.ok()?;
    let request = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    connection.exchange(request, &[], &[]).await.ok()?;
    serde_json::from_slice::<Value>(connection.body()).ok()?["spool_depth"].as_u64()
}
