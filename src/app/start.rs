//! The first contact with stream and warehouse, and the warehouse's probe: between loads no other
//! role reaches it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::listeners::Addresses;
use crate::config::{Config, Purpose};
use crate::health::{WarehouseProbe, ids_warning};
use crate::stream::Stream;
use crate::telemetry;
use crate::warehouse::Warehouse;
use crate::worker::warehouse_loss::WarehouseLoss;
use crate::worker::{Handler, OutageLog};

/// Interval of the warehouse's probe.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Interval at which the probe's result is read.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// A probe that takes longer counts as an outage.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// Logs what runs, where, and on which stream.
pub(super) fn log_addresses(config: &Config, at: Addresses, purpose: Purpose) {
    let place = |addr: Option<SocketAddr>| addr.map_or_else(|| "none".to_owned(), |addr| format!("http://{addr}"));
    let consumer = if purpose.works() {
        &config.worker.consumer
    } else {
        "none"
    };
    info!(
        target: telemetry::START,
        "orderstream {} is up: public listener {}, private listener {}, stream {}, group {}, consumer {consumer}",
        env!("CARGO_PKG_VERSION"),
        place(at.public),
        place(at.private),
        config.stream.name,
        config.stream.group,
    );
}

/// Connects to the stream, however long that takes, and logs what an operator should change about
/// it. Creates the group, with workers or without: from then on its lag is known, and nothing that
/// it has yet to read is trimmed.
pub(super) async fn connect_stream(stream: Arc<dyn Stream>) {
    let mut outage = OutageLog::of("reaching the stream");
    let report = loop {
        match stream.inspect().await {
            Ok(report) => break report,
            Err(error) => tokio::time::sleep(outage.failed(&error)).await,
        }
    };
    outage.over();
    info!(
        product = report.product,
        address = report.address,
        fsync = report.fsync,
        "connected to the stream"
    );
    for warning in report.warnings {
        warn!("{warning}");
    }
    let mut outage = OutageLog::of("creating the consumer group");
    while let Err(error) = stream.ensure_group().await {
        tokio::time::sleep(outage.failed(&error)).await;
    }
    outage.over();
    // Where it fails, the roles that need it log that.
    if let Some(warning) = stream.report().await.ok().as_ref().and_then(ids_warning) {
        warn!("{warning}");
    }
}

/// Connects to the warehouse, however long that takes, and migrates its schema. Then probes it for
/// ever; `probe` has the result.
pub(super) async fn probe_warehouse(handler: Arc<dyn Handler>, probe: WarehouseProbe) {
    let mut outage = OutageLog::of("reaching the warehouse");
    let mut is_connected = false;
    loop {
        let pause = match with_outage(handler.ready(), &probe).await {
            Ok(()) => {
                probe.reached();
                outage.over();
                if !std::mem::replace(&mut is_connected, true) {
                    info!("connected to the warehouse");
                }
                PROBE_EVERY
            }
            Err(error) => {
                probe.missed(&error);
                outage.failed(&error)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Compares the warehouse with what was acked: at the start, and each time that it comes back. What
/// is missing is reported until it is loaded.
/// `retained`: rows that are older may have been deleted.
pub(super) async fn compare_warehouse(
    stream: Arc<dyn Stream>,
    warehouse: Arc<dyn Warehouse>,
    probe: WarehouseProbe,
    retained: Option<Duration>,
) {
    loop {
        while !probe.is_reached() {
            tokio::time::sleep(POLL_EVERY).await;
        }
        let mut outage = OutageLog::of("comparing the warehouse with what was acked");
        let mut loss = loop {
            match WarehouseLoss::find(&*stream, &*warehouse).await {
                Ok(loss) => break loss,
                Err(error) => tokio::time::sleep(outage.failed(&error)).await,
            }
        };
        outage.over();
        if let Some(retained) = retained {
            loss = loss.and_then(|loss| loss.within(retained));
        }
        match &loss {
            Some(loss) => error!("{}", loss.text()),
            None => info!("the warehouse has all events that were acked"),
        }
        let is_missing = loss.is_some();
        while let Some(found) = loss {
            probe.lacks(Some(found.text()));
            tokio::time::sleep(PROBE_EVERY).await;
            loss = found
                .remaining(&*stream, &*warehouse)
                .await
                .unwrap_or_else(|(found, error)| {
                    outage.failed(&error);
                    Some(found)
                });
        }
        if is_missing {
            probe.lacks(None);
            info!("the warehouse has all events again that it lacked");
        }
        while probe.is_reached() {
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

/// Waits for the answer; reports an outage meanwhile if it takes too long.
async fn with_outage<T>(asking: impl Future<Output = T>, probe: &WarehouseProbe) -> T {
    let mut asking = std::pin::pin!(asking);
    match tokio::time::timeout(PROBE_LIMIT, &mut asking).await {
        Ok(answer) => answer,
        Err(_) => {
            probe.missed(&format_args!("no answer within {PROBE_LIMIT:?}"));
            asking.await
        }
    }
}
