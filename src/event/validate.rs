//! What an event must be like, whoever wrote it.
//!
//! Owns the bounds of texts and of what an order's lines come to. A single amount, quantity or time
//! is within its bounds by its type, since it is not read otherwise.

use rust_decimal::Decimal;

use super::scalar::MOST_UNITS;
use super::{
    Amount, Attribute, Details, Discount, Fulfillment, Id, Item, OrderEdit, OrderEvent, Refund, Sale, Text,
    Transaction, WHOLE,
};

/// Longest text of any field, in bytes. Shopify's own limits are far below.
const MAX_TEXT: usize = 4096;
/// Longest id, in characters: ids are in indexes, and PostgreSQL's take no row of more than 2.7 KB.
const MAX_ID: usize = 255;
const MAX_EVENT_TYPE: usize = 64;
const MAX_EVENT_ID: usize = 128;
const MAX_ORDER_ID: usize = 64;

/// A field that is not as the event's contract says. Its text never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidEvent {
    /// Path of the field, `items[2].qty`.
    pub field: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

fn invalid(field: impl Into<String>, problem: &'static str) -> InvalidEvent {
    InvalidEvent {
        field: field.into(),
        problem,
    }
}

/// Checks the whole event, as its producer is asked to send it.
///
/// # Errors
/// The first field that is not as it must be.
pub fn validate(event: &OrderEvent<'_>) -> Result<(), InvalidEvent> {
    validate_storable(event)?;
    if WHOLE.contains(&event.event_type.as_str()) {
        let missing = [
            ("total_amount", event.total_amount.is_none()),
            ("currency", event.currency.is_none()),
            ("items", event.items.is_none()),
        ];
        if let Some((field, _)) = missing.iter().find(|(_, missing)| *missing) {
            return Err(invalid(
                *field,
                "missing; an event of this type carries the whole order",
            ));
        }
    }
    currency("currency", event.currency.as_ref())?;
    currency("presentment_currency", event.presentment_currency.as_ref())?;
    for (index, refund) in event.refunds.iter().flatten().enumerate() {
        if refund.refund_id.as_str().is_empty() {
            return Err(invalid("refund_id", "missing").within("refunds", index));
        }
        currency("currency", refund.currency.as_ref()).map_err(|error| error.within("refunds", index))?;
    }
    for (index, line) in event.items.iter().flatten().enumerate() {
        attributes("properties", &line.properties).map_err(|error| error.within("items", index))?;
    }
    event.details.as_ref().map_or(Ok(()), details)
}

/// Checks what every warehouse needs of an event, whoever wrote it, to store it and to count it in
/// its views: type, id, time and order are there, and nothing is longer or greater than it can
/// hold.
///
/// # Errors
/// The first field that is missing or out of bounds.
pub fn validate_storable(event: &OrderEvent<'_>) -> Result<(), InvalidEvent> {
    identity(event)?;
    texts([
        ("currency", &event.currency),
        ("name", &event.name),
        ("presentment_currency", &event.presentment_currency),
        ("financial_status", &event.financial_status),
        ("fulfillment_status", &event.fulfillment_status),
        ("source_name", &event.source_name),
        ("cancel_reason", &event.cancel_reason),
        ("billing_country", &event.billing_country),
        ("shipping_country", &event.shipping_country),
    ])?;
    bounded_id("shop", event.shop.as_ref().map(Text::as_str))?;
    bounded_id("customer_id", id(event.customer_id.as_ref()))?;
    bounded_id("app_id", id(event.app_id.as_ref()))?;
    bounded_id("location_id", id(event.location_id.as_ref()))?;
    bounded_id("request_id", id(event.request_id.as_ref()))?;
    for order_id in &event.order_ids {
        bounded_id("order_ids", Some(order_id.as_str()))?;
    }
    for (index, line) in event.items.iter().flatten().enumerate() {
        item(line).map_err(|error| error.within("items", index))?;
    }
    lines_can_be_summed(event)?;
    for (index, given_back) in event.refunds.iter().flatten().enumerate() {
        refund(given_back).map_err(|error| error.within("refunds", index))?;
    }
    for (index, line) in event.shipping_lines.iter().flatten().enumerate() {
        bounded_id("line_id", id(line.line_id.as_ref()))
            .and_then(|()| bounded("title", line.title.as_ref().map(Text::as_str)))
            .map_err(|error| error.within("shipping_lines", index))?;
    }
    transactions(&event.transactions)?;
    for (index, one) in event.sales.iter().flatten().enumerate() {
        sale(one).map_err(|error| error.within("sales", index))?;
    }
    event.edit.as_ref().map_or(Ok(()), edit)
}

/// Views multiply and add up: what one order's lines come to must stay within the bounds of one
/// amount.
fn lines_can_be_summed(event: &OrderEvent<'_>) -> Result<(), InvalidEvent> {
    let limit = Decimal::from(Amount::LIMIT);
    let mut gross = Decimal::ZERO;
    for (index, line) in event.items.iter().flatten().enumerate() {
        let product = line.price.0.abs().checked_mul(line.qty.into());
        let sum = product.and_then(|product| gross.checked_add(product));
        gross = sum.filter(|sum| *sum < limit).ok_or_else(|| {
            invalid("price", "times qty, summed over the lines, must be below 10^15").within("items", index)
        })?;
    }
    if event.item_count() > MOST_UNITS {
        return Err(invalid("items", "more than 1000000000 units in all"));
    }
    Ok(())
}

/// Checks what an event cannot be stored without: type, id, time, order.
fn identity(event: &OrderEvent<'_>) -> Result<(), InvalidEvent> {
    let event_type = event.event_type.as_str();
    if event_type.is_empty() {
        return Err(invalid("event_type", "missing"));
    }
    let dotted = event_type.split('.').count() > 1
        && event_type.split('.').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        });
    if !dotted || event_type.len() > MAX_EVENT_TYPE {
        return Err(invalid(
            "event_type",
            "must be dotted ASCII of at most 64 characters, such as order.created",
        ));
    }
    let event_id = event.event_id.as_str();
    if event_id.is_empty() {
        return Err(invalid("event_id", "missing"));
    }
    if event_id.chars().count() > MAX_EVENT_ID || event_id.chars().any(char::is_control) {
        return Err(invalid("event_id", "must be at most 128 printable characters"));
    }
    if event.timestamp.is_missing() {
        return Err(invalid("timestamp", "missing"));
    }
    let order_id = event.order_id.as_str();
    if order_id.is_empty() && !event.is_without_order() {
        return Err(invalid("order_id", "missing"));
    }
    if order_id.chars().count() > MAX_ORDER_ID || order_id.chars().any(char::is_control) {
        return Err(invalid("order_id", "must be at most 64 printable characters"));
    }
    Ok(())
}

fn item(item: &Item<'_>) -> Result<(), InvalidEvent> {
    bounded("sku", id(item.sku.as_ref()))?;
    bounded_id("line_id", id(item.line_id.as_ref()))?;
    bounded_id("variant_id", id(item.variant_id.as_ref()))?;
    bounded_id("product_id", id(item.product_id.as_ref()))?;
    texts([
        ("title", &item.title),
        ("variant_title", &item.variant_title),
        ("vendor", &item.vendor),
    ])
}

fn transactions(transactions: &[Transaction<'_>]) -> Result<(), InvalidEvent> {
    for (index, one) in transactions.iter().enumerate() {
        transaction(one).map_err(|error| error.within("transactions", index))?;
    }
    Ok(())
}

fn transaction(transaction: &Transaction<'_>) -> Result<(), InvalidEvent> {
    if transaction.transaction_id.as_str().is_empty() {
        return Err(invalid("transaction_id", "missing"));
    }
    bounded_id("transaction_id", Some(transaction.transaction_id.as_str()))?;
    bounded_id("parent_id", id(transaction.parent_id.as_ref()))?;
    texts([
        ("kind", &transaction.kind),
        ("status", &transaction.status),
        ("gateway", &transaction.gateway),
        ("currency", &transaction.currency),
        ("paid_currency", &transaction.paid_currency),
    ])
}

fn refund(refund: &Refund<'_>) -> Result<(), InvalidEvent> {
    bounded_id("refund_id", Some(refund.refund_id.as_str()))?;
    bounded("currency", refund.currency.as_ref().map(Text::as_str))?;
    for (index, line) in refund.lines.iter().flatten().enumerate() {
        bounded_id("line_id", id(line.line_id.as_ref()))
            .and_then(|()| bounded_id("location_id", id(line.location_id.as_ref())))
            .and_then(|()| bounded("restock_type", line.restock_type.as_ref().map(Text::as_str)))
            .map_err(|error| error.within("lines", index))?;
    }
    transactions(&refund.transactions)
}

fn sale(sale: &Sale<'_>) -> Result<(), InvalidEvent> {
    if !(-MOST_UNITS..=MOST_UNITS).contains(&sale.qty) {
        return Err(invalid("qty", "must be from -1000000000 to 1000000000"));
    }
    bounded_id("sale_id", Some(sale.sale_id.as_str()))?;
    bounded_id("line_id", id(sale.line_id.as_ref()))?;
    bounded_id("refund_id", id(sale.refund_id.as_ref()))?;
    for (field, text) in [
        ("action", &sale.action),
        ("reason", &sale.reason),
        ("line_type", &sale.line_type),
    ] {
        bounded(field, Some(text.as_str()))?;
    }
    Ok(())
}

fn edit(edit: &OrderEdit<'_>) -> Result<(), InvalidEvent> {
    bounded_id("edit.edit_id", id(edit.edit_id.as_ref()))?;
    for (index, line) in edit.additions.iter().enumerate() {
        bounded_id("line_id", Some(line.line_id.as_str())).map_err(|error| error.within("edit.additions", index))?;
    }
    Ok(())
}

fn details(details: &Details<'_>) -> Result<(), InvalidEvent> {
    bounded("details.locale", details.locale.as_ref().map(Text::as_str))?;
    for (list, values) in [("details.gateways", &details.gateways), ("details.tags", &details.tags)] {
        if let Some(error) = values.iter().find_map(|text| bounded(list, Some(text.as_str())).err()) {
            return Err(error);
        }
    }
    if let Some(utm) = &details.utm {
        texts([
            ("details.utm.source", &utm.source),
            ("details.utm.medium", &utm.medium),
            ("details.utm.campaign", &utm.campaign),
            ("details.utm.term", &utm.term),
            ("details.utm.content", &utm.content),
        ])?;
    }
    for (index, one) in details.discounts.iter().enumerate() {
        discount(one).map_err(|error| error.within("details.discounts", index))?;
    }
    for (index, tax) in details.tax_lines.iter().enumerate() {
        bounded_id("line_id", id(tax.line_id.as_ref()))
            .and_then(|()| bounded_id("shipping_line_id", id(tax.shipping_line_id.as_ref())))
            .and_then(|()| texts([("title", &tax.title)]))
            .map_err(|error| error.within("details.tax_lines", index))?;
    }
    for (index, one) in details.fulfillments.iter().enumerate() {
        fulfillment(one).map_err(|error| error.within("details.fulfillments", index))?;
    }
    attributes("details.note_attributes", &details.note_attributes)
}

fn discount(discount: &Discount<'_>) -> Result<(), InvalidEvent> {
    texts([
        ("type", &discount.kind),
        ("code", &discount.code),
        ("title", &discount.title),
        ("target_type", &discount.target_type),
        ("target_selection", &discount.target_selection),
        ("allocation_method", &discount.allocation_method),
        ("value_type", &discount.value_type),
    ])
}

fn fulfillment(fulfillment: &Fulfillment<'_>) -> Result<(), InvalidEvent> {
    bounded_id("fulfillment_id", id(fulfillment.fulfillment_id.as_ref()))?;
    bounded_id("location_id", id(fulfillment.location_id.as_ref()))?;
    texts([
        ("status", &fulfillment.status),
        ("shipment_status", &fulfillment.shipment_status),
        ("service", &fulfillment.service),
        ("carrier", &fulfillment.carrier),
    ])
}

fn attributes(list: &str, attributes: &[Attribute<'_>]) -> Result<(), InvalidEvent> {
    for (index, attribute) in attributes.iter().enumerate() {
        bounded("name", Some(attribute.name.as_str()))
            .and_then(|()| texts([("value", &attribute.value)]))
            .map_err(|error| error.within(list, index))?;
    }
    Ok(())
}

fn texts<const N: usize>(fields: [(&str, &Option<Text<'_>>); N]) -> Result<(), InvalidEvent> {
    for (field, text) in fields {
        bounded(field, text.as_ref().map(Text::as_str))?;
    }
    Ok(())
}

fn id<'a>(id: Option<&'a Id<'_>>) -> Option<&'a str> {
    id.map(Id::as_str)
}

fn currency(field: &str, currency: Option<&Text<'_>>) -> Result<(), InvalidEvent> {
    match currency {
        Some(currency) if !is_currency(currency.as_str()) => {
            Err(invalid(field, "must be three capital letters (ISO 4217), such as EUR"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether the text has the form of an ISO 4217 code.
#[must_use]
pub fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())
}

fn bounded(field: &str, text: Option<&str>) -> Result<(), InvalidEvent> {
    match text {
        Some(text) if text.len() > MAX_TEXT => Err(invalid(field, "longer than 4096 bytes")),
        Some(text) if text.contains('\0') => Err(invalid(field, "contains a NUL character")),
        Some(_) | None => Ok(()),
    }
}

fn bounded_id(field: &str, id: Option<&str>) -> Result<(), InvalidEvent> {
    // Bytes first: no id is counted that is short anyway.
    if id.is_some_and(|id| id.len() > MAX_ID && id.chars().count() > MAX_ID) {
        return Err(invalid(field, "longer than 255 characters"));
    }
    bounded(field, id)
}

impl InvalidEvent {
    fn within(self, list: &str, index: usize) -> Self {
        Self {
            field: format!("{list}[{index}].{}", self.field),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event::json;

    fn whole() -> Value {
        json!({
            "event_type": "order.created", "event_id": "e-1", "timestamp": "2026-01-31T21:30:02-05:00",
            "order_id": "1", "customer_id": null, "total_amount": 10.5, "currency": "EUR",
            "shop": "one.myshopify.com",
            "items": [
                {"sku": null, "qty": 1, "price": 0.5, "line_id": 7, "current_qty": 1},
                {"sku": "A", "qty": 2, "price": 5},
            ],
            "refunds": [{"refund_id": "9", "amount": 1, "currency": "EUR"}],
        })
    }

    fn judge(event: &Value) -> Result<(), String> {
        let json = event.to_string();
        let event: OrderEvent<'_> = json::parse(json.as_bytes()).map_err(|error| error.to_string())?;
        validate(&event).map_err(|error| error.to_string())
    }

    #[test]
    fn a_good_event_is_valid() {
        assert_eq!(judge(&whole()), Ok(()));
        let mut partial = whole();
        partial["event_type"] = "order.deleted".into();
        partial.as_object_mut().unwrap().remove("items");
        assert_eq!(judge(&partial), Ok(()));
    }

    #[test]
    fn details_are_bounded() {
        for (details, reason) in [
            (
                json!({"fulfillments": [[null, null]]}),
                "details.fulfillments[0]: expected an object",
            ),
            (
                json!({"tax_lines": [{}, {"line_id": "1".repeat(256)}]}),
                "details.tax_lines[1].line_id: longer than 255 characters",
            ),
            (
                json!({"fulfillments": [{"location_id": "1".repeat(256)}]}),
                "details.fulfillments[0].location_id: longer than 255 characters",
            ),
            (
                json!({"tags": ["x".repeat(4097)]}),
                "details.tags: longer than 4096 bytes",
            ),
            (
                json!({"utm": {"term": "x".repeat(4097)}}),
                "details.utm.term: longer than 4096 bytes",
            ),
            (
                json!({"note_attributes": [{"name": "x".repeat(4097)}]}),
                "details.note_attributes[0].name: longer than 4096 bytes",
            ),
        ] {
            let mut event = whole();
            event["details"] = details;
            let error = judge(&event).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn each_bound_has_its_reason() {
        for (pointer, value, reason) in [
            ("/event_type", json!(""), "event_type: missing"),
            ("/event_type", json!("created"), "event_type: must be dotted ASCII"),
            (
                "/event_type",
                json!("order..created"),
                "event_type: must be dotted ASCII",
            ),
            ("/event_type", json!("order.größe"), "event_type: must be dotted ASCII"),
            (
                "/event_type",
                json!(format!("order.{}", "x".repeat(59))),
                "event_type: must be dotted ASCII",
            ),
            ("/event_id", json!(""), "event_id: missing"),
            ("/event_id", json!("x".repeat(129)), "event_id: must be at most 128"),
            ("/event_id", json!("a\nb"), "event_id: must be at most 128"),
            ("/event_id", json!("a\0b"), "event_id: expected a string without NUL"),
            ("/timestamp", json!("yesterday"), "timestamp: expected a point in time"),
            ("/order_id", json!(""), "order_id: missing"),
            ("/order_id", json!("1".repeat(65)), "order_id: must be at most 64"),
            (
                "/order_id",
                json!(1.5),
                "order_id: expected a string without NUL or a whole number",
            ),
            ("/refunds", json!([["9", 1]]), "refunds[0]: expected an object"),
            ("/currency", json!("eur"), "currency: must be three capital letters"),
            ("/currency", json!(null), "currency: missing"),
            ("/items", json!(null), "items: missing"),
            ("/total_amount", json!(null), "total_amount: missing"),
            (
                "/total_amount",
                json!("ten"),
                "total_amount: expected an exact decimal amount",
            ),
            (
                "/items/0/sku",
                json!("x".repeat(4097)),
                "items[0].sku: longer than 4096 bytes",
            ),
            (
                "/refunds/0/currency",
                json!("euros"),
                "refunds[0].currency: must be three",
            ),
            ("/refunds/0/refund_id", json!(""), "refunds[0].refund_id: missing"),
        ] {
            let mut event = whole();
            *event.pointer_mut(pointer).unwrap() = value;
            let shown = judge(&event).unwrap_err();
            assert!(shown.starts_with(reason), "{pointer}: {shown}");
        }
    }

    #[test]
    fn what_no_warehouse_could_store_or_sum_is_refused() {
        for (pointer, value, reason) in [
            (
                "/items/0/qty",
                json!(-1),
                "items[0].qty: expected a whole number from 0 to 1000000000 (line 1, column",
            ),
            (
                "/items/0/qty",
                json!(1_000_000_001),
                "items[0].qty: expected a whole number",
            ),
            (
                "/items/0/current_qty",
                json!(-1),
                "items[0].current_qty: expected a whole",
            ),
            (
                "/items/0/price",
                json!(999_999_999_999_999_i64),
                "items[1].price: times qty, summed over the lines, must be below 10^15",
            ),
            (
                "/items/0/qty",
                json!(999_999_999),
                "items: more than 1000000000 units in all",
            ),
            (
                "/items/0/line_id",
                json!("é".repeat(256)),
                "items[0].line_id: longer than 255",
            ),
            ("/shop", json!("x".repeat(256)), "shop: longer than 255 characters"),
            (
                "/customer_id",
                json!("x".repeat(256)),
                "customer_id: longer than 255 characters",
            ),
            (
                "/refunds/0/refund_id",
                json!("x".repeat(256)),
                "refunds[0].refund_id: longer than 255",
            ),
            (
                "/timestamp",
                json!("9999-12-31T23:59:59-12:00"),
                "timestamp: expected a point in time",
            ),
            (
                "/total_amount",
                json!(1e15),
                "total_amount: expected an exact decimal amount",
            ),
        ] {
            let mut event = whole();
            *event.pointer_mut(pointer).unwrap() = value;
            let shown = judge(&event).unwrap_err();
            assert!(shown.starts_with(reason), "{pointer}: {shown}");
        }
    }

    #[test]
    fn what_is_within_bounds_is_kept() {
        for (pointer, value) in [
            ("/items/0/qty", json!(999_999_998)),
            ("/items/0/price", json!(-999_999_999_999_989_i64)),
            ("/customer_id", json!("é".repeat(255))),
            ("/timestamp", json!("9999-12-31T23:59:59Z")),
        ] {
            let mut event = whole();
            *event.pointer_mut(pointer).unwrap() = value;
            assert_eq!(judge(&event), Ok(()), "{pointer}");
        }
        let mut event = whole();
        event["name"] = "é".repeat(300).into();
        let json = event.to_string();
        let event: OrderEvent<'_> = json::parse(json.as_bytes()).unwrap();
        assert_eq!(event.name.unwrap().as_str(), "é".repeat(255));
    }

    #[test]
    fn what_may_stand_beside_the_payload_may_not_be_missing_altogether() {
        for field in ["event_type", "event_id", "timestamp"] {
            let mut event = whole();
            event.as_object_mut().unwrap().remove(field);
            assert_eq!(judge(&event), Err(format!("{field}: missing")));
        }
    }
}
