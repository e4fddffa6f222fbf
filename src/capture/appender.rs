//! The appender: entries and record in one step, until that is certain; and what the server may
//! forget.
//!
//! Invariants: of an append with an unknown outcome it is learned whether it happened before
//! anything else is stored; a process whose record was replaced stores nothing more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::record::Record;
use crate::stream::{CheckpointedAppend, CheckpointedWriter, Destination, NewEntry, StreamError};
use crate::worker::OutageLog;

/// Shares of the stream's cap that are left to others, percent: WAL can wait, webhooks cannot.
pub(super) const FILL_LIVE: u8 = 90;
pub(super) const FILL_WALK: u8 = 50;
/// Positions that wait to be confirmed are a second apart.
const STEP: Duration = Duration::from_secs(1);

/// Why an append stored nothing.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Another process replaced the record.
    Fenced,
    /// That log has no room.
    Full(Destination),
}

/// Stores, and remembers what was stored when.
pub(super) struct CheckpointAppender {
    writer: Box<dyn CheckpointedWriter>,
    version: u64,
    pub(super) record: Record,
    /// Stored positions that the server is yet to be told, and since when.
    stored: VecDeque<(Instant, u64)>,
    ack_delay: Duration,
    pub(super) stored_at: Instant,
}

impl CheckpointAppender {
    pub(super) fn new(writer: Box<dyn CheckpointedWriter>, version: u64, record: Record, ack_delay: Duration) -> Self {
        Self {
            writer,
            version,
            record,
            stored: VecDeque::new(),
            ack_delay,
            stored_at: Instant::now(),
        }
    }

    /// Stores entries and record together, however long the stream is away.
    pub(super) async fn append(&mut self, entries: &[NewEntry], record: Record, fill: u8) -> Result<(), Refusal> {
        let json = serde_json::to_string(&record).unwrap_or_default();
        let mut outage = OutageLog::of("storing captured events");
        let mut entries = entries;
        loop {
            match self.writer.append(entries, self.version, &json, fill).await {
                Ok(CheckpointedAppend::Stored) => break,
                Ok(CheckpointedAppend::Full(log)) => return Err(Refusal::Full(log)),
                Ok(CheckpointedAppend::Moved) => match self.is_ours(&json).await {
                    // Stored by a call whose answer was lost. A record alone proves that it is
                    // durable.
                    Ok(true) => {
                        self.version += 1;
                        entries = &[];
                    }
                    Ok(false) => return Err(Refusal::Fenced),
                    Err(error) => tokio::time::sleep(outage.failed(&error)).await,
                },
                Err(error) => tokio::time::sleep(outage.failed(&error)).await,
            }
        }
        outage.over();
        self.version += 1;
        self.record = record;
        self.stored_at = Instant::now();
        let position = self.record.position.lsn;
        if self.stored.back().is_none_or(|(since, _)| since.elapsed() >= STEP) {
            self.stored.push_back((Instant::now(), position));
        }
        Ok(())
    }

    /// What the server may forget: stored, and older than the delay.
    pub(super) fn confirmable(&mut self) -> Option<u64> {
        let mut newest = None;
        if self.ack_delay.is_zero() {
            self.stored.clear();
            return Some(self.record.position.lsn);
        }
        while let Some((since, position)) = self.stored.front() {
            if since.elapsed() < self.ack_delay {
                break;
            }
            newest = Some(*position);
            self.stored.pop_front();
        }
        newest
    }

    /// What an operator asked for that was not taken up yet.
    pub(super) async fn request(&mut self) -> Result<Option<String>, StreamError> {
        let request = self.writer.read().await?.request;
        Ok(Some(request).filter(|request| !request.is_empty() && *request != self.record.request))
    }

    async fn is_ours(&mut self, json: &str) -> Result<bool, StreamError> {
        let found = self.writer.read().await?;
        Ok(found.version == self.version + 1 && found.record == json)
    }
}
