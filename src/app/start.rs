//! First contact: reaching what is configured, and telling the operator what was found. The warehouse is followed from
//! then on, since nobody else asks it while nothing is to be loaded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::Addresses;
use crate::config::{Config, Purpose};
use crate::health::{WarehouseProbe, ids_warning};
use crate::stream::Stream;
use crate::telemetry;
use crate::warehouse::Warehouse;
use crate::worker::warehouse_loss::WarehouseLoss;
use crate::worker::{Handler, OutageLog};

/// How often it is asked whether the warehouse answers.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked at what was found.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Bound on its answer; more than that is an outage to whoever looks.
const PATIENCE: Duration = Duration::from_secs(3);

/// The one line that says what runs, where, and on what.
pub(super) fn say_where(config: &Config, at: Addresses, purpose: Purpose) {
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

/// Reaches the stream, however long that takes, and says what an operator should change about it. The group exists
/// afterwards, workers or not: from then on its lag is known, and nothing it has yet to read is trimmed.
pub(super) async fn meet_stream(stream: Arc<dyn Stream>) {
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
        "the stream is there"
    );
    for warning in report.warnings {
        warn!("{warning}");
    }
    let mut outage = OutageLog::of("creating the consumer group");
    while let Err(error) = stream.ensure_group().await {
        tokio::time::sleep(outage.failed(&error)).await;
    }
    outage.over();
    // Where it fails, the roles that ask for it say so.
    if let Some(warning) = stream.report().await.ok().as_ref().and_then(ids_warning) {
        warn!("{warning}");
    }
}

/// Reaches the warehouse, however long that takes; its schema is up to date afterwards. Asks on from then, and says in
/// `probe` what came of it.
pub(super) async fn follow_warehouse(handler: Arc<dyn Handler>, probe: WarehouseProbe) {
    let mut outage = OutageLog::of("reaching the warehouse");
    let mut is_met = false;
    loop {
        let pause = match patiently(handler.ready(), &probe).await {
            Ok(()) => {
                probe.reached();
                outage.over();
                if !std::mem::replace(&mut is_met, true) {
                    info!("the warehouse is there");
                }
                ASK_EVERY
            }
            Err(error) => {
                probe.missed(&error);
                outage.failed(&error)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Compares the warehouse with what was acked: at the start, and each time that it comes back. What is missing is said
/// until it is loaded.
pub(super) async fn watch_for_losses(stream: Arc<dyn Stream>, warehouse: Arc<dyn Warehouse>, probe: WarehouseProbe) {
    loop {
        while !probe.is_reached() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let mut outage = OutageLog::of("comparing the warehouse with what was acked");
        let mut loss = loop {
            match WarehouseLoss::find(&*stream, &*warehouse).await {
                Ok(loss) => break loss,
                Err(error) => tokio::time::sleep(outage.failed(&error)).await,
            }
        };
        outage.over();
        match &loss {
            Some(loss) => error!("{}", loss.text()),
            None => info!("the warehouse has what was acked"),
        }
        let is_missing = loss.is_some();
        while let Some(found) = loss {
            probe.lacks(Some(found.text()));
            tokio::time::sleep(ASK_EVERY).await;
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
            info!("what was missing in the warehouse has been loaded again, or was replayed");
        }
        while probe.is_reached() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// A warehouse that hangs is said to before it is given up.
async fn patiently<T>(asking: impl Future<Output = T>, probe: &WarehouseProbe) -> T {
    let mut asking = std::pin::pin!(asking);
    match tokio::time::timeout(PATIENCE, &mut asking).await {
        Ok(answer) => answer,
        Err(_) => {
            probe.missed(&format_args!("no answer within {PATIENCE:?}"));
            asking.await
        }
    }
}
