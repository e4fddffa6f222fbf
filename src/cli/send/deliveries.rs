//! Body, headers and signature of each delivery, as Shopify makes them, or corrupted on purpose.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::mix::{DeliveryKind, Mix, PlannedDelivery};
use crate::cli::Failure;
use crate::config::Secret;
use crate::sample_orders::Generator;

const API_VERSION: &str = "2026-04";
/// A topic that the service does not support.
const UNKNOWN_TOPIC: &str = "products/update";

/// Makes deliveries by number; the same number gives the same delivery.
pub(super) struct Deliveries {
    mix: Mix,
    bodies: Bodies,
    run: Uuid,
    /// Newest first; never empty.
    signers: Vec<Hmac<Sha256>>,
    shop: String,
    started: OffsetDateTime,
}

/// Where bodies come from.
pub(super) enum Bodies {
    /// One body of that topic for each order.
    OfTopic(Generator, String),
    /// Histories of orders, from creation on.
    Histories(Generator),
    /// These in turn, with that topic.
    Files(Vec<Bytes>, String),
}

impl Bodies {
    /// Reads the files, all of them before the first is sent.
    pub(super) fn read(files: &[PathBuf], topic: String) -> Result<Self, Failure> {
        let read = |path: &PathBuf| {
            let unreadable = |error| Failure::Usage(format!("error: --file {}: {error}\n", path.display()));
            std::fs::read(path).map(Bytes::from).map_err(unreadable)
        };
        Ok(Self::Files(files.iter().map(read).collect::<Result<_, _>>()?, topic))
    }

    /// How many bodies one order has.
    pub(super) fn steps(&self, order: u64) -> usize {
        match self {
            Self::Histories(generator) => generator.history(order).len(),
            Self::OfTopic(..) | Self::Files(..) => 1,
        }
    }
}

/// One delivery, ready to be sent.
pub(super) struct TestDelivery {
    pub(super) kind: DeliveryKind,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A webhook before it is signed.
struct Message {
    topic: String,
    body: Bytes,
    triggered_at: OffsetDateTime,
}

impl Deliveries {
    /// `run` makes webhook ids distinct from those of other runs; `secrets` are ordered newest
    /// first.
    pub(super) fn new(mix: Mix, bodies: Bodies, run: u64, secrets: &[Secret], shop: String) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("error: {error}\n"));
        let signer = |secret: &Secret| Hmac::new_from_slice(secret.expose_secret().as_bytes());
        let signers: Vec<_> = secrets
            .iter()
            .map(signer)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(&error))?;
        let topic = match &bodies {
            Bodies::OfTopic(_, topic) | Bodies::Files(_, topic) => topic.as_str(),
            Bodies::Histories(_) => UNKNOWN_TOPIC,
        };
        if [topic, shop.as_str()]
            .into_iter()
            .any(|text| HeaderValue::try_from(text).is_err())
        {
            return Err(wrong(&"--topic and --shop go over HTTP as one line of ASCII"));
        }
        Ok(Self {
            mix,
            bodies,
            run: Uuid::new_v5(&Uuid::NAMESPACE_OID, &run.to_be_bytes()),
            signers,
            shop,
            started: OffsetDateTime::now_utc(),
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.mix.count()
    }

    /// Delivery `number`; `None` after the last.
    pub(super) fn make(&self, number: u64) -> Option<TestDelivery> {
        let item = self.mix.item(number)?;
        let mut message = self.message(item);
        if item.kind == DeliveryKind::Malformed {
            message.corrupt(item.id);
        }
        let id = |what: &str| {
            Uuid::new_v5(&self.run, format!("{what} {} {}", message.topic, item.id).as_bytes()).to_string()
        };
        let headers = [
            ("content-type", Some("application/json".to_owned())),
            ("x-shopify-topic", Some(message.topic.clone())),
            ("x-shopify-shop-domain", Some(self.shop.clone())),
            ("x-shopify-api-version", Some(API_VERSION.to_owned())),
            ("x-shopify-webhook-id", Some(id("webhook"))),
            ("x-shopify-event-id", Some(id("event"))),
            ("x-shopify-triggered-at", message.triggered_at.format(&Rfc3339).ok()),
            ("x-shopify-hmac-sha256", self.signature(item, &message.body)),
        ];
        let valued = headers.into_iter().filter_map(|(name, value)| {
            let value = HeaderValue::try_from(value?).ok()?;
            Some((http::HeaderName::from_static(name), value))
        });
        Some(TestDelivery {
            kind: item.kind,
            headers: valued.collect(),
            body: message.body,
        })
    }

    fn message(&self, item: PlannedDelivery) -> Message {
        // A millisecond apart, so that deliveries with the same `updated_at` have an order.
        let now = self.started + std::time::Duration::from_millis(item.id);
        let (topic, body, triggered_at) = match &self.bodies {
            Bodies::OfTopic(generator, topic) => {
                let body = generator.body(topic, &self.shop, item.order);
                (topic.clone(), Bytes::from(body), now)
            }
            Bodies::Histories(generator) => {
                let history = generator.history(item.order);
                let step = history.get(item.step).unwrap_or(&history[0]);
                let body = generator.step(*step, &self.shop, item.order);
                let at = generator.triggered_at(*step, item.step, item.order);
                (step.topic.to_owned(), Bytes::from(body), at)
            }
            Bodies::Files(files, topic) => {
                let turn = usize::try_from(item.id).unwrap_or_default() % files.len().max(1);
                (topic.clone(), files.get(turn).cloned().unwrap_or_default(), now)
            }
        };
        Message {
            topic,
            body,
            triggered_at,
        }
    }

    /// Base64 of the HMAC; of a bad one, that of another body, cut short, or none.
    fn signature(&self, item: PlannedDelivery, body: &[u8]) -> Option<String> {
        let place = usize::from(item.kind == DeliveryKind::OldSecret);
        let mut signer = self.signers.get(place).or(self.signers.first())?.clone();
        signer.update(body);
        if item.kind != DeliveryKind::BadSignature {
            return Some(STANDARD.encode(signer.finalize().into_bytes()));
        }
        signer.update(b" of another body");
        let signature = signer.finalize().into_bytes();
        match item.id % 3 {
            0 => Some(STANDARD.encode(signature)),
            1 => Some(STANDARD.encode(&signature[..20])),
            _ => None,
        }
    }
}

impl Message {
    /// Makes it something that cannot become an event.
    fn corrupt(&mut self, way: u64) {
        let body = match way % 6 {
            0 => self.body.slice(..self.body.len() / 2),
            1 => Bytes::from_static(b"\xff\xfe not JSON \x00"),
            2 => Bytes::from_static(b"{}"),
            3 => Bytes::from_static(b"[]"),
            4 => Bytes::new(),
            _ => {
                UNKNOWN_TOPIC.clone_into(&mut self.topic);
                return;
            }
        };
        self.body = body;
    }
}
