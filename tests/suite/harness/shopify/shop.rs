//! The state of the shop, which a test may read and change at any time.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::bulk::Bulk;
use super::render::instant;

/// Domain of the shop; the webhooks of `Service::deliver` name the same.
pub const SHOP: &str = "tests.myshopify.com";
/// A token without an end.
pub const FIXED_TOKEN: &str = "shpat_fixed_token_of_the_tests";
pub const CLIENT_ID: &str = "client id of the tests";
pub const CLIENT_SECRET: &str = "client secret of the tests";

/// What happens to the next request in place of its answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// That status, with that `Retry-After`.
    Status(u16, Option<&'static str>),
    /// The connection ends without an answer.
    Reset,
    /// Status 200 and these errors.
    Errors(Value),
}

/// An order, as its newest webhook would show it.
#[derive(Debug, Clone)]
pub struct FakeOrder {
    /// Body of `orders/updated`, compressed: there may be very many.
    body: Vec<u8>,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    /// Searches see it `search_lag` later.
    pub changed: Instant,
}

impl FakeOrder {
    fn new(body: &Value) -> Self {
        let mut compressed = DeflateEncoder::new(Vec::new(), Compression::fast());
        serde_json::to_writer(&mut compressed, body).unwrap();
        Self {
            body: compressed.finish().unwrap(),
            created_at: instant(&body["created_at"]),
            updated_at: instant(&body["updated_at"]),
            changed: Instant::now(),
        }
    }

    pub fn body(&self) -> Value {
        serde_json::from_reader(DeflateDecoder::new(&*self.body)).unwrap()
    }
}

/// Cost of queries against a bucket that refills.
#[derive(Debug)]
pub struct Bucket {
    pub maximum: f64,
    pub restore_rate: f64,
    pub available: f64,
    at: Instant,
}

pub struct Shop {
    pub domain: String,
    pub timezone: &'static str,
    pub currency: &'static str,
    pub scopes: Vec<&'static str>,
    /// Handle, and whether it is supported.
    pub versions: Vec<(&'static str, bool)>,
    /// Tokens that are accepted, with their end.
    pub tokens: BTreeMap<String, Option<Instant>>,
    /// Life of what the client-credentials grant issues.
    pub token_life: Duration,
    pub grants: usize,
    pub bucket: Bucket,
    pub faults: VecDeque<Fault>,
    /// The next such operation is carried out and not answered.
    pub stall_at: Option<&'static str>,
    pub orders: BTreeMap<u64, FakeOrder>,
    /// Ids of deleted orders, and when (RFC 3339, UTC).
    pub deletions: Vec<(u64, String)>,
    pub search_lag: Duration,
    /// As `webhookSubscriptions` shows them.
    pub subscriptions: Vec<Value>,
    /// Whether a changed subscription has the fields that it had.
    pub keeps_fields: bool,
    /// What Shopify says against a new subscription.
    pub refusal: Option<&'static str>,
    /// Operation names and variables, in the order in which they were answered.
    pub requests: Vec<(String, Value)>,
    pub bulk: Bulk,
    last_id: u64,
}

impl Default for Shop {
    fn default() -> Self {
        Self {
            domain: SHOP.to_owned(),
            timezone: "America/New_York",
            currency: "EUR",
            scopes: vec![
                "read_orders",
                "read_all_orders",
                "read_customers",
                "read_products",
                "read_locations",
            ],
            versions: vec![
                ("2026-01", true),
                ("2026-04", true),
                ("2026-07", true),
                ("2026-10", true),
                ("2027-01", false),
                ("unstable", false),
            ],
            tokens: BTreeMap::from([(FIXED_TOKEN.to_owned(), None)]),
            token_life: Duration::from_secs(86_399),
            grants: 0,
            bucket: Bucket {
                maximum: 2000.0,
                restore_rate: 100.0,
                available: 2000.0,
                at: Instant::now(),
            },
            faults: VecDeque::new(),
            stall_at: None,
            orders: BTreeMap::new(),
            deletions: Vec::new(),
            search_lag: Duration::ZERO,
            subscriptions: Vec::new(),
            keeps_fields: false,
            refusal: None,
            requests: Vec::new(),
            bulk: Bulk::default(),
            last_id: 1_000_000_000_000,
        }
    }
}

impl Shop {
    /// Creates or changes an order; `body` is what `orders/updated` sends.
    pub fn put(&mut self, body: Value) {
        let id = body["id"].as_u64().unwrap();
        self.orders.insert(id, FakeOrder::new(&body));
    }

    /// Deletes an order at that time (RFC 3339, UTC).
    pub fn delete(&mut self, id: u64, at: &str) {
        self.orders.remove(&id).unwrap();
        self.deletions.push((id, at.to_owned()));
    }

    /// A subscription without faults, as this program creates it.
    pub fn subscribe(&mut self, topic: &str, uri: &str) -> &mut Value {
        let id = self.next_id();
        let name = format!("orderstream-{}", topic.to_ascii_lowercase().replace('_', "-"));
        self.subscriptions.push(json!({
            "id": format!("gid://shopify/WebhookSubscription/{id}"), "topic": topic, "uri": uri, "format": "JSON",
            "filter": "", "includeFields": [], "metafieldNamespaces": [], "name": name,
            "apiVersion": {"handle": "2026-07", "supported": true},
            "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
        }));
        self.subscriptions.last_mut().unwrap()
    }

    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// How often an operation was answered.
    pub fn asked(&self, operation: &str) -> usize {
        self.requests.iter().filter(|(name, _)| name == operation).count()
    }

    /// Whether a token is good now.
    pub fn accepts(&self, token: &str) -> bool {
        let until = self.tokens.get(token);
        until.is_some_and(|until| until.is_none_or(|until| Instant::now() < until))
    }

    /// Takes the points of a query and answers the cost block, `Err` with it where there are too few.
    pub fn charge(&mut self, requested: f64, actual: f64) -> Result<Value, Value> {
        let bucket = &mut self.bucket;
        let passed = bucket.at.elapsed().as_secs_f64();
        bucket.at = Instant::now();
        bucket.available = (bucket.available + passed * bucket.restore_rate).min(bucket.maximum);
        let is_enough = requested <= bucket.available;
        if is_enough {
            bucket.available -= actual;
        }
        let block = json!({"cost": {
            "requestedQueryCost": requested, "actualQueryCost": is_enough.then_some(actual),
            "throttleStatus": {
                "maximumAvailable": bucket.maximum, "currentlyAvailable": bucket.available.floor(),
                "restoreRate": bucket.restore_rate,
            },
        }});
        if is_enough { Ok(block) } else { Err(block) }
    }
}
