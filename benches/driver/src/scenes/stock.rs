//! A backlog made and a backlog worked off: what several scenes begin or end with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::lab::{Lab, Usage, Watched, seconds};
use crate::load::{Load, Pace, Payload};
use crate::orders::Orders;
use crate::process::Process;
use crate::redis::{Redis, acked};
use crate::results::Figures;
use crate::sides::{Services, Side};

/// Longer than any backlog here takes.
const AT_MOST: Duration = Duration::from_secs(3600);

/// Posts so many webhooks as fast as they are taken.
pub async fn post(addr: SocketAddr, orders: &Arc<Orders>, first: u64, count: u64) -> anyhow::Result<()> {
    let load = Load {
        addr,
        pace: Pace::Closed { connections: 64 },
        idle: 0,
        payload: Payload::Webhooks(Arc::clone(orders)),
        warm_up: Duration::ZERO,
        measured: AT_MOST,
        at_most: count,
        first,
    };
    let outcome = load.start().await?.finish().await?;
    ensure!(outcome.failed == 0, "{} webhooks were not taken", outcome.failed);
    ensure!(outcome.sent == count, "{} of {count} webhooks were sent", outcome.sent);
    Ok(())
}

/// Fills the emptied stream, through a service that ends before this answers.
pub async fn fill(lab: &Lab, redis: &Redis, orders: &Arc<Orders>, first: u64, count: u64) -> anyhow::Result<()> {
    redis.clear().await?;
    let started = lab.programs.start(Side::Orderstream, &Services::redis(redis)).await?;
    post(started.addr, orders, first, count).await?;
    started.process.end().await?;
    ensure!(
        redis.length().await? == count,
        "the stream does not hold what was posted"
    );
    Ok(())
}

/// Waits until the group has acked `until` entries. Rate and CPU are those from a tenth of them on: how a process
/// starts is not its speed.
pub async fn drained(redis: &Redis, workers: &Process, until: u64, watched: &[Watched<'_>]) -> anyhow::Result<Figures> {
    let connection = redis.connect().await?;
    let start = Instant::now();
    let reached = async |count: u64| loop {
        let done = acked(&mut connection.clone()).await?;
        if done >= count {
            return Ok(done);
        }
        ensure!(workers.is_running(), "the workers ended; see sides.log");
        ensure!(start.elapsed() < AT_MOST, "the backlog is not worked off");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let before = reached(until / 10).await?;
    let (since, usage) = (Instant::now(), Usage::begin(watched)?);
    let events = (reached(until).await? - before) as f64;
    let mut figures = usage.end(watched)?.per_events(events);
    figures.insert("rate".to_owned(), events / seconds(since));
    figures.insert("rss".to_owned(), workers.peak_megabytes()?);
    Ok(figures)
}
