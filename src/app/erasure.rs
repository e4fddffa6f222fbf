//! Role: watches the requests to erase a customer or a shop that wait, says until when they must be
//! met, and meets them where that is set.
//!
//! Several processes may meet one request at once: every step of it may be repeated.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tracing::{info, warn};

use crate::health::WarehouseProbe;
use crate::operations::{ForgetRequest, Operation as _, Operations, OperationsError};
use crate::warehouse::Warehouse;
use crate::warehouse::people::{ErasureRequest, People as _};

/// Time between two looks, each of which reads a few rows by their index.
const EVERY: Duration = Duration::from_secs(5);
/// The same after a failure, such as a key that is not set.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Interval at which it is seen whether the warehouse is reached.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// Requests read at once.
const MOST: usize = 100;
/// Shopify's rule: a request is met within 30 days.
const DUE: time::Duration = time::Duration::days(30);

/// Looks for ever; `probe` has what waits.
pub(super) async fn watch(
    operations: Operations,
    warehouse: Arc<dyn Warehouse>,
    probe: WarehouseProbe,
    acts_by_itself: bool,
) {
    let mut logged = None;
    loop {
        while !probe.is_reached() {
            tokio::time::sleep(POLL_EVERY).await;
        }
        let pause = match look(&operations, &*warehouse, acts_by_itself).await {
            Ok(waiting) => {
                if waiting != logged
                    && let Some(waiting) = &waiting
                {
                    warn!("{waiting}");
                }
                logged.clone_from(&waiting);
                probe.requests(waiting);
                EVERY
            }
            Err(error) => {
                warn!(%error, "privacy requests cannot be looked up or met; tried again");
                AFTER_FAILURE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// What waits after this look.
async fn look(
    operations: &Operations,
    warehouse: &dyn Warehouse,
    acts_by_itself: bool,
) -> Result<Option<String>, OperationsError> {
    let requests = warehouse.erasure_requests(MOST).await?;
    if !acts_by_itself {
        return Ok(text(&requests));
    }
    for request in requests {
        let shop = request.shop.clone();
        forget(operations, request).await?;
        info!(shop, "a privacy request was met");
    }
    Ok(None)
}

async fn forget(operations: &Operations, request: ErasureRequest) -> Result<(), OperationsError> {
    let mut next = None;
    loop {
        let step = ForgetRequest {
            customer: request.customer_id.clone(),
            shop: Some(request.shop.clone()),
            orders: request.order_ids.clone(),
            verify: false,
            next,
        };
        next = step.run(operations).await?.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

fn text(requests: &[ErasureRequest]) -> Option<String> {
    let due = requests.iter().map(|request| request.received_at + DUE).min()?.date();
    let overdue = if due < OffsetDateTime::now_utc().date() {
        "was"
    } else {
        "is"
    };
    let at_least = if requests.len() < MOST { "" } else { "at least " };
    Some(format!(
        "privacy requests (customers/redact, shop/redact) that wait: {at_least}{}; the first {overdue} due on {due}: see \
         `orderstream forget --help`, or set ORDERSTREAM_ERASURE=auto",
        requests.len(),
    ))
}
