//! An order of Shopify's Admin API, asked for instead of received.
//!
//! The Admin API answers the same order as a webhook under other names, in UTC and with amounts of
//! any number of digits. [`AdminOrder`] rewrites it to the body of a webhook, which is then read by
//! the one reader of orders, so that both ways to an order give one event. What only the Admin API
//! has, the order's ledger (`agreements`), becomes [`OrderEvent::sales`].
//!
//! A connection is read as `{"nodes": []}`, `{"edges": [{"node": {}}]}` or a plain list, as which a
//! bulk operation's children come. Personal fields are neither asked for nor read.

mod body;
mod kept;
mod refunds;
mod sales;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

pub use self::kept::keep_known_fields;
use super::zone::ShopZone;
use super::{ConvertError, EVENT_NAMESPACE, Topic, order};
use crate::event::{Id, OrderEvent, Sale, Text, Timestamp, json, validate};

/// Why an order was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To have the shop's history.
    Import,
    /// To repair what a webhook did not bring.
    Reconcile,
}

impl Asked {
    /// `source` of the entry.
    #[must_use]
    pub fn source(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Reconcile => "reconcile",
        }
    }

    fn event_type(self) -> &'static str {
        match self {
            Self::Import => "order.imported",
            Self::Reconcile => "order.reconciled",
        }
    }
}

/// What is known of every order of one request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'s> {
    /// Why.
    pub asked: Asked,
    /// Domain of the shop.
    pub shop: &'s str,
    /// When the answer came.
    pub received_at: OffsetDateTime,
}

/// Says how an order became its event; another number makes new events of known orders. The text
/// tells apart what the same order gives from different sources.
const MAPPING: &str = "1";
const MAPPING_WITHOUT_REFUND_LINES: &str = "1-agreements";
const MAPPING_REST: &str = "1-rest";

/// An order as the Admin API has it, rewritten.
#[derive(Debug, Clone)]
pub struct AdminOrder {
    body: String,
    sales: Option<Vec<Sale<'static>>>,
    mapping: &'static str,
}

impl AdminOrder {
    /// Rewrites one node of type `Order`.
    ///
    /// # Errors
    /// It lacks what an order cannot do without, or its ledger cannot be read.
    pub fn of(node: &Value, zone: ShopZone) -> Result<Self, ConvertError> {
        let missing = ["id", "updatedAt", "currencyCode", "totalPriceSet", "lineItems"]
            .into_iter()
            .filter(|name| node[*name].is_null());
        let fields: Vec<&'static str> = missing.collect();
        if !fields.is_empty() {
            return Err(ConvertError::Missing {
                fields,
                cause: "this is no order of the Admin API as the program's own query asks for it",
            });
        }
        if !["lineItems", "shippingLines"]
            .iter()
            .all(|list| is_complete(&node[*list]))
        {
            return Err(invalid(
                "lineItems",
                "more than one page; ask for it by a bulk operation",
            ));
        }
        let rewriter = body::Rewriter::of(node, zone);
        let sales = sales::sales(node, &rewriter)?;
        let lacks_refund_lines = nodes(&node["refunds"]).any(|refund| !refunds::has_lines(refund));
        Ok(Self {
            body: rewriter.body(node).to_string(),
            sales,
            mapping: if lacks_refund_lines {
                MAPPING_WITHOUT_REFUND_LINES
            } else {
                MAPPING
            },
        })
    }

    /// Its event, as that of a delivery of a topic.
    pub(super) fn event_of_topic<'a>(
        &'a self,
        topic: Topic,
        blank: OrderEvent<'a>,
    ) -> Result<OrderEvent<'a>, ConvertError> {
        let mut event = order::read(topic, self.body.as_bytes(), blank)?;
        event.sales.clone_from(&self.sales);
        validate(&event)?;
        Ok(event)
    }

    /// Its event.
    ///
    /// # Errors
    /// As of a webhook with the same order.
    pub fn event(&self, request: Request<'_>) -> Result<OrderEvent<'_>, ConvertError> {
        let mut event = convert(self.body.as_bytes(), request, self.mapping)?;
        event.sales.clone_from(&self.sales);
        validate(&event)?;
        Ok(event)
    }
}

/// The event of an order in the form of the REST Admin API, which is that of a webhook's body.
///
/// # Errors
/// As of a webhook with the same order.
pub fn rest_order<'a>(body: &'a [u8], request: Request<'_>) -> Result<OrderEvent<'a>, ConvertError> {
    let event = convert(body, request, MAPPING_REST)?;
    validate(&event)?;
    Ok(event)
}

/// The event of an order that was deleted at that time, as Shopify's record of it has id and time.
///
/// # Errors
/// An id or the time cannot be read.
pub fn deleted_order(
    order_gid: &str,
    deleted_at: &str,
    zone: ShopZone,
    request: Request<'_>,
) -> Result<OrderEvent<'static>, ConvertError> {
    let written = zone.written(deleted_at).unwrap_or_default();
    let timestamp = Timestamp::parse(written.into()).map_err(|_| invalid("createdAt", "not a point in time"))?;
    let order_id = read_id(order_gid).ok_or_else(|| invalid("subjectId", "not an id"))?;
    let event = OrderEvent {
        event_id: event_id(request, &order_id, "deleted", MAPPING).to_string().into(),
        event_type: "order.deleted".into(),
        shop: Some(Text::from(request.shop.to_owned())),
        order_id,
        timestamp,
        ..OrderEvent::default()
    };
    validate(&event)?;
    Ok(event)
}

fn convert<'a>(body: &'a [u8], request: Request<'_>, mapping: &str) -> Result<OrderEvent<'a>, ConvertError> {
    let blank = OrderEvent {
        event_type: request.asked.event_type().into(),
        timestamp: request.received_at.into(),
        shop: Some(Text::from(request.shop.to_owned())),
        ..OrderEvent::default()
    };
    let mut event = order::read(Topic::UPDATED, body, blank)?;
    let changed = event.updated_at.as_ref().unwrap_or(&event.timestamp).instant();
    let changed = changed.to_offset(time::UtcOffset::UTC).replace_nanosecond(0);
    let changed = changed.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
    event.event_id = event_id(request, &event.order_id, &changed, mapping).to_string().into();
    Ok(event)
}

/// UUIDv5 of `shop LF import LF ORDER_GID LF updatedAt LF mapping:N`.
fn event_id(request: Request<'_>, order_id: &Id<'_>, changed: &str, mapping: &str) -> Uuid {
    let (shop, asked, order_id) = (request.shop, request.asked.source(), order_id.as_str());
    let name = format!("{shop}\n{asked}\ngid://shopify/Order/{order_id}\n{changed}\nmapping:{mapping}");
    Uuid::new_v5(&EVENT_NAMESPACE, name.as_bytes())
}

/// What a connection has, whatever form it comes in.
fn nodes(connection: &Value) -> impl Iterator<Item = &Value> {
    let nodes = connection["nodes"].as_array().or_else(|| connection.as_array());
    let edges = connection["edges"].as_array().into_iter().flatten();
    nodes.into_iter().flatten().chain(edges.map(|edge| &edge["node"]))
}

/// Whether all of a connection is here.
fn is_complete(connection: &Value) -> bool {
    connection["pageInfo"]["hasNextPage"].as_bool() != Some(true)
}

/// The number at the end of a global id.
fn read_id(gid: &str) -> Option<Id<'static>> {
    let quoted = Value::from(gid).to_string();
    let id: Id<'_> = json::value(&quoted)?;
    (!id.as_str().is_empty()).then(|| Id::from(id.as_str().to_owned()))
}

fn invalid(field: &str, problem: &'static str) -> ConvertError {
    ConvertError::Invalid(crate::event::InvalidEvent {
        field: field.to_owned(),
        problem,
    })
}
