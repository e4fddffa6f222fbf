//! How deliveries go out: bounded in number at once, and with a rate on a schedule that answers cannot slow down.
//!
//! With a rate, latency counts from the scheduled moment: a stalled server shows in every delivery that had to wait,
//! not only in the one it was answering (no coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::deliveries::Deliveries;
use super::summary::{Answer, Outcome, Tally};
use crate::cli::Failure;
use crate::cli::progress::progress;

/// What the summary needs of an answer's body; a longer one is not ours.
const ANSWER_LIMIT: usize = 4096;
/// Outcomes on their way to the tally.
const OUTCOMES: usize = 1024;

pub(super) struct Plan {
    pub(super) url: url::Url,
    pub(super) count: u64,
    pub(super) rate: f64,
    pub(super) concurrency: u16,
    pub(super) timeout: Duration,
}

struct Sender {
    plan: Plan,
    deliveries: Deliveries,
    client: reqwest::Client,
    next: AtomicU64,
    start: Instant,
    stop: CancellationToken,
}

/// Sends all, or until `stop` fires or nothing at all answers; awaits what is under way.
///
/// # Errors
/// The HTTP client cannot be built, or a sender died.
pub(super) async fn send(plan: Plan, deliveries: Deliveries, stop: CancellationToken) -> Result<Tally, Failure> {
    let client = reqwest::Client::builder()
        .timeout(plan.timeout)
        .pool_max_idle_per_host(usize::from(plan.concurrency))
        .build()
        .map_err(|error| Failure::Unavailable(error.to_string()))?;
    let bar = progress(Some(plan.count));
    let patience = u64::from(plan.concurrency);
    let mut tally = Tally::new(plan.url.to_string());
    let sender = Arc::new(Sender {
        plan,
        deliveries,
        client,
        next: AtomicU64::new(0),
        start: Instant::now(),
        stop,
    });
    let (outcomes, mut arriving) = mpsc::channel(OUTCOMES);
    let mut lanes = JoinSet::new();
    for _ in 0..sender.plan.concurrency {
        lanes.spawn(Arc::clone(&sender).lane(outcomes.clone()));
    }
    drop(outcomes);
    while let Some(outcome) = arriving.recv().await {
        tally.add(outcome);
        bar.inc(1);
        if tally.is_silent_after(patience) {
            sender.stop.cancel();
        }
    }
    bar.finish_and_clear();
    while let Some(ended) = lanes.join_next().await {
        ended.map_err(|error| Failure::Unavailable(error.to_string()))?;
    }
    tally.finish(sender.start.elapsed());
    Ok(tally)
}

impl Sender {
    async fn lane(self: Arc<Self>, outcomes: mpsc::Sender<Outcome>) {
        while !self.stop.is_cancelled() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.plan.count {
                return;
            }
            let scheduled = self.scheduled(number).unwrap_or_else(Instant::now);
            tokio::select! {
                () = tokio::time::sleep_until(scheduled) => {}
                () = self.stop.cancelled() => return,
            }
            let answer = self.deliver(number).await;
            let outcome = Outcome {
                answer,
                latency: scheduled.elapsed(),
            };
            if outcomes.send(outcome).await.is_err() {
                return;
            }
        }
    }

    /// When that delivery is due; `None` without a rate.
    fn scheduled(&self, number: u64) -> Option<Instant> {
        #[allow(clippy::cast_precision_loss, reason = "a schedule of 2^53 deliveries never ends")]
        let after = (self.plan.rate > 0.0).then(|| number as f64 / self.plan.rate)?;
        self.start.checked_add(Duration::try_from_secs_f64(after).ok()?)
    }

    async fn deliver(&self, number: u64) -> Answer {
        let (headers, body) = self.deliveries.make(number);
        let request = headers
            .into_iter()
            .fold(self.client.post(self.plan.url.clone()), |request, (name, value)| {
                request.header(name, value)
            });
        let mut response = match request.body(body).send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Answer::Timeout,
            Err(error) if error.is_builder() => return Answer::Unsendable,
            Err(error) if error.is_connect() => return Answer::Unreachable,
            Err(_) => return Answer::Broken,
        };
        let status = response.status().as_u16();
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            if text.len() + chunk.len() <= ANSWER_LIMIT {
                text.extend_from_slice(&chunk);
            }
        }
        Answer::Status(status, said(&text))
    }
}

/// `status` of our own answers, `code` of a problem.
fn said(text: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(text).ok()?;
    let word = json.get("code").or_else(|| json.get("status"))?.as_str()?;
    Some(word.to_owned())
}
