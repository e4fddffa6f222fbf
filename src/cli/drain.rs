//! `drain`: moves the events of a spool that no process owns any more into Redis.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::output::{OutputArgs, progress};
use crate::config::{Config, StreamConfig};
use crate::folder::{self, Folder};
use crate::ingest::{Breaker, DrainError, Drained, Drainer, Spool, SpoolFallback};
use crate::metrics::Metrics;
use crate::stream::redis::RedisStream;

/// How often the bar moves on.
const TICK: Duration = Duration::from_millis(100);

/// Arguments of `drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  orderstream drain --data-dir /mnt/old-volume   moves what a former process left there into REDIS_URL

A running process drains its own spool. The command may be interrupted and started again: events that Redis already
has are recognized.")]
pub(super) struct DrainArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// What is printed.
#[derive(Serialize)]
struct DrainSummary {
    #[serde(flatten)]
    drained: Drained,
    /// Events still in the spool.
    left: u64,
    /// Events that damage of the file took; null where their number is not known.
    lost: Option<u64>,
}

/// Moves all events into the stream and prints a summary.
///
/// # Errors
/// There is no spool, a process owns it, or Redis does not take all of it.
pub(super) async fn run(args: DrainArgs, config: Config) -> Result<(), Failure> {
    let redis = config.redis.as_ref().ok_or_else(|| {
        Failure::Misconfigured("REDIS_URL is not set: it names the Redis that the spool is moved to".to_owned())
    })?;
    let file = config.data_dir.join(folder::SPOOL);
    if !file.exists() {
        let text = format!(
            "there is no {}; set ORDERSTREAM_DATA_DIR to the folder of a spool",
            file.display()
        );
        return Err(Failure::Misconfigured(text));
    }
    let metrics = Metrics::new();
    let stream = Arc::new(RedisStream::open(redis, &config.stream, metrics.clone()).await?);
    let folder = Folder::own(&config.data_dir, "drain").await?;
    let StreamConfig { dedupe_window, .. } = &config.stream;
    let limit = config.spool_limit.unwrap_or(u64::MAX);
    let spool = Spool::open(
        &folder.file(folder::SPOOL)?,
        limit,
        dedupe_window.is_some(),
        metrics.clone(),
    )?;
    let fallback = SpoolFallback {
        breaker: Breaker::closed(metrics),
        spool: spool.clone(),
    };
    let mut drainer = Drainer::new(fallback, stream);
    let emptied = empty(&mut drainer, &spool).await;
    spool.close().await;

    let (drained, report) = (drainer.drained(), spool.report());
    let summary = DrainSummary {
        drained,
        left: report.depth,
        lost: report.lost,
    };
    args.output.print(&summary, || vec![summary.text()])?;
    let stays = |why: &str| {
        let (count, file) = (report.depth, file.display());
        Failure::Unavailable(format!(
            "{count} events stay in {file}: {why}; run `orderstream drain` again later"
        ))
    };
    match emptied {
        Err(cause) => Err(stays(&cause.to_string())),
        Ok(()) if report.depth > 0 => Err(stays("the dead letters have no room for them, or do not take them")),
        Ok(()) => Ok(()),
    }
}

/// Drains, with a bar.
async fn empty(drainer: &mut Drainer, spool: &Spool) -> Result<(), DrainError> {
    let total = spool.report().depth;
    let bar = progress(Some(total));
    let mut tick = tokio::time::interval(TICK);
    let emptied = {
        let mut work = std::pin::pin!(drainer.empty(true));
        loop {
            tokio::select! {
                emptied = &mut work => break emptied,
                _ = tick.tick() => bar.set_position(total.saturating_sub(spool.report().depth)),
            }
        }
    };
    bar.finish_and_clear();
    emptied
}

impl DrainSummary {
    fn text(&self) -> String {
        let Drained {
            accepted,
            duplicate,
            quarantined,
            dead_lettered,
        } = self.drained;
        let moved = accepted + duplicate + quarantined + dead_lettered;
        let lost = match self.lost {
            Some(0) => String::new(),
            Some(lost) => format!("; {lost} were lost to damage of its file"),
            None => "; an unknown number was lost to damage of its file".to_owned(),
        };
        format!(
            "{moved} events left the spool: {accepted} accepted, {duplicate} there already, {} to the dead letters; \
             {} are still in it{lost}",
            quarantined + dead_lettered,
            self.left
        )
    }
}
