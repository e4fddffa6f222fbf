//! Bodies that state something about an order without being the order: refunds, edits,
//! transactions, deletions; and privacy requests, which are about a person or a shop.
//!
//! Owns where each of them keeps the order's id and its time. Partial events never carry
//! `total_amount` or lines.

use serde::Deserialize;

use super::headers::domain;
use super::refund::{self, RefundBody};
use super::tolerant::{self, LossyText};
use super::transaction::{Context, TransactionBody};
use super::{ConvertError, DeliveryHints, Shape, Topic};
use crate::event::{self, AddedLine, Id, OrderEdit, OrderEvent, Text, Timestamp, json};

/// What these bodies have in common; each has some of it.
#[derive(Debug, Deserialize)]
struct PartialBody<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    order_id: Option<Id<'a>>,
    #[serde(borrow)]
    admin_graphql_api_order_id: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    committed_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    processed_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    updated_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    created_at: Option<Timestamp<'a>>,
    test: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct EditBody<'a> {
    #[serde(borrow)]
    order_edit: Option<PartialBody<'a>>,
}

/// The same body once more, for what only an edit has.
#[derive(Debug, Deserialize)]
struct EditChanges<'a> {
    #[serde(borrow)]
    order_edit: Option<Edit<'a>>,
}

#[derive(Debug, Deserialize)]
struct Edit<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::timestamp")]
    committed_at: Option<Timestamp<'a>>,
    #[serde(borrow)]
    line_items: Option<EditedLines<'a>>,
}

#[derive(Debug, Deserialize)]
struct EditedLines<'a> {
    #[serde(borrow)]
    additions: Option<Vec<EditedLine<'a>>>,
}

#[derive(Debug, Deserialize)]
struct EditedLine<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    /// Units added.
    #[serde(default, deserialize_with = "event::optional_quantity")]
    delta: Option<i64>,
}

/// `{"id": ...}`; it happened when it was triggered.
pub(super) fn deletion<'a>(body: &'a [u8], blank: OrderEvent<'a>) -> Result<OrderEvent<'a>, ConvertError> {
    let body: PartialBody<'a> = json::parse(body)?;
    Ok(OrderEvent {
        order_id: body.id.ok_or_else(|| missing("id"))?,
        ..blank
    })
}

/// `{"order_edit": {...}}`.
pub(super) fn edit<'a>(body: &'a [u8], blank: OrderEvent<'a>) -> Result<OrderEvent<'a>, ConvertError> {
    let partial: EditBody<'a> = json::parse(body)?;
    let partial = partial.order_edit.ok_or_else(|| missing("order_edit"))?;
    let changes: EditChanges<'a> = json::parse(body)?;
    Ok(OrderEvent {
        edit: changes.order_edit.map(OrderEdit::from),
        ..partial.fill(blank, None, "order_edit.order_id")?
    })
}

impl<'a> From<Edit<'a>> for OrderEdit<'a> {
    fn from(edit: Edit<'a>) -> Self {
        let additions = edit.line_items.and_then(|lines| lines.additions).into_iter().flatten();
        let additions = additions.filter_map(|line| {
            Some(AddedLine {
                line_id: line.id?,
                qty: line.delta.filter(|units| *units > 0)?,
            })
        });
        Self {
            edit_id: edit.id,
            committed_at: edit.committed_at,
            additions: additions.collect(),
        }
    }
}

/// A refund, which is the event's only one.
pub(super) fn refund<'a>(body: &'a [u8], blank: OrderEvent<'a>) -> Result<OrderEvent<'a>, ConvertError> {
    let mut body: RefundBody<'a> = json::parse(body)?;
    let order_id = body.order_id.take().ok_or_else(|| missing("order_id"))?;
    let refund = refund::read(body, Context::default(), &order_id)?;
    Ok(OrderEvent {
        order_id,
        timestamp: refund.processed_at.clone().unwrap_or(blank.timestamp),
        refunds: Some(vec![refund]),
        ..blank
    })
}

/// A payment transaction, which is the event's only one; without it where the body cannot be read
/// as one.
pub(super) fn transaction<'a>(body: &'a [u8], blank: OrderEvent<'a>) -> Result<OrderEvent<'a>, ConvertError> {
    let partial: PartialBody<'a> = json::parse(body)?;
    let transaction = json::parse::<TransactionBody<'a>>(body).ok();
    let currency = transaction.as_ref().and_then(|one| one.worth(Context::default()).1);
    let around = Context {
        currency: currency.as_ref(),
        ..Context::default()
    };
    let transactions = transaction
        .iter()
        .filter_map(|one| one.event_transaction(around))
        .collect();
    Ok(OrderEvent {
        currency,
        transactions,
        ..partial.fill(blank, None, "order_id")?
    })
}

/// A risk assessment, whose `order_id` may be null: then the header's counts. It changes nothing
/// that is known of the order, so that a header may say it.
pub(super) fn risk_assessment<'a>(
    body: &'a [u8],
    blank: OrderEvent<'a>,
    hints: &'a DeliveryHints<'_>,
) -> Result<OrderEvent<'a>, ConvertError> {
    let body: PartialBody<'a> = json::parse(body)?;
    body.fill(blank, hints.order_id, "order_id")
}

/// Anything else with an `order_id`.
pub(super) fn note<'a>(body: &'a [u8], blank: OrderEvent<'a>) -> Result<OrderEvent<'a>, ConvertError> {
    let body: PartialBody<'a> = json::parse(body)?;
    body.fill(blank, None, "order_id")
}

/// The body of a privacy request, without the mail address and the telephone number that it also
/// has.
#[derive(Debug, Deserialize)]
struct PrivacyBody<'a> {
    #[serde(borrow)]
    shop_domain: Option<LossyText<'a>>,
    #[serde(borrow)]
    customer: Option<Numbered<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    orders_requested: Vec<Id<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    orders_to_redact: Vec<Id<'a>>,
    #[serde(borrow, rename = "data_request")]
    access_request: Option<Numbered<'a>>,
}

#[derive(Debug, Deserialize)]
struct Numbered<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
}

/// A request for a person's data, or to erase it or a shop's.
pub(super) fn privacy_request<'a>(
    topic: Topic,
    body: &'a [u8],
    blank: OrderEvent<'a>,
) -> Result<OrderEvent<'a>, ConvertError> {
    let body: PrivacyBody<'a> = json::parse(body)?;
    let named = body.shop_domain.and_then(|LossyText(shop)| domain(shop)).map(Text);
    if blank.shop.is_some() && named.is_some() && blank.shop != named {
        return Err(ConvertError::OtherShop);
    }
    let customer_id = body.customer.and_then(|customer| customer.id);
    if customer_id.is_none() && topic.shape() != Shape::ShopRedaction {
        return Err(missing("customer.id"));
    }
    let mut order_ids = body.orders_requested;
    order_ids.extend(body.orders_to_redact);
    Ok(OrderEvent {
        shop: Some(named.or(blank.shop).ok_or_else(|| missing("shop_domain"))?),
        customer_id,
        order_ids,
        request_id: body.access_request.and_then(|request| request.id),
        ..blank
    })
}

impl<'a> PartialBody<'a> {
    /// The order's global id stands in where the body has no other, and then the fallback.
    fn fill(
        self,
        blank: OrderEvent<'a>,
        fallback: Option<&'a str>,
        field: &'static str,
    ) -> Result<OrderEvent<'a>, ConvertError> {
        let global_id = self.admin_graphql_api_order_id;
        let order_id = self
            .order_id
            .or_else(|| order_number(&global_id?.0))
            .or_else(|| fallback.map(Id::from))
            .ok_or_else(|| missing(field))?;
        Ok(OrderEvent {
            order_id,
            timestamp: self
                .committed_at
                .or(self.processed_at)
                .or(self.updated_at)
                .or(self.created_at)
                .unwrap_or(blank.timestamp),
            test: self.test,
            ..blank
        })
    }
}

/// The number in `gid://shopify/Order/123`; no global id of anything else.
pub(super) fn order_number(id: &str) -> Option<Id<'static>> {
    let digits = id.strip_prefix("gid://shopify/Order/")?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| Id::from(digits.to_owned()))
}

fn missing(field: &'static str) -> ConvertError {
    ConvertError::Missing {
        fields: vec![field],
        cause: "without it nothing says what this is about",
    }
}
