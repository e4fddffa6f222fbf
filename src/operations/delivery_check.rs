//! Whether events that a sender knows by id reached the warehouse; `send --verify` asks for it.
//!
//! Reads only the warehouse. What did not get there may be a dead letter, which
//! [`super::DeadLetterQuery`] lists.

use serde::{Deserialize, Serialize};

use super::api::{Carrier, Operation};
use super::context::{Operations, OperationsError};
use super::entry_view::has_nul;
use crate::warehouse::history::{OrderKey, OrderState};

/// Events, and orders, of one request.
const MAX_KEYS: usize = 1_000;

/// Which events, and which orders.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryQuery {
    /// Ids of events, at most 1,000.
    pub events: Vec<String>,
    /// Shop and id of orders, at most 1,000.
    pub orders: Vec<OrderKey>,
}

/// What the warehouse holds of that.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// Those events that are loaded, in no order; twice where there are two rows, which both
    /// warehouses prevent.
    pub events: Vec<String>,
    /// Those orders that are known, in no order.
    pub orders: Vec<OrderState>,
}

impl Operation for DeliveryQuery {
    type Answer = DeliveryReport;
    const PATH: &'static str = "/api/landed";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<DeliveryReport, OperationsError> {
        if self.events.len() > MAX_KEYS || self.orders.len() > MAX_KEYS {
            return Err(OperationsError::Invalid(
                "ask for at most 1,000 events and 1,000 orders at once",
            ));
        }
        let mut keys = self.orders.iter().flat_map(|(shop, id)| [shop, id]);
        if keys.any(|text| has_nul(text)) || self.events.iter().any(|id| has_nul(id)) {
            return Err(OperationsError::Invalid("an id or a shop holds a NUL character"));
        }
        let warehouse = operations.warehouse()?;
        let orders = match &*self.orders {
            [] => Vec::new(),
            keys => warehouse.orders(keys).await?,
        };
        let events = match &*self.events {
            [] => Vec::new(),
            ids => warehouse.loaded(ids).await?,
        };
        Ok(DeliveryReport { events, orders })
    }
}
