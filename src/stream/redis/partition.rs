//! The calls of the seam that concern one partition, each a command, a pipeline or a script.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::sync::Mutex;

use super::dead_letters::DeadLetterFigures;
use super::group::{ensure_group, lacks_group, restore_group};
use super::group_monitor::{GroupMonitor, MARK_LIFETIME};
use super::keys::{IDS_A_CALL, Keys, LogName, millis};
use super::loss_detector::LossDetector;
use super::reader::RedisReader;
use super::reservation::ServerClock;
use super::server::{Server, Servers};
use super::{pages, placing, reply, report, scripts, writable};
use crate::config::StreamConfig;
use crate::stream::{
    AttemptStep, Attempts, Claim, Claimed, Delivered, Entry, MOST_PARTITIONS, NewEntry, PAGE_BYTES, Page, Range,
    Refreshed, Restored, StreamError, StreamId, StreamReport, Trimmed,
};

/// Entries of one page of a claim; bounds the time its script holds the server.
const CLAIM_PAGE: usize = 500;
/// Entries a trim looks at one by one in one call.
const TRIM_WALK: usize = 256;
/// A record of tries is dropped when nobody has tried anything for so long.
const ATTEMPTS_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// One log of a stream with what lies beside it. Ids go in as they come, and come out with its
/// number.
pub(super) struct Partition {
    pub(super) server: Arc<Server>,
    pub(super) keys: Arc<Keys>,
    pub(super) loss_detector: LossDetector,
    group_monitor: GroupMonitor,
    /// Where the trimmer's walk behind an old pending entry goes on. One trim at a time.
    trim_cursor: Mutex<String>,
}

/// The partitions of a stream: one at least.
pub(super) struct Partitions {
    first: Partition,
    /// Made when they are asked for.
    further: Vec<OnceLock<Partition>>,
    /// How many are written to.
    count: u16,
    /// How many are read; only grows.
    readable: AtomicU16,
    config: StreamConfig,
    /// Of the dead letters.
    pub(super) letters: Arc<Server>,
    pub(super) servers: Arc<Servers>,
}

impl Partitions {
    pub(super) fn new(servers: Arc<Servers>, config: &StreamConfig) -> Self {
        let count = config.partitions.unwrap_or(1).max(1);
        Self {
            first: Partition::of(&servers, config, 0),
            further: (1..MOST_PARTITIONS).map(|_| OnceLock::new()).collect(),
            count,
            readable: AtomicU16::new(count),
            config: config.clone(),
            letters: servers.of_slot(placing::slot(&config.dead_letters)),
            servers,
        }
    }

    /// Hash slots of the partitions of such a stream, in order, and of its dead letters.
    pub(super) fn slots(config: &StreamConfig) -> Vec<u16> {
        let partitions = 0..config.partitions.unwrap_or(1).max(1);
        let names = partitions.map(|number| placing::stream_key(&config.name, number));
        let names = names.chain([config.dead_letters.clone()]);
        names.map(|name| placing::slot(&name)).collect()
    }

    /// Hash slots of all that is read, and of the dead letters.
    pub(super) fn used_slots(&self) -> Vec<u16> {
        Self::slots(&StreamConfig {
            partitions: Some(self.readable()),
            ..self.config.clone()
        })
    }

    /// How many are written to.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// How many are read.
    pub(super) fn readable(&self) -> u16 {
        self.readable.load(Ordering::Acquire)
    }

    /// Other processes have so many.
    pub(super) fn grow(&self, readable: u16) {
        self.readable.fetch_max(readable.min(MOST_PARTITIONS), Ordering::AcqRel);
    }

    /// The partition of that number; the first where there are not so many.
    pub(super) fn at(&self, number: u16) -> &Partition {
        let further = usize::from(number).checked_sub(1).filter(|_| number < self.readable());
        match further.and_then(|place| self.further.get(place)) {
            Some(further) => further.get_or_init(|| Partition::of(&self.servers, &self.config, number)),
            None => &self.first,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        (0..self.readable()).map(|number| self.at(number))
    }

    /// The server of a log.
    pub(super) fn server(&self, log: LogName) -> &Arc<Server> {
        match log {
            LogName::Partition(number) => &self.at(number).server,
            LogName::DeadLetters => &self.letters,
        }
    }

    /// Whether a failure of one log says nothing about the others.
    pub(super) fn fail_apart(&self) -> bool {
        self.count() > 1 || self.servers.is_cluster()
    }

    /// The log of an entry.
    pub(super) fn log_of(&self, entry: &NewEntry) -> LogName {
        LogName::of(entry, self.count())
    }

    /// Ids by their partition.
    pub(super) fn by_partition(&self, ids: &[StreamId]) -> Vec<(&Partition, Vec<StreamId>)> {
        let mut of_each: BTreeMap<u16, Vec<StreamId>> = BTreeMap::new();
        for id in ids.iter().filter(|id| id.part < self.readable()) {
            of_each.entry(id.part).or_default().push(*id);
        }
        let of_each = of_each.into_iter();
        of_each.map(|(number, ids)| (self.at(number), ids)).collect()
    }
}

impl Partition {
    fn of(servers: &Arc<Servers>, config: &StreamConfig, number: u16) -> Self {
        let keys = Keys::of(config, number);
        Self {
            server: servers.of_slot(placing::slot(&keys.stream)),
            keys: Arc::new(keys),
            loss_detector: LossDetector::default(),
            group_monitor: GroupMonitor::new(),
            trim_cursor: Mutex::new("0-0".to_owned()),
        }
    }

    /// With this partition's number.
    fn own(&self, mut ids: Vec<StreamId>) -> Vec<StreamId> {
        for id in &mut ids {
            id.part = self.keys.partition;
        }
        ids
    }

    /// Removes consumers that were silent for that long and have nothing pending: of these, or of
    /// all where none is named.
    pub(super) async fn remove_consumers(
        &self,
        silent: Duration,
        names: &[String],
    ) -> Result<Vec<String>, StreamError> {
        let mut script = scripts::REMOVE_SILENT.key(&self.keys.stream);
        script
            .arg(&self.keys.group)
            .arg(millis(silent))
            .arg(&self.keys.marks)
            .arg(millis(MARK_LIFETIME))
            .arg(names);
        match self.server.run(&script).await {
            Err(error) if lacks_group(&error) => Ok(Vec::new()),
            removed => removed,
        }
    }

    /// Removes the ids of entries of a log, on that server, that are no longer recognized.
    async fn unlink_old_ids(&self, log: LogName, server: &Server) -> Result<(), StreamError> {
        if self.keys.dedupe_window.is_none() {
            return Ok(());
        }
        let now = ServerClock::of(server.query(&redis::cmd("TIME")).await?).now();
        let mut pipeline = Pipeline::new();
        for key in self.keys.old_generations(log, now) {
            pipeline.cmd("UNLINK").arg(key);
        }
        match server.query_all::<Value>(pipeline).await {
            // Without the right to it they are left to their expiry.
            Err(StreamError::Denied(_)) => Ok(()),
            unlinked => unlinked.map(drop),
        }
    }

    /// The record of each entry's tries, in order. Not of the script that claims: a call with two
    /// keys is refused while their slot moves.
    async fn attempts(&self, entries: &[Entry]) -> Result<Vec<Option<String>>, StreamError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = redis::cmd("HMGET");
        let ids = Vec::from_iter(entries.iter().map(|entry| entry.id));
        self.server.query(get.arg(&self.keys.attempts).arg(ids)).await
    }

    async fn claim_page(
        &self,
        consumer: &str,
        which: Claim<'_>,
        start: StreamId,
        count: usize,
    ) -> Result<Claimed, StreamError> {
        let (which, in_flight) = match which {
            Claim::Own(in_flight) => ("own".to_owned(), in_flight),
            Claim::Stale(idle) => (idle.as_millis().to_string(), &[][..]),
        };
        let mut script = scripts::CLAIM.key(&self.keys.stream);
        script
            .arg(&self.keys.group)
            .arg(consumer)
            .arg(which)
            .arg(start)
            .arg(count.clamp(1, CLAIM_PAGE))
            .arg(PAGE_BYTES)
            .arg(Vec::from_iter(
                in_flight.iter().filter(|id| id.part == start.part && **id >= start),
            ));
        let (last, entries, deliveries, deleted): ClaimedPage = self.server.run(&script).await?;
        let attempts = self.attempts(&entries).await?;
        let records = deliveries.into_iter().zip(attempts);
        let entries = entries
            .into_iter()
            .zip(records)
            .map(|(entry, (deliveries, attempts))| Delivered {
                entry,
                deliveries,
                attempts: reply::attempts(attempts.as_deref()),
            });
        Ok(Claimed {
            entries: entries.map(|one| one.in_partition(self.keys.partition)).collect(),
            deleted: self.own(deleted),
            next: last
                .and_then(StreamId::successor)
                .map(|next| next.with_part(self.keys.partition)),
        })
    }
}

/// Answer of `claim.lua`.
type ClaimedPage = (Option<StreamId>, Vec<Entry>, Vec<u64>, Vec<StreamId>);

impl Partition {
    pub(super) fn reader(&self, consumer: &str) -> RedisReader {
        RedisReader::new(self.server.clone(), self.keys.clone(), consumer)
    }

    pub(super) async fn ensure_group(&self) -> Result<bool, StreamError> {
        ensure_group(&self.server, &self.keys).await
    }

    pub(super) async fn claim(
        &self,
        consumer: &str,
        which: Claim<'_>,
        start: StreamId,
        count: usize,
    ) -> Result<Claimed, StreamError> {
        match self.claim_page(consumer, which, start, count).await {
            // Without a group nothing is pending.
            Err(error) if lacks_group(&error) => {
                restore_group(&self.server, &self.keys).await?;
                Ok(Claimed::default())
            }
            claimed => claimed,
        }
    }

    pub(super) async fn refresh(&self, consumer: &str, ids: &[StreamId]) -> Result<Refreshed, StreamError> {
        let mut refreshed = Refreshed::default();
        for ids in ids.chunks(IDS_A_CALL) {
            let mut script = scripts::REFRESH.key(&self.keys.stream);
            script.arg(&self.keys.group).arg(consumer).arg(ids);
            match self.server.run::<(Vec<StreamId>, Vec<StreamId>)>(&script).await {
                Ok((held, gone)) => {
                    refreshed.held.extend(self.own(held));
                    refreshed.gone.extend(self.own(gone));
                }
                // Without a group nothing can have become another's.
                Err(error) if lacks_group(&error) => {
                    restore_group(&self.server, &self.keys).await?;
                    refreshed.held.extend(ids);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refreshed)
    }

    pub(super) async fn record(&self, id: StreamId, step: AttemptStep) -> Result<Attempts, StreamError> {
        let (step, count) = match step {
            AttemptStep::Begin(count) => ("begin", count),
            AttemptStep::Failed(count) => ("failed", count),
            AttemptStep::Spared => ("spared", 0),
        };
        let mut script = scripts::RECORD.key(&self.keys.attempts);
        script.arg(id).arg(step).arg(count).arg(millis(ATTEMPTS_LIFETIME));
        let (failed, unfinished) = self.server.run(&script).await?;
        Ok(Attempts { failed, unfinished })
    }

    /// With the first one the ids of the dead letters, which are on that server, are removed too.
    pub(super) async fn trim(&self, letters: &Server) -> Result<Trimmed, StreamError> {
        let mut cursor = self.trim_cursor.lock().await;
        let mut script = scripts::TRIM.key(&self.keys.stream);
        script
            .arg(&self.keys.group)
            .arg(self.keys.retain_acked)
            .arg(self.keys.maxlen)
            .arg(&*cursor)
            .arg(TRIM_WALK);
        let (prefix, pinned, next): (u64, u64, String) = self.server.run(&script).await?;
        *cursor = next;
        let own = LogName::Partition(self.keys.partition);
        self.unlink_old_ids(own, &self.server).await?;
        if self.keys.partition == 0 {
            self.unlink_old_ids(LogName::DeadLetters, letters).await?;
        }
        Ok(Trimmed { prefix, pinned })
    }

    pub(super) async fn restore(&self) -> Result<Vec<Restored>, StreamError> {
        self.group_monitor.restore(&self.server, &self.keys).await
    }

    /// A page of its log.
    pub(super) async fn range(&self, range: Range) -> Result<Page, StreamError> {
        // The log has plain ids, and compares them with these.
        let range = Range {
            from: range.from.with_part(0),
            to: range.to.with_part(0),
            ..range
        };
        let mut page = pages::range(&self.server, &self.keys.stream, range).await?;
        for entry in &mut page.entries {
            entry.id.part = self.keys.partition;
        }
        Ok(page)
    }

    pub(super) async fn report(&self, letters: DeadLetterFigures) -> Result<StreamReport, StreamError> {
        report::report(&self.server, &self.keys, &self.loss_detector, letters).await
    }

    pub(super) async fn confirm_writable(&self) -> Result<(), StreamError> {
        writable::confirm(&self.server, &self.keys).await
    }
}
