//! The topics that become events.
//!
//! Owns the one table from topic to event type. A closed set: what is not in it is quarantined,
//! never refused.

/// How a body is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The order as a whole.
    Order,
    /// Only the id of a deleted order.
    Deletion,
    /// An envelope `order_edit`.
    Edit,
    /// One refund.
    Refund,
    /// One payment transaction.
    Transaction,
    /// A fulfillment.
    Fulfillment,
    /// Something that happened to a fulfillment.
    FulfillmentEvent,
    /// A chargeback or an inquiry.
    Dispute,
    /// A risk assessment.
    RiskAssessment,
    /// Whether Shopify Protect covers the order.
    Protection,
    /// A customer asks for the data kept about them.
    AccessRequest,
    /// A customer is to be forgotten.
    CustomerRedaction,
    /// A shop that removed the app is to be forgotten.
    ShopRedaction,
}

/// A known topic. Can only be had from [`Topic::parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Topic {
    name: &'static str,
    event_type: &'static str,
    shape: Shape,
}

/// Why a topic becomes no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No topic header.
    #[error("the delivery names no topic (X-Shopify-Topic)")]
    Missing,
    /// Not in the table.
    #[error("the topic is none that this service turns into events; remove the subscription or point it elsewhere")]
    Unknown,
}

const TOPICS: [Topic; 21] = [
    topic("orders/create", "order.created", Shape::Order),
    topic("orders/updated", "order.updated", Shape::Order),
    topic("orders/paid", "order.paid", Shape::Order),
    topic("orders/partially_fulfilled", "order.partially_fulfilled", Shape::Order),
    topic("orders/fulfilled", "order.fulfilled", Shape::Order),
    topic("orders/cancelled", "order.cancelled", Shape::Order),
    topic("orders/delete", "order.deleted", Shape::Deletion),
    topic("orders/edited", "order.edited", Shape::Edit),
    topic("refunds/create", "refund.created", Shape::Refund),
    topic(
        "order_transactions/create",
        "order_transaction.created",
        Shape::Transaction,
    ),
    topic(
        "orders/risk_assessment_changed",
        "order.risk_assessment_changed",
        Shape::RiskAssessment,
    ),
    topic(
        "orders/shopify_protect_eligibility_changed",
        "order.shopify_protect_eligibility_changed",
        Shape::Protection,
    ),
    topic("fulfillments/create", "fulfillment.created", Shape::Fulfillment),
    topic("fulfillments/update", "fulfillment.updated", Shape::Fulfillment),
    topic(
        "fulfillment_events/create",
        "fulfillment_event.created",
        Shape::FulfillmentEvent,
    ),
    topic(
        "fulfillment_events/delete",
        "fulfillment_event.deleted",
        Shape::FulfillmentEvent,
    ),
    topic("disputes/create", "dispute.created", Shape::Dispute),
    topic("disputes/update", "dispute.updated", Shape::Dispute),
    topic(
        "customers/data_request",
        "customer.data_requested",
        Shape::AccessRequest,
    ),
    topic(
        "customers/redact",
        "customer.redact_requested",
        Shape::CustomerRedaction,
    ),
    topic("shop/redact", "shop.redact_requested", Shape::ShopRedaction),
];

const fn topic(name: &'static str, event_type: &'static str, shape: Shape) -> Topic {
    Topic {
        name,
        event_type,
        shape,
    }
}

fn is_named(topic: &str, name: &str) -> bool {
    let written = |(topic, name): (u8, u8)| topic == name.to_ascii_lowercase() || (topic == b'/' && name == b'_');
    topic.len() == name.len() && topic.bytes().zip(name.bytes()).all(written)
}

impl Topic {
    /// Of an order that is no delivery's.
    pub(super) const UPDATED: Self = topic("orders/updated", "order.updated", Shape::Order);

    /// Finds the topic that the header names, in any case, or as GraphQL writes it
    /// (`ORDERS_CREATE`).
    ///
    /// # Errors
    /// Why it becomes no event.
    pub fn parse(header: Option<&str>) -> Result<Self, TopicError> {
        let name = header.ok_or(TopicError::Missing)?;
        TOPICS
            .into_iter()
            .find(|topic| is_named(topic.name, name))
            .ok_or(TopicError::Unknown)
    }

    /// As Shopify writes it, `orders/create`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// What the event is called, `order.created`.
    #[must_use]
    pub fn event_type(self) -> &'static str {
        self.event_type
    }

    /// How its body is built.
    #[must_use]
    pub fn shape(self) -> Shape {
        self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{OrderEvent, json};

    #[test]
    fn each_topic_finds_itself_and_the_rest_has_a_reason() {
        for topic in TOPICS {
            let in_graphql = topic.name.to_uppercase().replace('/', "_");
            for name in [topic.name, &topic.name.to_uppercase(), &in_graphql] {
                assert_eq!(Topic::parse(Some(name)), Ok(topic));
            }
        }
        assert_eq!(Topic::parse(None), Err(TopicError::Missing));
        for unknown in [
            "products/create",
            "PRODUCTS_CREATE",
            "orders/",
            "orders-create",
            "draft_orders/create",
            "",
        ] {
            assert_eq!(Topic::parse(Some(unknown)), Err(TopicError::Unknown), "{unknown}");
        }
    }

    /// The event's own list of partial types must know all of ours.
    #[test]
    fn only_orders_can_be_whole() {
        for topic in TOPICS {
            let json = format!(
                r#"{{"event_type":"{}","event_id":"e","timestamp":"2026-01-31T00:00:00Z","order_id":1,
                    "total_amount":1,"currency":"EUR","items":[]}}"#,
                topic.event_type
            );
            let event: OrderEvent<'_> = json::parse(json.as_bytes()).unwrap();
            assert_eq!(event.is_whole(), topic.shape == Shape::Order, "{}", topic.name);
        }
    }
}
