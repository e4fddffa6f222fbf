//! Memory over five million webhooks: flat, or not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, interval};

use super::stock::post;
use crate::lab::{Lab, trial};
use crate::orders::{Orders, USUAL_LINES};
use crate::redis::{Persistence, Redis, STREAM};
use crate::results::{Figures, Trial};
use crate::sides::{Services, Side};

const WEBHOOKS: u64 = 5_000_000;

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let services = Services {
        // Else the dedupe keys alone would fill this machine.
        settings: vec![("ORDERSTREAM_DEDUPE_WINDOW", "30s".to_owned())],
        ..Services::redis(&redis)
    };
    let started = lab.programs.start(Side::Orderstream, &services).await?;
    let orders = Arc::new(Orders::new(USUAL_LINES));
    let count = lab.size(WEBHOOKS);
    let trimming = tokio::spawn(trim(redis.connect().await?));
    let since = Instant::now();
    post(started.addr, &orders, 0, count / 10).await?;
    let early = started.process.megabytes()?;
    post(started.addr, &orders, count / 10, count - count / 10).await?;
    let took = since.elapsed().as_secs_f64();
    trimming.abort();
    let figures: Figures = [
        ("rate", count as f64 / took),
        ("rss_early", early),
        ("rss_end", started.process.megabytes()?),
        ("rss", started.process.peak_megabytes()?),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    started.process.end().await.context("the service")?;
    Ok(vec![trial("orderstream", figures)])
}

/// In the workers' place: keeps the stream short.
async fn trim(mut connection: redis::aio::MultiplexedConnection) {
    let mut every = interval(Duration::from_millis(200));
    loop {
        every.tick().await;
        let mut trim = redis::cmd("XTRIM");
        trim.arg(STREAM).arg("MAXLEN").arg("~").arg(10_000);
        let _: redis::RedisResult<u64> = trim.query_async(&mut connection).await;
    }
}
