//! A trace's search through the warehouse: rows of the order, and of its events.

use super::search::Search;
use crate::operations::context::{Operations, OperationsError};
use crate::warehouse::Warehouse;
use crate::warehouse::history::StoredEvent;

/// Loaded events of one order.
const MAX_EVENTS: usize = 200;
/// Orders of one name: each shop counts from 1001.
const MAX_ORDERS: usize = 20;

impl Operations {
    pub(super) async fn search_warehouse(&self, search: &mut Search<'_>) -> Result<(), OperationsError> {
        let warehouse = self.warehouse()?;
        let (order, shop) = (&search.query.order, search.query.shop.as_deref());
        let mut named = warehouse.orders_named(order, shop, MAX_ORDERS + 1).await?;
        if named.len() > MAX_ORDERS {
            named.truncate(MAX_ORDERS);
            search.unknown(format!(
                "More orders have that name than the {MAX_ORDERS} that are shown: name a shop."
            ));
        }
        let mut events = newest_events(warehouse, order, shop, search).await?;
        for other in named.iter().filter(|other| other.order_id != *order) {
            events.extend(newest_events(warehouse, &other.order_id, Some(&other.shop), search).await?);
        }
        let mut keys = Vec::from_iter(events.iter().map(|event| (event.shop.clone(), event.order_id.clone())));
        keys.extend(named.into_iter().map(|order| (order.shop, order.order_id)));
        keys.sort();
        keys.dedup();
        let mut orders = warehouse.orders(&keys).await?;
        orders.sort_by(|a, b| (&a.shop, &a.order_id).cmp(&(&b.shop, &b.order_id)));
        search.orders.extend(orders.iter().map(|order| order.order_id.clone()));
        search.orders.dedup();
        search.trace.orders = orders;
        for event in events {
            let known = search.events.entry(event.event_id.clone()).or_default();
            known.stored = Some(event);
        }
        Ok(())
    }
}

/// The newest loaded events of that order; notes where there are more.
async fn newest_events(
    warehouse: &dyn Warehouse,
    order_id: &str,
    shop: Option<&str>,
    search: &mut Search<'_>,
) -> Result<Vec<StoredEvent>, OperationsError> {
    let mut events = warehouse.events_of(order_id, shop, MAX_EVENTS + 1).await?;
    if events.len() > MAX_EVENTS {
        events.truncate(MAX_EVENTS);
        search.unknown(format!(
            "Order {order_id} has more loaded events than the newest {MAX_EVENTS}; earlier ones are not shown."
        ));
    }
    Ok(events)
}
