//! First contact: reaching what is configured, and telling the operator what was found.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{info, warn};

use super::Addresses;
use crate::config::{Config, Purpose};
use crate::stream::Stream;
use crate::telemetry;
use crate::worker::{Handler, Outage};

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
    let mut outage = Outage::of("reaching the stream");
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
    let mut outage = Outage::of("creating the consumer group");
    while let Err(error) = stream.ensure_group().await {
        tokio::time::sleep(outage.failed(&error)).await;
    }
    outage.over();
}

/// Reaches the warehouse, however long that takes; its schema is up to date afterwards.
pub(super) async fn meet_warehouse(handler: Arc<dyn Handler>) {
    let mut outage = Outage::of("reaching the warehouse");
    while let Err(error) = handler.ready().await {
        tokio::time::sleep(outage.failed(&error)).await;
    }
    outage.over();
    info!("the warehouse is there");
}
