//! The figure that users ask for: something was away for an hour at 200 events a second. How long until all is in the
//! warehouse?

use std::sync::Arc;
use std::time::Instant;

use super::stock::{drained, fill, post};
use crate::lab::{Lab, seconds, trial};
use crate::orders::{Orders, USUAL_LINES};
use crate::postgres::Postgres;
use crate::redis::{Persistence, Redis};
use crate::results::Trial;
use crate::sides::{Services, Side};

/// An hour at 200 a second.
const MISSED: u64 = 3600 * 200;
/// One takes several minutes.
const ROUNDS: usize = 1;

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let mut redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let postgres = Postgres::start().await?;
    let orders = Arc::new(Orders::new(USUAL_LINES));
    let missed = lab.size(MISSED);
    let mut trials = Vec::new();
    for _ in 0..lab.rounds(ROUNDS) {
        postgres.fresh("bench").await?;
        let services = Services {
            database_url: Some(postgres.url("bench")),
            ..Services::redis(&redis)
        };
        lab.programs.migrate(&services).await?;
        fill(lab, &redis, &orders, 0, missed).await?;
        let since = Instant::now();
        let workers = lab.programs.start_workers(&services, 1)?;
        let mut figures = drained(&redis, &workers, missed, &[("side", &workers)]).await?;
        figures.insert("seconds".to_owned(), seconds(since));
        workers.end().await?;
        trials.push(trial("workers were away", figures));

        postgres.fresh("bench").await?;
        lab.programs.migrate(&services).await?;
        let spool = tempfile::tempdir_in(&lab.programs.scratch)?;
        let serving = Services {
            spool: Some(spool.path().to_owned()),
            ..services.clone()
        };
        redis.restart().await?;
        let started = lab.programs.start(Side::Orderstream, &serving).await?;
        let workers = lab.programs.start_workers(&services, 1)?;
        redis.kill().await?;
        post(started.addr, &orders, 0, missed).await?;
        redis.restart().await?;
        let since = Instant::now();
        let mut figures = drained(&redis, &workers, missed, &[("side", &workers)]).await?;
        figures.insert("seconds".to_owned(), seconds(since));
        workers.end().await?;
        started.process.end().await?;
        trials.push(trial("Redis was away", figures));
    }
    Ok(trials)
}
