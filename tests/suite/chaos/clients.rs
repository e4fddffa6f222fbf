//! The crowd outside: sends at a steady pace, as Shopify and other services do, and writes everything down.
//!
//! An answer that is no 2xx comes again, save from those that give up: what they sent may be there once, or not at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::AsyncCommands;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::event::{Door, Sendable, sendable};
use super::journal::{Answer, Journal, Line};
use super::plant;
use crate::harness::service::{TOKEN, webhook};

/// Shopify hangs up after five seconds; the others are as patient.
const HANG_UP: Duration = Duration::from_secs(5);
const BATCH: u64 = 12;

/// What was seen from outside.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub requests: u64,
    pub words: BTreeMap<String, u64>,
    /// Of answers by a process that was not stopped or killed meanwhile.
    pub slowest: Duration,
}

/// Who sends.
pub struct Crowd {
    pub seed: u64,
    pub doors: Vec<plant::Door>,
    /// For plain producers.
    pub redis: Option<redis::Client>,
    pub journal: Journal,
    pub http: reqwest::Client,
    next: AtomicU64,
    seen: Mutex<Seen>,
}

impl Crowd {
    pub fn new(seed: u64, doors: Vec<plant::Door>, redis: Option<redis::Client>, journal: Journal) -> Self {
        Self {
            seed,
            doors,
            redis,
            journal,
            http: reqwest::Client::builder().timeout(HANG_UP).build().unwrap(),
            next: AtomicU64::new(1),
            seen: Mutex::default(),
        }
    }

    /// Sends about `rate` requests a second from `clients` clients until `stop`; then finishes what was begun, until `end`.
    pub async fn run(self: &Arc<Self>, clients: u32, rate: u32, stop: &CancellationToken, end: Instant) {
        let mut all = JoinSet::new();
        for number in 0..clients {
            let (crowd, stop) = (Arc::clone(self), stop.clone());
            let mut pace = tokio::time::interval(Duration::from_secs(1) * clients / rate);
            // One that was held up does not make up for it.
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            all.spawn(async move {
                let mut rng = StdRng::seed_from_u64(crowd.seed ^ u64::from(number) << 32);
                while !stop.is_cancelled() {
                    pace.tick().await;
                    crowd.one(&mut rng, end).await;
                }
            });
        }
        while let Some(ended) = all.join_next().await {
            ended.unwrap();
        }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// The next event, or a batch of them, until it is taken.
    async fn one(&self, rng: &mut StdRng, end: Instant) {
        let first = sendable(self.seed, self.next.fetch_add(1, Ordering::Relaxed));
        let gives_up = rng.random_ratio(1, 10);
        match first.expected.door {
            Door::Webhook | Door::Unusable if rng.random_ratio(1, 10) => {
                let twice = [&first; 2].map(|event| self.until_taken(std::slice::from_ref(event), gives_up, end));
                join_all(twice).await;
            }
            Door::Webhook | Door::Unusable => self.until_taken(&[first], gives_up, end).await,
            Door::Batch => {
                let size = rng.random_range(0..BATCH);
                let from = self.next.fetch_add(size, Ordering::Relaxed);
                let more = (from..from + size).map(|number| sendable(self.seed, number));
                // What is drawn for another door keeps its number unsent.
                let more = more.filter(|event| event.expected.door == Door::Batch);
                let batch: Vec<_> = std::iter::once(first).chain(more).collect();
                self.until_taken(&batch, gives_up, end).await;
            }
            Door::Entry | Door::Poison => self.produce(&first).await,
        }
    }

    async fn until_taken(&self, events: &[Sendable], gives_up: bool, end: Instant) {
        let mut pause = Duration::from_millis(100);
        for attempt in 0.. {
            self.sent(events).await;
            // Another try may reach another process.
            let place = usize::try_from(events[0].number).unwrap() + attempt;
            let plant::Door { url, calm } = &self.doors[place % self.doors.len()];
            let before = calm.epoch();
            let began = Instant::now();
            let answers = match events {
                [event] if event.expected.door != Door::Batch => vec![self.deliver(url, event).await],
                _ => self.batch(url, events).await,
            };
            let was_calm = before % 2 == 0 && calm.epoch() == before;
            self.saw(&answers, was_calm.then(|| began.elapsed()));
            let lines = events.iter().zip(&answers).map(|(event, answer)| Line::Answered {
                event: event.number,
                answer: answer.clone(),
            });
            self.journal.write(&lines.collect::<Vec<_>>()).await;
            if answers.iter().all(|answer| answer.taken) || gives_up || Instant::now() > end {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn sent(&self, events: &[Sendable]) {
        let lines = events.iter().map(|event| Line::Sent {
            event: event.number,
            expected: event.expected.clone(),
        });
        self.journal.write(&lines.collect::<Vec<_>>()).await;
    }

    fn saw(&self, answers: &[Answer], took: Option<Duration>) {
        let mut seen = self.seen.lock().unwrap();
        seen.requests += 1;
        for answer in answers {
            *seen.words.entry(answer.word.clone()).or_default() += 1;
        }
        if let Some(took) = took {
            seen.slowest = seen.slowest.max(took);
        }
    }

    async fn deliver(&self, url: &str, event: &Sendable) -> Answer {
        let id = format!("chaos-{}", event.number);
        let answered = webhook(&self.http, url, event.topic, &id, event.body.as_bytes())
            .send()
            .await;
        let (mut answer, body) = read(answered).await;
        if let Some(body) = body {
            answer.event_id = body["event_id"].as_str().map(str::to_owned);
            answer.word = body["status"].as_str().unwrap_or_default().to_owned();
            answer.taken = true;
            if !["accepted", "duplicate", "spooled", "quarantined"].contains(&&*answer.word) {
                answer.wrong = Some(format!("a 200 that says {body}"));
            }
        }
        answer
    }

    async fn batch(&self, url: &str, events: &[Sendable]) -> Vec<Answer> {
        let items: Vec<_> = events.iter().map(|event| event.body.as_str()).collect();
        let request = self.http.post(format!("{url}/events/batch")).bearer_auth(TOKEN);
        let answered = request
            .header("content-type", "application/json")
            .body(format!("[{}]", items.join(",")))
            .send()
            .await;
        let (whole, body) = read(answered).await;
        let Some(body) = body else {
            // What became of each item is unknown.
            return vec![Answer { taken: false, ..whole }; events.len()];
        };
        let verdicts = body["results"].as_array().cloned().unwrap_or_default();
        let mut verdicts = verdicts.into_iter();
        let each = events.iter().map(|_| {
            let verdict = verdicts.next().unwrap_or_default();
            let word = verdict["status"].as_str().unwrap_or("missing").to_owned();
            Answer {
                taken: ["accepted", "duplicate", "spooled"].contains(&&*word),
                event_id: verdict["event_id"].as_str().map(str::to_owned),
                wrong: ["invalid", "missing"]
                    .contains(&&*word)
                    .then(|| format!("an item that says {verdict}")),
                word,
            }
        });
        each.collect()
    }

    /// As another program would: one XADD, never sent again, since nobody dedupes it.
    async fn produce(&self, event: &Sendable) {
        let Some(redis) = &self.redis else { return };
        self.sent(std::slice::from_ref(event)).await;
        let event_id = format!("entry-{}", event.number);
        let fields = [
            ("event_type", "order.created"),
            ("event_id", &event_id),
            ("timestamp", "2026-01-01T00:00:00Z"),
            ("payload", &event.body),
        ];
        let adding = async {
            // The client's own limits are shorter, and what it gave up could be written all the same.
            let patient = redis::AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None);
            let mut connection = redis.get_multiplexed_async_connection_with_config(&patient).await?;
            connection
                .xadd::<_, _, _, _, String>("orders_stream", "*", &fields)
                .await
        };
        let is_added = matches!(tokio::time::timeout(HANG_UP, adding).await, Ok(Ok(_)));
        let answer = Answer {
            taken: is_added,
            word: if is_added { "XADD" } else { "XADD failed" }.to_owned(),
            event_id: None,
            wrong: None,
        };
        self.saw(std::slice::from_ref(&answer), None);
        let event = event.number;
        self.journal.write(&[Line::Answered { event, answer }]).await;
    }
}

/// An answer that is not taken, and the body of a 200.
async fn read(answered: reqwest::Result<reqwest::Response>) -> (Answer, Option<Value>) {
    let mut answer = Answer {
        taken: false,
        word: "no answer".to_owned(),
        event_id: None,
        wrong: None,
    };
    let Ok(answered) = answered else {
        return (answer, None);
    };
    let status = answered.status().as_u16();
    let may_retry = answered.headers().contains_key("retry-after");
    let text = answered.text().await;
    answer.word = status.to_string();
    if status == 200 {
        return match text {
            Ok(text) => (answer, Some(serde_json::from_str(&text).unwrap_or_default())),
            // Shopify looks at nothing but the status.
            Err(_) => (
                Answer {
                    taken: true,
                    word: "200, cut off".to_owned(),
                    ..answer
                },
                None,
            ),
        };
    }
    let text = text.unwrap_or_default();
    if status != 503 || !may_retry {
        answer.wrong = Some(format!("status {status}, retry-after {may_retry}: {text}"));
    }
    (answer, None)
}
