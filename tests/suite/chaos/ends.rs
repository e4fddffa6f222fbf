//! Reads where everything ended: rows of PostgreSQL by plain SQL, and dead letters field by field.

use std::collections::HashMap;
use std::pin::pin;

use base64::Engine as _;
use futures_util::TryStreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::{digest, number_in, values};
use super::oracle::{Ends, Letter, OrderState, Row};

const ROWS: &str = "SELECT event_id, event_type, order_id, COALESCE(customer_id, ''), COALESCE(total_amount::text, ''), \
                    COALESCE(currency, ''), payload::text, raw FROM orderstream.order_events";
const ORDERS: &str = "SELECT o.order_id, COALESCE(o.last_event_id, ''), (SELECT count(*) FROM orderstream.order_items i \
                      WHERE i.shop = o.shop AND i.order_id = o.order_id) FROM orderstream.orders o";

/// What of a payload must be as it was sent; amounts digit by digit.
#[derive(Deserialize)]
struct Payload {
    name: String,
    total_amount: Box<RawValue>,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    sku: String,
    qty: u64,
    price: Box<RawValue>,
}

/// The columns of one row of `order_events`, as text.
pub struct Columns {
    pub event_id: String,
    pub event_type: String,
    pub order: String,
    pub customer: String,
    pub amount: String,
    pub currency: String,
    pub payload: String,
    pub raw: Option<Vec<u8>>,
}

impl Columns {
    pub fn read(self) -> Row {
        let (event, values) = match serde_json::from_str::<Payload>(&self.payload) {
            Ok(payload) => (number_in(&payload.name), self.values(&payload)),
            Err(error) => (None, format!("a payload that cannot be read: {error}")),
        };
        Row {
            event,
            event_id: self.event_id,
            order: self.order,
            values,
            body: self
                .raw
                .map(|raw| digest(&zstd::decode_all(&raw[..]).unwrap_or_default())),
        }
    }

    fn values(&self, payload: &Payload) -> String {
        let items: Vec<_> = payload
            .items
            .iter()
            .map(|item| format!("{}*{}@{}", item.sku, item.qty, item.price))
            .collect();
        let amount = if self.amount == payload.total_amount.get() {
            self.amount.clone()
        } else {
            format!("{} in the column, {} in the payload", self.amount, payload.total_amount)
        };
        let items = items.join(";");
        values(
            &self.event_type,
            &self.order,
            &self.customer,
            &amount,
            &self.currency,
            &items,
        )
    }
}

/// The tables of PostgreSQL.
pub async fn of_postgres(session: &tokio_postgres::Client) -> Ends {
    let mut ends = Ends::default();
    let none: [&str; 0] = [];
    let mut rows = pin!(session.query_raw(ROWS, none).await.unwrap());
    while let Some(row) = rows.try_next().await.unwrap() {
        let columns = Columns {
            event_id: row.get(0),
            event_type: row.get(1),
            order: row.get(2),
            customer: row.get(3),
            amount: row.get(4),
            currency: row.get(5),
            payload: row.get(6),
            raw: row.get(7),
        };
        ends.rows.push(columns.read());
    }
    for row in session.query(ORDERS, &[]).await.unwrap() {
        ends.orders.push(OrderState {
            order: row.get(0),
            last_event_id: row.get(1),
            lines: usize::try_from(row.get::<_, i64>(2)).unwrap(),
        });
    }
    ends
}

/// A dead letter with its kept body, or the payload that was no event.
pub fn letter(fields: &HashMap<String, String>) -> Letter {
    let text = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let body = match fields.get("raw") {
        Some(raw) => {
            let packed = base64::engine::general_purpose::STANDARD
                .decode(raw)
                .unwrap_or_default();
            zstd::decode_all(&packed[..]).unwrap_or_default()
        }
        None => text("payload").into_bytes(),
    };
    Letter {
        event: number_in(&String::from_utf8_lossy(&body)),
        event_id: text("event_id"),
        origin: format!("{} {}", text("original_stream"), text("original_id")),
        error: text("error"),
        body: Some(digest(&body)),
    }
}
