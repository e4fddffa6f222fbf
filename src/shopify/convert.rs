//! A verified body into an event.
//!
//! Owns the choice of reader and what all events have in common. The body is parsed once, typed and
//! borrowed; only the fields that an event has are read, so nothing personal gets in.

use time::OffsetDateTime;
use uuid::Uuid;

use super::fit::BodyMarks;
use super::order;
use super::partial;
use super::{DeliveryHints, Shape, Topic};
use crate::event::{InvalidEvent, InvalidJson, OrderEvent, Text, validate};

/// Why a body becomes no event. Texts name fields, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// Not JSON, or a field has a form that it cannot have.
    #[error("the body cannot be read: {0}")]
    Unreadable(#[from] InvalidJson),
    /// Something the event cannot do without is absent or null.
    #[error("the body lacks {}: {cause}", fields.join(", "))]
    Missing {
        /// All that is missing.
        fields: Vec<&'static str>,
        /// The likely reason.
        cause: &'static str,
    },
    /// The body is not what the topic names; the topic's name.
    #[error("the body is none of topic {0}: headers are not signed, so what the body itself shows must fit the topic")]
    Unfit(&'static str),
    /// The body of a privacy request names another shop than the headers, by whose secret it was verified.
    #[error("shop_domain: the body is about another shop than its headers")]
    OtherShop,
    /// Amounts whose sum is out of bounds.
    #[error("{0}: the sum is not below 10^15")]
    Overflow(&'static str),
    /// The event that came out breaks the event's contract.
    #[error("the body makes no valid event: {0}")]
    Invalid(#[from] InvalidEvent),
}

/// Makes the event of a verified body. `received_at` is the time of last resort.
///
/// # Errors
/// The body cannot become an event of this topic and is to be quarantined.
pub fn convert<'a>(
    topic: Topic,
    body: &'a [u8],
    hints: &'a DeliveryHints<'_>,
    event_id: Uuid,
    received_at: OffsetDateTime,
) -> Result<OrderEvent<'a>, ConvertError> {
    let blank = blank(topic, hints, event_id, received_at);
    let event = if topic.shape() == Shape::Order {
        order::read(topic, body, blank)?
    } else {
        partial(topic, body, hints, blank)?
    };
    validate(&event)?;
    Ok(event)
}

fn partial<'a>(
    topic: Topic,
    body: &'a [u8],
    hints: &'a DeliveryHints<'_>,
    blank: OrderEvent<'a>,
) -> Result<OrderEvent<'a>, ConvertError> {
    let members = BodyMarks::read(body)?;
    members.must_not_contradict(topic)?;
    let event = match topic.shape() {
        Shape::Order | Shape::Deletion => partial::deletion(body, blank)?,
        Shape::Edit => partial::edit(body, blank)?,
        Shape::Refund => partial::refund(body, blank)?,
        Shape::Transaction => partial::transaction(body, blank)?,
        Shape::RiskAssessment => partial::risk_assessment(body, blank, hints)?,
        Shape::Fulfillment | Shape::FulfillmentEvent | Shape::Dispute | Shape::Protection => {
            partial::note(body, blank)?
        }
        Shape::AccessRequest | Shape::CustomerRedaction | Shape::ShopRedaction => {
            partial::privacy_request(topic, body, blank)?
        }
    };
    // What is missing is said first: it says more.
    members.must_fit(topic)?;
    Ok(event)
}

/// The event before anything is read from the body: its time is when it was triggered, else
/// received.
pub(super) fn blank<'a>(
    topic: Topic,
    hints: &'a DeliveryHints<'_>,
    event_id: Uuid,
    received_at: OffsetDateTime,
) -> OrderEvent<'a> {
    OrderEvent {
        event_type: topic.event_type().into(),
        event_id: event_id.to_string().into(),
        timestamp: hints.triggered_at(received_at).unwrap_or_else(|| received_at.into()),
        shop: hints.shop.as_deref().map(Text::from),
        ..OrderEvent::default()
    }
}
