//! A delivery of Shopify's Events (in the API since 2026-10): `{topic, action, data}`, where `data`
//! is what the subscription's own query answers.
//!
//! A query that asks for an order as this program does (docs/SHOPIFY.md, "Events") brings an order of
//! the Admin API, and its event is that of the webhook.

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::convert::blank;
use super::{AdminOrder, ConvertError, DeliveryHints, ShopZone, Topic};
use crate::event::{OrderEvent, json};

/// Why a delivery of Shopify's Events becomes no event.
#[derive(Debug, thiserror::Error)]
pub enum EventDeliveryError {
    /// Another topic, or an action that brings no order.
    #[error(
        "a delivery of Shopify's Events (shopify-action) that does not create or update an order: subscribe to the \
         webhook topic instead"
    )]
    NoOrder,
    /// Another query.
    #[error(
        "a delivery of Shopify's Events without data.order or data.shop.ianaTimezone: give its subscription the query of \
         docs/SHOPIFY.md, \"Events\""
    )]
    OtherQuery,
    /// The order is none that can be read.
    #[error("a delivery of Shopify's Events: {0}")]
    Order(#[from] ConvertError),
}

#[derive(Deserialize)]
struct EventBody {
    topic: Option<String>,
    action: Option<String>,
    /// To the subscription's query.
    #[serde(default, rename = "data")]
    answer: Value,
}

/// An order that was created or updated.
#[derive(Debug)]
pub struct EventDelivery {
    topic: Topic,
    order: AdminOrder,
}

impl EventDelivery {
    /// Reads a body that was delivered with an action.
    ///
    /// # Errors
    /// It is to be quarantined.
    pub fn read(body: &[u8], hints: &DeliveryHints<'_>) -> Result<Self, EventDeliveryError> {
        let body: EventBody = json::parse(body).map_err(ConvertError::from)?;
        let name = body.topic.as_deref().or(hints.topic).unwrap_or_default();
        let subject = name.split('/').next().unwrap_or_default().to_ascii_lowercase();
        let action = body.action.as_deref().or(hints.action).unwrap_or_default();
        let topic = match (&*subject, &*action.to_ascii_lowercase()) {
            ("order" | "orders", "create") => "orders/create",
            ("order" | "orders", "update") => "orders/updated",
            _ => return Err(EventDeliveryError::NoOrder),
        };
        let topic = Topic::parse(Some(topic)).map_err(|_| EventDeliveryError::NoOrder)?;
        let zone = body.answer["shop"]["ianaTimezone"].as_str().and_then(ShopZone::named);
        let (order, Some(zone)) = (&body.answer["order"], zone) else {
            return Err(EventDeliveryError::OtherQuery);
        };
        if !order.is_object() {
            return Err(EventDeliveryError::OtherQuery);
        }
        let order = AdminOrder::of(order, zone)?;
        Ok(Self { topic, order })
    }

    /// Its event. `received_at` is the time of last resort.
    ///
    /// # Errors
    /// As of a webhook with the same order.
    pub fn event<'a>(
        &'a self,
        hints: &'a DeliveryHints<'_>,
        event_id: Uuid,
        received_at: OffsetDateTime,
    ) -> Result<OrderEvent<'a>, EventDeliveryError> {
        let blank = blank(self.topic, hints, event_id, received_at);
        Ok(self.order.event_of_topic(self.topic, blank)?)
    }
}
