//! Finds topics that bring no delivery though the shop changes: their subscription is dead, also where
//! the Admin API does not list it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;

use serde::Serialize;
use time::{Duration, OffsetDateTime};

use super::ListedOrder;
use crate::shopify_admin::OrderSpan;
use crate::warehouse::{Warehouse, WarehouseError};

/// Changes without a delivery that prove it.
const CHANGES: usize = 20;
/// How late a delivery may be: the newest changes prove nothing.
const LATE: Duration = Duration::hours(1);
/// A creation changes an order for so long; what comes later is a change of its own.
const CREATION: Duration = Duration::minutes(1);

/// A topic without deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SilentTopic {
    /// As webhooks write it.
    pub topic: &'static str,
    /// Since then 20 changes or more were seen, and no delivery came.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

impl fmt::Display for SilentTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.replace_nanosecond(0).unwrap_or(self.since);
        write!(
            f,
            "{} is silent since {since}: {CHANGES} changes or more, and no delivery; see `orderstream subscribe`",
            self.topic
        )
    }
}

impl SilentTopic {
    /// Whether still none came.
    ///
    /// # Errors
    /// The warehouse does not answer.
    pub async fn is_silent(&self, shop: &str, warehouse: &dyn Warehouse) -> Result<bool, WarehouseError> {
        Ok(!warehouse.was_delivered(shop, self.topic, self.since).await?)
    }
}

/// The newest changes that each topic should have told of.
#[derive(Default)]
pub(super) struct ShopChanges(BTreeMap<&'static str, BinaryHeap<Reverse<OffsetDateTime>>>);

impl ShopChanges {
    pub(super) fn add_order(&mut self, order: &ListedOrder, span: OrderSpan) {
        if order.created_at >= span.since {
            self.add("orders/create", order.created_at);
        }
        if order.updated_at - order.created_at > CREATION {
            self.add("orders/updated", order.updated_at);
        }
    }

    pub(super) fn add_deletion(&mut self, at: OffsetDateTime) {
        self.add("orders/delete", at);
    }

    fn add(&mut self, topic: &'static str, at: OffsetDateTime) {
        let newest = self.0.entry(topic).or_default();
        newest.push(Reverse(at));
        if newest.len() > CHANGES {
            newest.pop();
        }
    }

    /// The topics that brought no delivery since the twentieth change before `until` less an hour.
    pub(super) async fn silent(
        self,
        shop: &str,
        until: OffsetDateTime,
        warehouse: &dyn Warehouse,
    ) -> Result<Vec<SilentTopic>, WarehouseError> {
        let mut silent = Vec::new();
        for (topic, newest) in self.0 {
            let Some(Reverse(since)) = newest.peek().filter(|_| newest.len() == CHANGES) else {
                continue;
            };
            let since = (*since).min(until - LATE);
            let topic = SilentTopic { topic, since };
            if topic.is_silent(shop, warehouse).await? {
                silent.push(topic);
            }
        }
        Ok(silent)
    }
}
