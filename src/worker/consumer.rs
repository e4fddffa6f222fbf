//! One consumer of the group: what its reader, its processor and the shared roles have in common.
//!
//! Owns the calls to handler and stream that every role makes alike. Invariant: an entry leaves the
//! set of entries in flight only when it was acked, dead-lettered, or deliberately left pending.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::entry_ids;
use super::in_flight::InFlight;
use super::liveness::{self, Liveness};
use super::memory::{Memory, Reservation, entry_bytes};
use super::outage_log::OutageLog;
use super::retry_policy::Limits;
use super::{Handler, HandlerError, spans};
use crate::config::WorkerConfig;
use crate::event::EventRecord;
use crate::metrics::Metrics;
use crate::nodes::Batch;
use crate::retryability::Retryability;
use crate::spans::SpanStart;
use crate::stream::{Claim, Claimed, Delivered, Entry, Reader, Stream, StreamError, StreamId, codec};
use crate::telemetry::PanicPlace;

/// Entries that are in flight now, of each partition oldest first, and the memory that they take.
pub(super) struct InFlightPage {
    pub(super) entries: Vec<Delivered>,
    pub(super) memory: Reservation,
}

impl InFlightPage {
    /// Takes another partition's page in.
    pub(super) fn join(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.memory.join(other.memory);
    }
}

/// A member of the group.
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) stream: Arc<dyn Stream>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) config: WorkerConfig,
    pub(super) metrics: Metrics,
    pub(super) in_flight: InFlight,
    /// Shared by the workers of this process.
    pub(super) memory: Arc<Memory>,
    /// The partitions that it reads, with a reader each.
    pub(super) partitions: Vec<u16>,
    pub(super) reading: Vec<Liveness>,
    pub(super) loading: Liveness,
    /// The load in progress.
    pub(super) load: ArcSwapOption<Batch>,
    last_load: Arc<LastLoad>,
    /// Acks that failed on a stream of several servers.
    owed_acks: Mutex<OwedAcks>,
}

/// When a worker of this process last loaded an event.
#[derive(Debug, Default)]
pub(super) struct LastLoad(Mutex<Option<tokio::time::Instant>>);

impl LastLoad {
    fn is_now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokio::time::Instant::now());
    }

    fn is_since(&self, time: tokio::time::Instant) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|last| last >= time)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    pub(super) fn new(
        name: String,
        stream: Arc<dyn Stream>,
        handler: Arc<dyn Handler>,
        config: WorkerConfig,
        metrics: Metrics,
        last_load: Arc<LastLoad>,
        memory: Arc<Memory>,
    ) -> Self {
        Self {
            name,
            stream,
            handler,
            memory,
            config,
            metrics,
            in_flight: InFlight::default(),
            reading: Vec::new(),
            partitions: Vec::new(),
            loading: Liveness::new(),
            load: ArcSwapOption::empty(),
            last_load,
            owed_acks: Mutex::new(OwedAcks {
                acks: Vec::new(),
                outage: OutageLog::of("acking"),
            }),
        }
    }

    /// The same, as a reader of these partitions.
    pub(super) fn reading(self, partitions: Vec<u16>) -> Self {
        Self {
            reading: partitions.iter().map(|_| Liveness::new()).collect(),
            partitions,
            ..self
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_deliveries: self.config.max_deliveries,
            retry_delay: self.config.retry_delay,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        let bound = liveness::patience(self.config.block, self.config.claim_idle);
        self.reading.iter().all(|reader| reader.is_alive(bound)) && self.loading.is_alive(bound)
    }

    /// Waits for the memory that a page takes.
    pub(super) async fn reserve_page(&self) -> Reservation {
        self.memory.pages.reserve(self.memory.page_size.bytes()).await
    }

    /// Reads a page of new entries, so many at most.
    pub(super) async fn read(
        &self,
        reader: &mut dyn Reader,
        at_most: usize,
        memory: Reservation,
        stop: &CancellationToken,
    ) -> Result<InFlightPage, StreamError> {
        let asked = self.memory.page_size.entries().min(at_most);
        let entries = reader.read(asked, self.config.block, stop).await;
        self.page(asked, entries, &HashSet::new(), memory)
    }

    /// Reads a page of what is there of a partition without a reader, and does not wait.
    pub(super) async fn read_further(
        &self,
        partition: u16,
        memory: Reservation,
        stop: &CancellationToken,
    ) -> Result<InFlightPage, StreamError> {
        let asked = self.memory.page_size.entries();
        let mut reader = self.stream.reader(&self.name, partition);
        let entries = reader.read(asked, Duration::ZERO, stop).await;
        self.page(asked, entries, &HashSet::new(), memory)
    }

    /// Claims a page of its own pending entries that are not in flight; answers where the next page
    /// starts, too.
    pub(super) async fn claim_own(
        &self,
        start: StreamId,
        memory: Reservation,
    ) -> Result<(InFlightPage, Option<StreamId>), StreamError> {
        let before = self.in_flight.ids();
        let in_flight = Vec::from_iter(before.iter().copied());
        self.claim(Claim::Own(&in_flight), start, &before, memory).await
    }

    /// Claims a page of what others left pending; answers where the next page starts, too.
    pub(super) async fn claim_stale(
        &self,
        start: StreamId,
        memory: Reservation,
    ) -> Result<(InFlightPage, Option<StreamId>), StreamError> {
        let before = self.in_flight.ids();
        self.claim(Claim::Stale(self.config.claim_idle), start, &before, memory)
            .await
    }

    async fn claim(
        &self,
        which: Claim<'_>,
        start: StreamId,
        before: &HashSet<StreamId>,
        memory: Reservation,
    ) -> Result<(InFlightPage, Option<StreamId>), StreamError> {
        let asked = self.memory.page_size.entries();
        let claimed = self.stream.claim(&self.name, which, start, asked).await;
        let (entries, rest) = match claimed {
            Ok(Claimed { entries, deleted, next }) => (Ok(entries), Some((deleted, next))),
            Err(error) => (Err(error), None),
        };
        let page = self.page(asked, entries, before, memory)?;
        let (deleted, next) = rest.unwrap_or_default();
        if let Some(first) = deleted.first() {
            self.metrics.entries_lost.inc_by(deleted.len() as u64);
            error!(count = deleted.len(), %first, "entries that were pending are gone from the stream: they are lost");
        }
        Ok((page, next))
    }

    /// Takes what came in flight, but for what was there `before` it was asked for.
    fn page(
        &self,
        asked: usize,
        came: Result<Vec<Delivered>, StreamError>,
        before: &HashSet<StreamId>,
        mut memory: Reservation,
    ) -> Result<InFlightPage, StreamError> {
        let bytes_of = |entries: &Vec<Delivered>| entries.iter().map(|one| entry_bytes(&one.entry)).sum();
        let size = came.as_ref().map(|entries| (entries.len(), bytes_of(entries)));
        self.memory.page_size.learn(asked, size);
        let entries = self.in_flight.take(came?, before);
        memory.resize(bytes_of(&entries));
        Ok(InFlightPage { entries, memory })
    }

    /// Hands the events to the handler; returns the indexes of those that it did not take, since
    /// their id is another event's. A panic of the handler is returned as a bug.
    pub(super) async fn handle(&self, records: &[EventRecord<'_>]) -> Result<Vec<usize>, HandlerError> {
        let (began, moment) = (Instant::now(), SpanStart::now());
        self.loading.beat();
        self.load.store(Some(Arc::new(Batch {
            entries: records.len() as u64,
            since: OffsetDateTime::now_utc(),
        })));
        let handled = AssertUnwindSafe(self.handler.handle(records)).catch_unwind().await;
        self.load.store(None);
        let handled = handled.unwrap_or_else(|panic| Err(bug("the handler", &*panic)));
        spans::loaded(moment, &self.name, records, handled.as_ref().map(drop));
        let handled = handled?;
        if handled.conflicts.len() < records.len() {
            self.last_load.is_now();
        }
        self.metrics.load_seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.events_loaded.inc_by(handled.new);
        self.metrics.events_known.inc_by(handled.known);
        let now = OffsetDateTime::now_utc();
        for record in records {
            entry_ids::look(record, now);
            let appended_at = record.stream_id.parse().map_or(record.received_at, codec::appended_at);
            // Clocks of the two machines may differ by more than the delay.
            let delay = (now - appended_at).as_seconds_f64().max(0.0);
            self.metrics.commit_delay_seconds.observe(delay);
        }
        Ok(handled.conflicts)
    }

    /// Whether a worker of this process has loaded an event since then.
    pub(super) fn has_loaded_since(&self, time: tokio::time::Instant) -> bool {
        self.last_load.is_since(time)
    }

    /// Acks, and retries until that succeeds: the effects are durable, so a failing ack is no
    /// reason to load again. What is on a server of its own must not hold up the others: it stays in
    /// flight, and [`ack_owed`](Self::ack_owed) retries it.
    pub(super) async fn ack(&self, ids: &[StreamId], tried: &[StreamId]) {
        if self.stream.is_distributed() {
            self.ack_each(ids, tried).await;
            return;
        }
        let mut outage = OutageLog::of("acking");
        while let Err(error) = self.stream.ack(ids, tried).await {
            self.loading.beat();
            tokio::time::sleep(outage.failed(&error)).await;
        }
        outage.over();
        self.in_flight.release(ids);
    }

    /// Acks partition by partition, once; what fails is owed.
    async fn ack_each(&self, ids: &[StreamId], tried: &[StreamId]) {
        let mut of_each: BTreeMap<u16, Vec<StreamId>> = BTreeMap::new();
        for id in ids {
            of_each.entry(id.part).or_default().push(*id);
        }
        let acks = of_each.into_values().map(|ids| async move {
            let acked = self.stream.ack(&ids, tried).await;
            (acked, ids)
        });
        for (acked, ids) in join_all(acks).await {
            match acked {
                Ok(_) => self.in_flight.release(&ids),
                Err(error) => {
                    let tried = tried.iter().copied().filter(|id| ids.contains(id)).collect();
                    let mut owed = self.owed_acks();
                    owed.outage.failed(&error);
                    owed.acks.push((ids, tried));
                }
            }
        }
    }

    /// Makes the acks again that failed.
    pub(super) async fn ack_owed(&self) {
        let owed = std::mem::take(&mut self.owed_acks().acks);
        join_all(owed.iter().map(|(ids, tried)| self.ack_each(ids, tried))).await;
        let mut owed = self.owed_acks();
        if owed.acks.is_empty() {
            owed.outage.over();
        }
    }

    fn owed_acks(&self) -> MutexGuard<'_, OwedAcks> {
        self.owed_acks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Acks that failed.
struct OwedAcks {
    /// Ids to be acked, and those of them that have a record of attempts.
    acks: Vec<(Vec<StreamId>, Vec<StreamId>)>,
    outage: OutageLog,
}

/// Decodes an entry. One that cannot be decoded, or makes the decoder panic, is at fault itself.
pub(super) fn decode(entry: &Entry) -> Result<EventRecord<'_>, HandlerError> {
    match catch_unwind(AssertUnwindSafe(|| codec::decode(entry))) {
        Ok(Ok(record)) => Ok(record),
        Ok(Err(error)) => Err(HandlerError::new(Retryability::Poison, error)),
        Err(panic) => Err(bug("the decoder", &*panic)),
    }
}

/// Names the place of the panic only: its message may quote content.
fn bug(what: &str, panic: &(dyn Any + Send)) -> HandlerError {
    match PanicPlace::of(panic).text() {
        Some(place) => HandlerError::new(Retryability::Bug, format_args!("{what} panicked at {place}")),
        None => HandlerError::new(Retryability::Bug, format_args!("{what} panicked")),
    }
}
