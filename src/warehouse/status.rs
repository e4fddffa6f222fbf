//! `orders.status`: the state of an order in one word.
//!
//! Pure table. The strongest statement wins: cancelled, then money gone back or never to come, then
//! fulfilment, then payment. Where the order states none of them, the type of the event counts,
//! unless a header named it.

use crate::event::OrderEvent;

/// Word for `orders.status`; one of `cancelled`, `refunded`, `voided`, `fulfilled`,
/// `partially_fulfilled`, `partially_refunded`, `paid`, `partially_paid`, `authorized`, `pending`,
/// `open`. `source` is that of the event's provenance.
#[must_use]
pub fn status(event: &OrderEvent<'_>, source: Option<&str>) -> &'static str {
    let financial = event.financial_status.as_ref().map(|text| text.as_str());
    let fulfillment = event.fulfillment_status.as_ref().map(|text| text.as_str());
    if event.cancelled_at.is_some() {
        return "cancelled";
    }
    if financial.is_none() && fulfillment.is_none() {
        // The type of a webhook comes from a header, which is not signed.
        return if source == Some("shopify") {
            "open"
        } else {
            of_type(event.event_type.as_str())
        };
    }
    match (financial, fulfillment) {
        (Some("refunded"), _) => "refunded",
        (Some("voided"), _) => "voided",
        (_, Some("fulfilled")) => "fulfilled",
        (_, Some("partial" | "partially_fulfilled")) => "partially_fulfilled",
        (Some("partially_refunded"), _) => "partially_refunded",
        (Some("paid"), _) => "paid",
        (Some("partially_paid"), _) => "partially_paid",
        (Some("authorized"), _) => "authorized",
        (Some("pending"), _) => "pending",
        _ => "open",
    }
}

fn of_type(event_type: &str) -> &'static str {
    match event_type {
        "order.cancelled" => "cancelled",
        "order.fulfilled" => "fulfilled",
        "order.partially_fulfilled" => "partially_fulfilled",
        "order.paid" => "paid",
        _ => "open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(event_type: &str, fields: &str) -> &'static str {
        let json = format!(
            r#"{{"event_type":"{event_type}","event_id":"e","timestamp":"2026-01-31T09:30:00Z","order_id":"1",
                "total_amount":1,"currency":"EUR","items":[]{fields}}}"#
        );
        status(&serde_json::from_str(&json).unwrap(), Some("batch"))
    }

    #[test]
    fn a_header_cancels_nothing() {
        let json = r#"{"event_type":"order.cancelled","event_id":"e","timestamp":"2026-01-31T09:30:00Z",
            "order_id":"1","total_amount":1,"currency":"EUR","items":[]}"#;
        assert_eq!(status(&serde_json::from_str(json).unwrap(), Some("shopify")), "open");
    }

    #[test]
    fn the_strongest_statement_wins() {
        let cancelled = r#","cancelled_at":"2026-01-31T09:31:00Z""#;
        for (event_type, fields, expected) in [
            ("order.created", "", "open"),
            ("order.updated", "", "open"),
            ("order.paid", "", "paid"),
            ("order.fulfilled", "", "fulfilled"),
            ("order.partially_fulfilled", "", "partially_fulfilled"),
            ("order.cancelled", "", "cancelled"),
            ("shop.invented", "", "open"),
            ("order.created", cancelled, "cancelled"),
            ("order.created", r#","financial_status":"pending""#, "pending"),
            ("order.paid", r#","financial_status":"pending""#, "pending"),
            ("order.created", r#","financial_status":"authorized""#, "authorized"),
            (
                "order.created",
                r#","financial_status":"partially_paid""#,
                "partially_paid",
            ),
            ("order.created", r#","financial_status":"paid""#, "paid"),
            ("order.created", r#","financial_status":"new word""#, "open"),
            ("order.created", r#","fulfillment_status":"fulfilled""#, "fulfilled"),
            (
                "order.created",
                r#","financial_status":"paid","fulfillment_status":"fulfilled""#,
                "fulfilled",
            ),
            (
                "order.created",
                r#","financial_status":"paid","fulfillment_status":"partial""#,
                "partially_fulfilled",
            ),
            (
                "order.created",
                r#","financial_status":"partially_refunded","fulfillment_status":"restocked""#,
                "partially_refunded",
            ),
            (
                "order.fulfilled",
                r#","financial_status":"refunded","fulfillment_status":"fulfilled""#,
                "refunded",
            ),
            ("order.updated", r#","financial_status":"voided""#, "voided"),
        ] {
            assert_eq!(judged(event_type, fields), expected, "{event_type} {fields}");
        }
        let both = format!(r#"{cancelled},"financial_status":"refunded""#);
        assert_eq!(judged("order.updated", &both), "cancelled");
    }
}
