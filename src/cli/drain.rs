//! `drain`: moves the events of a spool that no process owns any more into Redis.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::progress::progress;
use super::{Failure, output};
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
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    let stream = Arc::new(RedisStream::new(redis, &config.stream, metrics.clone())?);
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

    let (drained, report) = (drainer.drained(), spool.report());
    let summary = DrainSummary {
        drained,
        left: report.depth,
        lost: report.lost,
    };
    if args.json {
        output::print_json(&summary)?;
    } else {
        output::print(summary.to_string())?;
    }
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

impl std::fmt::Display for DrainSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Drained {
            accepted,
            duplicate,
            quarantined,
            dead_lettered,
        } = self.drained;
        let moved = accepted + duplicate + quarantined + dead_lettered;
        write!(
            f,
            "{moved} events left the spool: {accepted} accepted, {duplicate} there already, \
             {} to the dead letters; {} are still in it",
            quarantined + dead_lettered,
            self.left
        )?;
        match self.lost {
            Some(0) => {}
            Some(lost) => write!(f, "; {lost} were lost to damage of its file")?,
            None => f.write_str("; an unknown number was lost to damage of its file")?,
        }
        Ok(())
    }
}
