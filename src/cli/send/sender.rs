//! Sends deliveries over a bounded number of connections; with a rate, on a schedule that answers
//! cannot slow down.
//!
//! Latency then counts from the scheduled time: a stalled server shows in every delivery that had
//! to wait, not only in the one it was answering (no coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::deliveries::{Deliveries, TestDelivery};
use super::schedule::Schedule;
use super::summary::{Response, SendOutcome, SendSummary};
use super::verify::{Checklist, SentEvent};
use crate::cli::Failure;
use crate::cli::output::progress;

/// What the summary needs of an answer's body; a longer one is not ours.
const ANSWER_LIMIT: usize = 4096;
/// Outcomes on their way to the summary.
const OUTCOMES: usize = 1024;

pub(super) struct Sending {
    pub(super) url: url::Url,
    pub(super) schedule: Schedule,
    pub(super) concurrency: u16,
    pub(super) timeout: Duration,
}

struct Sender {
    sending: Sending,
    deliveries: Deliveries,
    client: reqwest::Client,
    next: AtomicU64,
    start: Instant,
    stop: CancellationToken,
    /// Whether a checklist is kept.
    checks: bool,
}

/// Sends all, or until `stop` fires or nothing answers; awaits what is under way. Answers go into
/// the summary, and what must land into the checklist.
pub(super) async fn send(
    sending: Sending,
    deliveries: Deliveries,
    stop: CancellationToken,
    summary: &mut SendSummary,
    checklist: &mut Option<Checklist>,
) -> Result<(), Failure> {
    let client = reqwest::Client::builder()
        .timeout(sending.timeout)
        .pool_max_idle_per_host(usize::from(sending.concurrency))
        .build()
        .map_err(|error| Failure::Unavailable(error.to_string()))?;
    let bar = progress(Some(deliveries.count()));
    let patience = u64::from(sending.concurrency);
    let sender = Arc::new(Sender {
        sending,
        deliveries,
        client,
        next: AtomicU64::new(0),
        start: Instant::now(),
        stop,
        checks: checklist.is_some(),
    });
    let (outcomes, mut arriving) = mpsc::channel(OUTCOMES);
    let mut lanes = JoinSet::new();
    for _ in 0..sender.sending.concurrency {
        lanes.spawn(Arc::clone(&sender).lane(outcomes.clone()));
    }
    drop(outcomes);
    while let Some((outcome, sent_event)) = arriving.recv().await {
        if let (Some(checklist), Some(sent_event)) = (checklist.as_mut(), sent_event) {
            checklist.add(sent_event, outcome.kind, &outcome.answer);
        }
        summary.add(outcome);
        bar.inc(1);
        if summary.is_silent_after(patience) {
            sender.stop.cancel();
        }
    }
    bar.finish_and_clear();
    while let Some(ended) = lanes.join_next().await {
        ended.map_err(|error| Failure::Unavailable(error.to_string()))?;
    }
    summary.finish(sender.start.elapsed());
    Ok(())
}

impl Sender {
    async fn lane(self: Arc<Self>, outcomes: mpsc::Sender<(SendOutcome, Option<SentEvent>)>) {
        while !self.stop.is_cancelled() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(delivery) = self.deliveries.make(number) else {
                return;
            };
            let due = self
                .sending
                .schedule
                .due(number)
                .and_then(|due| self.start.checked_add(due));
            let due = due.unwrap_or_else(Instant::now);
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.stop.cancelled() => return,
            }
            let (kind, sent_event) = (delivery.kind, self.checks.then(|| SentEvent::of(&delivery)));
            let answer = self.deliver(delivery).await;
            let outcome = SendOutcome {
                kind,
                answer,
                latency: due.elapsed(),
            };
            if outcomes.send((outcome, sent_event)).await.is_err() {
                return;
            }
        }
    }

    async fn deliver(&self, delivery: TestDelivery) -> Response {
        let request = self.client.post(self.sending.url.clone());
        let mut response = match request.headers(delivery.headers).body(delivery.body).send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Response::Timeout,
            Err(error) if error.is_connect() => return Response::Unreachable,
            Err(_) => return Response::Broken,
        };
        let status = response.status().as_u16();
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            if text.len() + chunk.len() <= ANSWER_LIMIT {
                text.extend_from_slice(&chunk);
            }
        }
        Response::Status(status, said(&text))
    }
}

/// `status` of our own answers, `code` of a problem.
fn said(text: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(text).ok()?;
    let word = json.get("code").or_else(|| json.get("status"))?.as_str()?;
    Some(word.to_owned())
}
