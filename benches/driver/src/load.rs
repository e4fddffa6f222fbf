//! The load: closed loop (each connection sends as soon as it was answered) or open loop (requests are due at fixed
//! times, whatever the side does).
//!
//! In the open loop a request's latency counts from when it was due, so a side that stalls cannot hide the requests that
//! it kept from being sent (coordinated omission). Its rate is what was answered in the time, not what was due. The generator runs on one thread of its own; a second one, which only
//! sleeps, keeps the times, since a timer of milliseconds is too coarse for that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, anyhow};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::http::Connection;
use crate::orders::{Batches, Orders, Request};

/// How requests come.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As fast as so many connections are answered.
    Closed { connections: usize },
    /// So many a second, over at most so many connections.
    Open { rate: u32, connections: usize },
}

/// What is sent.
#[derive(Clone)]
pub enum Payload {
    Webhooks(Arc<Orders>),
    Batches(Arc<Batches>),
}

impl Payload {
    /// Events of one request.
    pub fn events(&self) -> u64 {
        match self {
            Self::Webhooks(_) => 1,
            Self::Batches(batches) => batches.items(),
        }
    }
}

/// One run of load.
#[derive(Clone)]
pub struct Load {
    pub addr: SocketAddr,
    pub pace: Pace,
    /// Kept-alive connections that sent one request before and nothing since.
    pub idle: usize,
    pub payload: Payload,
    /// Not measured.
    pub warm_up: Duration,
    pub measured: Duration,
    /// Ends the run early after so many requests.
    pub at_most: u64,
    /// Number of the first request.
    pub first: u64,
}

/// What a run came to.
pub struct Outcome {
    /// Requests answered 2xx within the measured time.
    pub answered: u64,
    /// Requests that were not answered 2xx, over the whole run.
    pub failed: u64,
    /// Requests sent over the whole run.
    pub sent: u64,
    /// Microseconds; requests answered (closed loop) or due (open loop) within the measured time.
    pub latency: Histogram<u64>,
    /// When the first request of an open loop was due.
    pub began: SystemTime,
}

/// The measured time begins and ends.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    pub begins: Instant,
    pub ends: Instant,
}

impl Marks {
    fn contain(&self, moment: Instant) -> bool {
        (self.begins..self.ends).contains(&moment)
    }
}

/// A run under way.
pub struct Running {
    thread: thread::JoinHandle<anyhow::Result<Outcome>>,
    marks: Marks,
}

impl Running {
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    pub async fn finish(self) -> anyhow::Result<Outcome> {
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        joined.map_err(|_| anyhow!("the load generator panicked"))?
    }
}

impl Load {
    /// Starts once all connections are open.
    pub async fn start(self) -> anyhow::Result<Running> {
        let (opened, marks) = tokio::sync::oneshot::channel();
        let thread = thread::Builder::new().name("load".to_owned()).spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(self.run(opened))
        })?;
        let marks = match marks.await {
            Ok(marks) => marks,
            Err(_) => {
                let ended = tokio::task::spawn_blocking(|| thread.join()).await?;
                ended.map_err(|_| anyhow!("the load generator panicked"))??;
                return Err(anyhow!("the load generator did not start"));
            }
        };
        Ok(Running { thread, marks })
    }

    async fn run(self, opened: tokio::sync::oneshot::Sender<Marks>) -> anyhow::Result<Outcome> {
        let counter = Arc::new(AtomicU64::new(self.first));
        let mut idle = Vec::with_capacity(self.idle);
        for _ in 0..self.idle {
            let mut connection = Connection::open(self.addr).await.context("an idle connection")?;
            let number = counter.fetch_add(1, Ordering::Relaxed);
            send(&mut connection, &self.payload, number, &mut Request::default()).await?;
            idle.push(connection);
        }
        let (Pace::Closed { connections } | Pace::Open { connections, .. }) = self.pace;
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(Connection::open(self.addr).await?);
        }
        let began = (Instant::now(), SystemTime::now());
        let begins = began.0 + self.warm_up;
        let run = Run {
            marks: Marks {
                begins,
                ends: begins + self.measured,
            },
            last: self.first.saturating_add(self.at_most),
            counter,
            payload: self.payload.clone(),
            due: match self.pace {
                Pace::Closed { .. } => None,
                Pace::Open { rate, .. } => Some(schedule(rate, began.0, begins + self.measured, self.at_most)?),
            },
        };
        if opened.send(run.marks).is_err() {
            return Err(anyhow!("nobody waits for the load"));
        }
        let mut tasks = JoinSet::new();
        for connection in open {
            tasks.spawn(run.clone().converse(connection));
        }
        let mut total = Outcome {
            answered: 0,
            failed: 0,
            sent: 0,
            latency: histogram()?,
            began: began.1,
        };
        while let Some(ended) = tasks.join_next().await {
            let part = ended??;
            total.answered += part.answered;
            total.failed += part.failed;
            total.sent += part.sent;
            total.latency.add(&part.latency)?;
        }
        drop(idle);
        Ok(total)
    }
}

/// A microsecond to ten minutes, to three digits.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000, 3)?)
}

/// When each request of an open loop is due, handed out at that time.
fn schedule(rate: u32, start: Instant, end: Instant, at_most: u64) -> anyhow::Result<async_channel::Receiver<Instant>> {
    let (sender, due) = async_channel::unbounded();
    let interval = Duration::from_secs(1) / rate;
    thread::Builder::new().name("clock".to_owned()).spawn(move || {
        // The kernel's default slack of 50 µs is half of an interval.
        let _ = nix::sys::prctl::set_timerslack(1);
        for n in 0..at_most.min(u64::from(u32::MAX)) {
            let at = start + interval * n as u32;
            if at >= end {
                break;
            }
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if sender.send_blocking(at).is_err() {
                break;
            }
        }
    })?;
    Ok(due)
}

/// What one connection knows of the run.
#[derive(Clone)]
struct Run {
    marks: Marks,
    last: u64,
    counter: Arc<AtomicU64>,
    payload: Payload,
    due: Option<async_channel::Receiver<Instant>>,
}

struct Part {
    answered: u64,
    failed: u64,
    sent: u64,
    latency: Histogram<u64>,
}

impl Part {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            answered: 0,
            failed: 0,
            sent: 0,
            latency: histogram()?,
        })
    }

    /// Counts a request answered `now` that was due (open loop) or sent `since`.
    fn count(&mut self, marks: &Marks, open: bool, since: Instant, now: Instant) -> anyhow::Result<()> {
        self.answered += u64::from(marks.contain(now));
        // An open loop's latencies are of what was due in the time, however late it was answered.
        if marks.contain(if open { since } else { now }) {
            self.latency.record((now - since).as_micros().max(1) as u64)?;
        }
        Ok(())
    }
}

impl Run {
    async fn converse(self, mut connection: Connection) -> anyhow::Result<Part> {
        let mut part = Part::new()?;
        let mut request = Request::default();
        while let Some(since) = self.next().await {
            let number = self.counter.fetch_add(1, Ordering::Relaxed);
            if number >= self.last {
                break;
            }
            let status = send(&mut connection, &self.payload, number, &mut request).await?;
            let now = Instant::now();
            part.sent += 1;
            if (200..300).contains(&status) {
                part.count(&self.marks, self.due.is_some(), since, now)?;
            } else {
                part.failed += 1;
            }
        }
        Ok(part)
    }

    /// From when the next request's latency counts; `None` at the end.
    async fn next(&self) -> Option<Instant> {
        match &self.due {
            Some(due) => due.recv().await.ok(),
            None => Some(Instant::now()).filter(|now| *now < self.marks.ends),
        }
    }
}

async fn send(
    connection: &mut Connection,
    payload: &Payload,
    number: u64,
    request: &mut Request,
) -> anyhow::Result<u16> {
    match payload {
        Payload::Webhooks(orders) => {
            let [head, shared, rest] = orders.write(number, request);
            connection.exchange(head, shared, rest).await
        }
        Payload::Batches(batches) => {
            let [head, body] = batches.write(number, request);
            connection.exchange(head, body, &[]).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_tells_what_was_answered_not_what_was_due() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let marks = Marks {
            begins: at(10),
            ends: at(20),
        };
        for (open, since, now, answered, latencies) in [
            (true, 11, 12, 1, 1),
            (true, 11, 30, 0, 1),
            (true, 5, 12, 1, 0),
            (true, 5, 30, 0, 0),
            (false, 11, 12, 1, 1),
            (false, 19, 21, 0, 0),
            (false, 9, 11, 1, 1),
        ] {
            let mut part = Part::new().expect("a histogram");
            part.count(&marks, open, at(since), at(now)).expect("within its bounds");
            assert_eq!(
                (part.answered, part.latency.len()),
                (answered, latencies),
                "{open} {since} {now}"
            );
        }
    }
}
