//! What an event must be like, whoever wrote it.
//!
//! Owns the bounds. Amounts need none here: an [`Amount`](super::Amount) is exact and fits any `numeric` by type.

use super::{Item, OrderEvent, Refund, Text, WHOLE};

/// Longest text of any field, in bytes. Shopify's own limits are far below.
const MAX_TEXT: usize = 4096;
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

/// Checks the whole event.
///
/// # Errors
/// The first field that is not as it must be.
pub fn validate(event: &OrderEvent<'_>) -> Result<(), InvalidEvent> {
    validate_identity(event)?;
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
    bounded("shop", event.shop.as_ref().map(Text::as_str))?;
    bounded("customer_id", event.customer_id.as_ref().map(|id| id.as_str()))?;
    bounded("name", event.name.as_ref().map(Text::as_str))?;
    bounded("financial_status", event.financial_status.as_ref().map(Text::as_str))?;
    bounded(
        "fulfillment_status",
        event.fulfillment_status.as_ref().map(Text::as_str),
    )?;
    bounded("source_name", event.source_name.as_ref().map(Text::as_str))?;
    for (index, line) in event.items.iter().flatten().enumerate() {
        item(line).map_err(|error| error.within("items", index))?;
    }
    for (index, given_back) in event.refunds.iter().flatten().enumerate() {
        refund(given_back).map_err(|error| error.within("refunds", index))?;
    }
    Ok(())
}

/// Checks only what an event cannot be stored without: type, id, time, order.
///
/// # Errors
/// The first of them that is missing or out of bounds.
pub fn validate_identity(event: &OrderEvent<'_>) -> Result<(), InvalidEvent> {
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
    if order_id.is_empty() {
        return Err(invalid("order_id", "missing"));
    }
    if order_id.chars().count() > MAX_ORDER_ID || order_id.chars().any(char::is_control) {
        return Err(invalid("order_id", "must be at most 64 printable characters"));
    }
    Ok(())
}

fn item(item: &Item<'_>) -> Result<(), InvalidEvent> {
    if item.qty < 0 {
        return Err(invalid("qty", "must not be negative"));
    }
    bounded("sku", item.sku.as_ref().map(|id| id.as_str()))?;
    bounded("line_id", item.line_id.as_ref().map(|id| id.as_str()))?;
    bounded("variant_id", item.variant_id.as_ref().map(|id| id.as_str()))?;
    bounded("product_id", item.product_id.as_ref().map(|id| id.as_str()))?;
    bounded("title", item.title.as_ref().map(Text::as_str))
}

fn refund(refund: &Refund<'_>) -> Result<(), InvalidEvent> {
    if refund.refund_id.as_str().is_empty() {
        return Err(invalid("refund_id", "missing"));
    }
    bounded("refund_id", Some(refund.refund_id.as_str()))?;
    currency("currency", refund.currency.as_ref())
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
            "items": [{"sku": null, "qty": 1, "price": 10.5}],
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
        let mut thin = whole();
        thin["event_type"] = "order.deleted".into();
        thin.as_object_mut().unwrap().remove("items");
        assert_eq!(judge(&thin), Ok(()));
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
            ("/currency", json!("eur"), "currency: must be three capital letters"),
            ("/currency", json!(null), "currency: missing"),
            ("/items", json!(null), "items: missing"),
            ("/total_amount", json!(null), "total_amount: missing"),
            (
                "/total_amount",
                json!("ten"),
                "total_amount: expected an exact decimal amount",
            ),
            ("/items/0/qty", json!(-1), "items[0].qty: must not be negative"),
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
    fn what_may_stand_beside_the_payload_may_not_be_missing_altogether() {
        for field in ["event_type", "event_id", "timestamp"] {
            let mut event = whole();
            event.as_object_mut().unwrap().remove(field);
            assert_eq!(judge(&event), Err(format!("{field}: missing")));
        }
    }
}
