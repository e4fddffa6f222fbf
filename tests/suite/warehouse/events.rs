//! Events as a worker would hand them over.

use orderstream::event::{EventRecord, OrderEvent, Provenance};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

pub const ARRIVAL: OffsetDateTime = datetime!(2026-02-01 12:00:00 UTC);

/// Events that own their payloads.
#[derive(Debug, Clone)]
pub struct Sample {
    pub payload: String,
    pub triggered_at: Option<OffsetDateTime>,
}

impl From<Value> for Sample {
    fn from(event: Value) -> Self {
        Self {
            payload: event.to_string(),
            triggered_at: None,
        }
    }
}

/// As records, in order.
pub fn records(samples: &[Sample]) -> Vec<EventRecord<'_>> {
    samples.iter().map(record).collect()
}

pub fn record(sample: &Sample) -> EventRecord<'_> {
    EventRecord {
        event: serde_json::from_str::<OrderEvent<'_>>(&sample.payload).unwrap(),
        payload: &sample.payload,
        provenance: Provenance {
            source: Some("shopify".into()),
            ..Provenance::default()
        },
        triggered_at: sample.triggered_at,
        stream_id: "1769947200000-0".into(),
        received_at: ARRIVAL,
        raw: None,
        is_erased: false,
    }
}

/// A whole order: one line of `qty` units at 10.00, so many seconds after the first version.
pub fn order(event_id: &str, order_id: &str, qty: i64, seconds: i64) -> Value {
    let at = (datetime!(2026-01-31 09:30:00 UTC) + time::Duration::seconds(seconds))
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    json!({
        "event_type": "order.updated", "event_id": event_id, "timestamp": at, "order_id": order_id,
        "customer_id": "900", "total_amount": qty * 10, "currency": "EUR", "shop": "one.myshopify.com",
        "items": [{"sku": "A", "qty": qty, "price": 10}]
    })
}
