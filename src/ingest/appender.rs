//! The appender: concurrent requests share round trips to the stream.
//!
//! Owns the queues between requests and writers, and each append's deadline. There is one queue for
//! each server that the stream may be on: one that hangs fills its own. Invariants: a queue is
//! bounded, and a full one refuses at once; an answer comes by the deadline; an append belongs
//! to a writer's task, so that a client that hangs up cancels nothing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot};

use super::admission::{SharedPermit, Shed};
use super::append_stats::AppendStats;
use super::breaker::SpoolFallback;
use super::flush::{PendingAppend, QueuedAppend};
use super::receipt::{AppendError, Receipt};
use super::writer;
use crate::config::AppenderConfig;
use crate::metrics::Metrics;
use crate::shutdown::Roles;
use crate::stream::{NewEntry, Stream};

/// Takes entries and answers when they are durable; a cheap clone.
#[derive(Clone)]
pub struct Appender {
    /// One at least, each with writers of its own.
    lanes: Arc<[mpsc::Sender<QueuedAppend>]>,
    stream: Arc<dyn Stream>,
    deadline: Duration,
    append_stats: AppendStats,
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").finish_non_exhaustive()
    }
}

impl Appender {
    /// Starts the writers among `roles`. With `dedupe` the stream recognizes a repeated append, so
    /// an unknown outcome is safe to resend. What the stream does not take goes to the `fallback`,
    /// where there is one. Once the roles are stopped, appends are refused; what is queued is still
    /// finished.
    #[must_use]
    pub fn start(
        stream: Arc<dyn Stream>,
        fallback: Option<&SpoolFallback>,
        config: &AppenderConfig,
        dedupe: bool,
        metrics: &Metrics,
        roles: &Roles,
    ) -> Self {
        let append_stats = AppendStats::none();
        let lanes = if stream.is_distributed() {
            stream.partitions()
        } else {
            1
        };
        let lane = |_| {
            let (queue, appends) = mpsc::channel(config.queue.max(1));
            let appends = Arc::new(Mutex::new(appends));
            for _ in 0..config.writers.max(1) {
                let deps = writer::Deps {
                    queue: Arc::clone(&appends),
                    writer: stream.writer(),
                    fallback: fallback.cloned(),
                    spool_after: config.spool_after,
                    flush_entries: config.flush_entries.max(1),
                    dedupe,
                    metrics: metrics.clone(),
                    append_stats: append_stats.clone(),
                };
                roles.spawn("writer", writer::run(deps, roles.stop_token()));
            }
            queue
        };
        Self {
            lanes: (0..lanes.max(1)).map(lane).collect(),
            stream,
            deadline: config.deadline,
            append_stats,
        }
    }

    /// Appends one entry and answers when the stream confirmed it, or the spool has it: by its
    /// deadline, and before `latest`. `permit` is held for as long as the entry is in memory, also
    /// after the request is gone.
    ///
    /// # Errors
    /// Not confirmed in time, or refused before. It may still be stored later where it was sent.
    pub async fn append(
        &self,
        entry: NewEntry,
        permit: &SharedPermit,
        latest: Instant,
    ) -> Result<Receipt, AppendError> {
        self.submit(entry, permit, self.deadline(latest))?.answer().await
    }

    /// Appends several entries, one answer each, in order and before `latest`. They fail one by
    /// one, not together.
    pub async fn append_many(
        &self,
        entries: impl IntoIterator<Item = NewEntry>,
        permit: &SharedPermit,
        latest: Instant,
    ) -> Vec<Result<Receipt, AppendError>> {
        let deadline = self.deadline(latest);
        let waiting: Vec<_> = entries
            .into_iter()
            .map(|entry| self.submit(entry, permit, deadline))
            .collect();
        let mut answers = Vec::with_capacity(waiting.len());
        for submitted in waiting {
            answers.push(match submitted {
                Ok(submitted) => submitted.answer().await,
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// The state of the appends.
    #[must_use]
    pub fn append_stats(&self) -> &AppendStats {
        &self.append_stats
    }

    fn deadline(&self, latest: Instant) -> Instant {
        latest.min(Instant::now() + self.deadline)
    }

    fn submit(&self, entry: NewEntry, permit: &SharedPermit, deadline: Instant) -> Result<Submitted, AppendError> {
        let (answer, receiver) = oneshot::channel();
        let own = permit
            .entry(entry.fields.bytes())
            .map_err(|Shed| AppendError::Overloaded)?;
        let queued = QueuedAppend {
            entry,
            pending: PendingAppend {
                queued: Instant::now(),
                deadline,
                answer,
                _body_permit: Arc::clone(permit),
                _entry_permit: own,
            },
        };
        let lane = match self.lanes.len() {
            0 | 1 => 0,
            lanes => self.stream.lane(&queued.entry) % lanes,
        };
        let queue = self.lanes.get(lane).ok_or(AppendError::ShuttingDown)?;
        queue.try_send(queued).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AppendError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => AppendError::ShuttingDown,
        })?;
        Ok(Submitted { receiver, deadline })
    }
}

/// An append in a writer's queue.
struct Submitted {
    receiver: oneshot::Receiver<Result<Receipt, AppendError>>,
    deadline: Instant,
}

impl Submitted {
    async fn answer(self) -> Result<Receipt, AppendError> {
        match tokio::time::timeout_at(self.deadline.into(), self.receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AppendError::Unavailable("the writer gave up".to_owned())),
            Err(_) => Err(AppendError::Unavailable("no confirmation by the deadline".to_owned())),
        }
    }
}
