//! First contact: building what is configured, and telling the operator what was found.

use std::sync::Arc;

use tracing::{info, warn};

use super::AppError;
use super::listeners::{Bound, Listeners};
use crate::config::{Config, Purpose};
use crate::metrics::Metrics;
use crate::stream::Stream;
use crate::stream::redis::RedisStream;
use crate::telemetry;
use crate::warehouse::postgres::PostgresWarehouse;
use crate::worker::{Handler, Outage};

pub(super) fn stream(config: &Config, metrics: &Metrics) -> Result<RedisStream, AppError> {
    let redis = config
        .redis
        .as_ref()
        .ok_or_else(|| AppError::Config("REDIS_URL is not set".to_owned()))?;
    RedisStream::new(redis, &config.stream, metrics.clone()).map_err(|error| AppError::Config(error.to_string()))
}

pub(super) fn warehouse(config: &Config, metrics: &Metrics) -> Result<PostgresWarehouse, AppError> {
    let database = config
        .database
        .as_ref()
        .ok_or_else(|| AppError::Config("DATABASE_URL is not set".to_owned()))?;
    let warehouse = PostgresWarehouse::new(database).map_err(|error| AppError::Config(error.to_string()))?;
    Ok(warehouse.counted(metrics))
}

/// The one line that says what runs, where, and on what.
pub(super) fn say_where(config: &Config, listeners: &Listeners, purpose: Purpose) {
    let place = |bound: &Option<Bound>| {
        bound
            .as_ref()
            .map_or_else(|| "none".to_owned(), |bound| format!("http://{}", bound.addr))
    };
    let consumer = if purpose.works() {
        &config.worker.consumer
    } else {
        "none"
    };
    info!(
        target: telemetry::START,
        "orderstream {} is up: public listener {}, private listener {}, stream {}, group {}, consumer {consumer}",
        env!("CARGO_PKG_VERSION"),
        place(&listeners.public),
        place(&listeners.private),
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
