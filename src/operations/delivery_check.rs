//! What became of events that a sender knows by their ids: `send --verify` asks.
//!
//! Reads only the warehouse; what did not get there may be among the dead letters, which [`Operations::dead_letters`] lists.

use serde::{Deserialize, Serialize};

use super::{Operations, OperationsError, TracedOrder, has_nul};
use crate::warehouse::history::OrderKey;

/// What is asked for at once.
const MOST: usize = 1_000;

/// Which events, and which orders.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryQuery {
    /// Ids of events, at most 1,000.
    pub events: Vec<String>,
    /// Shop and id of orders, at most 1,000.
    pub orders: Vec<OrderKey>,
}

/// What is there of that.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// Those events that are loaded, in no order; twice where there are two rows, which no warehouse of ours lets in.
    pub events: Vec<String>,
    /// Those orders that are known, in no order.
    pub orders: Vec<TracedOrder>,
}

impl Operations {
    /// Which of these events are loaded, and how those orders stand.
    ///
    /// # Errors
    /// More is asked for than may be at once, or what no store can hold; there is no warehouse here; or it does not answer.
    pub async fn landed(&self, landing: &DeliveryQuery) -> Result<DeliveryReport, OperationsError> {
        if landing.events.len() > MOST || landing.orders.len() > MOST {
            return Err(OperationsError::Invalid(
                "ask for at most 1,000 events and 1,000 orders at once",
            ));
        }
        let mut texts = landing
            .orders
            .iter()
            .flat_map(|(shop, id)| [shop, id])
            .chain(&landing.events);
        if texts.any(|text| has_nul(text)) {
            return Err(OperationsError::Invalid("an id or a shop holds a NUL character"));
        }
        let warehouse = self.warehouse.as_ref().ok_or(OperationsError::NoWarehouse)?;
        let orders = match &*landing.orders {
            [] => Vec::new(),
            keys => warehouse.orders(keys).await?,
        };
        let events = match &*landing.events {
            [] => Vec::new(),
            ids => warehouse.loaded(ids).await?,
        };
        Ok(DeliveryReport {
            events,
            orders: orders.into_iter().map(TracedOrder::from).collect(),
        })
    }
}
