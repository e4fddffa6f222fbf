//! What a warehouse has of one person, or of all customers of a shop, and which of them are to be
//! forgotten: reads over [`History`], one text for every store.

use std::collections::BTreeMap;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::WarehouseError;
use super::history::{EVENT, EventPosition, History, OrderKey, Param, StoredEvent, each, list, stored_event};
use crate::event::Id;

/// A person, or every customer of a shop, as events are searched for.
#[derive(Debug, Clone, Copy)]
pub struct PersonQuery<'a> {
    /// The shop.
    pub shop: &'a str,
    /// The customer; `None`: whoever it is.
    pub customer_id: Option<&'a str>,
    /// Orders of that person; events about them count, whether or not they name the customer.
    pub order_ids: &'a [String],
}

/// A request to erase a customer or a shop that was not met yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureRequest {
    /// The shop.
    pub shop: String,
    /// The customer; `None`: every customer of the shop.
    pub customer_id: Option<String>,
    /// Orders that the request names.
    pub order_ids: Vec<String>,
    /// When it was received.
    pub received_at: OffsetDateTime,
}

/// A warehouse as `forget` reads it.
#[async_trait]
pub trait People: History {
    /// Events about a person among the next `rows` events of a span, and the place behind these;
    /// `None` at its end.
    async fn events_about(
        &self,
        person: PersonQuery<'_>,
        after: &EventPosition,
        before: OffsetDateTime,
        rows: usize,
    ) -> Result<(Vec<StoredEvent>, Option<EventPosition>), WarehouseError> {
        let sql = "SELECT received_at, event_id FROM {schema}.order_events \
                   WHERE received_at < $3 AND (received_at, event_id) > ($1, $2) \
                   ORDER BY received_at, event_id LIMIT 1 OFFSET $4";
        let (from, id) = (Param::Time(after.received_at), Param::text(&after.event_id));
        let end = self
            .read(sql, &[from, id, Param::Time(before), Param::count(rows)])
            .await?;
        let end = each(end, |mut row| {
            Some(EventPosition {
                received_at: row.time()?,
                event_id: row.text()?,
            })
        })?;
        let end = end.into_iter().next();
        let (last, last_id) = end
            .as_ref()
            .map_or((before, ""), |end| (end.received_at, &*end.event_id));
        let sql = format!(
            "{EVENT} WHERE shop = $2 AND (received_at, event_id) > ($3, $4) AND (received_at, event_id) <= ($5, $6) \
             AND (CAST($7 AS text) IS NULL OR customer_id = $7 OR order_id IN (SELECT e.value ->> 0 FROM {{elements}})) \
             ORDER BY received_at, event_id"
        );
        let orders = list(&Vec::from_iter(person.order_ids.iter().map(|id| [id])));
        let params = [
            Param::text(&orders),
            Param::text(person.shop),
            from,
            id,
            Param::Time(last),
            Param::text(last_id),
            Param::Text(person.customer_id),
        ];
        Ok((each(self.read(&sql, &params).await?, stored_event)?, end))
    }

    /// Requests of Shopify to erase a customer or a shop that were not met yet, oldest first, at most
    /// `count`: a customer that was forgotten has no id any more, and a shop that was forgotten was
    /// announced.
    async fn erasure_requests(&self, count: usize) -> Result<Vec<ErasureRequest>, WarehouseError> {
        let sql = format!(
            "{EVENT} WHERE order_id = '' AND source = 'shopify' \
             AND (event_type = 'customer.redact_requested' AND customer_id IS NOT NULL \
             OR event_type = 'shop.redact_requested' AND NOT EXISTS (SELECT 1 FROM {{schema}}.order_events f \
                WHERE f.order_id = '' AND f.shop = order_events.shop AND f.event_type = 'shop.forgotten' \
                AND f.received_at > order_events.received_at)) ORDER BY received_at LIMIT $1"
        );
        let events = each(self.read(&sql, &[Param::count(count)]).await?, stored_event)?;
        let request = |stored: &StoredEvent| {
            let event = stored.record().ok()?.event;
            // Without its customer it would ask for the whole shop.
            if event.event_type.as_str() != "shop.redact_requested" && event.customer_id.is_none() {
                return None;
            }
            let id = |id: &Id<'_>| id.as_str().to_owned();
            Some(ErasureRequest {
                shop: stored.shop.clone(),
                customer_id: event.customer_id.as_ref().map(id),
                order_ids: event.order_ids.iter().map(id).collect(),
                received_at: stored.received_at,
            })
        };
        Ok(events.iter().filter_map(request).collect())
    }

    /// Orders whose newest state names that customer of the shop, or any, as shop and id; at most
    /// `count`. Without a shop, of all.
    async fn orders_of(
        &self,
        shop: Option<&str>,
        customer_id: Option<&str>,
        count: usize,
    ) -> Result<Vec<OrderKey>, WarehouseError> {
        let sql = "SELECT shop, order_id FROM {schema}.orders WHERE customer_id IS NOT NULL \
                   AND (CAST($1 AS text) IS NULL OR shop = $1) AND (CAST($2 AS text) IS NULL OR customer_id = $2) \
                   ORDER BY shop, order_id LIMIT $3";
        let params = [Param::Text(shop), Param::Text(customer_id), Param::count(count)];
        each(self.read(sql, &params).await?, |mut row| {
            Some((row.text()?, row.text()?))
        })
    }

    /// What the newest states of these orders say of a person: the table, the order, and the columns as a
    /// JSON object. Of lines only those with properties.
    async fn rows_about(&self, keys: &[OrderKey]) -> Result<Vec<(&'static str, String, String)>, WarehouseError> {
        let (keys, mut found) = (list(keys), Vec::new());
        for (table, columns, of) in [
            (
                "orders",
                ["name", "customer_id", "billing_country", "shipping_country", "details"],
                "",
            ),
            (
                "order_items",
                ["line_id", "title", "sku", "variant_title", "properties"],
                "properties IS NOT NULL AND ",
            ),
        ] {
            let selected = columns.map(|column| format!("CAST({column} AS text)")).join(", ");
            let sql = format!(
                "SELECT order_id, {selected} FROM {{schema}}.{table} WHERE {of}\
                 (shop, order_id) IN (SELECT e.value ->> 0, e.value ->> 1 FROM {{elements}}) ORDER BY order_id"
            );
            for mut row in self.read(&sql, &[Param::text(&keys)]).await? {
                let order = row.text().unwrap_or_default();
                let values = columns.map(|column| {
                    let text = row.text();
                    let json = text.as_deref().filter(|_| matches!(column, "details" | "properties"));
                    let value = json.and_then(|json| serde_json::from_str(json).ok());
                    (column, value.unwrap_or_else(|| serde_json::json!(text)))
                });
                let row = serde_json::to_string(&BTreeMap::from(values)).unwrap_or_default();
                found.push((table, order, row));
            }
        }
        Ok(found)
    }

    /// The kept bodies of these events, as they are stored: compressed, or as another producer wrote
    /// them.
    async fn bodies(&self, event_ids: &[String]) -> Result<BTreeMap<String, Vec<u8>>, WarehouseError> {
        let sql = "SELECT event_id, raw FROM {schema}.order_events \
                   WHERE raw IS NOT NULL AND event_id IN (SELECT e.value ->> 0 FROM {elements})";
        let ids = Vec::from_iter(event_ids.iter().map(|id| [id]));
        let rows = self.read(sql, &[Param::text(&list(&ids))]).await?;
        Ok(each(rows, |mut row| Some((row.text()?, row.bytes()?)))?
            .into_iter()
            .collect())
    }
}

impl<T: History + ?Sized> People for T {}
