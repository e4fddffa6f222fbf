//! The parts of one webhook's way that are nothing but computing, one by one: for counting instructions, which are the
//! same on a busy machine (`valgrind --tool=callgrind`), and for the fastest time each was seen to take.
//!
//! `bench-hot` prints nanoseconds of all parts; `bench-hot PART COUNT` runs one part so often and prints nothing.

#![recursion_limit = "256"]

use std::hint::black_box;
use std::time::Instant;

use anyhow::Context as _;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use orderstream::event::{OrderEvent, Provenance, json, validate};
use orderstream::shopify::{self, DeliveryHints, Keyring, Topic};
use orderstream::stream::{Entry, StreamId, codec};

#[allow(dead_code, reason = "the load generator's, of which this needs the orders")]
#[path = "../orders.rs"]
mod orders;

/// Calls of one timing, and timings of which the fastest counts.
const CALLS: u32 = 500;
const TIMINGS: u32 = 40;

/// One webhook with all that its parts need.
struct Webhook {
    headers: HeaderMap,
    body: Vec<u8>,
    keyring: Keyring,
    entry: Entry,
    item: String,
}

type Part = (&'static str, fn(&Webhook) -> anyhow::Result<()>);

const PARTS: [Part; 8] = [
    ("hints", |webhook| {
        black_box(DeliveryHints::new(&webhook.headers));
        Ok(())
    }),
    ("verify", |webhook| {
        let signature = shopify::signature(&webhook.headers)?;
        black_box(webhook.keyring.claim(None, signature)?.verify(&webhook.body)?);
        Ok(())
    }),
    ("digest", |webhook| {
        black_box(shopify::digest(&webhook.body));
        Ok(())
    }),
    ("identity", |webhook| {
        black_box(shopify::event_id(&DeliveryHints::new(&webhook.headers), &webhook.body));
        Ok(())
    }),
    ("convert", |webhook| {
        let hints = DeliveryHints::new(&webhook.headers);
        black_box(event(webhook, &hints)?);
        Ok(())
    }),
    ("convert + encode", |webhook| {
        let hints = DeliveryHints::new(&webhook.headers);
        let event = event(webhook, &hints)?;
        black_box(codec::encode(
            &event,
            &hints.provenance(time::OffsetDateTime::UNIX_EPOCH),
            None,
        )?);
        Ok(())
    }),
    ("batch item", |webhook| {
        let event: OrderEvent<'_> = json::parse(webhook.item.as_bytes())?;
        validate(&event)?;
        black_box(codec::encode(&event, &Provenance::default(), None)?);
        Ok(())
    }),
    ("decode", |webhook| {
        black_box(codec::decode(&webhook.entry)?);
        Ok(())
    }),
];

fn main() -> anyhow::Result<()> {
    let webhook = Webhook::new()?;
    let mut args = std::env::args().skip(1);
    let Some(chosen) = args.next() else {
        for (name, part) in PARTS {
            println!("{name}: {} ns", fastest(part, &webhook)?);
        }
        return Ok(());
    };
    let count: u32 = args.next().context("how often?")?.parse()?;
    let found = PARTS.iter().find(|(name, _)| *name == chosen);
    let (_, part) = found.context("no such part")?;
    for _ in 0..count {
        part(&webhook)?;
    }
    Ok(())
}

fn fastest(part: fn(&Webhook) -> anyhow::Result<()>, webhook: &Webhook) -> anyhow::Result<u128> {
    let mut fastest = u128::MAX;
    for _ in 0..TIMINGS {
        let since = Instant::now();
        for _ in 0..CALLS {
            part(webhook)?;
        }
        fastest = fastest.min(since.elapsed().as_nanos() / u128::from(CALLS));
    }
    Ok(fastest)
}

fn event<'a>(webhook: &'a Webhook, hints: &'a DeliveryHints<'a>) -> anyhow::Result<OrderEvent<'a>> {
    let topic = Topic::parse(hints.topic)?;
    let event_id = uuid::Uuid::from_u128(7);
    let received_at = time::OffsetDateTime::UNIX_EPOCH;
    Ok(shopify::convert(topic, &webhook.body, hints, event_id, received_at)?)
}

impl Webhook {
    fn new() -> anyhow::Result<Self> {
        let orders = orders::Orders::new(orders::USUAL_LINES);
        let mut request = orders::Request::default();
        let [head, shared, rest] = orders.write(1, &mut request);
        let mut headers = HeaderMap::new();
        for line in std::str::from_utf8(head)?.lines().skip(1) {
            if let Some((name, value)) = line.split_once(": ") {
                headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
            }
        }
        let mut webhook = Self {
            body: [shared, rest].concat(),
            headers,
            keyring: Keyring::new(&[orders::SECRET.into()])?,
            entry: Entry {
                id: StreamId::new(1, 1),
                fields: Default::default(),
            },
            item: orders::Batches::new(1).event(1).1,
        };
        let hints = DeliveryHints::new(&webhook.headers);
        let fields = codec::encode(
            &event(&webhook, &hints)?,
            &hints.provenance(time::OffsetDateTime::UNIX_EPOCH),
            None,
        )?;
        webhook.entry.fields = fields;
        Ok(webhook)
    }
}
