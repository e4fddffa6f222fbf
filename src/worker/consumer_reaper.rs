//! The consumer reaper: removes consumers from the group that were silent for long.
//!
//! Invariant: never one with pending entries; the stream checks and removes in one step.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::backoff::spread;
use super::consumer::Consumer;
use super::outage_log::{OutageLog, sleep_or_stop};

const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Removes until `stop` fires.
pub(super) async fn run(consumer: Arc<Consumer>, stop: CancellationToken) {
    let silent = consumer.config.consumer_ttl;
    let pause = (silent / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    let mut outage = OutageLog::of("removing silent consumers");
    while sleep_or_stop(spread(pause, rand::random()), &stop).await {
        match consumer.stream.remove_silent_consumers(silent).await {
            Ok(names) => {
                outage.over();
                for name in names {
                    info!(
                        consumer = name,
                        "removed a consumer that was silent for long and had nothing pending"
                    );
                }
            }
            Err(error) => {
                outage.failed(&error);
            }
        }
    }
}
