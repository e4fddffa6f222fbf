//! What the drainer moves at a time: entries of one flush, and their places in the spool.
//!
//! Owns how a page of the spool is cut into flushes. Pure.

use super::flush::FLUSH_BYTES;
use super::quarantine;
use super::spool::unwrapped;
use crate::stream::{Delivered, Destination, NewEntry, StreamId};

/// The entries of one flush, and their places in the spool.
#[derive(Default)]
pub(super) struct DrainBatch {
    pub(super) ids: Vec<StreamId>,
    pub(super) entries: Vec<NewEntry>,
}

impl DrainBatch {
    /// Whether any of it has its place in the stream.
    pub(super) fn goes_to_the_stream(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.destination == Destination::Stream)
    }

    pub(super) fn push(&mut self, id: StreamId, entry: NewEntry) {
        self.ids.push(id);
        self.entries.push(entry);
    }
}

/// Cuts what was read into flushes.
pub(super) fn batches(page: Vec<Delivered>) -> Vec<DrainBatch> {
    let mut batches: Vec<DrainBatch> = Vec::new();
    let mut bytes = usize::MAX;
    for (id, found) in page.into_iter().map(|delivered| unwrapped(delivered.entry)) {
        let entry = found.unwrap_or_else(|fields| {
            let entry = NewEntry {
                destination: Destination::DeadLetters,
                dedupe_key: id.to_string(),
                digest: [0; 16],
                fields,
            };
            quarantine::of_entry(entry, "this release cannot read it as an entry of the spool", 0)
        });
        let size = entry.fields.bytes();
        if bytes.saturating_add(size) > FLUSH_BYTES {
            batches.push(DrainBatch::default());
            bytes = 0;
        }
        bytes += size;
        if let Some(batch) = batches.last_mut() {
            batch.push(id, entry);
        }
    }
    batches
}
