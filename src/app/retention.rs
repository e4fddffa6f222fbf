//! Role: takes bodies and events out of the warehouse, and bodies out of dead letters, that are older
//! than they are to be kept.
//!
//! Of several processes with workers the one with the first id does it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tracing::{info, warn};

use crate::config::RetentionConfig;
use crate::health::WarehouseProbe;
use crate::nodes::Nodes;
use crate::stream::{Stream, StreamId};
use crate::warehouse::retention::RowRetention as _;
use crate::warehouse::{Warehouse, WarehouseError};

/// Time between two runs.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// The same after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Interval at which it is seen whether it is this process' turn.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Runs for ever.
pub(super) async fn run(
    config: RetentionConfig,
    stream: Arc<dyn Stream>,
    warehouse: Arc<dyn Warehouse>,
    probe: WarehouseProbe,
    nodes: Nodes,
) {
    // What was received before then has no body any more.
    let mut without_bodies = OffsetDateTime::UNIX_EPOCH;
    let mut next_letters = Instant::now();
    loop {
        while !probe.is_reached() || !nodes.is_own_the_first_worker() {
            tokio::time::sleep(POLL_EVERY).await;
        }
        if let Some(age) = config.letter_bodies.filter(|_| next_letters <= Instant::now()) {
            next_letters = Instant::now() + EVERY;
            drop_letter_bodies(age, &*stream).await;
        }
        let pause = match retain(config, &*warehouse, &mut without_bodies).await {
            Ok(()) => EVERY,
            Err(error) => {
                warn!(%error, "old bodies and events cannot be taken out of the warehouse; tried again");
                AFTER_FAILURE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn drop_letter_bodies(age: Duration, stream: &dyn Stream) {
    let old = (OffsetDateTime::now_utc() - age).unix_timestamp_nanos() / 1_000_000;
    let before = StreamId::new(u64::try_from(old).unwrap_or_default(), 0);
    match stream.drop_letter_bodies(before).await {
        Ok(0) => {}
        Ok(bodies) => info!(
            bodies,
            "bodies older than ORDERSTREAM_RETAIN_LETTER_BODIES were taken out of dead letters"
        ),
        Err(error) => warn!(
            %error,
            "old bodies cannot be taken out of dead letters (ORDERSTREAM_RETAIN_LETTER_BODIES); tried again in an hour"
        ),
    }
}

async fn retain(
    config: RetentionConfig,
    warehouse: &dyn Warehouse,
    without_bodies: &mut OffsetDateTime,
) -> Result<(), WarehouseError> {
    let before = |age: Duration| OffsetDateTime::now_utc() - age;
    if let Some(before) = config.raw.map(before) {
        let bodies = warehouse.drop_bodies(*without_bodies, before).await?;
        *without_bodies = before;
        if bodies > 0 {
            info!(
                bodies,
                "bodies older than ORDERSTREAM_RETAIN_RAW were taken out of the warehouse"
            );
        }
    }
    if let Some(before) = config.events.map(before) {
        let events = warehouse.drop_events(before).await?;
        if events > 0 {
            info!(
                events,
                "events older than ORDERSTREAM_RETAIN_EVENTS were taken out of the warehouse"
            );
        }
    }
    Ok(())
}
