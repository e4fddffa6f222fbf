//! Bodies and batches that nobody would send, from a seed. Each that is answered with a 200 ends once, in the warehouse or
//! in the dead letters; what intake took no warehouse refuses; and PostgreSQL and the file, which load the same stream,
//! say the same in every table and view.
//!
//! `scripts/chaos --scene bodies` runs it for as long as one likes, from any seed.

mod mutation;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::Value;

use self::mutation::{Mutator, Request};
use super::Store;
use super::both::{EVERYTHING, comparable};
use super::store::{Answer, query};
use crate::chaos::given;
use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::service::{Service, TOKEN, webhook};
use crate::harness::site::{PATIENCE, Site};

const SECONDS: u64 = 20;
/// Requests before the first comparison.
const ROUND: usize = 600;
const AT_ONCE: usize = 8;

/// Their figures are floats in the file.
const VIEWS: [&str; 11] = [
    "payments",
    "daily_payments",
    "order_discounts",
    "order_tax_lines",
    "order_shipping_lines",
    "sales",
    "refund_reversals",
    "order_sales",
    "daily_sales",
    "product_sales",
    "customer_orders",
];

/// What a float may lose of the greatest figure that can be part of a sum.
fn tolerance(answer: &Answer) -> f64 {
    let figures = answer.rows.iter().flatten().filter_map(|cell| cell.parse::<f64>().ok());
    let greatest = figures
        .filter(|figure| figure.is_finite())
        .fold(0.0, |most: f64, one| most.max(one.abs()));
    (greatest * 1e-14).max(2e-6)
}

fn is_close(found: &str, expected: &str, tolerance: f64) -> bool {
    let both = found.parse::<f64>().ok().zip(expected.parse::<f64>().ok());
    found == expected || both.is_some_and(|(found, expected)| (found - expected).abs() <= tolerance)
}

/// What was promised, by event id.
#[derive(Default)]
struct Promised {
    rows: BTreeSet<String>,
    letters: BTreeSet<String>,
}

/// Two processes on one stream: one loads PostgreSQL and takes what is sent, the other loads a file.
struct Pair {
    site: Site,
    folder: Local,
    postgres: Service,
    file: Service,
    client: reqwest::Client,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_ends_once_and_alike_in_both_warehouses() {
    let seed = given("ORDERSTREAM_CHAOS_SEED", 1);
    let end = Instant::now() + Duration::from_secs(given("ORDERSTREAM_CHAOS_SECONDS", SECONDS));
    eprintln!("fuzz: scripts/chaos --scene bodies --seed {seed}");
    let pair = Pair::start().await;
    let mut mutator = Mutator::new(seed);
    let mut promised = Promised::default();
    let mut requests = 0;
    while requests == 0 || Instant::now() < end {
        // Longer and longer: each comparison takes in all that came before.
        let round = mutator.requests(ROUND.max(requests / 4));
        let sent = futures_util::stream::iter(&round).map(|request| pair.send(request));
        let answers: Vec<_> = sent.buffer_unordered(AT_ONCE).collect().await;
        for answer in answers.into_iter().flatten() {
            promised.note(answer);
        }
        requests += round.len();
        pair.agrees(&promised, &format!("seed {seed}, after {requests} requests"))
            .await;
    }
    eprintln!(
        "fuzz: {requests} requests; {} events loaded, {} deliveries quarantined",
        promised.rows.len(),
        promised.letters.len()
    );
    assert!(!promised.rows.is_empty() && !promised.letters.is_empty());
}

/// Event id and status.
type Taken = (String, String);

impl Promised {
    fn note(&mut self, (event_id, status): Taken) {
        match status.as_str() {
            "accepted" | "duplicate" => self.rows.insert(event_id),
            "quarantined" => self.letters.insert(event_id),
            other => panic!("answered {other}"),
        };
    }
}

impl Pair {
    async fn start() -> Self {
        let (site, folder) = (Site::new().await, Local::new());
        let settings = site
            .settings()
            .with("ORDERSTREAM_KEEP_RAW", "full")
            .with("ORDERSTREAM_SHOP_BINDING", "off")
            .with("RUST_LOG", "warn");
        let files = folder
            .settings()
            .with("REDIS_URL", &site.redis.url())
            .with("ORDERSTREAM_GROUP", "files")
            .with("ORDERSTREAM_DEAD_LETTER_STREAM", "dead_letters_of_files")
            .with("RUST_LOG", "warn");
        Self {
            postgres: Service::start("run", &settings).await,
            file: Service::start("run", &files).await,
            site,
            folder,
            client: reqwest::Client::new(),
        }
    }

    /// Answers what was taken, and where it must end.
    async fn send(&self, request: &Request) -> Vec<Taken> {
        let url = self.postgres.url("");
        let (builder, is_webhook) = match request {
            Request::Webhook {
                topic,
                id,
                headers,
                body,
            } => {
                let mut builder = webhook(&self.client, &url, topic, id, body);
                for (name, value) in headers {
                    builder = builder.header(*name, value);
                }
                (builder, true)
            }
            Request::Batch(body) => {
                let builder = self.client.post(format!("{url}/events/batch"));
                (builder.bearer_auth(TOKEN).body(body.clone()), false)
            }
        };
        let answer = builder.send().await.unwrap();
        let status = answer.status().as_u16();
        let fits = status == 200 || (!is_webhook && matches!(status, 400 | 422));
        assert!(fits, "{status} for {request:?}");
        let answer: Value = answer.json().await.unwrap();
        let one = |one: &Value| Some((one["event_id"].as_str()?.to_owned(), one["status"].as_str()?.to_owned()));
        match answer["results"].as_array() {
            Some(results) => {
                let taken = results.iter().filter(|result| result["status"] != "invalid");
                taken.filter_map(one).collect()
            }
            None => one(&answer).into_iter().filter(|_| is_webhook).collect(),
        }
    }

    async fn agrees(&self, promised: &Promised, when: &str) {
        for group in ["pipeline_workers", "files"] {
            eventually(&format!("{group} has loaded all"), PATIENCE, async || {
                self.is_done(group).await.then_some(())
            })
            .await;
        }
        self.each_ended_once(promised, when).await;
        let path = self.folder.data_dir().join("warehouse.db");
        let connection = rusqlite::Connection::open(path).unwrap();
        for name in EVERYTHING {
            // A span of two thousand years in seconds is no exact float.
            let columns = if name == "hourly_arrivals" {
                "hour, source, event_type, events"
            } else {
                "*"
            };
            let sql = format!("SELECT {columns} FROM {name}");
            let expected = comparable(self.site.database().query(&sql).await);
            let found = comparable(query(&connection, &sql));
            let tolerance = if VIEWS.contains(&name) {
                tolerance(&expected)
            } else {
                0.0
            };
            for (found, expected) in found.rows.iter().zip(&expected.rows) {
                let differs = |(found, expected): (&String, &String)| !is_close(found, expected, tolerance);
                let differs = found.iter().zip(expected).any(differs);
                assert!(
                    !differs,
                    "{name}: the file has {found:?}, PostgreSQL {expected:?}: {when}"
                );
            }
            assert_eq!(found.rows.len(), expected.rows.len(), "{name}: {when}");
        }
        for service in [&self.postgres, &self.file] {
            assert!(!service.stderr().contains("panicked"), "{when}");
        }
    }

    async fn is_done(&self, group: &str) -> bool {
        let groups: Vec<BTreeMap<String, redis::Value>> =
            self.site.redis.command(&["XINFO", "GROUPS", "orders_stream"]).await;
        groups.iter().any(|one| {
            let number = |field: &str| {
                one.get(field)
                    .and_then(|value| redis::from_redis_value_ref::<i64>(value).ok())
            };
            let name = one
                .get("name")
                .and_then(|name| redis::from_redis_value_ref::<String>(name).ok());
            name.as_deref() == Some(group) && number("lag") == Some(0) && number("pending") == Some(0)
        })
    }

    async fn each_ended_once(&self, promised: &Promised, when: &str) {
        // In hexadecimal: an id may hold whatever separates rows and columns.
        let rows = self
            .site
            .sql("SELECT encode(convert_to(event_id, 'UTF8'), 'hex') FROM orderstream.order_events");
        let rows: BTreeSet<String> = rows.lines().map(str::to_owned).collect();
        let expected: BTreeSet<String> = promised.rows.iter().map(hex::encode).collect();
        assert_eq!(rows, expected, "events in the warehouse: {when}");
        let mut letters = BTreeMap::new();
        for letter in self.site.letters().await {
            assert_eq!(
                letter["original_id"], "",
                "refused by PostgreSQL: {}: {when}",
                letter["error"]
            );
            if let Some(first) = letters.insert(letter["event_id"].clone(), letter.clone()) {
                panic!("a dead letter is there twice: {first:?} and {letter:?}: {when}");
            }
        }
        assert_eq!(
            letters.into_keys().collect::<BTreeSet<_>>(),
            promised.letters,
            "quarantined: {when}"
        );
        let refused: usize = self.site.redis.command(&["XLEN", "dead_letters_of_files"]).await;
        assert_eq!(refused, 0, "refused by the file: {when}");
    }
}
