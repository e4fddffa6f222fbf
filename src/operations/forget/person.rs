//! Which entries and dead letters are about a person, and what a dead letter is without the person.

use time::OffsetDateTime;

use crate::event::json::members::{members, text};
use crate::event::{self, OrderEvent, Provenance};
use crate::operations::entry_view::{body, last_text};
use crate::shopify;
use crate::stream::codec::{self, Raw};
use crate::stream::{Entry, Fields};
use crate::warehouse::ForgottenSubject;

/// Whom a step is about.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) shop: String,
    /// `None`: every customer of the shop.
    pub(super) customer: Option<String>,
    pub(super) orders: Vec<String>,
}

impl Person {
    /// For the audit log, which must not name the customer.
    pub(super) fn what(&self) -> &'static str {
        match self.customer {
            Some(_) => "a customer",
            None => "every customer",
        }
    }

    /// The entry that tells other groups whom to forget.
    pub(super) fn announcement(&self, event_id: &str) -> serde_json::Result<Fields> {
        let event_type = match self.customer {
            Some(_) => "customer.forgotten",
            None => "shop.forgotten",
        };
        let event = OrderEvent {
            event_type: event_type.into(),
            event_id: event_id.into(),
            timestamp: OffsetDateTime::now_utc().into(),
            shop: Some(self.shop.as_str().into()),
            customer_id: self.customer.as_deref().map(Into::into),
            order_ids: self.orders.iter().map(|id| id.as_str().into()).collect(),
            ..OrderEvent::default()
        };
        let provenance = Provenance {
            source: Some("forget".into()),
            ..Provenance::default()
        };
        codec::encode(&event, &provenance, None)
    }

    /// What the warehouse is to forget.
    pub(super) fn subjects(&self) -> Vec<ForgottenSubject> {
        let customer = match &self.customer {
            Some(id) => ForgottenSubject::customer(&self.shop, id),
            None => ForgottenSubject::shop(&self.shop),
        };
        let orders = self.orders.iter().map(|id| ForgottenSubject::order(&self.shop, id));
        std::iter::once(customer).chain(orders).collect()
    }

    /// Whether something of that shop, customer and order is about the person. What names no shop, such
    /// as a dead letter of the capture, may be of any.
    fn is(&self, shop: &str, customer: Option<&str>, order: Option<&str>) -> bool {
        let is_order = order.is_some_and(|order| self.orders.iter().any(|own| own == order));
        let is_customer = match &self.customer {
            Some(own) => customer == Some(own),
            None => customer.is_some(),
        };
        (shop.is_empty() || shop == self.shop) && (is_customer || is_order)
    }

    fn is_in_payload(&self, entry: &Entry, payload: &[u8]) -> bool {
        let [shop, customer, order] =
            members(payload, ["shop", "customer_id", "order_id"]).map(|value| value.and_then(text));
        let shop = shop.or_else(|| last_text(entry, "shop")).unwrap_or_default();
        self.is(&shop, customer.as_deref(), order.as_deref())
    }

    /// Whether an entry of the stream or a dead letter is about the person.
    pub(super) fn is_in(&self, entry: &Entry, body_limit: usize) -> bool {
        if let Some(payload) = entry.fields.get("payload") {
            return self.is_in_payload(entry, payload);
        }
        let body = body(entry, body_limit).unwrap_or_default();
        let [customer, id] = members(&body, ["customer", "id"]);
        let customer = customer.and_then(|customer| members(customer.get().as_bytes(), ["id"])[0]);
        let customer = customer.or(id.filter(|_| is_customer(entry))).and_then(text);
        let shop = last_text(entry, "shop").unwrap_or_default();
        self.is(&shop, customer.as_deref(), last_text(entry, "order_id").as_deref())
    }
}

/// Whether its body is a customer.
fn is_customer(entry: &Entry) -> bool {
    last_text(entry, "topic").is_some_and(|topic| topic.to_ascii_lowercase().starts_with("customers"))
}

/// The fields of a dead letter without what is personal, and without the customer in its body. A body
/// that is no JSON, or the customer's own, goes.
pub(super) fn without_person(dead_letter: &Entry, body_limit: usize) -> Fields {
    let body = body(dead_letter, body_limit).filter(|_| !is_customer(dead_letter));
    let body = body.and_then(|body| shopify::without_customer(&body));
    let mut raw = body.and_then(|body| Raw::redacted(&body).ok());
    let mut fields = Fields::default();
    for (name, value) in &dead_letter.fields.0 {
        match &**name {
            "payload" => {
                let payload = std::str::from_utf8(value).ok().and_then(event::without_person);
                fields.push("payload", payload.unwrap_or_default());
            }
            "raw" => {
                if let Some(raw) = raw.take() {
                    codec::push_raw(&mut fields, raw);
                }
            }
            "raw_encoding" => {}
            _ => fields.0.push((name.clone(), value.clone())),
        }
    }
    fields
}
